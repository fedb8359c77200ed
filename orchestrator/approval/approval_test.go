package approval

import (
	"context"
	"encoding/json"
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

func question(tenant string) v1.Approval {
	return v1.Approval{Tenant: tenant, Plugin: "guard", Title: "Run rm?", Severity: "warning", Target: "exec",
		Params: json.RawMessage(`{"cmd":"rm"}`), Context: &v1.CallContext{RunID: "r1"}}
}

type outcome struct {
	decision, actor string
	err             error
}

// ask asks in the background and returns once the approval is there.
func ask(ctx context.Context, b *Broker, a v1.Approval, timeout time.Duration) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		decision, actor, err := b.Ask(ctx, a, timeout)
		out <- outcome{decision, actor, err}
	}()
	synctest.Wait()
	return out
}

// only returns the one approval that waits.
func only(t *testing.T, b *Broker, tenant string) v1.Approval {
	t.Helper()
	list := b.List(tenant)
	if len(list) != 1 {
		t.Fatalf("%d approvals wait, want 1", len(list))
	}
	return list[0]
}

func wantFault(t *testing.T, err error, class func(error) bool, code, text string) {
	t.Helper()
	if f := fault.Of(err); err == nil || !class(err) || f.Code != code || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v (code %s), want %s with %q", err, f.Code, code, text)
	}
}

func TestResolve(t *testing.T) {
	for _, decision := range []string{v1.AllowOnce, v1.AllowAlways, v1.Deny} {
		t.Run(decision, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told, watched []v1.Approval
				b := New(Config{Changed: func(a v1.Approval) { told = append(told, a) }})
				ctx := WithWatch(t.Context(), func(a v1.Approval) { watched = append(watched, a) })
				out := ask(ctx, b, question("a"), time.Minute)
				made := only(t, b, "a")
				if made.ID == "" || made.Kind != "call" || made.Plugin != "guard" || made.Target != "exec" || string(made.Params) != `{"cmd":"rm"}` ||
					made.Context.RunID != "r1" || len(made.Decisions) != 3 || !made.CreatedAt.Equal(time.Now()) || time.Until(*made.ExpiresAt) != time.Minute {
					t.Errorf("made %+v", made)
				}
				got, err := b.Resolve("a", made.ID, decision, "uid:1000")
				if err != nil || got.Decision != decision || got.Actor != "uid:1000" || string(got.Params) != `{"cmd":"rm"}` {
					t.Errorf("resolved %+v, %v", got, err)
				}
				if o := <-out; o != (outcome{decision, "uid:1000", nil}) {
					t.Errorf("Ask returned %+v", o)
				}
				if len(b.List("")) != 0 {
					t.Error("it still waits")
				}
				for _, list := range [][]v1.Approval{told, watched} {
					if len(list) != 2 || list[0].Decision != "" || list[1].Decision != decision || list[0].ID != list[1].ID {
						t.Errorf("told %+v", list)
					}
				}
			})
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{})
		q := question("a")
		q.Decisions = []string{v1.AllowOnce}
		out := ask(t.Context(), b, q, time.Minute)
		id := only(t, b, "a").ID

		_, err := b.Resolve("a", "nonsense", v1.Deny, "x")
		wantFault(t, err, errdefs.IsNotFound, CodeUnknown, "nonsense")
		_, err = b.Resolve("b", id, v1.Deny, "x")
		wantFault(t, err, errdefs.IsNotFound, CodeUnknown, id)
		for _, decision := range []string{"", "yes", v1.AllowAlways, Timeout, Cancelled} {
			_, err = b.Resolve("a", id, decision, "x")
			wantFault(t, err, errdefs.IsInvalidArgument, CodeBadDecision, "cannot be resolved with")
		}
		if hint := fault.Of(err).Hint; hint != "use one of allow-once, deny" {
			t.Errorf("hint %q", hint)
		}

		if _, err := b.Resolve("a", id, v1.Deny, "alice"); err != nil {
			t.Fatal(err)
		}
		<-out
		for _, decision := range []string{v1.AllowOnce, v1.Deny, "nonsense"} {
			got, err := b.Resolve("a", id, decision, "bob")
			wantFault(t, err, errdefs.IsConflict, CodeAlreadyResolved, "deny by alice")
			if got.Actor != "alice" {
				t.Errorf("approval of the second answer: %+v", got)
			}
		}
		_, err = b.Resolve("b", id, v1.Deny, "x")
		wantFault(t, err, errdefs.IsNotFound, CodeUnknown, id)
	})
}

func TestNobodyDecides(t *testing.T) {
	for _, tc := range []struct {
		name    string
		timeout time.Duration
		ctx     func(context.Context) (context.Context, context.CancelFunc)
		after   time.Duration
		want    string
		code    string
	}{
		{"its time is over", time.Minute, context.WithCancel, time.Minute, Timeout, CodeExpired},
		{"the deadline of the call comes first", time.Hour, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, time.Second, Timeout, CodeExpired},
		{"the call is given up", time.Hour, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(5*time.Second, cancel)
			return ctx, cancel
		}, 5 * time.Second, Cancelled, CodeCancelled},
		{"no time at all", 0, context.WithCancel, 0, Timeout, CodeExpired},
		{"negative time", -time.Hour, context.WithCancel, 0, Timeout, CodeExpired},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []v1.Approval
				b := New(Config{Changed: func(a v1.Approval) { told = append(told, a) }})
				ctx, cancel := tc.ctx(t.Context())
				defer cancel()
				from := time.Now()
				o := <-ask(ctx, b, question("a"), tc.timeout)
				if o != (outcome{tc.want, "", nil}) || time.Since(from) != tc.after {
					t.Errorf("%+v after %v", o, time.Since(from))
				}
				if len(told) != 2 || told[1].Decision != tc.want || len(b.List("")) != 0 {
					t.Fatalf("told %+v", told)
				}
				_, err := b.Resolve("a", told[0].ID, v1.AllowOnce, "late")
				wantFault(t, err, errdefs.IsFailedPrecondition, tc.code, told[0].ID)
			})
		})
	}
}

// TestResolveAtTheLastMoment resolves at the very time of expiry, when Ask may
// not have noticed it yet.
func TestResolveAtTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{})
		out := ask(t.Context(), b, question("a"), time.Minute)
		id := only(t, b, "a").ID
		time.Sleep(time.Minute)
		_, err := b.Resolve("a", id, v1.AllowOnce, "late")
		wantFault(t, err, errdefs.IsFailedPrecondition, CodeExpired, id)
		if o := <-out; o.decision != Timeout {
			t.Errorf("Ask returned %+v", o)
		}
	})
}

func TestAskRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*v1.Approval)
	}{
		{"no tenant", func(a *v1.Approval) { a.Tenant = "" }},
		{"no title", func(a *v1.Approval) { a.Title = "\x00\n" }},
		{"unknown decision", func(a *v1.Approval) { a.Decisions = []string{v1.Deny, "allow-all"} }},
		{"parameters that are no JSON", func(a *v1.Approval) { a.Params = json.RawMessage(`{`) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := New(Config{Changed: func(v1.Approval) { t.Error("somebody was told") }})
			a := question("a")
			tc.change(&a)
			decision, _, err := b.Ask(t.Context(), a, time.Hour)
			wantFault(t, err, errdefs.IsInvalidArgument, CodeBadApproval, "cannot ask")
			if decision != "" {
				t.Errorf("decision %q", decision)
			}
		})
	}
}

func TestTextsAreFitToBeShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{})
		ctx, cancel := context.WithCancel(t.Context())
		a := question("a")
		a.Title, a.Description, a.Target = "Run\x1b[2J\nrm\u202e?", strings.Repeat("long ", 4000), strings.Repeat("é", 4000)
		a.Params = json.RawMessage(`"` + strings.Repeat("x", MaxParams-1) + `"`)
		a.Decision, a.Actor, a.ID, a.Kind = v1.AllowOnce, "the plugin", "chosen", "permission"
		out := ask(ctx, b, a, time.Minute)
		got := only(t, b, "a")
		if got.Title != "Run[2J rm?" || len(got.Description) > MaxDescription+3 || len(got.Target) > MaxTitle+3 {
			t.Errorf("title %q, description of %d bytes, target of %d", got.Title, len(got.Description), len(got.Target))
		}
		if want := fmt.Sprintf(`{"truncated":true,"bytes":%d}`, MaxParams+1); string(got.Params) != want {
			t.Errorf("params %.100s, want %s", got.Params, want)
		}
		if got.Decision != "" || got.Actor != "" || got.ID == "chosen" || got.Kind != "call" {
			t.Errorf("what the plugin says of it counts: %+v", got)
		}
		cancel()
		<-out
	})
}

func TestParamsAtTheLimitAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{})
		ctx, cancel := context.WithCancel(t.Context())
		a := question("a")
		a.Params = json.RawMessage(`"` + strings.Repeat("x", MaxParams-2) + `"`)
		out := ask(ctx, b, a, time.Minute)
		if got := only(t, b, "a"); len(got.Params) != MaxParams {
			t.Errorf("params of %d bytes", len(got.Params))
		}
		cancel()
		<-out
	})
}

func TestDecisionsAlwaysHoldDeny(t *testing.T) {
	all := []string{v1.AllowOnce, v1.AllowAlways, v1.Deny}
	for _, tc := range []struct{ asked, want []string }{
		{nil, all},
		{[]string{}, all},
		{[]string{v1.AllowAlways}, []string{v1.AllowAlways, v1.Deny}},
		{[]string{v1.Deny, v1.AllowOnce, v1.Deny}, []string{v1.AllowOnce, v1.Deny}},
	} {
		e := &entry{Approval: question("a")}
		e.Decisions = slices.Clone(tc.asked)
		if err := e.prepare(); err != nil || !slices.Equal(e.Decisions, tc.want) {
			t.Errorf("%v becomes %v (%v), want %v", tc.asked, e.Decisions, err, tc.want)
		}
	}
}

func TestWaitingIsBoundedPerTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{})
		ctx, cancel := context.WithCancel(t.Context())
		var outs []<-chan outcome
		for i := range MaxWaiting {
			a := question("a")
			a.Title = fmt.Sprint(i)
			outs = append(outs, ask(ctx, b, a, time.Hour))
			time.Sleep(time.Millisecond)
		}
		_, _, err := b.Ask(ctx, question("a"), time.Hour)
		wantFault(t, err, errdefs.IsResourceExhausted, CodeTooMany, "256")
		outs = append(outs, ask(ctx, b, question("b"), time.Hour)) // others are not concerned
		if only(t, b, "b"); len(b.List("")) != MaxWaiting+1 {
			t.Errorf("%d wait", len(b.List("")))
		}
		for i, a := range b.List("a") {
			if a.Title != fmt.Sprint(i) {
				t.Fatalf("number %d in the list is %s, want the oldest first", i, a.Title)
			}
		}
		cancel()
		for _, out := range outs {
			<-out
		}
		if got := b.List("c"); got == nil || len(got) != 0 {
			t.Errorf("List(c) = %v", got)
		}
	})
}

func TestResolvedAreForgotten(t *testing.T) {
	resolve := func(t *testing.T, b *Broker) string {
		out := ask(t.Context(), b, question("a"), time.Hour)
		id := only(t, b, "a").ID
		if _, err := b.Resolve("a", id, v1.Deny, "alice"); err != nil {
			t.Fatal(err)
		}
		<-out
		return id
	}
	t.Run("after their time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := New(Config{})
			id := resolve(t, b)
			time.Sleep(Remembered - 1)
			_, err := b.Resolve("a", id, v1.Deny, "bob")
			wantFault(t, err, errdefs.IsConflict, CodeAlreadyResolved, "alice")
			time.Sleep(time.Nanosecond)
			_, err = b.Resolve("a", id, v1.Deny, "bob")
			wantFault(t, err, errdefs.IsNotFound, CodeUnknown, id)
		})
	})
	t.Run("when there are too many", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := New(Config{})
			first, second := resolve(t, b), resolve(t, b)
			for range MaxRemembered - 1 {
				resolve(t, b)
			}
			_, err := b.Resolve("a", first, v1.Deny, "bob")
			wantFault(t, err, errdefs.IsNotFound, CodeUnknown, first)
			_, err = b.Resolve("a", second, v1.Deny, "bob")
			wantFault(t, err, errdefs.IsConflict, CodeAlreadyResolved, "alice")
			if len(b.entries) != MaxRemembered || len(b.ended) != MaxRemembered {
				t.Errorf("%d are kept", len(b.entries))
			}
			for _, e := range b.ended {
				if e.Params != nil || e.Context != nil || e.watch != nil {
					t.Fatal("more is kept than is told")
				}
			}
		})
	})
}

// TestOneDecisionCounts lets many people decide while calls are given up.
func TestOneDecisionCounts(t *testing.T) {
	var mu sync.Mutex
	ends := map[string][]string{}
	made := make(chan string, 100)
	b := New(Config{Changed: func(a v1.Approval) {
		if a.Decision == "" {
			made <- a.ID
			return
		}
		mu.Lock()
		defer mu.Unlock()
		ends[a.ID] = append(ends[a.ID], a.Decision+a.Actor)
	}})
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if n%2 == 0 {
				go cancel()
			}
			var id string
			ctx = WithWatch(ctx, func(a v1.Approval) { id = a.ID })
			decision, actor, err := b.Ask(ctx, question("a"), time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if got := ends[id]; err != nil || len(got) != 1 || got[0] != decision+actor {
				t.Errorf("Ask returned %s by %s, %v; told was %v", decision, actor, err, got)
			}
		})
	}
	for range 100 {
		id := <-made
		for n := range 4 {
			wg.Go(func() {
				_, err := b.Resolve("a", id, []string{v1.AllowOnce, v1.Deny}[n%2], fmt.Sprint("person", n))
				if err != nil && !errdefs.IsConflict(err) && !errdefs.IsFailedPrecondition(err) {
					t.Errorf("Resolve: %v", err)
				}
				b.List("a")
			})
		}
	}
	wg.Wait()
	if len(ends) != 100 || len(b.List("")) != 0 {
		t.Errorf("%d ended, %d wait", len(ends), len(b.List("")))
	}
}
