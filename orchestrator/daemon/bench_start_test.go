package daemon

import (
	"context"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
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

// BenchmarkStart compares the start of a sealed plugin, from nothing to ready,
// with what the engine's own command takes to run Node in the same image.
func BenchmarkStart(b *testing.B) {
	d := openBench(b)
	b.Run("what=docker-run-node", func(b *testing.B) {
		var times []time.Duration
		for b.Loop() {
			start := time.Now()
			out, err := exec.CommandContext(b.Context(), "docker", "run", "--rm", "--network", "none", d.image, "/usr/bin/node", "-e", "0").CombinedOutput()
			if err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			times = append(times, time.Since(start))
		}
		reportMedian(b, [][]time.Duration{times})
	})
	b.Run("what=ready", func(b *testing.B) {
		key := plugin.Key{Tenant: plugin.DefaultTenant, ID: benchPlugin}
		if err := d.supervisor.SetDesired(b.Context(), key, false); err != nil {
			b.Fatal(err)
		}
		if err := d.supervisor.Gone(b.Context(), key); err != nil {
			b.Fatal(err)
		}
		l := &launcher{d}
		var times []time.Duration
		for b.Loop() {
			start := time.Now()
			in := startOne(b, d, l, key)
			times = append(times, time.Since(start))
			b.StopTimer()
			if err := in.Close(context.WithoutCancel(b.Context())); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		reportMedian(b, [][]time.Duration{times})
		if err := d.supervisor.SetDesired(b.Context(), key, true); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("what=crash-to-ready", func(b *testing.B) {
		key := plugin.Key{Tenant: plugin.DefaultTenant, ID: benchPlugin}
		var times []time.Duration
		for b.Loop() {
			u := d.benchUnit(b)
			start := time.Now()
			if err := d.engine.Stop(b.Context(), u.ID(), 0); err != nil { // SIGKILL
				b.Fatal(err)
			}
			awaitNext(b, d, key, u)
			times = append(times, time.Since(start))
		}
		reportMedian(b, [][]time.Duration{times})
	})
}

func startOne(b *testing.B, d *Daemon, l *launcher, key plugin.Key) supervisor.Instance {
	b.Helper()
	generation, err := d.store.NextGeneration(b.Context(), key)
	if err != nil {
		b.Fatal(err)
	}
	in, err := l.Prepare(b.Context(), key, generation)
	if err != nil {
		b.Fatal(err)
	}
	if err := in.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	return in
}

// awaitNext waits for a generation after that of old to serve.
func awaitNext(b *testing.B, d *Daemon, key plugin.Key, old *unit) {
	b.Helper()
	<-old.Done()
	for {
		in, err := d.supervisor.Ready(b.Context(), key)
		if err != nil {
			b.Fatal(err)
		}
		if in.ID() != old.ID() {
			return
		}
		time.Sleep(time.Millisecond) // the supervisor is about to notice
	}
}
