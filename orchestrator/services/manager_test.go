package services

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

var echo = plugin.Key{Tenant: plugin.DefaultTenant, ID: "echo"}

// runner is a Peer in memory, strict about the order of calls.
type runner struct {
	t *testing.T

	mu      sync.Mutex
	calls   []string
	running map[string]bool
	gone    chan struct{}
	// start and stop, if set, decide how a call ends.
	start, stop func(ctx context.Context, service string) (*wire.Error, error)
}

func newRunner(t *testing.T) *runner {
	return &runner{t: t, running: map[string]bool{}, gone: make(chan struct{})}
}

func (r *runner) CallService(ctx context.Context, call wire.ServiceCall) (wire.ServiceResult, error) {
	if _, err := wire.Encode(&call); err != nil {
		r.t.Errorf("call %+v: %v", call, err)
	}
	r.mu.Lock()
	r.calls = append(r.calls, call.Op+" "+call.Service)
	hook := r.start
	if call.Op == wire.ServiceStop {
		hook = r.stop
	}
	if want := call.Op == wire.ServiceStop; r.running[call.Service] != want {
		r.t.Errorf("%s of %s, running is %v", call.Op, call.Service, !want)
	}
	r.running[call.Service] = call.Op == wire.ServiceStart
	r.mu.Unlock()
	result := wire.ServiceResult{ID: call.ID}
	if hook == nil {
		return result, nil
	}
	said, err := hook(ctx, call.Service)
	if said != nil && said.Code == wire.CodeThrew {
		r.mu.Lock()
		r.running[call.Service] = false
		r.mu.Unlock()
	}
	result.Error = said
	return result, err
}

func (r *runner) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

func (r *runner) set(start func(context.Context, string) (*wire.Error, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.start = start
}

func throws(context.Context, string) (*wire.Error, error) {
	return &wire.Error{Code: wire.CodeThrew, Name: "Error", Message: "no\x1b[31m port\n free"}, nil
}

func hangs(ctx context.Context, _ string) (*wire.Error, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// hangsUntilGone is a peer whose plugin ends.
func (r *runner) hangsUntilGone(ctx context.Context, _ string) (*wire.Error, error) {
	select {
	case <-r.gone:
		return nil, fmt.Errorf("the plugin ended: %w", errdefs.ErrUnavailable)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type bench struct {
	*Manager
	t *testing.T

	mu        sync.Mutex
	states    []string
	escalated []string
}

// bubble runs f with a manager, in time that passes when everybody waits.
func bubble(t *testing.T, f func(*testing.T, *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t}
		b.Manager = New(Config{
			Logger: slog.New(slog.DiscardHandler),
			Notify: func(st Status) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.states = append(b.states, st.ID+"="+st.State)
			},
			Escalate: func(key plugin.Key, instance, reason string) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.escalated = append(b.escalated, instance+": "+reason)
			},
		})
		f(t, b)
		if err := b.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

func (b *bench) take() (states, escalated []string) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	states, escalated = b.states, b.escalated
	b.states, b.escalated = nil, nil
	return states, escalated
}

// status returns the one service of that name.
func (b *bench) status(id string) Status {
	b.t.Helper()
	synctest.Wait()
	for _, st := range b.List("") {
		if st.ID == id {
			return st
		}
	}
	b.t.Fatalf("no service %q", id)
	return Status{}
}

func (b *bench) wantState(id, want string) {
	b.t.Helper()
	if st := b.status(id); st.State != want {
		b.t.Errorf("%s is %+v, want %s", id, st, want)
	}
}

func TestLifeOfAPlugin(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		b.Started(echo, "echo-1", r, []string{"one", "two"})
		states, _ := b.take()
		want := []string{"one=starting", "two=starting", "one=running", "two=running"}
		if !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
		st := b.status("one")
		if got := v1.Service(st).Plugin; got != "echo" || st.Tenant != "default" || !st.Desired || st.Since.IsZero() {
			t.Errorf("status %+v", st)
		}
		b.Ended(echo, "echo-0") // of an earlier one
		b.wantState("one", StateRunning)
		b.Ended(echo, "echo-1")
		b.wantState("one", StateStopped)
		second := newRunner(t)
		b.Started(echo, "echo-2", second, []string{"one", "two"})
		b.wantState("two", StateRunning)
		if err := b.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if got, want := second.take(), []string{"start one", "start two", "stop two", "stop one"}; !slices.Equal(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
		if got := r.take(); len(got) != 2 {
			t.Errorf("the first runner was told %v", got)
		}
	})
}

func TestNothingForPluginsWithoutServices(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.Started(echo, "echo-1", newRunner(t), nil)
		b.Ended(echo, "echo-1")
		b.Health(echo, "echo-1", wire.ServiceHealth{Service: "one", Failed: true})
		if b.unit(echo) != nil || len(b.List("")) != 0 {
			t.Error("it has a unit")
		}
		b.Started(echo, "echo-2", newRunner(t), []string{"one"})
		b.wantState("one", StateRunning)
		b.Started(echo, "echo-3", newRunner(t), nil) // a version without services
		if b.unit(echo) != nil || len(b.List("")) != 0 {
			t.Error("it still has a unit")
		}
	})
}

func TestStartThatThrows(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		r.set(throws)
		b.Started(echo, "echo-1", r, []string{"one", "two"})
		st := b.status("one")
		if st.State != StateBackoff || st.NextAttempt == nil || st.LastError != "start() failed: Error: no[31m port free" {
			t.Fatalf("status %+v", st)
		}
		if d := time.Until(*st.NextAttempt); d < 187*time.Millisecond || d > 313*time.Millisecond {
			t.Errorf("next attempt in %v", d)
		}
		b.wantState("two", StateBackoff) // tried although the first failed
		r.set(nil)
		time.Sleep(time.Second)
		if st := b.status("one"); st.State != StateRunning || st.Restarts != 1 || st.LastError != "" || st.NextAttempt != nil {
			t.Errorf("status %+v", st)
		}
	})
}

func TestStartThatNeverReturns(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		r.set(func(ctx context.Context, id string) (*wire.Error, error) {
			if id == "two" {
				return nil, nil
			}
			return hangs(ctx, id)
		})
		b.Started(echo, "echo-1", r, []string{"one", "two"})
		time.Sleep(30*time.Second - 1)
		b.wantState("one", StateStarting)
		time.Sleep(time.Nanosecond)
		b.wantState("two", StateRunning) // its turn has come
		st := b.status("one")
		if st.State != StateBackoff || st.LastError != "start() did not return within 30s" {
			t.Errorf("status %+v", st)
		}
		if got, want := r.take(), []string{"start one", "stop one", "start two"}; len(got) != 3 || !slices.Contains(got, want[1]) {
			t.Errorf("calls %v, want %v", got, want)
		}
		time.Sleep(2 * time.Minute)
		if _, escalated := b.take(); len(escalated) != 1 || !strings.HasPrefix(escalated[0], "echo-1: service one keeps failing: start() did not return") {
			t.Errorf("escalated %q", escalated)
		}
		b.wantState("one", StateFailed)
		b.wantState("two", StateRunning)
	})
}

// TestRunnerSaysTimedOut is the runner's own account of a start that does not
// return.
func TestRunnerSaysTimedOut(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		r.set(func(context.Context, string) (*wire.Error, error) {
			return &wire.Error{Code: wire.CodeTimedOut, Message: "late"}, nil
		})
		b.Started(echo, "echo-1", r, []string{"one"})
		b.wantState("one", StateBackoff)
		if got, want := r.take(), []string{"start one", "stop one"}; !slices.Equal(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
	})
}

func TestGivesUpAfterTwoContainers(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		r.set(throws)
		for n := range 3 {
			instance := fmt.Sprint("echo-", n)
			b.Started(echo, instance, r, []string{"one"})
			time.Sleep(2 * time.Minute)
			_, escalated := b.take()
			if want := min(1, 2-n); len(escalated) != want {
				t.Errorf("%s: escalated %q, want %d", instance, escalated, want)
			}
			b.wantState("one", StateFailed)
			b.Ended(echo, instance)
			b.wantState("one", StateStopped)
		}
		b.Started(echo, "echo-3", r, []string{"one"})
		r.take()
		time.Sleep(time.Hour)
		if st := b.status("one"); st.State != StateFailed || st.LastError == "" || len(r.take()) != 0 {
			t.Errorf("status %+v, want failed with the reason, and left alone", st)
		}
		r.set(nil)
		if st, err := b.Restart(t.Context(), echo, "one"); err != nil || st.State != StateRunning {
			t.Errorf("Restart = %+v, %v", st, err)
		}
	})
}

func TestHealth(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		b.Started(echo, "echo-1", r, []string{"one"})
		b.wantState("one", StateRunning)
		b.Health(echo, "echo-0", wire.ServiceHealth{Service: "one", Failed: true})
		b.Health(echo, "echo-1", wire.ServiceHealth{Service: "other", Failed: true})
		b.wantState("one", StateRunning)

		b.Health(echo, "echo-1", wire.ServiceHealth{Service: "one", Failed: true, Reason: "lost\x00 it" + strings.Repeat("!", 2*wire.MaxReason)})
		if st := b.status("one"); st.State != StateBackoff || !strings.HasPrefix(st.LastError, "lost it!") || len(st.LastError) > wire.MaxReason+10 {
			t.Errorf("state %s, last error of %d bytes", st.State, len(st.LastError))
		}
		b.Health(echo, "echo-1", wire.ServiceHealth{Service: "one"})
		b.wantState("one", StateRunning)
		time.Sleep(time.Minute)
		if got := r.take(); len(got) != 1 {
			t.Errorf("calls %v, want the start alone: it took the report back", got)
		}
		b.Health(echo, "echo-1", wire.ServiceHealth{Service: "one", Failed: true})
		time.Sleep(time.Second)
		if got, want := r.take(), []string{"stop one", "start one"}; !slices.Equal(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
		if st := b.status("one"); st.State != StateRunning || st.Restarts != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

func TestHealthFloodTakesNoMemory(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.Started(echo, "echo-1", newRunner(t), []string{"one"})
		b.wantState("one", StateRunning)
		u := b.unit(echo)
		for i := range 10_000 {
			b.Health(echo, "echo-1", wire.ServiceHealth{Service: "one", Failed: i%2 == 0})
			b.Health(echo, "echo-1", wire.ServiceHealth{Service: fmt.Sprint("unknown", i), Failed: true})
			u.mu.Lock()
			if n := len(u.box); n > 1 {
				t.Fatalf("%d events wait", n)
			}
			u.mu.Unlock()
		}
		b.wantState("one", StateRunning) // the last word
	})
}

func TestPersonWaits(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		b.Started(echo, "echo-1", r, []string{"one", "two"})
		b.wantState("two", StateRunning)
		r.take()
		for _, tc := range []struct {
			do    func(context.Context, plugin.Key, string) (Status, error)
			state string
			calls []string
		}{
			{b.Start, StateRunning, nil},
			{b.Stop, StateStopped, []string{"stop one"}},
			{b.Stop, StateStopped, nil},
			{b.Restart, StateRunning, []string{"start one"}},
			{b.Restart, StateRunning, []string{"stop one", "start one"}},
			{b.Stop, StateStopped, []string{"stop one"}},
			{b.Start, StateRunning, []string{"start one"}},
		} {
			st, err := tc.do(t.Context(), echo, "one")
			if got := r.take(); err != nil || st.State != tc.state || !slices.Equal(got, tc.calls) {
				t.Errorf("%s, %v after %v, want %s after %v", st.State, err, got, tc.state, tc.calls)
			}
		}
		if st, _ := b.Stop(t.Context(), echo, "two"); st.Desired {
			t.Error("desired after a stop")
		}
		b.Ended(echo, "echo-1")
		b.Started(echo, "echo-2", newRunner(t), []string{"one", "two"})
		b.wantState("one", StateRunning)
		b.wantState("two", StateStopped)
	})
}

func TestPersonIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		b.Started(echo, "echo-1", r, []string{"watcher", "poller"})
		b.wantState("poller", StateRunning)
		want := func(what string, err error, class func(error) bool, code, hint string) {
			t.Helper()
			if f := fault.Of(err); err == nil || !class(err) || f.Code != code || !strings.Contains(f.Hint, hint) {
				t.Errorf("%s: %v (code %q, hint %q), want %q with %q", what, err, f.Code, f.Hint, code, hint)
			}
		}
		_, err := b.Start(t.Context(), plugin.Key{Tenant: "default", ID: "other"}, "x")
		want("unknown plugin", err, errdefs.IsNotFound, CodeServiceNotFound, "services list")
		_, err = b.Start(t.Context(), plugin.Key{Tenant: "other", ID: "echo"}, "watcher")
		want("other tenant", err, errdefs.IsNotFound, CodeServiceNotFound, "services list")
		_, err = b.Start(t.Context(), echo, "polar")
		want("unknown service", err, errdefs.IsNotFound, CodeServiceNotFound, "did you mean poller or watcher?")

		r.set(throws)
		_, err = b.Restart(t.Context(), echo, "watcher")
		want("start that throws", err, errdefs.IsAborted, CodeServiceFailed, "plugins logs echo")
		b.wantState("watcher", StateBackoff)

		r.mu.Lock()
		r.stop = throws
		r.mu.Unlock()
		st, err := b.Stop(t.Context(), echo, "poller")
		want("stop that throws", err, errdefs.IsAborted, CodeServiceFailed, "plugins logs echo")
		if st.State != StateStopped {
			t.Errorf("state %s after a stop that threw", st.State)
		}

		b.Ended(echo, "echo-1")
		_, err = b.Start(t.Context(), echo, "watcher")
		want("plugin not running", err, errdefs.IsFailedPrecondition, CodePluginNotRunning, "plugins info echo")
		if st, err := b.Stop(t.Context(), echo, "watcher"); err != nil || st.Desired {
			t.Errorf("stop while the plugin is down: %+v, %v", st, err)
		}
		b.Remove(echo)
		_, err = b.Stop(t.Context(), echo, "watcher")
		want("removed", err, errdefs.IsNotFound, CodeServiceNotFound, "services list")
	})
}

func TestPersonWaitsForAHangingStart(t *testing.T) {
	type end struct {
		st  Status
		err error
	}
	begin := func(t *testing.T, b *bench) (*runner, chan end) {
		r := newRunner(t)
		b.Started(echo, "echo-1", r, []string{"one"})
		b.wantState("one", StateRunning)
		r.set(r.hangsUntilGone)
		out := make(chan end, 1)
		go func() {
			st, err := b.Restart(t.Context(), echo, "one")
			out <- end{st, err}
		}()
		b.wantState("one", StateStarting)
		return r, out
	}
	for _, tc := range []struct {
		name  string
		do    func(b *bench, r *runner)
		class func(error) bool
		code  string
		after time.Duration
	}{
		{"its time is over", func(*bench, *runner) {}, errdefs.IsAborted, CodeServiceFailed, 30 * time.Second},
		{"the plugin ended", func(b *bench, r *runner) { b.Ended(echo, "echo-1") }, errdefs.IsUnavailable, CodePluginNotRunning, 0},
		{"the peer is gone", func(b *bench, r *runner) { close(r.gone) }, errdefs.IsAborted, CodeServiceFailed, 0},
		{"somebody stops it", func(b *bench, r *runner) { _, _ = b.Stop(b.t.Context(), echo, "one") }, errdefs.IsConflict, CodeSuperseded, 0},
		{"it is removed", func(b *bench, r *runner) { b.Remove(echo) }, errdefs.IsNotFound, CodeServiceNotFound, 0},
		{"the daemon ends", func(b *bench, r *runner) { _ = b.Close(b.t.Context()) }, errdefs.IsUnavailable, CodeShuttingDown, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bench) {
				r, out := begin(t, b)
				from := time.Now()
				tc.do(b, r)
				got := <-out
				if !tc.class(got.err) || fault.Of(got.err).Code != tc.code || time.Since(from) != tc.after {
					t.Errorf("after %v: %v (code %s), want %s after %v", time.Since(from), got.err, fault.Of(got.err).Code, tc.code, tc.after)
				}
			})
		})
	}
	t.Run("the caller does not wait", func(t *testing.T) {
		bubble(t, func(t *testing.T, b *bench) {
			begin(t, b)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			st, err := b.Start(ctx, echo, "one")
			if !errors.Is(err, context.DeadlineExceeded) || fault.Of(err).Code != CodeServiceBusy || st.State != StateStarting {
				t.Errorf("%+v, %v", st, err)
			}
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := b.Start(cancelled, echo, "one"); !errors.Is(err, context.Canceled) || fault.Of(err).Code != CodeCancelled {
				t.Errorf("cancelled: %v", err)
			}
		})
	})
}

func TestStopThatNeverReturns(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		r.stop = hangs
		b.Started(echo, "echo-1", r, []string{"one"})
		b.wantState("one", StateRunning)
		from := time.Now()
		st, err := b.Stop(t.Context(), echo, "one")
		if d := time.Since(from); d != 5*time.Second || !errdefs.IsAborted(err) || st.LastError != "stop() did not return within 5s" {
			t.Errorf("after %v: %+v, %v", d, st, err)
		}
	})
}

// TestPersonStopsAHangingStart has a peer whose class of error must not count:
// the start was sent, so that the service has to be stopped.
func TestPersonStopsAHangingStart(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		r.set(func(ctx context.Context, _ string) (*wire.Error, error) {
			<-ctx.Done()
			return nil, errdefs.ErrUnavailable
		})
		b.Started(echo, "echo-1", r, []string{"one"})
		b.wantState("one", StateStarting)
		from := time.Now()
		st, err := b.Stop(t.Context(), echo, "one")
		if err != nil || st.State != StateStopped || time.Since(from) != 0 {
			t.Errorf("after %v: %+v, %v", time.Since(from), st, err)
		}
		if got, want := r.take(), []string{"start one", "stop one"}; !slices.Equal(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
	})
}

func TestListIsOrderedAndPerTenant(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		for _, key := range []plugin.Key{{Tenant: "b", ID: "x"}, {Tenant: "a", ID: "z"}, {Tenant: "a", ID: "y"}} {
			b.Started(key, "i", newRunner(t), []string{"two", "one"})
		}
		synctest.Wait()
		names := func(tenant string) (list []string) {
			for _, st := range b.List(tenant) {
				list = append(list, st.Tenant+"/"+st.Plugin+"/"+st.ID)
			}
			return list
		}
		if got, want := names("a"), []string{"a/y/two", "a/y/one", "a/z/two", "a/z/one"}; !slices.Equal(got, want) {
			t.Errorf("List(a) = %v, want %v", got, want)
		}
		if got := names(""); len(got) != 6 || got[5] != "b/x/one" {
			t.Errorf("List() = %v", got)
		}
		if got := b.List("c"); got == nil || len(got) != 0 {
			t.Errorf("List(c) = %v", got)
		}
	})
}

func TestCloseGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		r := newRunner(t)
		r.stop = hangs
		b.Started(echo, "echo-1", r, []string{"one"})
		b.wantState("one", StateRunning)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "default/echo") {
			t.Errorf("Close = %v", err)
		}
		b.Started(plugin.Key{Tenant: "default", ID: "late"}, "late-1", r, []string{"one"})
		if n := len(b.List("")); n != 1 {
			t.Errorf("%d services, want the old one alone", n)
		}
	})
}

// TestRaces lets everybody talk at once; the runner checks the order.
func TestRaces(t *testing.T) {
	var wg sync.WaitGroup
	m := New(Config{Logger: slog.New(slog.DiscardHandler), Notify: func(Status) {}, Escalate: func(plugin.Key, string, string) {}})
	for n := range 4 {
		key := plugin.Key{Tenant: "default", ID: fmt.Sprint("p", n)}
		r := newRunner(t)
		m.Started(key, "1", r, []string{"one", "two"})
		for _, do := range []func(context.Context, plugin.Key, string) (Status, error){m.Start, m.Stop, m.Restart} {
			for range 2 {
				wg.Go(func() {
					for range 20 {
						_, _ = do(t.Context(), key, "one")
						m.Health(key, "1", wire.ServiceHealth{Service: "two", Failed: true})
						m.List("")
					}
				})
			}
		}
	}
	wg.Wait()
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
