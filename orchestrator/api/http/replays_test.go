package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// counter counts its runs, and answers with their number.
type counter int

func (c *counter) run(context.Context) (any, error) {
	*c++
	return int(*c), nil
}

func request(key string, parts ...any) keyed { return keyed{"default", key, fingerprint(parts...)} }

// empty reports what r still holds.
func (r *replays) left() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes == 0 && len(r.tenants) == 0 {
		return ""
	}
	return fmt.Sprintf("%d bytes, %d tenants", r.bytes, len(r.tenants))
}

func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, runs := newReplays(), counter(0)
		do := func(k keyed) (any, bool, error) { return r.do(t.Context(), k, runs.run) }
		for _, tc := range []struct {
			name     string
			wait     time.Duration
			request  keyed
			value    any
			replayed bool
			is       func(error) bool
		}{
			{"first", 0, request("k", 1), 1, false, nil},
			{"same", replayTTL - 1, request("k", 1), 1, true, nil},
			{"another body", 0, request("k", 2), nil, false, errdefs.IsConflict},
			{"another key", 0, request("l", 1), 2, false, nil},
			{"another tenant", 0, keyed{"acme", "k", fingerprint(1)}, 3, false, nil},
			{"no key", 0, keyed{}, 4, false, nil},
			{"no key again", 0, keyed{}, 5, false, nil},
			{"too late", 1, request("k", 1), 6, false, nil},
		} {
			time.Sleep(tc.wait)
			synctest.Wait()
			value, replayed, err := do(tc.request)
			if value != tc.value || replayed != tc.replayed || (tc.is == nil) != (err == nil) || tc.is != nil && !tc.is(err) {
				t.Errorf("%s: got %v, %v, %v, want %v, %v", tc.name, value, replayed, err, tc.value, tc.replayed)
			}
		}
		time.Sleep(replayTTL)
		synctest.Wait()
		if left := r.left(); left != "" {
			t.Errorf("left over: %s", left)
		}
	})
}

func TestFailuresThatAreKept(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		kept bool
	}{
		{"the plugin's", fault.New(fault.ErrPlugin, "x", "threw"), true},
		{"refused", fault.New(errdefs.ErrPermissionDenied, "x", "no"), true},
		{"too late", context.DeadlineExceeded, true},
		{"retryable", fault.New(fault.ErrPlugin, "x", "threw").WithRetry(), false},
		{"busy", errdefs.ErrResourceExhausted, false},
		{"unavailable", errdefs.ErrUnavailable, false},
		{"cancelled", context.Canceled, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, runs := newReplays(), 0
			for i := range 2 {
				_, replayed, err := r.do(t.Context(), request("k"), func(context.Context) (any, error) { runs++; return nil, tc.err })
				if !errors.Is(err, tc.err) || replayed != (tc.kept && i == 1) {
					t.Errorf("got %v, replayed %v", err, replayed)
				}
			}
			if want := map[bool]int{true: 1, false: 2}[tc.kept]; runs != want {
				t.Errorf("ran %d times, want %d", runs, want)
			}
			if left := r.left(); (left != "") != tc.kept {
				t.Errorf("left over: %q", left)
			}
		})
	}
}

// waiter is a request that waits for another in the background.
type waiter struct {
	cancel   context.CancelFunc
	done     chan struct{}
	value    any
	replayed bool
	err      error
}

func (r *replays) wait(ctx context.Context, run func(context.Context) (any, error)) *waiter {
	ctx, cancel := context.WithCancel(ctx)
	w := &waiter{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.value, w.replayed, w.err = r.do(ctx, request("k"), run)
	}()
	return w
}

// A request that others wait for goes on without the first; the last one that
// leaves cancels it and waits for its end.
func TestLeavingARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, release := newReplays(), make(chan struct{})
		run := func(ctx context.Context) (any, error) {
			select {
			case <-release:
				return "done", nil
			case <-ctx.Done():
				<-release // it takes a while to give up
				return nil, ctx.Err()
			}
		}
		first := r.wait(t.Context(), run)
		synctest.Wait()
		second, third := r.wait(t.Context(), run), r.wait(t.Context(), run)
		synctest.Wait()
		first.cancel()
		synctest.Wait()
		select {
		case <-first.done:
		default:
			t.Fatal("the first did not leave")
		}
		if !errors.Is(first.err, context.Canceled) {
			t.Errorf("first: %v", first.err)
		}
		second.cancel()
		synctest.Wait()
		third.cancel() // the last
		synctest.Wait()
		select {
		case <-third.done:
			t.Error("the last one did not wait for the end")
		default:
		}
		again := r.wait(t.Context(), run) // comes while it is given up
		synctest.Wait()
		release <- struct{}{}
		<-third.done
		synctest.Wait()
		release <- struct{}{}
		<-again.done
		if again.value != "done" || again.replayed || again.err != nil {
			t.Errorf("again: %v, %v, %v", again.value, again.replayed, again.err)
		}
		time.Sleep(replayTTL)
	})
}

func TestWaitingForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, release := newReplays(), make(chan struct{})
		run := func(ctx context.Context) (any, error) {
			<-release
			return "done", ctx.Err()
		}
		first := r.wait(t.Context(), run)
		synctest.Wait()
		second := r.wait(t.Context(), run)
		synctest.Wait()
		first.cancel()
		<-first.done
		close(release)
		<-second.done
		if second.value != "done" || !second.replayed || second.err != nil {
			t.Errorf("second: %v, %v, %v", second.value, second.replayed, second.err)
		}
		time.Sleep(replayTTL)
	})
}

func TestPanicReachesTheRequest(t *testing.T) {
	r := newReplays()
	defer func() {
		if p, _ := recover().(string); !strings.Contains(p, "as asked for") || !strings.Contains(p, "replays_test.go") {
			t.Errorf("recovered %q", p)
		}
		if left := r.left(); left != "" {
			t.Errorf("left over: %s", left)
		}
	}()
	r.do(t.Context(), request("k"), func(context.Context) (any, error) { panic("as asked for") })
}

func TestTooManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, runs, release := newReplays(), counter(0), make(chan struct{})
		for i := range maxReplays - 1 {
			if _, _, err := r.do(t.Context(), request(fmt.Sprint(i)), runs.run); err != nil {
				t.Fatal(err)
			}
		}
		hang := func(context.Context) (any, error) { <-release; return nil, nil }
		for i := range maxReplays { // the oldest answer makes room for each
			go r.do(t.Context(), request(fmt.Sprint("hang", i)), hang)
		}
		synctest.Wait()
		_, _, err := r.do(t.Context(), request("more"), runs.run)
		if f := fault.Of(err); !errdefs.IsResourceExhausted(err) || !f.Retryable {
			t.Errorf("got %v, want exhausted", err)
		}
		if _, _, err := r.do(t.Context(), keyed{"acme", "k", fingerprint()}, runs.run); err != nil {
			t.Errorf("another tenant: %v", err)
		}
		close(release)
		synctest.Wait()
		if value, replayed, err := r.do(t.Context(), request("0"), runs.run); replayed || err != nil {
			t.Errorf("the oldest was kept: %v, %v", value, err)
		}
		time.Sleep(replayTTL)
		synctest.Wait()
		if left := r.left(); left != "" {
			t.Errorf("left over: %s", left)
		}
	})
}

// The tenant with the most bytes makes room.
func TestTooManyBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, runs := newReplays(), counter(0)
		if _, _, err := r.do(t.Context(), keyed{"small", "k", fingerprint()}, runs.run); err != nil {
			t.Fatal(err)
		}
		large := strings.Repeat("x", 8<<20)
		for i := range 20 {
			_, _, err := r.do(t.Context(), request(fmt.Sprint(i)), func(context.Context) (any, error) { return large, nil })
			if err != nil || r.bytes > maxReplayBytes {
				t.Fatalf("%d bytes, %v", r.bytes, err)
			}
		}
		if _, replayed, err := r.do(t.Context(), keyed{"small", "k", fingerprint()}, runs.run); !replayed || err != nil {
			t.Errorf("the small tenant's answer is gone (%v)", err)
		}
		if _, replayed, err := r.do(t.Context(), request("19"), runs.run); !replayed || err != nil {
			t.Errorf("the last answer is gone (%v)", err)
		}
		time.Sleep(replayTTL)
		synctest.Wait()
		if left := r.left(); left != "" {
			t.Errorf("left over: %s", left)
		}
	})
}
