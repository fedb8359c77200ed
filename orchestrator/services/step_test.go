package services

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

var (
	epoch     = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	errThrew  = fault.New(fault.ErrPlugin, CodeServiceFailed, "start() failed: Error: boom")
	errLate   = fault.New(errdefs.ErrUnknown, CodeServiceFailed, "start() did not return")
	errNobody = fault.New(errdefs.ErrUnavailable, CodePluginNotRunning, "nobody there")
)

// script plays events against a unit and writes down what it wants done. A
// result answers the call that is under way for its service.
type script struct {
	u       Unit
	at      time.Time
	running map[string]uint64
	log     []string
}

func newScript() *script { return &script{at: epoch, running: map[string]uint64{}} }

func (s *script) do(ev Event) {
	ev.At, ev.Random = s.at, 0.5 // no jitter
	if ev.Kind == Started || ev.Kind == Stopped {
		ev.Attempt = s.running[ev.Service]
	}
	var actions []Action
	s.u, actions = Step(DefaultPolicy(), s.u, ev)
	for _, a := range actions {
		s.log = append(s.log, strings.TrimSpace(fmt.Sprint(a.Do, " ", a.Service)))
		if a.Do == DoStart || a.Do == DoStop {
			s.running[a.Service] = a.Attempt
		}
	}
}

// wake lets time pass until the unit wants to be woken.
func (s *script) wake() time.Duration {
	wake := s.u.Wake()
	if wake.IsZero() {
		return -1
	}
	waited := wake.Sub(s.at)
	s.at = wake
	s.do(Event{Kind: Tick})
	return waited
}

func (s *script) state(id string) string { return s.u.services[s.u.find(id)].state }

func (s *script) take() []string {
	log := s.log
	s.log = nil
	return log
}

func (s *script) want(t *testing.T, states string, log ...string) {
	t.Helper()
	var got []string
	for _, svc := range s.u.services {
		got = append(got, svc.id+"="+svc.state)
	}
	if g := strings.Join(got, " "); g != states {
		t.Errorf("states %q, want %q", g, states)
	}
	if l := s.take(); !slices.Equal(l, log) {
		t.Errorf("actions %q, want %q", l, log)
	}
}

func TestStartsInOrderAndStopsInReverse(t *testing.T) {
	s := newScript()
	s.do(Event{Kind: Up, Services: []string{"a", "b", "a", "", "c"}})
	s.want(t, "a=starting b=starting c=starting", "start a")
	s.do(Event{Kind: Started, Service: "a"})
	s.want(t, "a=running b=starting c=starting", "start b")
	s.do(Event{Kind: Started, Service: "b", Err: errThrew}) // others go on
	s.want(t, "a=running b=backoff c=starting", "start c")
	s.do(Event{Kind: Started, Service: "c"})
	s.wake()
	s.do(Event{Kind: Started, Service: "b"})
	s.want(t, "a=running b=running c=running", "start b")
	s.do(Event{Kind: Shutdown})
	s.want(t, "a=stopped b=stopped c=stopping", "stop c")
	s.do(Event{Kind: Stopped, Service: "c", Err: errLate})
	s.want(t, "a=stopped b=stopping c=stopped", "stop b")
	s.do(Event{Kind: Stopped, Service: "b"})
	s.do(Event{Kind: Stopped, Service: "a"})
	s.want(t, "a=stopped b=stopped c=stopped", "stop a", "finish")
	s.do(Event{Kind: Up, Services: []string{"a"}})
	s.want(t, "a=stopped b=stopped c=stopped")
}

func TestFailuresOfStart(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		wait time.Duration
		log  []string // before the next start
	}{
		{"threw: nothing runs", errThrew, 250 * time.Millisecond, nil},
		{"late: it may run", errLate, 250 * time.Millisecond, []string{"stop a"}},
		{"no class: it may run", errors.New("who knows"), 250 * time.Millisecond, []string{"stop a"}},
		{"nobody there: not held against it", errNobody, time.Second, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			s.do(Event{Kind: Up, Services: []string{"a"}})
			s.take()
			s.do(Event{Kind: Started, Service: "a", Err: tc.err})
			if log := s.take(); !slices.Equal(log, tc.log) {
				t.Errorf("actions %q, want %q", log, tc.log)
			}
			if len(tc.log) > 0 {
				s.do(Event{Kind: Stopped, Service: "a"})
			}
			if got := s.u.services[0].lastError; got != tc.err.Error() {
				t.Errorf("last error %q", got)
			}
			if waited := s.wake(); waited != tc.wait {
				t.Errorf("started again after %v, want %v", waited, tc.wait)
			}
			s.want(t, "a=starting", "start a")
			if got, want := s.u.services[0].restarts, 1; !errors.Is(tc.err, errNobody) && got != want {
				t.Errorf("%d restarts, want %d", got, want)
			}
		})
	}
}

// TestEscalation follows one service that never starts to its end.
func TestEscalation(t *testing.T) {
	s := newScript()
	s.do(Event{Kind: Up, Services: []string{"a", "b"}})
	s.do(Event{Kind: Started, Service: "a", Err: errThrew})
	s.do(Event{Kind: Started, Service: "b"})
	var delays []time.Duration
	for range 20 {
		waited := s.wake()
		if waited < 0 {
			break
		}
		delays = append(delays, waited)
		if s.state("a") == StateFailed {
			s.do(Event{Kind: Down})
			if s.state("a") != StateStopped || s.state("b") != StateStopped {
				t.Fatal("not stopped though the plugin is")
			}
			s.do(Event{Kind: Up, Services: []string{"a", "b"}})
			s.log = append(s.log, "up")
		}
		s.do(Event{Kind: Started, Service: "a", Err: errThrew})
		if s.u.find("b"); s.state("b") == StateStarting {
			s.do(Event{Kind: Started, Service: "b"})
		}
	}
	ms := time.Millisecond
	if want := []time.Duration{250 * ms, 500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 16000 * ms, 30000 * ms}; !slices.Equal(delays, want) {
		t.Errorf("delays %v, want %v", delays, want)
	}
	s.want(t, "a=failed b=running", "start a", "start b", "start a", "start a",
		"escalate a", "start a", "up", "start b", "start a", "start a",
		"escalate a", "start a", "up", "start b", "start a", "start a")
	if got := s.u.services[0].lastError; got != errThrew.Error() {
		t.Errorf("reason %q", got)
	}

	s.do(Event{Kind: Down})
	s.do(Event{Kind: Up, Services: []string{"a", "b"}}) // it stays failed, and b does not wait for it
	s.want(t, "a=failed b=starting", "start b")
	s.do(Event{Kind: Start, Service: "a"})
	s.want(t, "a=starting b=starting", "start a")
	s.do(Event{Kind: Started, Service: "a"})
	s.want(t, "a=running b=starting")
}

func TestOneEscalationPerGeneration(t *testing.T) {
	s := newScript()
	s.do(Event{Kind: Up, Services: []string{"a", "b"}})
	for range 3 {
		for _, id := range []string{"a", "b"} {
			s.do(Event{Kind: Started, Service: id, Err: errThrew})
		}
		s.wake()
	}
	s.want(t, "a=failed b=failed", "start a", "start b", "start a", "start b", "start a", "start b", "escalate a")
	s.do(Event{Kind: Restart, Service: "b"}) // a person need not wait for the container
	s.want(t, "a=failed b=starting", "start b")
	for range 3 {
		s.do(Event{Kind: Started, Service: "b", Err: errThrew})
		s.wake()
	}
	s.want(t, "a=failed b=failed", "start b", "start b", "escalate b")
}

func TestHealthyRunForgets(t *testing.T) {
	for _, tc := range []struct {
		name string
		run  time.Duration
		want time.Duration
	}{
		{"short", time.Minute - 1, 500 * time.Millisecond},
		{"long", time.Minute, 250 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			s.do(Event{Kind: Up, Services: []string{"a"}})
			s.do(Event{Kind: Started, Service: "a", Err: errThrew})
			s.wake()
			s.do(Event{Kind: Started, Service: "a"})
			s.at = s.at.Add(tc.run)
			s.do(Event{Kind: Report, Service: "a", Reason: "lost"})
			if got := s.u.Wake().Sub(s.at); got != tc.want {
				t.Errorf("delay %v, want %v", got, tc.want)
			}
		})
	}
}

// TestLongAgoIsForgotten has a healthy run end with its container, and
// restarts of the container that were long ago.
func TestLongAgoIsForgotten(t *testing.T) {
	s := newScript()
	s.do(Event{Kind: Up, Services: []string{"a"}})
	s.do(Event{Kind: Started, Service: "a", Err: errThrew})
	s.wake()
	s.do(Event{Kind: Started, Service: "a"})
	s.at = s.at.Add(time.Minute)
	s.do(Event{Kind: Down})
	if n := s.u.services[0].failures; n != 0 {
		t.Errorf("%d failures after a healthy run", n)
	}
	for n := range 5 {
		s.do(Event{Kind: Up, Services: []string{"a"}})
		for range 3 {
			s.do(Event{Kind: Started, Service: "a", Err: errThrew})
			s.wake()
		}
		if log := s.take(); log[len(log)-1] != "escalate a" {
			t.Fatalf("round %d: %q", n, log)
		}
		s.at = s.at.Add(5 * time.Minute) // at most one other within the window
		s.do(Event{Kind: Down})
	}
}

func TestReport(t *testing.T) {
	up := func(t *testing.T) *script {
		s := newScript()
		s.do(Event{Kind: Up, Services: []string{"a"}})
		s.do(Event{Kind: Started, Service: "a"})
		s.take()
		s.do(Event{Kind: Report, Service: "a", Reason: "lost"})
		s.want(t, "a=backoff")
		return s
	}
	t.Run("is followed by a restart", func(t *testing.T) {
		s := up(t)
		s.do(Event{Kind: Report, Service: "a", Reason: "still lost"}) // counts once
		if got := s.u.services[0]; got.failures != 1 || got.lastError != "still lost" {
			t.Errorf("failures %d, last error %q", got.failures, got.lastError)
		}
		if waited := s.wake(); waited != 250*time.Millisecond {
			t.Errorf("waited %v", waited)
		}
		s.want(t, "a=stopping", "stop a")
		s.do(Event{Kind: Clear, Service: "a"}) // too late
		s.do(Event{Kind: Stopped, Service: "a"})
		s.want(t, "a=starting", "start a")
		if got := s.u.services[0].restarts; got != 1 {
			t.Errorf("%d restarts", got)
		}
	})
	t.Run("may be taken back", func(t *testing.T) {
		s := up(t)
		s.do(Event{Kind: Clear, Service: "a"})
		s.want(t, "a=running")
		if got := s.u.services[0]; got.failures != 0 || got.lastError != "" || !s.u.Wake().IsZero() {
			t.Errorf("not forgotten: %+v", got)
		}
	})
	t.Run("while starting counts once it runs", func(t *testing.T) {
		s := newScript()
		s.do(Event{Kind: Up, Services: []string{"a"}})
		s.do(Event{Kind: Report, Service: "a", Reason: "early"})
		s.want(t, "a=starting", "start a")
		s.do(Event{Kind: Started, Service: "a"})
		s.want(t, "a=backoff")
	})
	t.Run("while starting may be taken back", func(t *testing.T) {
		s := newScript()
		s.do(Event{Kind: Up, Services: []string{"a"}})
		s.do(Event{Kind: Report, Service: "a", Reason: "early"})
		s.do(Event{Kind: Clear, Service: "a"})
		s.do(Event{Kind: Started, Service: "a"})
		s.want(t, "a=running", "start a")
	})
	t.Run("the third one is the container's", func(t *testing.T) {
		s := up(t)
		for range 2 {
			s.wake()
			s.do(Event{Kind: Stopped, Service: "a"})
			s.do(Event{Kind: Started, Service: "a"})
			s.do(Event{Kind: Report, Service: "a", Reason: "lost"})
		}
		s.take()
		before := s.u
		s.wake()
		s.want(t, "a=failed", "escalate a")
		s.u = before // in the other world it is taken back in time
		s.do(Event{Kind: Clear, Service: "a"})
		s.want(t, "a=running")
		if waited := s.wake(); waited >= 0 {
			t.Error("it is restarted nevertheless")
		}
	})
	t.Run("means nothing of a stopped service", func(t *testing.T) {
		s := up(t)
		s.do(Event{Kind: Stop, Service: "a"})
		s.do(Event{Kind: Stopped, Service: "a"})
		s.do(Event{Kind: Report, Service: "a", Reason: "lost"})
		s.want(t, "a=stopped", "stop a")
	})
}

func TestPerson(t *testing.T) {
	for _, tc := range []struct {
		name   string
		events []Event // after Up of a
		want   string
		log    []string
	}{
		{"stop of a running one", []Event{{Kind: Started}, {Kind: Stop}, {Kind: Stopped}}, "stopped", []string{"start a", "stop a"}},
		{"stop twice", []Event{{Kind: Started}, {Kind: Stop}, {Kind: Stop}, {Kind: Stopped}, {Kind: Stop}}, "stopped", []string{"start a", "stop a"}},
		{"stop of a starting one", []Event{{Kind: Stop}, {Kind: Started, Err: errLate}, {Kind: Stopped}}, "stopped", []string{"start a", "cancel a", "stop a"}},
		{"stop that came too late", []Event{{Kind: Stop}, {Kind: Started}, {Kind: Stopped}}, "stopped", []string{"start a", "cancel a", "stop a"}},
		{"stop of one that threw", []Event{{Kind: Stop}, {Kind: Started, Err: errThrew}}, "stopped", []string{"start a", "cancel a"}},
		{"stop in backoff", []Event{{Kind: Started, Err: errThrew}, {Kind: Stop}}, "stopped", []string{"start a"}},
		{"stop survives a generation", []Event{{Kind: Started}, {Kind: Stop}, {Kind: Down}, {Kind: Up, Services: []string{"a"}}}, "stopped", []string{"start a", "stop a"}},
		{"start of a running one", []Event{{Kind: Started}, {Kind: Start}}, "running", []string{"start a"}},
		{"start of a starting one", []Event{{Kind: Start}}, "starting", []string{"start a"}},
		{"start of a stopped one", []Event{{Kind: Started}, {Kind: Stop}, {Kind: Stopped}, {Kind: Start}}, "starting", []string{"start a", "stop a", "start a"}},
		{"start of a stopping one", []Event{{Kind: Started}, {Kind: Stop}, {Kind: Start}, {Kind: Stopped}}, "starting", []string{"start a", "stop a", "start a"}},
		{"start in backoff is at once", []Event{{Kind: Started, Err: errThrew}, {Kind: Start}}, "starting", []string{"start a", "start a"}},
		{"start of one that reported", []Event{{Kind: Started}, {Kind: Report}, {Kind: Start}, {Kind: Stopped}}, "starting", []string{"start a", "stop a", "start a"}},
		{"restart of a running one", []Event{{Kind: Started}, {Kind: Restart}, {Kind: Stopped}, {Kind: Started}}, "running", []string{"start a", "stop a", "start a"}},
		{"restart of a starting one", []Event{{Kind: Restart}, {Kind: Started, Err: errLate}, {Kind: Stopped}}, "starting", []string{"start a", "cancel a", "stop a", "start a"}},
		{"restart of one that reports while it starts", []Event{{Kind: Report}, {Kind: Restart}, {Kind: Started}, {Kind: Stopped}, {Kind: Started}}, "running", []string{"start a", "cancel a", "stop a", "start a"}},
		{"restart with a stop that fails", []Event{{Kind: Started}, {Kind: Restart}, {Kind: Stopped, Err: errLate}}, "starting", []string{"start a", "stop a", "start a"}},
		{"desire while the plugin is down", []Event{{Kind: Started}, {Kind: Down}, {Kind: Stop}, {Kind: Up, Services: []string{"a"}}}, "stopped", []string{"start a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			s.do(Event{Kind: Up, Services: []string{"a"}})
			for _, ev := range tc.events {
				ev.Service = "a"
				s.do(ev)
			}
			s.want(t, "a="+tc.want, tc.log...)
			if n := s.u.services[0].restarts; n != 0 {
				t.Errorf("%d restarts, want none: nothing failed", n)
			}
		})
	}
}

func TestResultsOfOthersAreIgnored(t *testing.T) {
	s := newScript()
	s.do(Event{Kind: Up, Services: []string{"a"}})
	stale := s.running["a"]
	s.do(Event{Kind: Down})
	s.do(Event{Kind: Up, Services: []string{"a"}})
	s.u, _ = Step(DefaultPolicy(), s.u, Event{Kind: Started, Service: "a", Attempt: stale, At: s.at})
	s.want(t, "a=starting", "start a", "start a")
}

func TestDelayIsMonotoneToItsCap(t *testing.T) {
	p := DefaultPolicy()
	last := time.Duration(0)
	for n := 1; n < 100; n++ {
		d := p.Delay(n)
		if d < last || d > p.BackoffMax {
			t.Fatalf("delay %d is %v after %v", n, d, last)
		}
		last = d
	}
	if last != p.BackoffMax || p.Delay(1) != p.BackoffFirst {
		t.Errorf("from %v to %v", p.Delay(1), last)
	}
	for _, random := range []float64{0, 0.5, 0.999999} {
		if d := p.jitter(time.Second, random); d < 750*time.Millisecond || d > 1250*time.Millisecond {
			t.Errorf("jitter of %v is %v", random, d)
		}
	}
}
