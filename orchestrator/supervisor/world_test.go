package supervisor

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"
)

// world is a model of what supervision is about: instances that exist, some of
// whose containers run, and actions under way. It plays events to a Unit as
// the loop does, and fails its test when an action makes no sense in it.
type world struct {
	t    *testing.T
	p    Policy
	at   time.Time
	u    Unit
	made map[uint64]*thing // by attempt
	ping bool              // one is under way
	gone bool

	// check looks at every step; it may be nil.
	check func(before Unit, ev Event, actions []Action)
}

// thing is an instance, or one that is being prepared.
type thing struct {
	running Do   // Prepare, Start, Adopt, Stop or Close under way, or ""
	exists  bool // it was prepared
	active  bool // its container runs, or may for all that anybody knows
	lost    bool // the engine lost it: that there was nothing to stop proves nothing
}

func newWorld(t *testing.T) *world {
	return &world{t: t, p: DefaultPolicy(), at: epoch, made: map[uint64]*thing{}}
}

// requests are the events that come from outside.
var requests = []Kind{Enable, Disable, Restart, Reset, Tamper, Remove, Shutdown, Tick, Adopt, Leave}

// results are those that answer an action.
var results = []Kind{Prepared, Started, Exited, Stopped, Closed, Ponged}

// failures are what an action may answer; the first is success.
var failures = []error{nil, nil, errPlain, errTamper, errEngine, context.Canceled}

// play does what b says: time passes, and a request comes, an action has its
// result, or a container ends.
func (w *world) play(b byte) {
	w.at = w.at.Add(time.Duration(b>>3) * time.Second)
	random := float64(b) / 256
	n := int(b) % 32
	if n < len(requests) {
		w.step(Event{Kind: requests[n], Random: random, ReadyAt: w.at.Add(-time.Minute)})
		return
	}
	if n -= len(requests); n < len(results) { // out of nowhere: it must not matter
		w.stale(Event{Kind: results[n], Random: random})
		return
	}
	n -= len(results)
	attempts := w.attempts()
	switch {
	case n < 12 && len(attempts) > 0:
		attempt := attempts[0]
		if n >= 6 {
			attempt = attempts[len(attempts)-1]
		}
		w.finish(attempt, failures[n%6], random)
	case n < 15:
		w.exit(n-13, b > 200)
	case w.ping:
		w.ping = false
		w.step(Event{Kind: Ponged, Attempt: w.u.attempt, Err: failures[b>>6], Random: random})
	}
}

// attempts returns those with an action under way, oldest first.
func (w *world) attempts() (list []uint64) {
	for attempt, th := range w.made {
		if th.running != "" {
			list = append(list, attempt)
		}
	}
	slices.Sort(list)
	return list
}

// stale plays results of attempts that are over or have not begun.
func (w *world) stale(ev Event) {
	for _, ev.Attempt = range []uint64{0, w.u.attempt + 1, min(w.u.attempt, w.u.remains.attempt) - 1} {
		if w.made[ev.Attempt] == nil {
			w.step(ev)
		}
	}
}

// exit ends a container: as the engine saw it, or, with code -1, as far as
// anybody knows.
func (w *world) exit(code int, oom bool) {
	for _, attempt := range []uint64{w.u.attempt, w.u.remains.attempt} {
		if th := w.made[attempt]; th != nil && th.active {
			ev := Event{Kind: Exited, Attempt: attempt, Exit: Exit{Code: code, OOM: oom && code > 0, At: w.at}}
			th.lost = ev.Exit.lost()
			th.active = th.lost // it may run on
			w.step(ev)
			return
		}
	}
}

// finish plays the result of the action of attempt under way.
func (w *world) finish(attempt uint64, err error, random float64) {
	th := w.made[attempt]
	ev := Event{Attempt: attempt, Err: err, Random: random}
	switch th.running {
	case DoPrepare:
		ev.Kind, th.exists = Prepared, err == nil
	case DoStart:
		ev.Kind, th.active = Started, true // a failed start may leave a running container
	case DoAdopt:
		ev.Kind = Started
	case DoStop:
		ev.Kind, th.active = Stopped, th.active && (err != nil || th.lost)
	case DoClose:
		ev.Kind = Closed
		if err == nil {
			th.exists, th.active = false, false
		}
	}
	th.running = ""
	if !th.exists {
		delete(w.made, attempt)
	}
	w.step(ev)
}

func (w *world) step(ev Event) {
	ev.At = w.at
	before := w.u
	exits := slices.Clone(before.Exits)
	next, actions := Step(w.p, before, ev)
	if !slices.Equal(exits, before.Exits) {
		w.t.Fatal("Step altered its argument")
	}
	if slices.ContainsFunc(actions, func(a Action) bool { return a.Do == DoAdopt }) {
		w.made[next.attempt] = &thing{exists: true, active: true}
	}
	w.u = next
	for _, a := range actions {
		w.act(a)
	}
	w.consistent()
	if w.check != nil {
		w.check(before, ev, actions)
	}
}

// act carries out an action, if it makes sense.
func (w *world) act(a Action) {
	if w.gone {
		w.t.Fatalf("%s after the end", a.Do)
	}
	switch a.Do {
	case DoPrepare:
		w.noneRuns(a)
		if len(w.made) > 1 {
			w.t.Fatal("a third instance is made")
		}
		w.made[a.Attempt] = &thing{running: DoPrepare}
	case DoStart, DoAdopt, DoStop, DoClose:
		w.noneRuns(a)
		th := w.made[a.Attempt]
		if th == nil || !th.exists {
			w.t.Fatalf("%s of an instance that is not there", a.Do)
		}
		if th.running != "" {
			w.t.Fatalf("%s while %s is under way", a.Do, th.running)
		}
		th.running = a.Do
	case DoPing:
		w.ping = true
		if !w.made[a.Attempt].exists {
			w.t.Fatal("ping of an instance that is not there")
		}
	case DoFinish:
		w.finished()
	}
}

// noneRuns fails if an action that brings an instance nearer to running is
// wanted while another one may run.
func (w *world) noneRuns(a Action) {
	if a.Do == DoStop || a.Do == DoClose {
		return
	}
	for attempt, th := range w.made {
		if attempt != a.Attempt && th.active {
			w.t.Fatalf("%s of attempt %d while attempt %d may run", a.Do, a.Attempt, attempt)
		}
	}
}

// finished checks the end of the unit: nothing is left but what was to be.
func (w *world) finished() {
	w.gone, w.ping = true, false
	for attempt, th := range w.made {
		if !w.u.left || attempt != w.u.attempt || th.running != "" || w.u.Tampered != "" || !w.u.Desired {
			w.t.Fatalf("the unit ended and left attempt %d, %+v", attempt, *th)
		}
	}
	if w.u.left && len(w.made) != 1 {
		w.t.Fatalf("%d instances were left to others, want one", len(w.made))
	}
}

// consistent holds after every event.
func (w *world) consistent() {
	u := w.u
	if u.State() == StateRunning && !u.left && (u.Tampered != "" || !u.wanted()) && !u.leaves() {
		w.t.Fatal("it runs and should not")
	}
	if len(u.Exits) > w.p.MaxExits {
		w.t.Fatalf("%d exits are kept", len(u.Exits))
	}
	if u.phase == phaseNone && !u.remains.exist() && len(w.made) > 0 {
		w.t.Fatal("it has forgotten an instance")
	}
}

// settle switches the plugin off and answers what is under way: nothing may
// be left of it but what was left to another orchestrator.
func (w *world) settle() {
	w.step(Event{Kind: Disable})
	for range 10 {
		for _, attempt := range w.attempts() {
			w.finish(attempt, nil, 0.9)
		}
		w.at = w.at.Add(w.p.CloseRetryMax)
		w.step(Event{Kind: Tick})
	}
	if w.u.left {
		return
	}
	if st := w.u.State(); len(w.made) > 0 || st != StateStopped && st != StateQuarantined {
		w.t.Fatalf("switched off, yet %s, instances %v", st, w.made)
	}
}

// unchanged reports whether an event does nothing.
func (w *world) unchanged(ev Event) bool {
	ev.At = w.at
	next, actions := Step(w.p, w.u, ev)
	return reflect.DeepEqual(next, w.u) && len(actions) == 0
}
