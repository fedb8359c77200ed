package chaos

import (
	"context"
	"fmt"
	"maps"
	"syscall"
	"testing"
	"time"
)

// Figures of the scene with many plugins.
const (
	pluginsAtKill = 20 // when the orchestrator is killed
	pluginsAtOnce = 50 // started together
	killsOfDaemon = 3
	// paceOfMany is slower than paceOfProbe: fifty callers must not be the load.
	paceOfMany = 250 * time.Millisecond
)

// many kills the orchestrator of 20 plugins, and starts 50 together.
func (s *suite) many(t *testing.T, e engine) {
	r := s.newRig(t, e, s.dir, pluginsAtKill)
	for range killsOfDaemon {
		s.killDaemon(t, r)
	}
	if err := r.install(s.ctx, names(pluginsAtKill, pluginsAtOnce)...); err != nil {
		t.Fatal(err)
	}
	if err := r.warm(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.startTogether(t, r)
}

// killDaemon kills the orchestrator, starts it again at once, and waits for
// the first answer of every plugin.
func (s *suite) killDaemon(t *testing.T, r *rig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	before, err := r.before(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := r.startProbe(ctx, paceOfProbe, r.plugins...)
	s.pause(ctx, 300*time.Millisecond, 800*time.Millisecond)
	begun := time.Now()
	broken := says(r.daemon.end(syscall.SIGKILL, 10*time.Second))
	if err := r.serve(ctx); err != nil {
		t.Fatal(err)
	}
	broken = append(broken, r.settle(ctx, p, begun, time.Minute)...)
	p.stop()
	o := p.worst(begun, r.plugins...)
	restarted, pids := 0, r.census.pids()
	for _, id := range r.plugins {
		if fmt.Sprint(pids[id]) != fmt.Sprint(before.pids[id]) {
			restarted++
		}
	}
	if born, err := r.born(ctx); err != nil || !maps.Equal(born, before.born) || restarted > 0 {
		broken = append(broken, fmt.Sprintf("%d plugins were restarted, %v", restarted, err))
	}
	s.report.Daemon = append(s.report.Daemon, daemon{
		Engine: r.engine.title(), Plugins: len(r.plugins), AllAnswer: o.recovered.Milliseconds(), Restarted: restarted, Failed: o.failed + o.slow,
	})
	t.Logf("orchestrator killed: all %d plugins answer after %s, %d restarted", len(r.plugins), o.recovered, restarted)
	s.expect(t, r, "SIGKILL of the orchestrator with 20 plugins", broken)
}

// startTogether stops the daemon and all its plugins, and starts it again.
func (s *suite) startTogether(t *testing.T, r *rig) {
	t.Helper()
	const within = 2 * time.Minute
	ctx, cancel := context.WithTimeout(s.ctx, within+2*time.Minute)
	defer cancel()
	broken := says(r.daemon.end(syscall.SIGTERM, time.Minute))
	begun := time.Now()
	if err := r.serve(ctx); err != nil {
		t.Fatal(err)
	}
	broken = append(broken, says(r.answer(ctx))...)
	p := r.startProbe(ctx, paceOfMany, r.plugins...)
	broken = append(broken, r.settle(ctx, p, begun, within)...)
	p.stop()
	o := p.worst(begun, r.plugins...)
	failures := 0
	list, err := r.list(ctx)
	broken = append(broken, says(err)...)
	for _, id := range r.plugins {
		failures += list[id].Restarts
	}
	if failures > 0 {
		broken = append(broken, fmt.Sprintf("%d starts failed", failures))
	}
	s.report.Many = append(s.report.Many, many{
		Engine: r.engine.title(), Plugins: len(r.plugins), AllReady: o.recovered.Milliseconds(),
		Failures: failures, MemoryKB: usageOf(r.daemon.pid()).memory,
	})
	t.Logf("%d plugins started together: all answer after %s, %d starts failed", len(r.plugins), o.recovered, failures)
	s.expect(t, r, "50 plugins started together", broken)
}
