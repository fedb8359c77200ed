package supervisor

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// found makes an instance that an earlier process started an hour ago.
func (b *bench) found(key plugin.Key, h hooks) (*instance, Found) {
	inst := &instance{m: b.m, hooks: h, id: key.ID + "-41", done: make(chan struct{})}
	b.m.set(func() {
		b.m.generation[key] = 41
		b.m.instances[key] = append(b.m.instances[key], inst)
	})
	return inst, Found{Instance: inst, Generation: 41, ReadyAt: time.Now().Add(-time.Hour)}
}

func (b *bench) adopt(key plugin.Key, h hooks) *instance {
	b.m.t.Helper()
	inst, found := b.found(key, h)
	if err := b.Adopt(b.m.t.Context(), key, found); err != nil {
		b.m.t.Fatal(err)
	}
	return inst
}

// keep saves counters, as an earlier process did.
func (b *bench) keep(key plugin.Key, c Counters) {
	b.m.t.Helper()
	doc, err := json.Marshal(c)
	if err != nil {
		b.m.t.Fatal(err)
	}
	b.m.set(func() { b.m.docs[key] = doc })
}

func TestAdopt(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		before := Counters{Restarts: 3, ShortRuns: 2, NextAttempt: time.Now().Add(time.Minute), LastExit: LastExit{Class: ClassOOM, Code: 137, At: time.Now()}}
		b.keep(echo, before)
		inst := b.adopt(echo, hooks{})
		from := time.Now()
		if got := b.ready(echo); got != inst || time.Since(from) != 0 {
			t.Errorf("got %s after %v, want the one that was there at once", got.id, time.Since(from))
		}
		st := b.status(echo)
		if st.State != StateRunning || st.Generation != 41 || st.Instance != "echo-41" || !st.Since.Equal(from.Add(-time.Hour)) ||
			st.Restarts != 3 || st.LastExit.Class != ClassOOM || !st.Desired {
			t.Errorf("status %+v", st)
		}
		wait(10 * time.Second)
		if st := b.status(echo); st.ShortRuns != 0 { // it has run for an hour
			t.Errorf("%d short runs, want them forgotten", st.ShortRuns)
		}
		died := time.Now()
		inst.end(1, false)
		synctest.Wait()
		next := b.ready(echo)
		if st := b.status(echo); next.id != "echo-42" || time.Since(died) != 0 || st.Restarts != 4 || st.ShortRuns != 0 {
			t.Errorf("%s after %v, status %+v; want a restart at once, as after a healthy run", next.id, time.Since(died), st)
		}
	})
}

func TestAdoptIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.keep(echo, Counters{Tampered: "the digest differs"})
		inst, found := b.found(echo, hooks{})
		err := b.Adopt(t.Context(), echo, found)
		if f := fault.Of(err); !errdefs.IsFailedPrecondition(err) || f.Code != "plugin_quarantined" || f.Hint == "" {
			t.Errorf("in quarantine: %v", err)
		}
		if _, err := b.Status(echo); !errdefs.IsNotFound(err) {
			t.Errorf("Status = %v, want NotFound: it was not taken in", err)
		}
		other := plugin.Key{Tenant: "default", ID: "other"}
		b.add(other)
		b.ready(other)
		if err := b.Adopt(t.Context(), other, found); !errdefs.IsAlreadyExists(err) {
			t.Errorf("a plugin that runs already: %v, want AlreadyExists", err)
		}
		b.keep(echo, Counters{})
		b.m.set(func() { b.m.docs[echo] = json.RawMessage(`{`) })
		if err := b.Adopt(t.Context(), echo, found); !errdefs.IsDataLoss(err) {
			t.Errorf("counters that cannot be read: %v, want DataLoss", err)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.keep(echo, Counters{})
		if err := b.Adopt(t.Context(), echo, found); !errdefs.IsUnavailable(err) {
			t.Errorf("after Shutdown: %v, want Unavailable", err)
		}
		if inst.closed || hasEnded(inst) {
			t.Error("an instance that was refused was ended: it is the caller's")
		}
		b.m.set(func() { inst.closed = true })
	})
}

// TestAdoptThatFails has instances that cannot be reached, in several ways.
func TestAdoptThatFails(t *testing.T) {
	fails := func(err error) func(context.Context, *instance) error {
		return func(context.Context, *instance) error { return err }
	}
	ends := func(code int, oom bool) func(context.Context, *instance) error {
		return func(_ context.Context, i *instance) error { i.end(code, oom); return errPlain }
	}
	tests := []struct {
		name  string
		start func(ctx context.Context, i *instance) error
		after time.Duration // until another one runs; 0 for at once
		class Class
		short int
	}{
		{"it does not answer", func(ctx context.Context, _ *instance) error { return hang(ctx) }, 10 * time.Second, ClassStartFailure, 0},
		{"it answers nonsense", fails(errPlain), 0, ClassStartFailure, 0},
		{"the engine is away", fails(errEngine), 0, ClassStartFailure, 0},
		{"it ended meanwhile, after a healthy run", ends(3, false), 0, ClassError, 0},
		{"it used too much memory meanwhile", ends(137, true), 0, ClassOOM, 0},
		{"nobody knows how it ended", ends(NoCode, false), 0, ClassError, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				b.keep(echo, Counters{Restarts: 3})
				from := time.Now()
				inst, found := b.found(echo, hooks{})
				b.m.set(func() { inst.hooks.start = func(ctx context.Context) error { return tt.start(ctx, inst) } })
				if err := b.Adopt(t.Context(), echo, found); err != nil {
					t.Fatal(err)
				}
				if st := b.status(echo); st.State != StateStarting {
					t.Errorf("meanwhile it is %s, want starting", st.State)
				}
				next := b.ready(echo)
				synctest.Wait()
				st := b.status(echo)
				if next.id != "echo-42" || time.Since(from) != tt.after || !inst.closed {
					t.Errorf("%s after %v, the old one closed: %v; want another after %v", next.id, time.Since(from), inst.closed, tt.after)
				}
				if st.LastExit.Class != tt.class || st.ShortRuns != tt.short || st.Restarts != 4 {
					t.Errorf("status %+v, want class %s, %d short runs, 4 restarts", st, tt.class, tt.short)
				}
			})
		})
	}
}

func TestAdoptOfAShortRunThatEnded(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		inst, found := b.found(echo, hooks{})
		found.ReadyAt = time.Now().Add(-3 * time.Second)
		b.m.set(func() { inst.hooks.start = func(context.Context) error { inst.end(1, false); return errPlain } })
		if err := b.Adopt(t.Context(), echo, found); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := b.status(echo); st.ShortRuns != 1 || st.State != StateBackoff {
			t.Errorf("status %+v, want its short run counted", st)
		}
	})
}

func TestAdoptOfATamperedPayload(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		inst := b.adopt(echo, hooks{start: func(context.Context) error { return errTamper }})
		wait(time.Hour)
		if st := b.status(echo); st.State != StateQuarantined || !inst.closed || b.m.count(echo) != 1 {
			t.Errorf("status %+v, closed %v, %d instances", st, inst.closed, b.m.count(echo))
		}
	})
}

// TestAdoptionGivenUp is about an instance that runs while it is being reached:
// it is stopped in order, as any other that runs.
func TestAdoptionGivenUp(t *testing.T) {
	for name, act := range map[string]func(b *bench, ctx context.Context) error{
		"disable":  func(b *bench, ctx context.Context) error { return b.SetDesired(ctx, echo, false) },
		"remove":   func(b *bench, ctx context.Context) error { return b.Remove(ctx, echo) },
		"restart":  func(b *bench, ctx context.Context) error { return b.Replace(ctx, echo) },
		"shutdown": func(b *bench, ctx context.Context) error { return b.Shutdown(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				inst := b.adopt(echo, hooks{start: hang})
				from := time.Now()
				if err := act(b, t.Context()); err != nil {
					t.Fatal(err)
				}
				wait(0)
				if time.Since(from) != 0 || !inst.closed || len(inst.graces) != 1 || inst.graces[0] != 10*time.Second {
					t.Errorf("after %v closed %v, graces %v; want a stop with the grace, at once", time.Since(from), inst.closed, inst.graces)
				}
			})
		})
	}
}

func TestAdoptWhileAnotherTenantBoots(t *testing.T) {
	crowded(t, Config{MaxStarts: 2}, func(t *testing.T, b *bench) {
		b.crowd("big", 50)
		from := time.Now()
		b.adopt(echo, hooks{})
		b.ready(echo)
		if d := time.Since(from); d != 0 {
			t.Errorf("adopted after %v: it needs no place among those that start", d)
		}
	})
}

func TestLeave(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.abandons = true
		key := func(id string) plugin.Key { return plugin.Key{Tenant: "default", ID: id} }
		running, adopted, broken, off := key("running"), key("adopted"), key("broken"), key("off")
		b.keep(running, Counters{Restarts: 2, ShortRuns: 1})
		b.add(running)
		kept := b.ready(running)
		wait(time.Second)
		reaching := b.adopt(adopted, hooks{start: hang})
		b.m.set(func() { b.m.newHooks.start = hang })
		b.add(broken)
		if err := b.Add(t.Context(), off, false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		updates := b.Subscribe(t.Context())
		from := time.Now()
		if err := b.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		for st := range updates {
			if st.Key == running || st.Key == adopted && st.State != StateRunning {
				t.Errorf("watchers are told %+v of a plugin that runs on", st)
			}
		}
		for _, inst := range []*instance{kept, reaching} {
			if inst.closed || hasEnded(inst) || len(inst.graces) != 0 {
				t.Errorf("%s was ended: closed %v, graces %v", inst.id, inst.closed, inst.graces)
			}
		}
		if left := b.m.open(); len(left) != 2 || time.Since(from) != 0 {
			t.Errorf("left %v after %v, want the two that run, at once", left, time.Since(from))
		}
		if _, err := b.Ready(t.Context(), running); !errdefs.IsUnavailable(err) {
			t.Errorf("Ready after Leave = %v, want Unavailable", err)
		}
		kept.end(1, false) // is of no interest any more
		synctest.Wait()

		b.m.set(func() { b.m.newHooks.start = nil })
		b.Supervisor = New(Config{Launcher: b.m, Store: b.m, Logger: b.logger})
		if err := b.Adopt(t.Context(), adopted, Found{Instance: reaching, Generation: 41, ReadyAt: from}); err != nil {
			t.Fatal(err)
		}
		b.add(running)
		b.m.set(func() { kept.closed, reaching.hooks.start = true, nil })
		synctest.Wait()
		if st := b.status(running); st.Restarts != 2 || st.ShortRuns != 1 {
			t.Errorf("counters after Leave: %+v, want them kept", st)
		}
	})
}

// TestLeaveAfterACrash leaves an instance whose predecessor is still being
// cleared away: that is awaited, the instance is not ended.
func TestLeaveAfterACrash(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.abandons = true
		b.m.newHooks.close = func(context.Context) error { time.Sleep(8 * time.Second); return nil }
		b.add(echo)
		first := b.ready(echo)
		wait(20 * time.Second)
		first.end(1, false)
		synctest.Wait()
		second := b.ready(echo)
		from := time.Now()
		if err := b.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !first.closed || hasEnded(second) || second.closed || time.Since(from) != 8*time.Second {
			t.Errorf("after %v: the first closed %v, the second ended %v", time.Since(from), first.closed, hasEnded(second))
		}
	})
}

func TestShutdownAfterLeave(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.newHooks.close = func(context.Context) error { time.Sleep(8 * time.Second); return nil }
		b.add(echo)
		first := b.ready(echo)
		wait(20 * time.Second)
		first.end(1, false)
		synctest.Wait()
		second := b.ready(echo)
		go func() { _ = b.Leave(t.Context()) }()
		wait(time.Second)
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !second.closed {
			t.Error("the instance was left, though a shutdown was asked for later")
		}
	})
}

func TestCountersOutliveAdoptAndLeave(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.abandons = true
		b.add(echo)
		for range 3 {
			b.ready(echo).end(1, false)
			synctest.Wait()
		}
		inst := b.ready(echo)
		before := b.status(echo)
		for range 3 {
			if err := b.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.Supervisor = New(Config{Launcher: b.m, Store: b.m, Logger: b.logger})
			found := Found{Instance: inst, Generation: before.Generation, ReadyAt: before.Since}
			if err := b.Adopt(t.Context(), echo, found); err != nil {
				t.Fatal(err)
			}
			if got := b.ready(echo); got != inst {
				t.Fatalf("got %s, want %s", got.id, inst.id)
			}
		}
		after := b.status(echo)
		after.NextAttempt, before.NextAttempt = time.Time{}, time.Time{}
		after.LastExit.At, before.LastExit.At = time.Time{}, time.Time{}
		after.Since, before.Since = after.Since.Round(0).UTC(), before.Since.Round(0).UTC()
		if after != before || after.ShortRuns != 3 || after.Restarts != 3 {
			t.Errorf("status %+v, was %+v", after, before)
		}
	})
}
