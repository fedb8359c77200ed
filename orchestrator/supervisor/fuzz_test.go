package supervisor

import (
	"context"
	"slices"
	"testing"
	"time"
)

// FuzzStep plays any sequence of events against a model of the world, in
// which actions have results sooner or later, in either way.
func FuzzStep(f *testing.F) {
	f.Add([]byte{0, 20, 20, 20, 24, 20, 7, 7, 20, 20})
	f.Add([]byte{0, 20, 1, 21, 2, 20, 3, 4, 5, 20})
	f.Add([]byte{0, 22, 3, 0, 7, 20, 20, 6})
	f.Fuzz(func(t *testing.T, data []byte) {
		w := world{t: t, p: DefaultPolicy(), at: epoch}
		for _, b := range data {
			w.play(b)
		}
		w.settle()
	})
}

type world struct {
	t       *testing.T
	p       Policy
	at      time.Time
	u       Unit
	running Do     // Prepare, Start, Stop or Close under way, or ""
	attempt uint64 // of the instance that exists
	exists  bool
	active  bool // its container runs
	gone    bool
}

func (w *world) play(b byte) {
	w.at = w.at.Add(time.Duration(b>>3) * time.Second)
	ev := Event{Random: float64(b) / 256, Attempt: w.u.attempt}
	kinds := []Kind{Enable, Disable, Restart, Reset, Tamper, Remove, Shutdown, Tick,
		Prepared, Started, Exited, Stopped, Closed, Ponged} // results out of nowhere must not matter
	switch n := int(b) % 26; {
	case n < len(kinds):
		ev.Kind = kinds[n]
		if n >= 8 {
			ev.Attempt = w.u.attempt - 1
		}
	case n < 20:
		ev = w.finish(nil)
	case n < 24:
		ev = w.finish([]error{errPlain, errTamper, errEngine, context.Canceled}[n-20])
	default:
		if !w.active {
			return
		}
		w.active = false
		ev.Kind, ev.Exit = Exited, Exit{Code: n - 24, OOM: b > 128}
	}
	if ev.Kind != "" {
		w.step(ev)
	}
}

// finish makes the result of the action under way.
func (w *world) finish(err error) Event {
	ev := Event{Attempt: w.attempt, Err: err, Random: 0.9}
	switch w.running {
	case DoPrepare:
		ev.Kind, w.exists = Prepared, err == nil
	case DoStart:
		ev.Kind, w.active = Started, true // a failed start may leave a running container
	case DoStop:
		ev.Kind, w.active = Stopped, w.active && err != nil
	case DoClose:
		ev.Kind = Closed
		if err == nil {
			w.exists, w.active = false, false
		}
	}
	w.running = ""
	return ev
}

func (w *world) step(ev Event) {
	ev.At = w.at
	before := w.u
	snapshot := slices.Clone(before.Exits)
	next, actions := Step(w.p, before, ev)
	if !slices.Equal(snapshot, before.Exits) {
		w.t.Fatal("Step altered its argument")
	}
	w.u = next
	for _, a := range actions {
		w.act(a)
	}
	w.check(ev)
}

func (w *world) act(a Action) {
	t := w.t
	if w.gone {
		t.Fatalf("%s after the end", a.Do)
	}
	switch a.Do {
	case DoPrepare, DoStart, DoStop, DoClose:
		if w.running != "" {
			t.Fatalf("%s while %s is under way", a.Do, w.running)
		}
		w.running = a.Do
	}
	switch a.Do {
	case DoPrepare:
		if w.exists {
			t.Fatal("a second instance is made")
		}
		w.attempt = a.Attempt
	case DoStart, DoStop, DoClose, DoPing:
		if !w.exists || a.Attempt != w.attempt {
			t.Fatalf("%s of an instance that is not there", a.Do)
		}
	case DoFinish:
		if w.exists {
			t.Fatal("the unit ended before its instance")
		}
		w.gone = true
	}
	if starts := a.Do == DoPrepare || a.Do == DoStart; starts && (w.u.Tampered != "" || !w.u.Desired) {
		t.Fatalf("%s of a plugin that is off or tampered with", a.Do)
	}
}

func (w *world) check(ev Event) {
	u := w.u
	if u.State() == StateRunning && (u.Tampered != "" || !u.wanted()) {
		w.t.Fatalf("%s left it running", ev.Kind)
	}
	if wait := u.NextAttempt.Sub(w.at); wait > w.p.TrialEvery {
		w.t.Fatalf("the next attempt is %v away", wait)
	}
	if len(u.Exits) > w.p.MaxExits {
		w.t.Fatalf("%d exits are kept", len(u.Exits))
	}
	if wake := u.Wake(); u.phase == phaseNone && u.wanted() && wake.IsZero() {
		w.t.Fatal("it is wanted and nothing will start it")
	}
}

// settle switches the plugin off and answers what is under way: nothing may
// be left of it.
func (w *world) settle() {
	w.step(Event{Kind: Disable})
	for range 6 {
		if ev := w.finish(nil); ev.Kind != "" {
			w.step(ev)
		}
		w.at = w.at.Add(w.p.CloseRetryMax)
		w.step(Event{Kind: Tick})
	}
	if st := w.u.State(); w.exists || w.running != "" || st != StateStopped && st != StateQuarantined {
		w.t.Fatalf("switched off, yet %s, instance %v, %q under way", st, w.exists, w.running)
	}
}
