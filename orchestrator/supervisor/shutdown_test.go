package supervisor

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func TestShutdown(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		var mu sync.Mutex
		stopping, most := 0, 0
		b.m.newHooks.stop = func(context.Context, time.Duration) error {
			mu.Lock()
			stopping++
			most = max(most, stopping)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			stopping--
			mu.Unlock()
			return nil
		}
		for i := range 40 {
			key := plugin.Key{Tenant: "default", ID: fmt.Sprintf("p%d", i)}
			b.add(key)
			b.ready(key)
		}
		from := time.Now()
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(from); most != 16 || d != 3*time.Second || len(b.m.open()) != 0 {
			t.Errorf("%v, %d at a time, left %v; want 3s, 16, none", d, most, b.m.open())
		}
		if err := b.Add(t.Context(), echo, true); !errdefs.IsUnavailable(err) {
			t.Errorf("Add after Shutdown = %v, want Unavailable", err)
		}
		if _, err := b.Ready(t.Context(), echo); !errdefs.IsUnavailable(err) {
			t.Errorf("Ready after Shutdown = %v, want Unavailable", err)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Errorf("second Shutdown: %v", err)
		}
	})
}

func TestShutdownWithAStopThatHangs(t *testing.T) {
	tests := []struct {
		name string
		stop func(ctx context.Context, release <-chan struct{})
		ok   bool
	}{
		{"until its deadline", func(ctx context.Context, _ <-chan struct{}) { <-ctx.Done() }, true},
		{"whatever its deadline", func(_ context.Context, release <-chan struct{}) { <-release }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				b.abandons = !tt.ok
				release := make(chan struct{})
				defer close(release)
				b.m.newHooks.stop = func(ctx context.Context, _ time.Duration) error {
					tt.stop(ctx, release)
					return context.DeadlineExceeded
				}
				b.add(echo)
				b.ready(echo)
				other := plugin.Key{Tenant: "default", ID: "other"}
				b.m.set(func() { b.m.newHooks.stop = nil })
				b.add(other)
				b.ready(other)
				ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
				defer cancel()
				err := b.Shutdown(ctx)
				switch {
				case tt.ok && (err != nil || len(b.m.open()) != 0):
					t.Errorf("Shutdown = %v, left %v", err, b.m.open())
				case !tt.ok && (!errdefs.IsDeadlineExceeded(err) || len(b.m.open()) != 1):
					t.Errorf("Shutdown = %v, left %v", err, b.m.open())
				}
			})
		})
	}
}

func TestReadyIsToldOfAShutdown(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.m.newHooks.start = hang
		b.add(echo)
		waiting := make(chan error, 1)
		go func() {
			_, err := b.Ready(context.Background(), echo)
			waiting <- err
		}()
		wait(time.Second)
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; !errdefs.IsUnavailable(err) {
			t.Errorf("Ready = %v, want Unavailable", err)
		}
	})
}

func TestSubscribe(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		quick, slow := b.Subscribe(t.Context()), b.Subscribe(t.Context())
		var states []State
		seen := make(chan struct{})
		go func() {
			defer close(seen)
			for st := range quick {
				if len(states) == 0 || states[len(states)-1] != st.State {
					states = append(states, st.State)
				}
			}
		}()
		b.add(echo)
		for range 5 {
			wait(20 * time.Second)
			b.ready(echo).end(1, false)
		}
		wait(time.Second)
		if err := b.Remove(t.Context(), echo); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-seen
		if last := states[len(states)-1]; len(states) < 3 || last != StateStopped {
			t.Errorf("states %v", states)
		}
		var pending []Status
		for st := range slow {
			pending = append(pending, st)
		}
		// One may have been on its way when the rest was joined into one.
		if n := len(pending); n < 1 || n > 2 || !pending[n-1].Removed {
			t.Errorf("the slow reader got %+v", pending)
		}
		if len(b.subscribers) != 0 {
			t.Errorf("%d subscribers are left", len(b.subscribers))
		}
	})
}

func TestSubscriberThatLeaves(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(t.Context())
		updates := b.Subscribe(ctx)
		b.add(echo)
		b.ready(echo)
		cancel()
		synctest.Wait()
		for range updates { // it is closed, whatever was pending
		}
		if len(b.subscribers) != 0 {
			t.Errorf("%d subscribers are left", len(b.subscribers))
		}
	})
}

func TestTenantsAreApart(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		a, c := plugin.Key{Tenant: "alpha", ID: "echo"}, plugin.Key{Tenant: "beta", ID: "echo"}
		b.add(a)
		b.add(c)
		instA, instC := b.ready(a), b.ready(c)
		instA.end(1, false)
		synctest.Wait()
		if got := b.ready(c); got != instC {
			t.Errorf("alpha's crash replaced beta's instance")
		}
		if err := b.Remove(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if list := b.Statuses(); len(list) != 1 || list[0].Key != c || list[0].State != StateRunning {
			t.Errorf("statuses %+v", list)
		}
	})
}
