package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// paceOfProbe is how often every plugin is called while a fault is tried.
const paceOfProbe = 100 * time.Millisecond

// hits says whom a fault ends.
type hits int

const (
	nobody   hits = iota // every plugin goes on
	victim               // one plugin
	everyone             // every plugin
)

// a breakage is a fault that is tried over and over: what is done, whom it ends, and
// how long everybody may take to answer again.
type breakage struct {
	name   string
	hits   hits
	within time.Duration
	do     func(ctx context.Context, r *rig, victim string) error
	engine bool // afterwards the engine has to be of use again
	caller bool // the caller's connection is lost, not the plugin
}

// killsOf are the faults that hit one plugin.
func killsOf() []breakage {
	return []breakage{
		{name: "SIGKILL of the plugin's process", hits: victim, within: 15 * time.Second, do: func(_ context.Context, r *rig, id string) error {
			pid, err := r.census.runnerOf(id)
			return errors.Join(err, kill(pid))
		}},
		{name: "SIGKILL of ocmt-init", hits: victim, within: 15 * time.Second, do: func(_ context.Context, r *rig, id string) error {
			pid, err := r.census.initOf(id)
			return errors.Join(err, kill(pid))
		}},
		{name: "container killed by the engine", hits: victim, within: 15 * time.Second, do: func(ctx context.Context, r *rig, id string) error {
			c, err := r.containerOf(ctx, id)
			if err != nil {
				return err
			}
			return r.engine.Kill(ctx, c)
		}},
		{name: "container removed behind our back", hits: victim, within: 15 * time.Second, do: func(ctx context.Context, r *rig, id string) error {
			c, err := r.containerOf(ctx, id)
			if err != nil {
				return err
			}
			if err := r.engine.Remove(ctx, c); err != nil && !strings.Contains(strings.ToLower(err.Error()), "no such") &&
				!strings.Contains(err.Error(), "not found") { // the daemon may have been faster
				return err
			}
			return nil
		}},
	}
}

func kill(pid int) error {
	if pid <= 1 {
		return fmt.Errorf("no process %d to kill", pid)
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// orchestratorKill kills the daemon and starts it again.
func orchestratorKill() breakage {
	return breakage{name: "SIGKILL of the orchestrator", hits: nobody, caller: true, within: 30 * time.Second, do: func(ctx context.Context, r *rig, _ string) error {
		return errors.Join(r.daemon.end(syscall.SIGKILL, 10*time.Second), r.serve(ctx))
	}}
}

// engineFaults are the ways in which an engine goes away. Whom that ends
// depends on the engine.
func engineFaults(e engine) []breakage {
	whom, name := nobody, strings.Fields(e.title())[0]
	d, isDocker := e.(*dockerd)
	if isDocker {
		name = "dockerd"
		if !d.liveRestore {
			whom = everyone
		}
	}
	list := []breakage{
		{name: "SIGKILL of " + name, hits: whom, within: 90 * time.Second, engine: true, do: func(ctx context.Context, r *rig, _ string) error {
			return errors.Join(r.engine.kill(), r.engine.start(ctx))
		}},
		{name: name + " restarted in order", hits: whom, within: 90 * time.Second, engine: true, do: func(ctx context.Context, r *rig, _ string) error {
			return errors.Join(r.engine.stop(), r.engine.start(ctx))
		}},
	}
	if isDocker && d.liveRestore {
		list = append(list, breakage{name: "SIGKILL of dockerd's containerd", hits: nobody, within: 90 * time.Second, engine: true, do: func(ctx context.Context, _ *rig, _ string) error {
			return errors.Join(d.below.kill(), d.below.start(ctx))
		}})
	}
	return list
}

// try does one fault to a rig and adds what came of it to the report.
func (s *suite) try(t *testing.T, r *rig, b breakage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 4*time.Minute)
	defer cancel()
	id := s.pick(ctx, r)
	before, err := r.before(ctx)
	if err != nil {
		t.Fatalf("%s: before it: %v", b.name, err)
	}
	p := r.startProbe(ctx, paceOfProbe, r.plugins...)
	flying := r.fly(ctx, id)
	s.pause(ctx, 200*time.Millisecond, 700*time.Millisecond)
	death := watchDeath(before.runner[id])
	begun := time.Now()
	err = b.do(ctx, r, id)
	var run tally
	if err != nil {
		run.Broken = append(run.Broken, "the fault could not be made: "+err.Error())
	}
	settled := r.settle(ctx, p, time.Now(), b.within)
	p.stop()
	run.Broken = append(run.Broken, settled...)
	ended := begun
	if b.hits != nobody {
		ended = death.time()
	}
	run.InFlight, run.Told = flying.judge(b, ended, &run)
	run.Restarted = r.count(b, id)
	o := p.worst(ended, r.plugins...)
	run.Recovery, run.Down = []int64{o.recovered.Milliseconds()}, o.down.Milliseconds()
	run.Calls, run.Failed = o.calls, o.failed+o.slow
	if b.engine {
		run.Broken = append(run.Broken, r.engineIsOfUse(ctx, id)...)
	}
	run.Broken = append(run.Broken, r.compare(ctx, b, before, id, o)...)
	run.Broken = append(run.Broken, r.violations(ctx)...)
	s.report.add(r.engine, r.engine.version(ctx), b.name, run)
	s.say(t, r, b.name, id, o, run)
}

func (s *suite) say(t *testing.T, r *rig, name, id string, o outcome, run tally) {
	t.Helper()
	t.Logf("%s on %s, victim %s: recovered in %s, down %s, %d of %d calls failed (%v), call in flight: %s, told after %d ms",
		name, r.engine.title(), id, o.recovered, o.down, o.failed, o.calls, o.firstErr, run.InFlight, run.Told)
	for _, v := range run.Broken {
		t.Errorf("%s on %s, victim %s: %s", name, r.engine.title(), id, v)
	}
	if len(run.Broken) > 0 {
		t.Logf("the daemon's last lines:\n%s", r.daemon.tail())
	}
}

// picture is how things were before a fault.
type picture struct {
	born   map[string]string // which process of each plugin answers
	pids   map[string][]int
	runner map[string]int
}

func (r *rig) before(ctx context.Context) (picture, error) {
	born, err := r.born(ctx)
	if err != nil {
		return picture{}, err
	}
	pic := picture{born: born, pids: r.census.pids(), runner: map[string]int{}}
	for _, id := range r.plugins {
		if pic.runner[id], err = r.census.runnerOf(id); err != nil {
			return pic, err
		}
	}
	return pic, nil
}

// pick chooses a victim that has run long enough to be restarted at once.
func (s *suite) pick(ctx context.Context, r *rig) string {
	const healthy = 15 * time.Second
	for {
		var fit []string
		for _, id := range r.plugins {
			detail, err := r.client.Plugin(ctx, tenant, id)
			if err == nil && detail.ReadySince != nil && time.Since(*detail.ReadySince) > healthy+time.Second {
				fit = append(fit, id)
			}
		}
		if len(fit) > 0 || ctx.Err() != nil {
			return append(fit, r.plugins...)[s.rand.IntN(max(1, len(fit)))]
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// settle waits until every plugin answers steadily.
func (r *rig) settle(ctx context.Context, p *probe, since time.Time, within time.Duration) []string {
	deadline := time.Now().Add(within)
	for {
		var waiting []string
		for _, id := range r.plugins {
			if !p.steady(id, since) {
				waiting = append(waiting, id)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return []string{fmt.Sprintf("%s after the fault %s do not answer", within, strings.Join(waiting, ", "))}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// count notes the restarts that a fault must have led to.
func (r *rig) count(b breakage, id string) int {
	switch b.hits {
	case victim:
		r.restarts[id]++
		return 1
	case everyone:
		for _, p := range r.plugins {
			r.restarts[p]++
			r.maybe[p]++ // an engine that goes away may end what was made meanwhile, too
		}
		return len(r.plugins)
	}
	return 0
}

// compare holds who answers now against who answered before.
func (r *rig) compare(ctx context.Context, b breakage, before picture, id string, o outcome) []string {
	now, err := r.born(ctx)
	if err != nil {
		return []string{"afterwards: " + err.Error()}
	}
	pids := r.census.pids()
	var broken []string
	for _, p := range r.plugins {
		ended := b.hits == everyone || b.hits == victim && p == id
		if b.engine && p == id { // it was restarted by command
			ended = true
		}
		switch same := now[p] == before.born[p]; {
		case ended && same:
			broken = append(broken, p+" was not ended by the fault")
		case !ended && (!same || !slices.Equal(pids[p], before.pids[p])):
			broken = append(broken, fmt.Sprintf("%s was restarted: processes %v, before %v", p, pids[p], before.pids[p]))
		}
	}
	if b.hits == nobody && !b.caller {
		broken = append(broken, o.interrupted()...)
	}
	return broken
}

// engineIsOfUse has a plugin restarted, for which the daemon needs the engine.
func (r *rig) engineIsOfUse(ctx context.Context, id string) []string {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := r.client.Restart(ctx, tenant, id)
		if err == nil {
			_, err = r.who(ctx, id, 10*time.Second)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return []string{"the engine is of no use to the daemon: " + err.Error()}
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// flight is a call that is on its way when the fault comes.
type flight struct {
	result chan error
	at     time.Time // when it ended, once result is read
}

// flightTime is how long the call takes if nothing befalls it.
const flightTime = 5 * time.Second

func (r *rig) fly(ctx context.Context, id string) *flight {
	f := &flight{result: make(chan error, 1)}
	go func() {
		_, err := r.call(ctx, id, "wait", fmt.Sprintf(`{"ms": %d}`, flightTime.Milliseconds()), time.Minute)
		f.at = time.Now()
		f.result <- err
	}()
	return f
}

// judge says what became of the call, and how long after the end of what
// carried it the caller was told.
func (f *flight) judge(b breakage, ended time.Time, run *tally) (became string, told int64) {
	var err error
	select {
	case err = <-f.result:
	case <-time.After(2 * flightTime):
		run.Broken = append(run.Broken, "the call in flight hangs")
		return "hangs", 0
	}
	if b.hits == nobody && !b.caller {
		if err != nil {
			run.Broken = append(run.Broken, "the call in flight to a plugin that went on: "+err.Error())
			return "failed", 0
		}
		return "answered", 0
	}
	late := max(0, f.at.Sub(ended))
	switch {
	case err == nil:
		run.Broken = append(run.Broken, "the call in flight was answered by what was ended")
		return "answered", 0
	case typed(err) != nil:
		run.Broken = append(run.Broken, "the call in flight: "+typed(err).Error())
	case late > patience:
		run.Broken = append(run.Broken, fmt.Sprintf("the caller in flight was told after %s", late))
	}
	e, _ := v1.ErrorOf(err)
	return e.Code, late.Milliseconds()
}

// deathWatch notes when a process ends.
type deathWatch struct{ at chan time.Time }

func watchDeath(pid int) *deathWatch {
	d := &deathWatch{make(chan time.Time, 1)}
	go func() {
		for range 2 * 60 * 200 { // two minutes
			if !alive(pid) {
				d.at <- time.Now()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		close(d.at)
	}()
	return d
}

// time returns when the process ended, now if it lives.
func (d *deathWatch) time() time.Time {
	select {
	case at, ok := <-d.at:
		if ok {
			return at
		}
	case <-time.After(time.Second):
	}
	return time.Now()
}

// pause waits for a time that the seed chooses.
func (s *suite) pause(ctx context.Context, least, most time.Duration) {
	select {
	case <-time.After(least + time.Duration(s.rand.Int64N(int64(most-least)))):
	case <-ctx.Done():
	}
}

func shuffled[T any](r *rand.Rand, list []T) []T {
	list = slices.Clone(list)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
