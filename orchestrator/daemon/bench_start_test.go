package daemon

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/engine"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
)

// reportMedian reports the median of all times in µs.
func reportMedian(b *testing.B, times [][]time.Duration) {
	b.Helper()
	all := slices.Concat(times...)
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds())/1000, "p99-µs")
}

// timed does something b.N times and reports how long it took; after, if it is
// not nil, is not on the clock.
func timed(b *testing.B, act, after func() error) {
	b.Helper()
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := act(); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
		if after == nil {
			continue
		}
		b.StopTimer()
		if err := after(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	reportMedian(b, [][]time.Duration{times})
}

// BenchmarkStart compares the start of a sealed plugin, from nothing to ready,
// with what it takes to run Node in the same image: by the engine's own command
// where that is docker, and by our client, in a container that is as sealed
// off as a plugin's, with the processors of the whole host and with the share
// of one that a plugin gets.
func BenchmarkStart(b *testing.B) {
	for _, name := range realEngines {
		b.Run("engine="+name, func(b *testing.B) {
			d := openBenchOn(b, name)
			if name == engine.Docker {
				b.Run("what=docker-run-node", func(b *testing.B) { timed(b, func() error { return dockerRun(b, d) }, nil) })
			}
			limits := sandbox.LimitsFor(sandbox.RolePlugin)
			b.Run(fmt.Sprintf("what=node/cpus=%g", limits.CPUs), func(b *testing.B) { benchNode(b, d, limits) })
			limits.CPUs = float64(d.info.CPUs)
			b.Run("what=node/cpus=all", func(b *testing.B) { benchNode(b, d, limits) })
			b.Run("what=ready", func(b *testing.B) { benchReady(b, d) })
			b.Run("what=crash-to-ready", func(b *testing.B) { benchCrash(b, d) })
		})
	}
}

func dockerRun(b *testing.B, d *Daemon) error {
	out, err := exec.CommandContext(b.Context(), "docker", "run", "--rm", "--network", "none", d.image, "/usr/bin/node", "-e", "0").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// benchNode is the whole life of a container that runs Node and nothing in it.
func benchNode(b *testing.B, d *Daemon, limits sandbox.Limits) {
	spec := sandbox.Harden(sandbox.Spec{
		ID: "ocmt-bench-node", Image: d.image, Args: []string{"/usr/bin/node", "-e", "0"}, Env: []string{"HOME=/tmp", "PATH=/usr/bin"},
		UID: 64000, GID: 64000, Limits: limits, Runtime: d.opts.Runtime,
		Labels: map[string]string{
			sandbox.LabelHome: d.store.HomeID(), sandbox.LabelTenant: plugin.DefaultTenant,
			sandbox.LabelInstance: "ocmt-bench-node", sandbox.LabelRole: sandbox.RoleCheck,
		},
	})
	timed(b, func() error {
		if err := d.engine.Create(b.Context(), spec); err != nil {
			return err
		}
		if err := d.engine.Start(b.Context(), spec.ID); err != nil {
			return err
		}
		if exit, err := d.engine.Wait(b.Context(), spec.ID); err != nil || exit.Code != 0 {
			return fmt.Errorf("exit code %d: %w", exit.Code, err)
		}
		return d.engine.Remove(b.Context(), spec.ID)
	}, nil)
}

// benchReady is a start that nobody prepared anything for.
func benchReady(b *testing.B, d *Daemon) {
	key := plugin.Key{Tenant: plugin.DefaultTenant, ID: benchPlugin}
	if err := d.supervisor.SetDesired(b.Context(), key, false); err != nil {
		b.Fatal(err)
	}
	if err := d.supervisor.Gone(b.Context(), key); err != nil {
		b.Fatal(err)
	}
	l := &launcher{d}
	var in supervisor.Instance
	timed(b, func() (err error) {
		in, err = startOne(b.Context(), d, l, key)
		return err
	}, func() error { return in.Close(context.WithoutCancel(b.Context())) })
	if err := d.supervisor.SetDesired(b.Context(), key, true); err != nil {
		b.Fatal(err)
	}
}

func startOne(ctx context.Context, d *Daemon, l *launcher, key plugin.Key) (supervisor.Instance, error) {
	generation, err := d.store.NextGeneration(ctx, key)
	if err != nil {
		return nil, err
	}
	in, err := l.Prepare(ctx, key, generation)
	if err != nil {
		return nil, err
	}
	return in, in.Start(ctx)
}

// benchCrash is the time from a SIGKILL to the next generation's readiness.
func benchCrash(b *testing.B, d *Daemon) {
	key := plugin.Key{Tenant: plugin.DefaultTenant, ID: benchPlugin}
	timed(b, func() error { return crash(b.Context(), d, key) }, nil)
}

// crash kills the container of a plugin and returns when the next one serves.
func crash(ctx context.Context, d *Daemon, key plugin.Key) error {
	old, err := d.supervisor.Ready(ctx, key)
	if err != nil {
		return err
	}
	if err := d.engine.Stop(ctx, old.ID(), 0); err != nil { // SIGKILL
		return err
	}
	<-old.Done()
	for {
		in, err := d.supervisor.Ready(ctx, key)
		if err != nil || in.ID() != old.ID() {
			return err
		}
		time.Sleep(time.Millisecond) // the supervisor is about to notice
	}
}

// BenchmarkTakeOver is how long a daemon takes, from its own start, to have
// plugins answer that an earlier one left running.
func BenchmarkTakeOver(b *testing.B) {
	for _, name := range realEngines {
		for _, plugins := range []int{1, 20} {
			b.Run(fmt.Sprintf("engine=%s/plugins=%d", name, plugins), func(b *testing.B) { benchTakeOver(b, name, plugins) })
		}
	}
}

func benchTakeOver(b *testing.B, name string, plugins int) {
	h := newReal(b, name)
	keys := make([]plugin.Key, plugins)
	was := map[plugin.Key]string{}
	for i := range keys {
		keys[i] = installSmall(b, h.Daemon, fmt.Sprintf("p%03d", i))
	}
	note := func() error {
		for _, key := range keys {
			in, err := h.supervisor.Ready(b.Context(), key)
			if err != nil {
				return err
			}
			if was[key] != "" && was[key] != in.ID() {
				return fmt.Errorf("%s was started anew", key)
			}
			was[key] = in.ID()
		}
		return nil
	}
	leave := func() error {
		h.leaving = true
		return h.end()
	}
	if err := note(); err != nil {
		b.Fatal(err)
	}
	if err := leave(); err != nil {
		b.Fatal(err)
	}
	timed(b, func() error {
		if err := h.begin(b.Context()); err != nil {
			return err
		}
		return note()
	}, leave)
	if err := h.begin(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkInstall is what an operator waits for, without npm: validate, seal,
// load once, record, and start.
func BenchmarkInstall(b *testing.B) {
	for _, name := range realEngines {
		b.Run("engine="+name, func(b *testing.B) {
			d := openReal(b, name)
			dir := filepath.Join(b.TempDir(), "one")
			writeSource(b, dir, "one", small)
			timed(b, func() error {
				installDir(b, d, dir)
				return nil
			}, func() error {
				return pluginAPI{d}.Uninstall(b.Context(), plugin.DefaultTenant, "one", false)
			})
		})
	}
}
