package hosts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// agent is an attached host. Its queue is what the API's is: it does not
// block, and refuses when it is full.
type agent struct {
	answer func(v1.HostMessage)
	leave  context.CancelFunc
	queue  chan v1.HostMessage
}

func attach(t *testing.T, r *Registry, tenant, name string, room int, methods ...string) *agent {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	a := &agent{leave: cancel, queue: make(chan v1.HostMessage, room)}
	send := func(m v1.HostMessage) error {
		select {
		case a.queue <- m:
			return nil
		default:
			return fault.New(errdefs.ErrResourceExhausted, "host_slow", "the host does not read")
		}
	}
	answer, err := r.Attach(ctx, tenant, v1.HostMessage{Type: v1.HostAttachType, Name: name, Methods: methods}, send)
	if err != nil {
		t.Fatal(err)
	}
	a.answer = answer
	return a
}

// serve answers every call until the test ends.
func (a *agent) serve(t *testing.T, f func(v1.HostMessage) v1.HostMessage) {
	go func() {
		for {
			select {
			case m := <-a.queue:
				if m.Type == v1.HostCallType {
					got := f(m)
					got.Type, got.ID = v1.HostAnswerType, m.ID
					a.answer(got)
				}
			case <-t.Context().Done():
				return
			}
		}
	}()
}

func says(text string) func(v1.HostMessage) v1.HostMessage {
	return func(v1.HostMessage) v1.HostMessage { return v1.HostMessage{Result: json.RawMessage(text)} }
}

func wantFault(t *testing.T, err error, class func(error) bool, code string) {
	t.Helper()
	if f := fault.Of(err); err == nil || !class(err) || f.Code != code {
		t.Errorf("error %v (code %s), want code %s of its class", err, f.Code, code)
	}
}

func TestCallGoesToTheNewestThatTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New()
		old := attach(t, r, "a", "old", 10, v1.HostEmit)
		newer := attach(t, r, "a", "newer", 10, v1.HostEmit)
		attach(t, r, "a", "other", 10, v1.HostLog)
		attach(t, r, "b", "stranger", 10, v1.HostEmit)
		old.serve(t, says(`"old"`))
		newer.serve(t, func(m v1.HostMessage) v1.HostMessage {
			if m.Plugin != "echo" || m.Method != v1.HostEmit || string(m.Params) != `{"event":"x"}` || m.ID == "" {
				t.Errorf("call %+v", m)
			}
			return v1.HostMessage{Result: json.RawMessage(`"newer"`)}
		})
		call := func() (json.RawMessage, error) {
			return r.Call(t.Context(), "a", "echo", v1.HostEmit, json.RawMessage(`{"event":"x"}`))
		}
		if got, err := call(); err != nil || string(got) != `"newer"` {
			t.Errorf("%s, %v", got, err)
		}
		newer.leave()
		synctest.Wait()
		if got, err := call(); err != nil || string(got) != `"old"` {
			t.Errorf("after the newest left: %s, %v", got, err)
		}
		old.leave()
		synctest.Wait()
		_, err := call()
		wantFault(t, err, errdefs.IsUnavailable, CodeNoHost)
		_, err = r.Call(t.Context(), "c", "echo", v1.HostEmit, nil)
		wantFault(t, err, errdefs.IsUnavailable, CodeNoHost)
	})
}

func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer v1.HostMessage
		want   string
		class  func(error) bool
		code   string
	}{
		{"a result", v1.HostMessage{Result: json.RawMessage(`{"a":1}`)}, `{"a":1}`, nil, ""},
		{"nothing", v1.HostMessage{}, `null`, nil, ""},
		{"the largest", v1.HostMessage{Result: json.RawMessage(strings.Repeat("1", MaxPayload))}, strings.Repeat("1", MaxPayload), nil, ""},
		{"too large", v1.HostMessage{Result: json.RawMessage(strings.Repeat("1", MaxPayload+1))}, "", errdefs.IsInternal, CodeBadAnswer},
		{"an error", v1.HostMessage{Error: &v1.Error{Class: "not_found", Code: "no_session", Message: "gone"}}, "", errdefs.IsNotFound, "no_session"},
		{"an error of no class", v1.HostMessage{Error: &v1.Error{Code: "odd"}}, "", errdefs.IsInternal, "odd"},
		{"an error of no code", v1.HostMessage{Error: &v1.Error{Class: "unavailable", Message: "x"}}, "", errdefs.IsUnavailable, CodeHostFailed},
		{"an error and a result", v1.HostMessage{Result: json.RawMessage(`1`), Error: &v1.Error{Code: "odd"}}, "", errdefs.IsInternal, "odd"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := New()
			attach(t, r, "a", "h", 1, v1.HostEmit).serve(t, func(v1.HostMessage) v1.HostMessage { return tc.answer })
			got, err := r.Call(t.Context(), "a", "echo", v1.HostEmit, nil)
			if tc.class != nil {
				wantFault(t, err, tc.class, tc.code)
			} else if err != nil || string(got) != tc.want {
				t.Errorf("%.100s, %v", got, err)
			}
		})
	}
}

func TestHostErrorsAreFitToBeShown(t *testing.T) {
	_, err := result(v1.HostEmit, v1.HostMessage{Error: &v1.Error{
		Code: strings.Repeat("c", 1000), Message: "a\x1b[2J\n" + strings.Repeat("m", 1<<20), Hint: "\x07do", Details: json.RawMessage(`{}`),
	}})
	f := fault.Of(err)
	if len(f.Code) > MaxName+3 || len(f.Message) > maxMessage+3 || !strings.HasPrefix(f.Message, "a[2J m") || f.Hint != "do" || f.Details != nil {
		t.Errorf("code of %d bytes, message of %d, hint %q", len(f.Code), len(f.Message), f.Hint)
	}
}

func TestCallEnds(t *testing.T) {
	for _, tc := range []struct {
		name  string
		ctx   func(context.Context) (context.Context, context.CancelFunc)
		after time.Duration
		do    func(a *agent)
		class func(error) bool
		code  string
	}{
		{"without a deadline", context.WithCancel, 10 * time.Second, nil, errdefs.IsDeadlineExceeded, CodeHostTimeout},
		{"at an early deadline", deadline(time.Second), time.Second, nil, errdefs.IsDeadlineExceeded, CodeHostTimeout},
		{"at a late deadline", deadline(time.Minute), time.Minute, nil, errdefs.IsDeadlineExceeded, CodeHostTimeout},
		{"when it is cancelled", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(2*time.Second, cancel)
			return ctx, cancel
		}, 2 * time.Second, nil, errdefs.IsCanceled, CodeCancelled},
		{"when the host leaves", context.WithCancel, 3 * time.Second, func(a *agent) { time.AfterFunc(3*time.Second, a.leave) }, errdefs.IsUnavailable, CodeHostGone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := New()
				a := attach(t, r, "a", "h", 1, v1.HostEmit)
				ctx, cancel := tc.ctx(t.Context())
				defer cancel()
				if tc.do != nil {
					tc.do(a)
				}
				from := time.Now()
				_, err := r.Call(ctx, "a", "echo", v1.HostEmit, nil)
				wantFault(t, err, tc.class, tc.code)
				if d := time.Since(from); d != tc.after {
					t.Errorf("after %v, want %v", d, tc.after)
				}
				m := <-a.queue
				m.Type = v1.HostAnswerType
				a.answer(m) // late: nobody is there, nothing happens
				if list := r.List("a"); len(list) == 1 && list[0].InFlight != 0 {
					t.Errorf("%d calls are left", list[0].InFlight)
				}
			})
		})
	}
}

func deadline(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
	return func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, d) }
}

func TestStrangeAnswersAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New()
		a := attach(t, r, "a", "h", 1, v1.HostEmit)
		other := attach(t, r, "a", "other", 1, v1.HostLog)
		got := make(chan string, 1)
		go func() {
			result, err := r.Call(t.Context(), "a", "echo", v1.HostEmit, nil)
			got <- fmt.Sprint(string(result), err)
		}()
		m := <-a.queue
		for _, id := range []string{"", "0", "999", "x", m.ID + " "} {
			a.answer(v1.HostMessage{Type: v1.HostAnswerType, ID: id, Result: json.RawMessage(`"wrong"`)})
		}
		a.answer(v1.HostMessage{Type: v1.HostNoticeType, ID: m.ID, Result: json.RawMessage(`"wrong"`)})
		other.answer(v1.HostMessage{Type: v1.HostAnswerType, ID: m.ID, Result: json.RawMessage(`"of another host"`)})
		synctest.Wait()
		a.answer(v1.HostMessage{Type: v1.HostAnswerType, ID: m.ID, Result: json.RawMessage(`"right"`)})
		a.answer(v1.HostMessage{Type: v1.HostAnswerType, ID: m.ID, Result: json.RawMessage(`"twice"`)})
		if s := <-got; s != `"right"<nil>` {
			t.Errorf("got %s", s)
		}
	})
}

func TestCallIsRefused(t *testing.T) {
	t.Run("too large", func(t *testing.T) {
		r := New()
		a := attach(t, r, "a", "h", 1, v1.HostEmit)
		_, err := r.Call(t.Context(), "a", "echo", v1.HostEmit, make(json.RawMessage, MaxPayload+1))
		wantFault(t, err, errdefs.IsInvalidArgument, CodeBadParams)
		if len(a.queue) != 0 {
			t.Error("it was sent")
		}
	})
	t.Run("too many at a time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := New()
			a := attach(t, r, "a", "h", MaxInFlight+10, v1.HostEmit)
			var wg sync.WaitGroup
			for range MaxInFlight {
				wg.Go(func() { _, _ = r.Call(t.Context(), "a", "echo", v1.HostEmit, nil) })
			}
			synctest.Wait()
			_, err := r.Call(t.Context(), "a", "echo", v1.HostEmit, nil)
			wantFault(t, err, errdefs.IsResourceExhausted, CodeHostBusy)
			if n := r.List("a")[0].InFlight; n != MaxInFlight || len(a.queue) != MaxInFlight {
				t.Errorf("%d in flight, %d sent", n, len(a.queue))
			}
			m := <-a.queue
			m.Type = v1.HostAnswerType
			a.answer(m)
			a.serve(t, says("1"))
			wg.Wait()
			if got, err := r.Call(t.Context(), "a", "echo", v1.HostEmit, nil); err != nil || string(got) != "1" {
				t.Errorf("afterwards: %s, %v", got, err)
			}
		})
	})
	for _, tc := range []struct {
		name  string
		err   error
		class func(error) bool
		code  string
	}{
		{"the host reads too slowly", fault.New(errdefs.ErrResourceExhausted, "host_slow", "slow"), errdefs.IsResourceExhausted, "host_slow"},
		{"the host is gone", fault.New(errdefs.ErrUnavailable, "anything", "gone"), errdefs.IsUnavailable, CodeHostGone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := New()
			_, err := r.Attach(t.Context(), "a", v1.HostMessage{Type: v1.HostAttachType, Methods: []string{v1.HostEmit}},
				func(v1.HostMessage) error { return tc.err })
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Call(t.Context(), "a", "echo", v1.HostEmit, nil)
			wantFault(t, err, tc.class, tc.code)
			if n := r.List("a")[0].InFlight; n != 0 {
				t.Errorf("%d calls are left", n)
			}
		})
	}
}

func TestAttachRefuses(t *testing.T) {
	long := strings.Repeat("x", MaxName)
	many := make([]string, MaxMethods+1)
	for i := range many {
		many[i] = fmt.Sprint("host.m", i)
	}
	for _, tc := range []struct {
		name  string
		hello v1.HostMessage
		ok    bool
	}{
		{"an ordinary one", v1.HostMessage{Type: "attach", Name: "gw", Methods: []string{"host.log", "host.config.changed", "host.a_b-1"}}, true},
		{"the largest", v1.HostMessage{Type: "attach", Name: long, Methods: many[1:]}, true},
		{"another message", v1.HostMessage{Type: "answer", Methods: []string{"host.log"}}, false},
		{"a long name", v1.HostMessage{Type: "attach", Name: long + "x", Methods: []string{"host.log"}}, false},
		{"no methods", v1.HostMessage{Type: "attach", Name: "gw"}, false},
		{"many methods", v1.HostMessage{Type: "attach", Methods: many}, false},
		{"a method of others", v1.HostMessage{Type: "attach", Methods: []string{"log"}}, false},
		{"no method", v1.HostMessage{Type: "attach", Methods: []string{"host."}}, false},
		{"a strange method", v1.HostMessage{Type: "attach", Methods: []string{"host.a b"}}, false},
		{"a long method", v1.HostMessage{Type: "attach", Methods: []string{"host." + long}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := New()
			answer, err := r.Attach(t.Context(), "a", tc.hello, func(v1.HostMessage) error { return nil })
			if tc.ok {
				if err != nil || answer == nil || len(r.List("a")) != 1 {
					t.Errorf("error %v", err)
				}
				return
			}
			wantFault(t, err, errdefs.IsInvalidArgument, CodeBadHello)
			if len(r.List("a")) != 0 || fault.Of(err).Hint == "" {
				t.Error("it is attached, or is not told what to do")
			}
		})
	}
	_, err := New().Attach(t.Context(), "", v1.HostMessage{Type: "attach", Methods: []string{"host.log"}}, nil)
	wantFault(t, err, errdefs.IsInvalidArgument, CodeNoTenant)
}

func TestHostsAreBoundedPerTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New()
		var last *agent
		for i := range MaxHosts {
			last = attach(t, r, "b", fmt.Sprint("h", i), 1, v1.HostLog)
		}
		_, err := r.Attach(t.Context(), "b", v1.HostMessage{Type: "attach", Methods: []string{"host.log"}}, nil)
		wantFault(t, err, errdefs.IsResourceExhausted, CodeTooMany)
		attach(t, r, "a", "other\x1b", 1, "host.x", v1.HostLog, "host.x")
		last.leave()
		synctest.Wait()
		attach(t, r, "b", "late", 1, v1.HostLog)
		list := r.List("")
		if len(list) != MaxHosts+1 || list[0].Name != "other" || list[1].Name != "h0" || list[MaxHosts].Name != "late" {
			t.Errorf("hosts %+v", list)
		}
		if got := list[0]; got.Tenant != "a" || !slices.Equal(got.Methods, []string{v1.HostLog, "host.x"}) || !got.AttachedAt.Equal(time.Now()) {
			t.Errorf("host %+v", got)
		}
		if got := r.List("c"); got == nil || len(got) != 0 {
			t.Errorf("List(c) = %v", got)
		}
	})
}

func TestAttachOfOneThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Attach(ctx, "a", v1.HostMessage{Type: "attach", Methods: []string{"host.log"}}, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(r.List("")) != 0 || len(r.hosts) != 0 {
			t.Error("it is still attached")
		}
	})
}

func TestNotify(t *testing.T) {
	r := New()
	one := attach(t, r, "a", "one", 10, v1.HostLog)
	two := attach(t, r, "a", "two", 10, v1.HostLog, v1.HostConfigChanged)
	stranger := attach(t, r, "b", "stranger", 10, v1.HostLog)
	r.Notify("a", "echo", v1.HostLog, json.RawMessage(`{"message":"hi"}`))
	r.Notify("a", "", v1.HostConfigChanged, json.RawMessage(`{}`))
	if len(one.queue) != 1 || len(two.queue) != 2 || len(stranger.queue) != 0 {
		t.Fatalf("%d, %d and %d notices", len(one.queue), len(two.queue), len(stranger.queue))
	}
	want := v1.HostMessage{Type: v1.HostNoticeType, Plugin: "echo", Method: v1.HostLog, Params: json.RawMessage(`{"message":"hi"}`)}
	if got := <-one.queue; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("notice %+v", got)
	}
}

func TestSlowHostIsToldWhatItMissed(t *testing.T) {
	r := New()
	slow := attach(t, r, "a", "slow", 3, v1.HostLog)
	notify := func(n int) { r.Notify("a", "echo", v1.HostLog, json.RawMessage(fmt.Sprint(n))) }
	take := func() (got []string) {
		for len(slow.queue) > 0 {
			m := <-slow.queue
			got = append(got, m.Method+" "+string(m.Params))
		}
		return got
	}
	for n := range 6 { // never blocks
		notify(n)
	}
	if got, want := take(), []string{"host.log 0", "host.log 1", "host.log 2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	notify(6)
	if got, want := take(), []string{`host.gap {"missed":3}`, "host.log 6"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	notify(7)
	if got, want := take(), []string{"host.log 7"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for n := range 4 { // the gap takes the last place
		notify(n)
	}
	<-slow.queue
	notify(4)
	if got, want := take(), []string{"host.log 1", "host.log 2", `host.gap {"missed":1}`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	notify(5)
	if got, want := take(), []string{`host.gap {"missed":1}`, "host.log 5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRaces has hosts come and go while plugins call and notify.
func TestRaces(t *testing.T) {
	r := New()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				calls := make(chan v1.HostMessage, 256)
				answer, err := r.Attach(ctx, "a", v1.HostMessage{Type: "attach", Methods: []string{v1.HostEmit}}, func(m v1.HostMessage) error {
					select {
					case calls <- m:
						return nil
					default:
						return fault.New(errdefs.ErrResourceExhausted, "host_slow", "slow")
					}
				})
				if err != nil {
					t.Error(err)
				}
				for range 20 {
					select {
					case m := <-calls:
						answer(v1.HostMessage{Type: v1.HostAnswerType, ID: m.ID, Result: m.Params})
					case <-time.After(time.Millisecond):
					}
				}
				cancel()
			}
		})
	}
	for n := range 4 {
		wg.Go(func() {
			for i := range 200 {
				params := fmt.Sprint(n*1000 + i)
				got, err := r.Call(t.Context(), "a", "echo", v1.HostEmit, json.RawMessage(params))
				if err == nil && string(got) != params {
					t.Errorf("asked %s, got %s", params, got)
				}
				if err != nil && !errdefs.IsUnavailable(err) && !errdefs.IsResourceExhausted(err) && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				r.Notify("a", "echo", v1.HostEmit, nil)
				r.List("a")
			}
		})
	}
	wg.Wait()
}
