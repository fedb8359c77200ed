package services

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// FuzzStep plays any sequence of events against a model of the runner.
func FuzzStep(f *testing.F) {
	f.Add([]byte{0, 10, 10, 10, 13, 13, 13, 2})
	f.Add([]byte{0, 11, 3, 11, 3, 11, 3, 1, 0, 12, 12, 12})
	f.Add([]byte{0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14})
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t)
		for _, b := range data {
			w.play(b)
		}
		w.settle()
	})
}

// TestStepProperties does what the fuzzer does, on every run.
func TestStepProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		data := make([]byte, 200)
		for i := range data {
			data[i] = byte(r.UintN(256))
		}
		data[0] = 0
		w := newWorld(t)
		for _, b := range data {
			w.play(b)
		}
		w.settle()
	}
}

type world struct {
	t     *testing.T
	p     Policy
	at    time.Time
	u     Unit
	names []string

	up, closing, gone bool
	off               map[string]bool   // by a person
	call              map[string]Action // under way
	runs              map[string]bool   // start() was called and stop() was not
	cancelled         uint64            // attempt of the last cancel
	first             []string          // services in the order of their first start
}

func newWorld(t *testing.T) *world {
	return &world{t: t, p: DefaultPolicy(), at: epoch, names: []string{"a", "b", "c"},
		off: map[string]bool{}, call: map[string]Action{}, runs: map[string]bool{}}
}

func (w *world) play(b byte) {
	w.at = w.at.Add(time.Duration(b>>4) * 700 * time.Millisecond)
	service := w.names[int(b>>4)%len(w.names)]
	ev := Event{Service: service, Random: float64(b) / 256, Reason: "lost"}
	kinds := []Kind{Up, Down, Tick, Tick, Start, Stop, Restart, Report, Clear}
	switch n := int(b) % 16; {
	case n < len(kinds):
		ev.Kind, ev.Services = kinds[n], w.names
	case n == 15 && b == 255:
		ev.Kind = Shutdown
	case n == 14: // out of nowhere
		ev.Kind, ev.Attempt = Started, uint64(b)
		if w.call[service].Attempt == ev.Attempt {
			return
		}
	default:
		ev = w.finish(service, []error{nil, errThrew, errLate, errNobody}[n%4], ev)
	}
	if ev.Kind != "" {
		w.step(ev)
	}
}

// finish makes the result of the call under way.
func (w *world) finish(service string, err error, ev Event) Event {
	a, ok := w.call[service]
	if !ok {
		return Event{}
	}
	delete(w.call, service)
	ev.Kind, ev.Attempt, ev.Err = Started, a.Attempt, err
	if a.Do == DoStop {
		ev.Kind = Stopped
	} else if errors.Is(err, errThrew) || errors.Is(err, errNobody) {
		w.runs[service] = false
	}
	return ev
}

func (w *world) step(ev Event) {
	ev.At = w.at
	switch ev.Kind {
	case Up, Down:
		if !w.gone && (w.up || ev.Kind == Up) {
			w.up = ev.Kind == Up
			clear(w.call)
			clear(w.runs)
			w.first = nil
		}
	case Shutdown:
		w.closing = true
	case Start, Restart:
		if w.u.find(ev.Service) >= 0 && !w.gone {
			w.off[ev.Service] = false
		}
	case Stop:
		w.off[ev.Service] = w.off[ev.Service] || w.u.find(ev.Service) >= 0 && !w.gone
	}
	before, snapshot := w.u, slices.Clone(w.u.services)
	next, actions := Step(w.p, before, ev)
	if !reflect.DeepEqual(before.services, snapshot) {
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
	if w.gone || a.Do != DoFinish && !w.up {
		t.Fatalf("%s of %s after the end", a.Do, a.Service)
	}
	_, busy := w.call[a.Service]
	switch a.Do {
	case DoStart:
		switch {
		case busy || w.runs[a.Service]:
			t.Fatalf("start of %s while it is running", a.Service)
		case w.off[a.Service] || w.closing:
			t.Fatalf("start of %s, which was stopped", a.Service)
		}
		w.runs[a.Service], w.call[a.Service] = true, a
		if !slices.Contains(w.first, a.Service) {
			w.first = append(w.first, a.Service)
		}
	case DoStop:
		if busy || !w.runs[a.Service] {
			t.Fatalf("stop of %s, which is not running", a.Service)
		}
		for _, later := range w.names[slices.Index(w.names, a.Service)+1:] {
			if w.closing && w.runs[later] {
				t.Fatalf("stop of %s before %s", a.Service, later)
			}
		}
		w.runs[a.Service], w.call[a.Service] = false, a
	case DoCancel:
		if !busy || w.call[a.Service].Do != DoStart || w.call[a.Service].Attempt != a.Attempt || w.cancelled == a.Attempt {
			t.Fatalf("cancel of a start of %s that is not under way, or a second one", a.Service)
		}
		w.cancelled = a.Attempt
	case DoFinish:
		w.gone = true
	}
}

func (w *world) check(ev Event) {
	// A first start comes after those of all before it, but for services that
	// a person, or their failures, kept from being started in their turn.
	first := slices.DeleteFunc(slices.Clone(w.first), func(id string) bool {
		i := w.u.find(id)
		_, personal := w.off[id]
		return personal || i < 0 || w.u.services[i].stuck != stuckNot
	})
	if !slices.IsSorted(first) {
		w.t.Fatalf("first starts in the order %v", first)
	}
	for _, s := range w.u.services {
		if wait := s.nextAttempt.Sub(w.at); wait > w.p.BackoffMax*5/4 {
			w.t.Fatalf("the next attempt is %v away", wait)
		}
		if w.off[s.id] == s.desired {
			w.t.Fatalf("%s: desired is %v after %s", s.id, s.desired, ev.Kind)
		}
		waits := s.state == StateBackoff
		if waits && (w.u.Wake().IsZero() || w.u.Wake().After(s.nextAttempt)) {
			w.t.Fatalf("%s is in backoff and nothing will start it", s.id)
		}
		if s.state == StateRunning && !w.runs[s.id] {
			w.t.Fatalf("%s is not running", s.id)
		}
		if s.failures < 0 {
			w.t.Fatalf("%d failures", s.failures)
		}
	}
	if wake := w.u.Wake(); ev.Kind == Tick && !wake.IsZero() && !wake.After(w.at) {
		w.t.Fatal("a tick that was due changed nothing")
	}
	if len(w.u.escalations) > w.p.MaxEscalations {
		w.t.Fatalf("%d restarts of the container in its window", len(w.u.escalations))
	}
}

// settle stops everything and answers what is under way: nothing may be left.
func (w *world) settle() {
	w.step(Event{Kind: Shutdown})
	for range 10 {
		for _, name := range w.names {
			if ev := w.finish(name, nil, Event{Service: name}); ev.Kind != "" {
				w.step(ev)
			}
		}
	}
	if !w.gone {
		w.t.Fatalf("shut down, yet not gone: %+v", w.u)
	}
}
