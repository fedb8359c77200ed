package supervisor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

func TestCrashComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.add(echo)
		first := b.ready(echo)
		wait(20 * time.Second)
		died := time.Now()
		first.end(7, false)
		synctest.Wait()
		second := b.ready(echo)
		if second == first || time.Since(died) != 0 {
			t.Errorf("back with %s after %v, want another at once", second.id, time.Since(died))
		}
		st := b.status(echo)
		if st.Restarts != 1 || st.LastExit.Class != ClassError || st.LastExit.Code != 7 || st.Generation != 2 || st.Instance != "echo-2" {
			t.Errorf("status %+v", st)
		}
		if !first.closed {
			t.Error("the first instance was not closed")
		}
	})
}

func TestReadyWaitsThroughBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.add(echo)
		b.ready(echo).end(1, false)
		synctest.Wait()
		if st := b.status(echo); st.State != StateBackoff || st.NextAttempt.IsZero() {
			t.Fatalf("status %+v, want backoff with the next attempt", st)
		}
		from := time.Now()
		if inst := b.ready(echo); inst.id != "echo-2" {
			t.Errorf("got %s", inst.id)
		}
		if d := time.Since(from); d < 187*time.Millisecond || d > 313*time.Millisecond {
			t.Errorf("back after %v, want 250ms ± 25%%", d)
		}
	})
}

func TestCrashStorm(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.newHooks.start = func(context.Context) error { return errPlain }
		b.add(echo)
		wait(time.Minute)
		st := b.status(echo)
		if st.State != StateCrashlooped || b.m.count(echo) != 6 || st.ShortRuns != 6 {
			t.Fatalf("status %+v after %d instances, want crashlooped after 6", st, b.m.count(echo))
		}
		_, err := b.Ready(t.Context(), echo)
		if f := fault.Of(err); !errdefs.IsUnavailable(err) || f.Code != "plugin_crashlooped" || f.Hint == "" {
			t.Errorf("Ready = %v, want Unavailable with a hint", err)
		}
		wait(10 * time.Minute)
		if n := b.m.count(echo); n != 7 || b.status(echo).State != StateCrashlooped {
			t.Errorf("%d instances after the first trial, want 7", n)
		}
		b.m.set(func() { b.m.newHooks.start = nil })
		wait(10 * time.Minute)
		if st := b.status(echo); st.State != StateRunning || st.LastError != "" {
			t.Errorf("after a trial that works: %+v", st)
		}
		b.ready(echo)
		wait(2 * time.Minute)
		if st := b.status(echo); st.ShortRuns != 0 {
			t.Errorf("a long trial leaves %d short runs", st.ShortRuns)
		}
	})
}

func TestResetAndRestartOfACrashLoop(t *testing.T) {
	for name, act := range map[string]func(b *bench, ctx context.Context) error{
		"reset":   func(b *bench, ctx context.Context) error { return b.Reset(ctx, echo) },
		"restart": func(b *bench, ctx context.Context) error { return b.Restart(ctx, echo) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				b.m.newHooks.start = func(context.Context) error { return errPlain }
				b.add(echo)
				wait(time.Minute)
				b.m.set(func() { b.m.newHooks.start = nil })
				if err := act(b, t.Context()); err != nil {
					t.Fatal(err)
				}
				from := time.Now()
				b.ready(echo)
				if d := time.Since(from); d != 0 {
					t.Errorf("ready after %v, want at once", d)
				}
			})
		})
	}
}

func TestCountersOutliveTheSupervisor(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.newHooks.start = func(context.Context) error { return errPlain }
		b.add(echo)
		wait(time.Minute)
		before := b.status(echo)
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Supervisor = New(Config{Launcher: b.m, Store: b.m, Logger: b.logger})
		b.add(echo)
		wait(0)
		after := b.status(echo)
		if after.State != StateCrashlooped || after.Restarts != 5 || after.ShortRuns != 6 ||
			!after.NextAttempt.Equal(before.NextAttempt) || b.m.count(echo) != 6 {
			t.Errorf("status %+v, was %+v", after, before)
		}
	})
}

func TestTamper(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.prepare = func(context.Context) error { return errTamper }
		b.add(echo)
		wait(time.Hour)
		if st := b.status(echo); st.State != StateQuarantined || st.LastExit.Class != ClassTamper || st.LastError == "" {
			t.Errorf("status %+v", st)
		}
		_, err := b.Ready(t.Context(), echo)
		if f := fault.Of(err); !errdefs.IsFailedPrecondition(err) || f.Code != "plugin_quarantined" || f.Hint == "" {
			t.Errorf("Ready = %v", err)
		}
		if err := b.Restart(t.Context(), echo); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("Restart = %v, want FailedPrecondition", err)
		}
		b.m.set(func() { b.m.prepare = nil })
		if err := b.Reset(t.Context(), echo); err != nil {
			t.Fatal(err)
		}
		inst := b.ready(echo)
		if err := b.Quarantine(t.Context(), echo, "the digest differs"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Ready(t.Context(), echo); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("Ready after Quarantine = %v", err)
		}
		wait(time.Hour)
		if b.m.count(echo) != 1 || !inst.closed || inst.graces[0] != 0 {
			t.Errorf("%d instances, closed %v, graces %v", b.m.count(echo), inst.closed, inst.graces)
		}
	})
}

func TestProbe(t *testing.T) {
	tests := []struct {
		name  string
		block time.Duration // how long the event loop blocks at its first ping
		want  int           // instances after two minutes
	}{
		{"8 s are waited for", 8 * time.Second, 1},
		{"12 s are forgiven once", 12 * time.Second, 1},
		{"for ever ends it", 24 * time.Hour, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				var free time.Time
				b.m.newHooks.ping = func(ctx context.Context) error {
					b.m.mu.Lock()
					if free.IsZero() {
						free = time.Now().Add(tt.block)
					}
					left := time.Until(free)
					if b.m.instances[echo][0].closed {
						left = 0
					}
					b.m.mu.Unlock()
					select {
					case <-time.After(left):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				b.add(echo)
				first := b.ready(echo)
				wait(2 * time.Minute)
				if n := b.m.count(echo); n != tt.want {
					t.Fatalf("%d instances, want %d", n, tt.want)
				}
				st := b.status(echo)
				if tt.want == 2 && (st.LastExit.Class != ClassProbeFailure || first.graces[0] != 0 || st.State != StateRunning) {
					t.Errorf("status %+v, graces %v", st, first.graces)
				}
			})
		})
	}
}

func TestStopDuringStart(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.newHooks.start = hang
		b.add(echo)
		wait(time.Second)
		if st := b.status(echo); st.State != StateStarting {
			t.Fatalf("status %+v", st)
		}
		from := time.Now()
		if err := b.SetDesired(t.Context(), echo, false); err != nil {
			t.Fatal(err)
		}
		if err := b.Gone(t.Context(), echo); err != nil {
			t.Fatal(err)
		}
		if st := b.status(echo); st.State != StateStopped || time.Since(from) != 0 || len(b.m.open()) != 0 {
			t.Errorf("status %+v after %v, left %v", st, time.Since(from), b.m.open())
		}
		_, err := b.Ready(t.Context(), echo)
		if f := fault.Of(err); !errdefs.IsFailedPrecondition(err) || f.Code != "plugin_disabled" || f.Hint == "" {
			t.Errorf("Ready = %v", err)
		}
		if err := b.Restart(t.Context(), echo); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("Restart = %v, want FailedPrecondition", err)
		}
	})
}

func TestStartThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.newHooks.start = hang
		b.add(echo)
		wait(30*time.Second + time.Millisecond)
		if st := b.status(echo); st.State != StateBackoff || st.LastExit.Class != ClassStartFailure {
			t.Errorf("status %+v", st)
		}
	})
}

func TestRestartDuringBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.add(echo)
		for range 4 { // up to a delay of 2 s
			b.ready(echo).end(1, false)
			synctest.Wait()
		}
		from := time.Now()
		if err := b.Restart(t.Context(), echo); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(from); d != 0 {
			t.Errorf("restarted after %v, want at once", d)
		}
	})
}

func TestRestartReplacesARunningInstance(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.add(echo)
		first := b.ready(echo)
		if err := b.Restart(t.Context(), echo); err != nil {
			t.Fatal(err)
		}
		second := b.ready(echo)
		synctest.Wait()
		if second == first || !first.closed || first.graces[0] != 10*time.Second {
			t.Errorf("first closed %v, graces %v", first.closed, first.graces)
		}
		if st := b.status(echo); st.Restarts != 0 || st.LastExit.Class != ClassStopped {
			t.Errorf("status %+v: asked for, so it does not count", st)
		}
	})
}

func TestRemove(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.add(echo)
		b.ready(echo).end(1, false)
		b.ready(echo)
		if b.m.docs[echo] == nil {
			t.Fatal("no counters were saved")
		}
		if err := b.Remove(t.Context(), echo); err != nil {
			t.Fatal(err)
		}
		if left := b.m.open(); len(left) != 0 || b.m.docs[echo] != nil {
			t.Errorf("left %v, counters %s", left, b.m.docs[echo])
		}
		if _, err := b.Status(echo); !errdefs.IsNotFound(err) {
			t.Errorf("Status = %v, want NotFound", err)
		}
		if err := b.Remove(t.Context(), echo); err != nil {
			t.Errorf("removing twice: %v", err)
		}
		b.add(echo)
		if inst := b.ready(echo); inst.id != "echo-3" {
			t.Errorf("the new installation runs as %s, want generation 3", inst.id)
		}
	})
}

func TestRemoveWhilePreparing(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.prepare = hang
		b.add(echo)
		waiting := make(chan error, 1)
		go func() {
			_, err := b.Ready(t.Context(), echo)
			waiting <- err
		}()
		wait(time.Second)
		if err := b.Remove(t.Context(), echo); err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; !errdefs.IsUnavailable(err) && !errdefs.IsNotFound(err) { // being removed, or removed
			t.Errorf("a waiting Ready got %v, want Unavailable or NotFound", err)
		}
		if n := b.m.count(echo); n != 0 {
			t.Errorf("%d instances were made", n)
		}
	})
}

func TestRemoveGoesOnAfterItsCallerLeft(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		broken := errEngine
		b.m.newHooks.close = func(context.Context) error {
			b.m.mu.Lock()
			defer b.m.mu.Unlock()
			return broken
		}
		b.add(echo)
		b.ready(echo)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := b.Remove(ctx, echo); !errdefs.IsDeadlineExceeded(err) {
			t.Errorf("Remove = %v, want DeadlineExceeded", err)
		}
		if err := b.SetDesired(t.Context(), echo, true); !errdefs.IsUnavailable(err) {
			t.Errorf("SetDesired while being removed = %v, want Unavailable", err)
		}
		b.m.set(func() { broken = nil })
		wait(time.Minute)
		if _, err := b.Status(echo); !errdefs.IsNotFound(err) || len(b.m.open()) != 0 {
			t.Errorf("Status = %v, left %v", err, b.m.open())
		}
	})
}

func TestReadyErrors(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		if _, err := b.Ready(t.Context(), echo); !errdefs.IsNotFound(err) {
			t.Errorf("unknown plugin: %v", err)
		}
		b.m.newHooks.start = hang
		b.add(echo)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.Ready(ctx, echo)
		if f := fault.Of(err); !errdefs.IsDeadlineExceeded(err) || !f.Retryable || f.Hint == "" {
			t.Errorf("Ready = %v, want DeadlineExceeded, retryable, with a hint", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, err := b.Ready(ctx, echo); !errdefs.IsCanceled(err) {
			t.Errorf("Ready = %v, want Canceled", err)
		}
	})
}

func TestTheHostsFaultIsNotThePlugins(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.prepare = func(context.Context) error { return errEngine }
		b.add(echo)
		wait(time.Hour)
		if st := b.status(echo); st.State != StateBackoff || st.ShortRuns != 0 {
			t.Fatalf("status %+v", st)
		}
		b.m.set(func() { b.m.prepare = hang }) // an engine that hangs
		wait(time.Hour)
		if st := b.status(echo); st.ShortRuns != 0 {
			t.Fatalf("status %+v", st)
		}
		b.m.set(func() { b.m.prepare = nil })
		from := time.Now()
		wait(3 * time.Minute)
		if st := b.status(echo); st.State != StateRunning || st.Since.Sub(from) > 2*time.Minute+20*time.Second {
			t.Errorf("status %+v: not back soon after the engine", st)
		}
	})
}

func TestCountersThatCannotBeSaved(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.add(echo)
		b.ready(echo)
		b.m.set(func() { b.m.saveErr = errors.New("disk full") })
		if err := b.Quarantine(t.Context(), echo, "x"); err == nil {
			t.Error("Quarantine claims to be on record")
		}
		if st := b.status(echo); st.State == StateRunning {
			t.Error("it runs on")
		}
	})
}
