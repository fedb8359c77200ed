package daemon

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/images"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
)

// The figures of these benchmarks are to be read against each other, in one
// run; see docs/benchmarks.md.

const benchPlugin = "seed-cjs"

// payload makes params of about 256 B as they go over the wire.
var payload = json.RawMessage(`{"a":1,"b":2,"pad":"` + strings.Repeat("x", 180) + `"}`)

// openBench opens a daemon over a home of the benchmark's own, with the images
// that `make build` wrote and our fixture plugin installed. The policy restarts
// at once, so that a crash costs what a start costs.
func openBench(b *testing.B) *Daemon {
	b.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		b.Fatal(err)
	}
	index, err := images.ReadIndex(bin)
	if err != nil {
		b.Skip("no images, run `make build`: ", err)
	}
	b.Setenv("OCMT_IMAGES", bin)
	built := index[runtime.GOARCH]
	images.BaseDigest, images.InstallDigest = built[images.Base].Digest, built[images.Install].Digest
	home, err := os.MkdirTemp("", "ocmt-bench-")
	if err != nil {
		b.Fatal(err)
	}
	policy := supervisor.DefaultPolicy()
	policy.HealthyRun = 0
	policy.MaxExits = 1 << 30
	d, err := open(b.Context(), Options{Home: home, Stderr: io.Discard}, policy)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx := context.WithoutCancel(b.Context())
		for _, p := range d.catalog.list("") {
			if err := (pluginAPI{d}).Uninstall(ctx, p.Key.Tenant, p.Key.ID, false); err != nil {
				b.Error(err)
			}
		}
		if err := d.Close(); err != nil {
			b.Error(err)
		}
		if err := os.RemoveAll(home); err != nil {
			b.Error(err)
		}
	})
	installDir(b, d, filepath.Join("../../e2e/testdata/plugins", benchPlugin))
	return d
}

func (d *Daemon) benchUnit(b *testing.B) *unit {
	b.Helper()
	in, err := d.supervisor.Ready(b.Context(), plugin.Key{Tenant: plugin.DefaultTenant, ID: benchPlugin})
	if err != nil {
		b.Fatal(err)
	}
	return in.(*unit)
}

// BenchmarkToolCall compares a call over its whole path with the bare bus
// request to the same runner, over the same socket.
func BenchmarkToolCall(b *testing.B) {
	d := openBench(b)
	u := d.benchUnit(b)
	var id atomic.Int64
	bare := func(ctx context.Context) error {
		raw, err := wire.Encode(&wire.ToolCall{
			ID: strconv.FormatInt(id.Add(1), 10), Tool: "cjs_add", Params: payload,
			Context: wire.Context{AgentID: "main"}, TimeoutMillis: 10000,
		})
		if err != nil {
			return err
		}
		_, err = u.Request(ctx, "tool", raw)
		return err
	}
	ctx, cancel := context.WithCancel(b.Context())
	serving := make(chan error, 1)
	go func() { serving <- d.Serve(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-serving; err != nil {
			b.Error(err)
		}
	})
	c := client.New(d.home.AdminSocket())
	b.Cleanup(c.Close)
	for _, path := range []struct {
		name string
		call func(context.Context) error
	}{
		{"bare", bare},
		{"gateway", func(ctx context.Context) error {
			_, err := toolAPI{d}.Call(ctx, plugin.DefaultTenant, benchPlugin, "cjs_add", v1.CallRequest{Params: payload}, httpapi.CallWatch{})
			return err
		}},
		{"http", func(ctx context.Context) error {
			_, err := c.Call(ctx, plugin.DefaultTenant, benchPlugin, "cjs_add", v1.CallRequest{Params: payload})
			return err
		}},
	} {
		for _, callers := range []int{1, 16} {
			b.Run("path="+path.name+"/callers="+strconv.Itoa(callers), func(b *testing.B) {
				parallel(b, callers, path.call)
			})
		}
	}
}

// parallel runs b.N calls from that many callers and reports the median.
func parallel(b *testing.B, callers int, call func(context.Context) error) {
	times := make([][]time.Duration, callers)
	var group sync.WaitGroup
	b.ResetTimer()
	for i := range callers {
		share := b.N / callers
		if i < b.N%callers {
			share++
		}
		group.Go(func() {
			for range share {
				start := time.Now()
				if err := call(b.Context()); err != nil {
					b.Error(err)
					return
				}
				times[i] = append(times[i], time.Since(start))
			}
		})
	}
	group.Wait()
	b.StopTimer()
	reportMedian(b, times)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
