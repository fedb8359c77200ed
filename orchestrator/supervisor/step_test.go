package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

var (
	epoch     = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	errPlain  = errors.New("it threw")
	errTamper = fmt.Errorf("digest differs: %w", errdefs.ErrDataLoss)
	errEngine = fmt.Errorf("no engine: %w", errdefs.ErrUnavailable)
)

// noJitter is the Random in the middle, which leaves delays as they are.
const noJitter = 0.5

// move is an event some time after the one before, and what must follow.
type move struct {
	after time.Duration
	ev    Event
	state State
	do    []Do
}

// play runs moves from a unit that is switched off. Results get the attempt
// of the current instance unless they name one.
func play(t *testing.T, u Unit, moves []move) Unit {
	t.Helper()
	p, at := DefaultPolicy(), epoch
	for i, m := range moves {
		at = at.Add(m.after)
		m.ev.At, m.ev.Random = at, noJitter
		if m.ev.Attempt == 0 {
			m.ev.Attempt = u.attempt
		}
		var actions []Action
		u, actions = Step(p, u, m.ev)
		var do []Do
		for _, a := range actions {
			do = append(do, a.Do)
		}
		if u.State() != m.state || !cmp.Equal(do, m.do) {
			t.Fatalf("move %d, %s: state %s, actions %v; want %s, %v", i, m.ev.Kind, u.State(), do, m.state, m.do)
		}
	}
	return u
}

// up are the moves that bring a fresh unit to running.
func up() []move {
	return []move{
		{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
		{0, Event{Kind: Prepared, Generation: 1}, StateStarting, []Do{DoStart}},
		{0, Event{Kind: Started}, StateRunning, nil},
	}
}

func exitWith(code int) Event { return Event{Kind: Exited, Exit: Exit{Code: code}} }

func TestStep(t *testing.T) {
	const s = time.Second
	tests := []struct {
		name  string
		moves []move
		want  func(t *testing.T, u Unit)
	}{
		{"healthy run restarts at once", append(up(),
			move{15 * s, exitWith(7), StateBackoff, []Do{DoSave, DoClose}},
			move{0, Event{Kind: Closed}, StatePreparing, []Do{DoPrepare}},
			move{0, Event{Kind: Prepared}, StateStarting, []Do{DoSave, DoStart}}, // the restart is counted when it is made
		), func(t *testing.T, u Unit) {
			if u.Restarts != 1 || u.ShortRuns != 0 || u.LastExit.Class != ClassError || u.LastExit.Code != 7 {
				t.Errorf("%+v", u.Counters)
			}
		}},
		{"short run waits", append(up(),
			move{14 * s, exitWith(0), StateBackoff, []Do{DoSave, DoClose}},
			move{0, Event{Kind: Closed}, StateBackoff, nil},
			move{249 * time.Millisecond, Event{Kind: Tick}, StateBackoff, nil},
			move{time.Millisecond, Event{Kind: Tick}, StatePreparing, []Do{DoPrepare}},
		), func(t *testing.T, u Unit) {
			if u.ShortRuns != 1 || u.LastExit.Class != ClassClean {
				t.Errorf("%+v", u.Counters)
			}
		}},
		{"no second instance while the first is there", append(up(),
			move{20 * s, exitWith(1), StateBackoff, []Do{DoSave, DoClose}},
			move{60 * s, Event{Kind: Tick}, StateBackoff, nil},
			move{0, Event{Kind: Restart}, StateStopping, []Do{DoSave}},
			move{0, Event{Kind: Closed, Err: errEngine}, StateStopping, nil},
			move{s, Event{Kind: Tick}, StateStopping, []Do{DoClose}},
			move{0, Event{Kind: Closed}, StatePreparing, []Do{DoPrepare}},
		), nil},
		{"out of memory", append(up(),
			move{s, Event{Kind: Exited, Exit: Exit{Code: 137, OOM: true}}, StateBackoff, []Do{DoSave, DoClose}},
		), wantClass(ClassOOM)},
		{"disable", append(up(),
			move{s, Event{Kind: Disable}, StateStopping, []Do{DoStop}},
			move{0, exitWith(143), StateStopping, nil},
			move{0, Event{Kind: Stopped}, StateStopping, []Do{DoSave, DoClose}},
			move{0, Event{Kind: Closed}, StateStopped, nil},
			move{time.Hour, Event{Kind: Tick}, StateStopped, nil},
		), func(t *testing.T, u Unit) {
			if u.LastExit.Class != ClassStopped || u.LastExit.Code != 143 || len(u.Exits) != 0 {
				t.Errorf("%+v", u.Counters)
			}
		}},
		{"disable while preparing", []move{
			{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
			{0, Event{Kind: Disable}, StateStopping, []Do{DoCancel}},
			{0, Event{Kind: Tick}, StateStopping, nil},
			{0, Event{Kind: Prepared, Err: context.Canceled}, StateStopped, []Do{DoSave}},
		}, wantClass(ClassStopped)},
		{"disable while preparing, which succeeds all the same", []move{
			{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
			{0, Event{Kind: Disable}, StateStopping, []Do{DoCancel}},
			{0, Event{Kind: Prepared}, StateStopping, []Do{DoSave, DoClose}},
			{0, Event{Kind: Closed}, StateStopped, nil},
		}, wantClass(ClassStopped)},
		{"disable while starting", []move{
			{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
			{0, Event{Kind: Prepared}, StateStarting, []Do{DoStart}},
			{0, Event{Kind: Disable}, StateStopping, []Do{DoCancel}},
			{0, Event{Kind: Started, Err: context.Canceled}, StateStopping, []Do{DoSave, DoClose}},
			{0, Event{Kind: Closed}, StateStopped, nil},
		}, wantClass(ClassStopped)},
		{"disable and enable while starting, which succeeds all the same", []move{
			{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
			{0, Event{Kind: Prepared}, StateStarting, []Do{DoStart}},
			{0, Event{Kind: Disable}, StateStopping, []Do{DoCancel}},
			{0, Event{Kind: Enable}, StateStopping, nil},
			{0, Event{Kind: Started}, StateStopping, []Do{DoStop}},
			{0, Event{Kind: Stopped}, StatePreparing, []Do{DoSave, DoClose, DoPrepare}},
			{0, Event{Kind: Closed}, StatePreparing, nil},
		}, nil},
		{"start failure", []move{
			{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
			{0, Event{Kind: Prepared}, StateStarting, []Do{DoStart}},
			{0, exitWith(3), StateStarting, nil},
			{0, Event{Kind: Started, Err: errPlain}, StateBackoff, []Do{DoSave, DoClose}},
		}, func(t *testing.T, u Unit) {
			if u.LastExit.Class != ClassStartFailure || u.LastExit.Code != 3 || u.LastError != "it threw" || u.ShortRuns != 1 {
				t.Errorf("%+v, last error %q", u.Counters, u.LastError)
			}
		}},
		{"out of memory while starting", []move{
			{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
			{0, Event{Kind: Prepared}, StateStarting, []Do{DoStart}},
			{0, Event{Kind: Exited, Exit: Exit{Code: 137, OOM: true}}, StateStarting, nil},
			{0, Event{Kind: Started, Err: errPlain}, StateBackoff, []Do{DoSave, DoClose}},
		}, wantClass(ClassOOM)},
		{"ready and dead in one moment", []move{
			{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
			{0, Event{Kind: Prepared}, StateStarting, []Do{DoStart}},
			{0, exitWith(1), StateStarting, nil},
			{0, Event{Kind: Started}, StateBackoff, []Do{DoSave, DoClose}},
		}, wantClass(ClassError)},
		{"tampered payload", []move{
			{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
			{0, Event{Kind: Prepared, Err: errTamper}, StateQuarantined, []Do{DoSave}},
			{time.Hour, Event{Kind: Tick}, StateQuarantined, nil},
			{0, Event{Kind: Restart}, StateQuarantined, []Do{DoSave}},
			{0, Event{Kind: Disable}, StateQuarantined, nil},
			{time.Second, Event{Kind: Enable}, StateQuarantined, []Do{DoSave}},
			{0, Event{Kind: Reset}, StatePreparing, []Do{DoSave, DoPrepare}},
		}, wantClass(ClassTamper)},
		{"tampering found while it runs", append(up(),
			move{s, Event{Kind: Tamper, Reason: "digest differs"}, StateStopping, []Do{DoSave, DoStop}},
			move{0, Event{Kind: Stopped, Err: errPlain}, StateQuarantined, []Do{DoSave, DoClose}},
			move{0, Event{Kind: Closed}, StateQuarantined, nil},
		), func(t *testing.T, u Unit) {
			if u.Tampered != "digest differs" || u.LastExit.Class != ClassTamper || u.LastError != "it threw" {
				t.Errorf("%+v, last error %q", u.Counters, u.LastError)
			}
		}},
		{"tampering found while it is being stopped for another reason", []move{
			{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
			{0, Event{Kind: Disable}, StateStopping, []Do{DoCancel}},
			{0, Event{Kind: Tamper}, StateStopping, []Do{DoSave}},
			{0, Event{Kind: Prepared}, StateQuarantined, []Do{DoSave, DoClose}},
			{0, Event{Kind: Closed}, StateQuarantined, nil},
		}, wantClass(ClassTamper)},
		{"two missed pings", append(up(),
			move{5 * s, Event{Kind: Tick}, StateRunning, []Do{DoPing}},
			move{s, Event{Kind: Tick}, StateRunning, nil},
			move{s, Event{Kind: Ponged}, StateRunning, nil},
			move{5 * s, Event{Kind: Tick}, StateRunning, []Do{DoPing}},
			move{10 * s, Event{Kind: Ponged, Err: errPlain}, StateRunning, nil},
			move{5 * s, Event{Kind: Tick}, StateRunning, []Do{DoPing}},
			move{10 * s, Event{Kind: Ponged, Err: errPlain}, StateStopping, []Do{DoStop}},
			move{0, exitWith(137), StateStopping, nil},
			move{s, Event{Kind: Stopped}, StateBackoff, []Do{DoSave, DoClose}},
		), func(t *testing.T, u Unit) {
			if u.LastExit.Class != ClassProbeFailure || u.ShortRuns != 1 { // healthy for 7 s only
				t.Errorf("%+v", u.Counters)
			}
		}},
		{"one missed ping is forgiven", append(up(),
			move{5 * s, Event{Kind: Tick}, StateRunning, []Do{DoPing}},
			move{10 * s, Event{Kind: Ponged, Err: errPlain}, StateRunning, nil},
			move{5 * s, Event{Kind: Tick}, StateRunning, []Do{DoPing}},
			move{8 * s, Event{Kind: Ponged}, StateRunning, nil},
			move{5 * s, Event{Kind: Tick}, StateRunning, []Do{DoPing}},
			move{10 * s, Event{Kind: Ponged, Err: errPlain}, StateRunning, nil},
		), nil},
		{"the host's fault", []move{
			{0, Event{Kind: Enable}, StatePreparing, []Do{DoSave, DoPrepare}},
			{0, Event{Kind: Prepared, Err: errEngine}, StateBackoff, []Do{DoSave}},
			{250 * time.Millisecond, Event{Kind: Tick}, StatePreparing, []Do{DoPrepare}},
			{0, Event{Kind: Prepared}, StateStarting, []Do{DoStart}},
			{0, Event{Kind: Started, Err: errEngine}, StateBackoff, []Do{DoSave, DoClose}},
			{0, Event{Kind: Closed}, StateBackoff, nil},
			{500 * time.Millisecond, Event{Kind: Tick}, StatePreparing, []Do{DoPrepare}},
		}, func(t *testing.T, u Unit) {
			if u.ShortRuns != 0 || len(u.Exits) != 0 || u.Restarts != 0 {
				t.Errorf("it counted: %+v", u.Counters)
			}
		}},
		{"a restart that the host keeps from being made counts once", append(up(),
			move{20 * s, exitWith(1), StateBackoff, []Do{DoSave, DoClose}},
			move{0, Event{Kind: Closed}, StatePreparing, []Do{DoPrepare}},
			move{0, Event{Kind: Prepared, Err: errEngine}, StateBackoff, []Do{DoSave}},
			move{250 * time.Millisecond, Event{Kind: Tick}, StatePreparing, []Do{DoPrepare}},
			move{0, Event{Kind: Prepared, Err: errEngine}, StateBackoff, []Do{DoSave}},
			move{500 * time.Millisecond, Event{Kind: Tick}, StatePreparing, []Do{DoPrepare}},
			move{0, Event{Kind: Prepared}, StateStarting, []Do{DoSave, DoStart}},
			move{0, Event{Kind: Started}, StateRunning, nil},
		), func(t *testing.T, u Unit) {
			if u.Restarts != 1 {
				t.Errorf("%d restarts", u.Restarts)
			}
		}},
		{"restart during backoff", append(up(),
			move{s, exitWith(1), StateBackoff, []Do{DoSave, DoClose}},
			move{0, Event{Kind: Closed}, StateBackoff, nil},
			move{0, Event{Kind: Restart}, StatePreparing, []Do{DoSave, DoPrepare}},
		), func(t *testing.T, u Unit) {
			if u.Restarts != 0 || u.ShortRuns != 1 {
				t.Errorf("%+v", u.Counters)
			}
		}},
		{"remove", append(up(),
			move{s, Event{Kind: Remove}, StateStopping, []Do{DoStop}},
			move{0, Event{Kind: Stopped}, StateStopping, []Do{DoClose}},
			move{0, Event{Kind: Enable}, StateStopping, nil},
			move{0, Event{Kind: Closed}, StateStopped, []Do{DoForget, DoFinish}},
			move{0, Event{Kind: Enable}, StateStopped, nil},
		), nil},
		{"shut down", append(up(),
			move{s, Event{Kind: Shutdown}, StateStopping, []Do{DoStop}},
			move{0, Event{Kind: Stopped}, StateStopping, []Do{DoSave, DoClose}},
			move{0, Event{Kind: Closed}, StateStopped, []Do{DoFinish}},
		), nil},
		{"stale results are ignored", append(up(),
			move{20 * s, exitWith(1), StateBackoff, []Do{DoSave, DoClose}},
			move{0, Event{Kind: Closed}, StatePreparing, []Do{DoPrepare}},
			move{0, Event{Kind: Prepared}, StateStarting, []Do{DoSave, DoStart}},
			move{0, Event{Kind: Started}, StateRunning, nil},
			move{0, Event{Kind: Exited, Attempt: 1}, StateRunning, nil},
			move{0, Event{Kind: Ponged, Attempt: 1, Err: errPlain}, StateRunning, nil},
			move{0, Event{Kind: Closed, Attempt: 1}, StateRunning, nil},
			move{0, Event{Kind: Ponged, Err: errPlain}, StateRunning, nil}, // none is under way
		), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := play(t, Unit{}, tt.moves)
			if tt.want != nil {
				tt.want(t, u)
			}
		})
	}
}

func wantClass(want Class) func(*testing.T, Unit) {
	return func(t *testing.T, u Unit) {
		if u.LastExit.Class != want {
			t.Errorf("last exit %+v, want class %s", u.LastExit, want)
		}
	}
}

// crash runs a unit that is preparing to its next unasked end after a run of
// the given length, and on to where it waits or prepares again.
func crash(p Policy, u Unit, at time.Time, run time.Duration) (Unit, time.Time) {
	for _, ev := range []Event{{Kind: Prepared}, {Kind: Started}, {Kind: Exited, Exit: Exit{Code: 1}}, {Kind: Closed}} {
		if ev.Kind == Exited {
			at = at.Add(run)
		}
		ev.At, ev.Random, ev.Attempt = at, noJitter, u.attempt
		u, _ = Step(p, u, ev)
	}
	return u, at
}

func TestBackoffGrowsAndResets(t *testing.T) {
	p, at := DefaultPolicy(), epoch
	p.MaxShortRuns, p.MaxExits = 100, 100
	u, _ := Step(p, Unit{}, Event{Kind: Enable, At: at})
	var got []time.Duration
	short := func() {
		u, at = crash(p, u, at, time.Second)
		got = append(got, u.NextAttempt.Sub(at))
		at = u.NextAttempt
		u, _ = Step(p, u, Event{Kind: Tick, At: at})
	}
	for range 11 {
		short()
	}
	u, at = crash(p, u, at, 30*time.Second) // healthy, but too short to forget
	if u.State() != StatePreparing || u.ShortRuns != 11 {
		t.Fatalf("after 30 s: %s, %d short runs", u.State(), u.ShortRuns)
	}
	short()
	u, at = crash(p, u, at, 119*time.Second) // twice the delay of 60 s is 120 s
	if u.ShortRuns != 12 {
		t.Fatalf("after 119 s: %d short runs, want them kept", u.ShortRuns)
	}
	u, at = crash(p, u, at, 120*time.Second)
	if u.ShortRuns != 0 {
		t.Fatalf("after 120 s: %d short runs, want 0", u.ShortRuns)
	}
	short()
	ms := time.Millisecond
	want := []time.Duration{250 * ms, 500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 16000 * ms, 32000 * ms,
		60000 * ms, 60000 * ms, 60000 * ms, 60000 * ms, 250 * ms}
	if !cmp.Equal(want, got) {
		t.Errorf("delays %v, want %v", got, want)
	}
}

func TestBreaker(t *testing.T) {
	tests := []struct {
		name string
		run  time.Duration
		want int // crashes until crashlooped, 0 if never
	}{
		{"short runs", time.Second, 6},
		{"20 healthy runs in 10 min", 30 * time.Second, 20},
		{"fewer than 20 in 10 min", 33 * time.Second, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, at := DefaultPolicy(), epoch
			u, _ := Step(p, Unit{}, Event{Kind: Enable, At: at})
			got := 0
			for n := 1; n <= 100 && got == 0; n++ {
				if u, at = crash(p, u, at, tt.run); u.State() == StateCrashlooped {
					got = n
				}
				if wait := u.NextAttempt.Sub(at); wait > 0 && got == 0 {
					at = at.Add(wait)
					u, _ = Step(p, u, Event{Kind: Tick, At: at})
				}
			}
			if got != tt.want {
				t.Fatalf("crashlooped after %d exits, want %d", got, tt.want)
			}
			if got > 0 {
				checkHalfOpen(t, p, u, at)
			}
		})
	}
}

// checkHalfOpen wants one trial every ten minutes, a failed one to leave the
// breaker open, a long one to close it.
func checkHalfOpen(t *testing.T, p Policy, u Unit, at time.Time) {
	t.Helper()
	for range 3 {
		if wait := u.Wake().Sub(at); wait != 10*time.Minute {
			t.Fatalf("the next trial comes after %v, want 10m", wait)
		}
		at = u.Wake()
		if u, _ = Step(p, u, Event{Kind: Tick, At: at}); u.State() != StatePreparing {
			t.Fatalf("no trial: %s", u.State())
		}
		if u, at = crash(p, u, at, time.Second); u.State() != StateCrashlooped {
			t.Fatalf("after a failed trial: %s, want crashlooped", u.State())
		}
	}
	at = at.Add(time.Second)
	u, _ = Step(p, u, Event{Kind: Restart, At: at}) // a person needs not wait
	if u, at = crash(p, u, at, time.Hour); u.State() != StatePreparing || u.ShortRuns != 0 {
		t.Fatalf("after a long trial: %s, %d short runs", u.State(), u.ShortRuns)
	}
	if u, _ = crash(p, u, at, time.Second); u.State() != StateBackoff {
		t.Errorf("the breaker did not close: %s", u.State())
	}
}

func TestLongRunForgetsWhileItRuns(t *testing.T) {
	p := DefaultPolicy()
	u := Restore(p, Counters{ShortRuns: 5}, true, epoch)
	at := epoch
	for _, ev := range []Event{{Kind: Tick}, {Kind: Prepared}, {Kind: Started}} {
		ev.At, ev.Attempt = at, u.attempt
		u, _ = Step(p, u, ev)
	}
	for u.ShortRuns > 0 && at.Before(epoch.Add(5*time.Minute)) {
		at = u.Wake()
		u, _ = Step(p, u, Event{Kind: Tick, At: at})
		u, _ = Step(p, u, Event{Kind: Ponged, At: at, Attempt: u.attempt})
	}
	if got := at.Sub(epoch); got != time.Minute {
		t.Errorf("short runs were forgotten after %v, want 1m", got)
	}
}

func TestLateNewsOfAnExit(t *testing.T) {
	u := play(t, Unit{}, append(up(), move{
		time.Minute, Event{Kind: Exited, Exit: Exit{Code: 1, At: epoch.Add(2 * time.Second)}}, StatePreparing, []Do{DoSave, DoClose, DoPrepare}}))
	if u.ShortRuns != 1 || !u.LastExit.At.Equal(epoch.Add(2*time.Second)) {
		t.Errorf("the run is taken to have lasted until the news came: %+v", u.Counters)
	}
}

func TestCloseIsRepeated(t *testing.T) {
	moves := append(up(),
		move{time.Minute, Event{Kind: Disable}, StateStopping, []Do{DoStop}},
		move{0, Event{Kind: Stopped}, StateStopping, []Do{DoSave, DoClose}})
	u := play(t, Unit{}, moves)
	p, at := DefaultPolicy(), epoch.Add(time.Minute)
	var got []time.Duration
	for range 7 {
		u, _ = Step(p, u, Event{Kind: Closed, At: at, Attempt: u.attempt, Err: errEngine})
		got = append(got, u.Wake().Sub(at))
		at = u.Wake()
		var actions []Action
		if u, actions = Step(p, u, Event{Kind: Tick, At: at}); len(actions) != 1 || actions[0].Do != DoClose {
			t.Fatalf("actions %v, want close", actions)
		}
	}
	s := time.Second
	if want := []time.Duration{s, 2 * s, 4 * s, 8 * s, 15 * s, 15 * s, 15 * s}; !slices.Equal(got, want) {
		t.Errorf("repeated after %v, want %v", got, want)
	}
}

func TestRestore(t *testing.T) {
	p := DefaultPolicy()
	tests := []struct {
		name string
		c    Counters
		want State
		wake time.Duration
	}{
		{"nothing known", Counters{}, StatePreparing, 0},
		{"quarantine stays", Counters{Tampered: "x"}, StateQuarantined, 0},
		{"crash loop stays", Counters{CrashLooped: true, ShortRuns: 6, NextAttempt: epoch.Add(time.Minute)}, StateCrashlooped, time.Minute},
		{"backoff goes on", Counters{ShortRuns: 3, NextAttempt: epoch.Add(time.Second)}, StateBackoff, time.Second},
		{"over while ocmt was down", Counters{CrashLooped: true, NextAttempt: epoch.Add(-time.Second)}, StatePreparing, 0},
		{"the clock went back a year", Counters{CrashLooped: true, NextAttempt: epoch.AddDate(1, 0, 0)}, StateCrashlooped, 10 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, _ := Step(p, Restore(p, tt.c, true, epoch), Event{Kind: Tick, At: epoch})
			var wake time.Duration
			if w := u.Wake(); !w.IsZero() {
				wake = w.Sub(epoch)
			}
			if u.State() != tt.want || wake != tt.wake {
				t.Errorf("%s, next after %v; want %s, %v", u.State(), wake, tt.want, tt.wake)
			}
		})
	}
}

func TestDelayIsMonotoneToItsCap(t *testing.T) {
	p := DefaultPolicy()
	for n := range 1000 {
		d, next := p.Delay(n), p.Delay(n+1)
		if next < d || next > p.BackoffMax {
			t.Fatalf("Delay(%d) = %v, Delay(%d) = %v", n, d, n+1, next)
		}
	}
	for _, random := range []float64{0, 0.25, 0.999999} {
		if d := p.jitter(time.Second, random); d < 750*time.Millisecond || d > 1250*time.Millisecond {
			t.Errorf("jitter(1s, %v) = %v", random, d)
		}
	}
}
