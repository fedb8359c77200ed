package daemon

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// The figures of these benchmarks are to be read against each other, in one
// run; see docs/benchmarks.md.

const benchPlugin = "seed-cjs"

// payload makes params of about 256 B as they go over the wire.
var payload = json.RawMessage(`{"a":1,"b":2,"pad":"` + strings.Repeat("x", 180) + `"}`)

// openBench opens a daemon on the engine that the environment asks for, with
// our fixture plugin installed.
func openBench(b *testing.B) *Daemon { return openBenchOn(b, chosenEngine()) }

// openBenchOn is openBench on an engine.
func openBenchOn(b *testing.B, name string) *Daemon {
	b.Helper()
	d := openReal(b, name)
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
