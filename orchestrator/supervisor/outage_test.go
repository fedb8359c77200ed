package supervisor

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// TestClasses plays the ways in which an instance can end.
func TestClasses(t *testing.T) {
	exit := func(e Exit) Event { return Event{Kind: Exited, Exit: e} }
	missed := Event{Kind: Ponged, Err: errPlain}
	tests := []struct {
		name   string
		start  bool // instead of a plugin that is up: one that starts
		events []Event
		class  Class
		code   int
		words  string
		short  int
	}{
		{"clean", false, []Event{exit(Exit{Code: 0})}, ClassClean, 0, "exit code 0", 1},
		{"error", false, []Event{exit(Exit{Code: 7})}, ClassError, 7, "exit code 7", 1},
		{"signal", false, []Event{exit(Exit{Code: 139})}, ClassError, 139, "exit code 139", 1},
		{"oom", false, []Event{exit(Exit{Code: 137, OOM: true})}, ClassOOM, 137, "it used more memory than its limit", 1},
		{"oom without a code", false, []Event{exit(Exit{Code: NoCode, OOM: true})}, ClassOOM, NoCode, "it used more memory than its limit", 1},
		{"lost", false, []Event{exit(Exit{Code: NoCode})}, ClassError, NoCode, "the engine lost it and does not know how it ended", 0},
		{"start failure", true, []Event{{Kind: Started, Err: errPlain}}, ClassStartFailure, NoCode, "it threw", 1},
		{"exit during its start", true, []Event{exit(Exit{Code: 3}), {Kind: Started, Err: errPlain}}, ClassStartFailure, 3, "it threw", 1},
		{"oom during its start", true, []Event{exit(Exit{Code: 137, OOM: true}), {Kind: Started, Err: errPlain}}, ClassOOM, 137, "it used more memory than its limit", 1},
		{"lost during its start", true, []Event{exit(Exit{Code: NoCode}), {Kind: Started, Err: errPlain}}, ClassStartFailure, NoCode, "it threw", 0},
		{"the engine is away", true, []Event{{Kind: Started, Err: errEngine}}, ClassStartFailure, NoCode, errEngine.Error(), 0},
		{"probe failure", false, []Event{{Kind: Tick}, missed, {Kind: Tick}, missed, {Kind: Stopped}}, ClassProbeFailure, NoCode,
			"2 pings in a row were not answered: it threw", 1},
		{"tamper", true, []Event{{Kind: Started, Err: errTamper}}, ClassTamper, NoCode, errTamper.Error(), 0},
		{"stopped", false, []Event{{Kind: Disable}, exit(Exit{Code: 143}), {Kind: Stopped}}, ClassStopped, 143, "stopped", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, at := DefaultPolicy(), epoch
			u := Unit{}
			events := []Event{{Kind: Enable}, {Kind: Prepared}, {Kind: Started}}
			if tt.start {
				events = events[:2]
			}
			for _, ev := range append(events, tt.events...) {
				if wake := u.Wake(); ev.Kind == Tick && wake.After(at) {
					at = wake
				}
				ev.At, ev.Attempt, ev.Random = at, u.attempt, noJitter
				u, _ = Step(p, u, ev)
			}
			got := u.LastExit
			if got.Class != tt.class || got.Code != tt.code || got.String() != tt.words || u.ShortRuns != tt.short {
				t.Errorf("%s %d %q, %d short runs; want %s %d %q, %d", got.Class, got.Code, got, u.ShortRuns, tt.class, tt.code, tt.words, tt.short)
			}
		})
	}
}

// TestCrashToReady wants that a restart waits for nothing but the start
// itself, be the old instance slow to be cleared away or not clearable at all.
func TestCrashToReady(t *testing.T) {
	tests := []struct {
		name  string
		close func(context.Context) error
	}{
		{"removal takes its time", func(context.Context) error { time.Sleep(90 * time.Millisecond); return nil }},
		{"removal hangs", hang},
		{"removal fails", func(context.Context) error { return errEngine }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				b.m.prepare = func(context.Context) error { time.Sleep(50 * time.Millisecond); return nil }
				b.m.newHooks = hooks{start: func(context.Context) error { time.Sleep(200 * time.Millisecond); return nil }, close: tt.close}
				b.add(echo)
				first := b.ready(echo)
				wait(20 * time.Second)
				died := time.Now()
				first.end(1, false)
				second := b.ready(echo)
				if d := time.Since(died); d != 250*time.Millisecond {
					t.Errorf("ready again after %v, want the 250ms of a start", d)
				}
				if st := b.status(echo); st.Instance != second.id || st.LastError != "" {
					t.Errorf("status %+v", st)
				}
				b.m.set(func() { first.hooks.close, second.hooks.close = nil, nil })
				wait(time.Minute)
				if !first.closed || second.closed {
					t.Errorf("closed: first %v, second %v; want the first", first.closed, second.closed)
				}
			})
		})
	}
}

// TestNoThirdInstance crashes the successor of one that cannot be removed: it
// waits for that, so that what cannot be cleared away does not pile up.
func TestNoThirdInstance(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.newHooks.close = func(context.Context) error { return errEngine }
		b.add(echo)
		for range 2 {
			wait(20 * time.Second)
			b.ready(echo).end(1, false)
			synctest.Wait()
		}
		wait(time.Hour)
		if n := b.m.count(echo); n != 2 {
			t.Errorf("%d instances, want the two that cannot be removed", n)
		}
		for _, inst := range b.m.instances[echo] {
			b.m.set(func() { inst.hooks.close = nil })
		}
		b.m.set(func() { b.m.newHooks.close = nil })
		from := time.Now()
		b.ready(echo)
		if d := time.Since(from); d > 15*time.Second {
			t.Errorf("back %v after the engine, want at most 15s", d)
		}
	})
}

// TestALostInstanceMayRun has an engine that lost an instance, which may run
// on: there is no other until it is removed.
func TestALostInstanceMayRun(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.newHooks.close = func(context.Context) error { return errEngine }
		b.add(echo)
		first := b.ready(echo)
		wait(20 * time.Second)
		first.end(NoCode, false)
		wait(time.Minute)
		if n := b.m.count(echo); n != 1 {
			t.Fatalf("%d instances while the first may run, want 1", n)
		}
		b.m.set(func() { first.hooks.close, b.m.newHooks.close = nil, nil })
		from := time.Now()
		b.ready(echo)
		st := b.status(echo)
		if d := time.Since(from); d > 15*time.Second || st.ShortRuns != 0 || st.LastExit.Code != NoCode || st.LastExit.Class == ClassClean {
			t.Errorf("back after %v, status %+v", d, st)
		}
	})
}

// TestTheEngineIsAwayForTheStop asks for an end while the engine answers
// nothing: the instance is not believed to have ended.
func TestTheEngineIsAwayForTheStop(t *testing.T) {
	for name, act := range map[string]func(b *bench, ctx context.Context) error{
		"restart":    func(b *bench, ctx context.Context) error { return b.Replace(ctx, echo) },
		"quarantine": func(b *bench, ctx context.Context) error { return b.Quarantine(ctx, echo, "altered") },
		"disable":    func(b *bench, ctx context.Context) error { return b.SetDesired(ctx, echo, false) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				b.m.newHooks = hooks{
					stop:  func(context.Context, time.Duration) error { return errEngine },
					close: func(context.Context) error { return errEngine },
				}
				b.add(echo)
				first := b.ready(echo)
				if err := act(b, t.Context()); err != nil {
					t.Fatal(err)
				}
				wait(5 * time.Minute)
				st := b.status(echo)
				if n := b.m.count(echo); n != 1 || st.Instance != first.id || st.LastError == "" {
					t.Fatalf("%d instances, status %+v; want the first, and why it is still there", n, st)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := b.Gone(ctx, echo); name == "disable" && !errdefs.IsDeadlineExceeded(err) {
					t.Errorf("Gone = %v, want DeadlineExceeded", err)
				}
				b.m.set(func() { first.hooks, b.m.newHooks = hooks{}, hooks{} })
				wait(20 * time.Second)
				if !first.closed || len(b.m.open()) > 1 {
					t.Errorf("20 s after the engine came back: closed %v, open %v", first.closed, b.m.open())
				}
				if st := b.status(echo); name == "restart" && (st.State != StateRunning || st.ShortRuns != 0) {
					t.Errorf("status %+v, want it running again", st)
				}
			})
		})
	}
}

// TestAnEngineThatComesAndGoes is away for minutes again and again, at every
// step of a life: the plugin is never held responsible and always comes back,
// and the engine is not asked without end.
func TestAnEngineThatComesAndGoes(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		away, asked := false, 0
		ask := func(context.Context) error {
			b.m.mu.Lock()
			defer b.m.mu.Unlock()
			if asked++; away {
				return errEngine
			}
			return nil
		}
		b.m.prepare = ask
		b.m.newHooks = hooks{start: ask, close: ask, stop: func(ctx context.Context, _ time.Duration) error { return ask(ctx) }}
		b.add(echo)
		for range 30 {
			inst := b.ready(echo)
			wait(20 * time.Second)
			b.m.set(func() { away, asked = true, 0 })
			inst.end(NoCode, false)
			wait(5 * time.Minute)
			if asked > 60 {
				t.Fatalf("an engine that is away was asked %d times in five minutes", asked)
			}
			b.m.set(func() { away = false })
			wait(20 * time.Second)
			if st := b.status(echo); st.State != StateRunning || st.ShortRuns != 0 || len(b.m.docs[echo]) > 400 {
				t.Fatalf("20 s after the engine came back: %+v, counters %s", st, b.m.docs[echo])
			}
		}
	})
}

// TestAnEngineThatLosesWhatItStarts is asked less and less often, though the
// plugin got ready each time.
func TestAnEngineThatLosesWhatItStarts(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.add(echo)
		for from := time.Now(); time.Since(from) < 10*time.Minute; synctest.Wait() {
			b.ready(echo).end(NoCode, false)
		}
		st := b.status(echo)
		if n := b.m.count(echo); n < 30 || n > 70 || st.ShortRuns != 0 || st.State == StateCrashlooped {
			t.Errorf("%d starts in ten minutes, status %+v; want one every 15 s in the end, and none counted", n, st)
		}
	})
}

func TestGoneWhenItIsSwitchedOnAgain(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.newHooks.stop = func(context.Context, time.Duration) error { time.Sleep(5 * time.Second); return nil }
		b.add(echo)
		b.ready(echo)
		if err := b.SetDesired(t.Context(), echo, false); err != nil {
			t.Fatal(err)
		}
		gone := make(chan error, 1)
		go func() { gone <- b.Gone(t.Context(), echo) }()
		wait(time.Second)
		from := time.Now()
		if err := b.SetDesired(t.Context(), echo, true); err != nil {
			t.Fatal(err)
		}
		err := <-gone
		if f := fault.Of(err); !errdefs.IsConflict(err) || f.Code != "plugin_enabled" || f.Hint == "" || time.Since(from) != 0 {
			t.Errorf("Gone = %v after %v, want Conflict at once", err, time.Since(from))
		}
	})
}

// TestReadyWakesAtOnce has many callers, who come while the plugin restarts.
func TestReadyWakesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.newHooks.start = func(context.Context) error { time.Sleep(time.Second); return nil }
		b.add(echo)
		first := b.ready(echo)
		wait(20 * time.Second)
		first.end(1, false)
		from := time.Now()
		waited := make(chan time.Duration, 50)
		for range cap(waited) {
			go func() {
				if inst, err := b.Ready(t.Context(), echo); err != nil || inst == first {
					t.Errorf("Ready = %v, %v", inst, err)
				}
				waited <- time.Since(from)
			}()
		}
		for range cap(waited) {
			if d := <-waited; d != time.Second {
				t.Fatalf("a caller waited for %v, want the 1s of the start", d)
			}
		}
	})
}

// TestThousandRestarts wants no goroutine to be left, however an instance ends.
func TestThousandRestarts(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.policy.MaxExits, b.policy.MaxShortRuns, b.policy.BackoffMax = 1<<20, 1<<20, time.Second
		b.add(echo)
		b.ready(echo)
		wait(time.Minute)
		before := runtime.NumGoroutine()
		for i := range 1000 {
			inst := b.ready(echo)
			switch i % 4 {
			case 0:
				wait(20 * time.Second)
				inst.end(1, false)
			case 1:
				if err := b.Restart(t.Context(), echo); err != nil {
					t.Fatal(err)
				}
			case 2:
				inst.end(NoCode, false)
			case 3:
				b.m.set(func() { b.m.newHooks.start = func(context.Context) error { return errPlain } })
				inst.end(0, false)
				wait(time.Second)
				b.m.set(func() { b.m.newHooks.start = nil })
			}
			synctest.Wait()
		}
		b.ready(echo)
		wait(time.Minute)
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines after 1,000 restarts, %d before", after, before)
		}
		if open := len(b.m.open()); open != 1 || b.m.count(echo) < 1000 {
			t.Errorf("%d of %d instances are left, want 1 of at least 1,000", open, b.m.count(echo))
		}
	})
}
