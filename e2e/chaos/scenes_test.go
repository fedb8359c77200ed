package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/store"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
)

// killAgain kills one plugin's process n times, one every so often, and
// measures how long in all a caller has nothing of it.
func (s *suite) killAgain(t *testing.T, r *rig, n int, every, window time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, window+time.Minute)
	defer cancel()
	id := s.pick(ctx, r)
	p := r.startProbe(ctx, paceOfProbe, id)
	begun := time.Now()
	for i := range n {
		// Somewhere within the first second of each interval.
		s.pause(ctx, 0, time.Second)
		pid, err := r.census.runnerOf(id)
		if err := errors.Join(err, kill(pid)); err != nil {
			t.Errorf("kill %d of %s: %v", i+1, id, err)
		}
		r.restarts[id]++
		if i < n-1 {
			until(ctx, begun.Add(time.Duration(i+1)*every))
		}
	}
	until(ctx, begun.Add(window))
	p.stop()
	o := p.outcome(id, begun)
	s.report.Kills = append(s.report.Kills, kills{
		Engine: r.engine.title(), Kills: n, EveryMS: every.Milliseconds(), Window: window.Milliseconds(),
		Down: o.down.Milliseconds(), Calls: o.calls, Failed: o.failed, Slow: o.slow, Longest: o.longest.Milliseconds(),
	})
	t.Logf("%d kills of one plugin in %s: down %s, %d of %d calls failed, %d waited more than 1 s, the longest of the others %s (%v)",
		n, window, o.down, o.failed, o.calls, o.slow, o.longest, o.firstErr)
	s.expect(t, r, "kills of one plugin, again and again", nil)
}

// expect checks the invariants after a scene.
func (s *suite) expect(t *testing.T, r *rig, name string, broken []string) {
	t.Helper()
	for _, v := range append(broken, r.violations(s.ctx)...) {
		t.Errorf("%s on %s: %s", name, r.engine.title(), v)
		s.report.Broken = append(s.report.Broken, name+" on "+r.engine.title()+": "+v)
	}
}

func until(ctx context.Context, at time.Time) {
	select {
	case <-time.After(time.Until(at)):
	case <-ctx.Done():
	}
}

// hang stops the engine without ending it, for 20 s. Running plugins answer,
// one that ends meanwhile comes back when the engine does, and the status is
// told at once and says what is wrong.
func (s *suite) hang(t *testing.T, r *rig) {
	t.Helper()
	const name, long = "an engine that hangs", 20 * time.Second
	ctx, cancel := context.WithTimeout(s.ctx, 3*time.Minute)
	defer cancel()
	id := s.pick(ctx, r)
	others := r.others(id)
	p := r.startProbe(ctx, paceOfProbe, others...)
	begun := time.Now()
	if err := r.engine.pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.engine.resume() }()
	pid, err := r.census.runnerOf(id)
	broken := says(errors.Join(err, kill(pid)))
	r.restarts[id]++
	slowest, said := r.watchStatus(ctx, begun.Add(long))
	if !said {
		broken = append(broken, "`ocmt status` does not say that the engine does not answer")
	}
	if slowest > time.Second {
		broken = append(broken, fmt.Sprintf("`ocmt status` took %s", slowest))
	}
	if err := r.engine.resume(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	broken = append(broken, r.backBy(ctx, id, back.Add(time.Minute))...)
	after := time.Since(back)
	p.stop()
	o := p.worst(begun, others...)
	broken = append(broken, o.interrupted()...)
	s.report.Hang = append(s.report.Hang, hang{
		Engine: r.engine.title(), HungMS: long.Milliseconds(), Status: slowest.Milliseconds(),
		Calls: o.calls, Failed: o.failed + o.slow, After: after.Milliseconds(),
	})
	t.Logf("engine hung: status within %s, %d of %d calls failed, the plugin that ended meanwhile answered %s after", slowest, o.failed, o.calls, after)
	s.expect(t, r, name, broken)
}

func says(err error) []string {
	if err == nil {
		return nil
	}
	return []string{err.Error()}
}

// watchStatus runs `ocmt status` again and again until the time comes. It
// returns how long the slowest took and whether any said that the engine does
// not answer.
func (r *rig) watchStatus(ctx context.Context, end time.Time) (slowest time.Duration, said bool) {
	for time.Now().Before(end) && ctx.Err() == nil {
		at := time.Now()
		text, err := r.ocmt(ctx, "status")
		slowest = max(slowest, time.Since(at))
		said = said || err == nil && strings.Contains(text, "not answer")
		until(ctx, at.Add(500*time.Millisecond))
	}
	return slowest, said
}

// backBy waits until a plugin answers.
func (r *rig) backBy(ctx context.Context, id string, deadline time.Time) []string {
	for {
		_, err := r.who(ctx, id, time.Second)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return []string{fmt.Sprintf("%s does not answer again: %v", id, err)}
		}
		until(ctx, time.Now().Add(50*time.Millisecond))
	}
}

// crashLoop has a plugin die every second until it is given up. Its
// neighbours answer all the while, the daemon does not spin, and an uninstall
// leaves nothing.
func (s *suite) crashLoop(t *testing.T, r *rig) {
	t.Helper()
	const name, id, within = "a plugin that dies every second", "doomed", 90 * time.Second
	ctx, cancel := context.WithTimeout(s.ctx, within+2*time.Minute)
	defer cancel()
	neighbours := slices.Clone(r.plugins)
	if err := r.install(ctx, id); err != nil {
		t.Fatal(err)
	}
	r.plugins = neighbours
	p := r.startProbe(ctx, paceOfProbe, neighbours...)
	begun, used := time.Now(), cpuOf(r.daemon.pid())
	if _, err := r.call(ctx, id, "doom", `{}`, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	var broken []string
	for state := ""; state != "crashlooped"; {
		list, err := r.list(ctx)
		if state = list[id].State; err != nil || time.Since(begun) > within {
			broken = append(broken, fmt.Sprintf("after %s the plugin that dies is %q (%v)", within, state, err))
			break
		}
		until(ctx, time.Now().Add(50*time.Millisecond))
	}
	opened := time.Since(begun)
	cpu := int64(100 * (cpuOf(r.daemon.pid()) - used) / opened)
	p.stop()
	o := p.worst(begun, neighbours...)
	at := time.Now()
	if _, err := r.who(ctx, id, 10*time.Second); err == nil || time.Since(at) > time.Second || fault.Of(err).Code == "internal" {
		broken = append(broken, fmt.Sprintf("a call to the plugin that was given up came to %v after %s", err, time.Since(at)))
	}
	list, err := r.list(ctx)
	broken = append(broken, says(err)...)
	broken = append(broken, o.interrupted()...)
	if cpu > 50 {
		broken = append(broken, fmt.Sprintf("the daemon used %d %% of a core", cpu))
	}
	s.report.CrashLoop = append(s.report.CrashLoop, loop{
		Engine: r.engine.title(), Exits: list[id].Restarts + 1, OpenedMS: opened.Milliseconds(), CPUPercent: cpu,
		Neighbours: o.calls, Failed: o.failed + o.slow,
	})
	t.Logf("crash loop: given up after %s and %d exits, daemon %d %% of a core, %d of %d calls of neighbours failed",
		opened, list[id].Restarts+1, cpu, o.failed, o.calls)
	broken = append(broken, says(r.client.Uninstall(ctx, tenant, id, false))...)
	s.expect(t, r, name, broken)
}

// clock leaves in the database what a step of the clock would: counters of
// times that are far ahead, after one back, and far behind, after one ahead.
// The machine's own clock is left alone. Meanwhile nothing of the plugins
// runs, so that each has to be started by these counters.
func (s *suite) clock(t *testing.T, r *rig) {
	t.Helper()
	for _, step := range []struct {
		name string
		by   time.Duration
	}{
		{"clock set back by a year while the daemon was down", 365 * 24 * time.Hour},
		{"clock set ahead by a year while the daemon was down", -365 * 24 * time.Hour},
	} {
		ctx, cancel := context.WithTimeout(s.ctx, 3*time.Minute)
		broken := says(r.daemon.end(syscall.SIGTERM, time.Minute))
		for _, id := range r.plugins {
			broken = append(broken, says(r.stepCounters(ctx, id, step.by))...)
		}
		begun := time.Now()
		if err := r.serve(ctx); err != nil {
			t.Fatal(err)
		}
		broken = append(broken, says(r.answer(ctx))...)
		p := r.startProbe(ctx, paceOfProbe, r.plugins...)
		broken = append(broken, r.settle(ctx, p, begun, 90*time.Second)...)
		p.stop()
		o := p.worst(begun, r.plugins...)
		run := tally{
			Recovery: []int64{o.recovered.Milliseconds()}, Down: o.down.Milliseconds(),
			Calls: o.calls, Failed: o.failed + o.slow, InFlight: "none", Broken: append(broken, r.violations(ctx)...),
		}
		s.report.add(r.engine, r.engine.version(ctx), step.name, run)
		s.say(t, r, step.name, "all", o, run)
		cancel()
	}
}

// stepCounters moves the times that are kept of a plugin.
func (r *rig) stepCounters(ctx context.Context, id string, by time.Duration) (err error) {
	db, err := store.Open(ctx, r.paths.DB())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	key := plugin.Key{Tenant: tenant, ID: id}
	doc, err := db.LoadUnit(ctx, key)
	if err != nil {
		return err
	}
	var c supervisor.Counters
	if err := json.Unmarshal(doc, &c); err != nil {
		return err
	}
	now := time.Now().Add(by)
	c.NextAttempt, c.LastExit.At = now, now
	c.Exits = append(c.Exits, now)
	if doc, err = json.Marshal(c); err != nil {
		return err
	}
	return db.SaveUnit(ctx, key, doc)
}
