package hooks

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

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// behaviour is what a handler does with a call.
type behaviour func(ctx context.Context, call wire.HookCall) (wire.HookResult, error)

func answers(r wire.HookResult) behaviour {
	return func(_ context.Context, call wire.HookCall) (wire.HookResult, error) {
		r.ID = call.ID
		return r, nil
	}
}

func returns(result string) behaviour { return answers(returned(result)) }

func fails(err error) behaviour {
	return func(context.Context, wire.HookCall) (wire.HookResult, error) { return wire.HookResult{}, err }
}

func reports(code string) behaviour {
	return answers(wire.HookResult{Error: &wire.Error{Code: code, Name: "TypeError", Message: "boom\x1b[2J"}})
}

// late answers after its time, with what would change or block everything.
func late(ctx context.Context, call wire.HookCall) (wire.HookResult, error) {
	<-ctx.Done()
	return wire.HookResult{ID: call.ID, Result: json.RawMessage(`{"block":true,"params":{"late":1}}`)}, nil
}

func hangs(ctx context.Context, _ wire.HookCall) (wire.HookResult, error) {
	<-ctx.Done()
	return wire.HookResult{}, ctx.Err()
}

// memPlugins are plugins in memory: one handler each, of one event.
type memPlugins struct {
	handlers []Handler
	do       map[plugin.Key]behaviour

	mu    sync.Mutex
	calls []wire.HookCall
}

func (m *memPlugins) Handlers(_, event string) []Handler {
	return slices.DeleteFunc(slices.Clone(m.handlers), func(h Handler) bool { return h.Event.Name != event })
}

func (m *memPlugins) CallHook(ctx context.Context, key plugin.Key, call wire.HookCall) (wire.HookResult, error) {
	m.mu.Lock()
	m.calls = append(m.calls, call)
	m.mu.Unlock()
	return m.do[key](ctx, call)
}

// plugins makes one handler per behaviour, in the order in which they run.
func plugins(t testing.TB, name string, do ...behaviour) *memPlugins {
	m := &memPlugins{do: map[plugin.Key]behaviour{}}
	for i, b := range do {
		h := handler(event(t, name), i)
		m.handlers = append(m.handlers, h)
		m.do[h.Key] = b
	}
	slices.Reverse(m.handlers) // the order in which they come must not count
	return m
}

// record keeps what was recorded; fail refuses a kind.
type record struct {
	mu      sync.Mutex
	entries []Entry
	fail    string
}

func (r *record) write(e Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Kind == r.fail {
		return errors.New("disk full")
	}
	r.entries = append(r.entries, e)
	return nil
}

func (r *record) kinds() string {
	var kinds []string
	for _, e := range r.entries {
		kinds = append(kinds, e.Kind)
	}
	return strings.Join(kinds, " ")
}

func emit(t testing.TB, p *Pipeline, name, payload string) Result {
	t.Helper()
	res, err := p.Emit(t.Context(), Request{Tenant: "default", Event: name, Payload: json.RawMessage(payload)})
	if err != nil {
		t.Fatalf("Emit(%s): %v", name, err)
	}
	return res
}

func statuses(res Result) string {
	var list []string
	for _, h := range res.Handlers {
		list = append(list, h.Status)
	}
	return strings.Join(list, " ")
}

func TestEmitPassThrough(t *testing.T) {
	p := New(Config{Plugins: plugins(t, toolCall)})
	for _, name := range []string{toolCall, "message_received", "before_dispatch", evaluate, "agent:message:before"} {
		payload := `{ "b": 1.0,  "a":"<" }`
		res := emit(t, p, name, payload)
		if string(res.Payload) != payload || res.Result != nil || res.Outcome != OutcomePass || len(res.Handlers) != 0 {
			t.Errorf("Emit(%s) without handlers = %+v, want the payload as it was", name, res)
		}
	}
	if res := emit(t, p, toolCall, ""); string(res.Payload) != "{}" {
		t.Errorf("Emit() of nothing has the payload %s, want {}", res.Payload)
	}
}

func TestEmitSequence(t *testing.T) {
	var rec record
	m := plugins(t, toolCall,
		returns(`{"params":{"query":"a"}}`),
		returns(`null`),
		returns(`{"block":true,"blockReason":"not today"}`),
		returns(`{}`))
	p := New(Config{Plugins: m, Record: rec.write})
	res := emit(t, p, toolCall, `{"toolName":"search","params":{"query":"x"}}`)
	if res.Outcome != OutcomeBlock || res.BlockedBy == nil || res.BlockedBy.Key.ID != "p2" || res.BlockedBy.Reason != "not today" || res.BlockedBy.Failed {
		t.Errorf("Emit() = %s by %+v, want a block by p2", res.Outcome, res.BlockedBy)
	}
	if got, want := statuses(res), "ok ok block skipped"; got != want {
		t.Errorf("the handlers did %q, want %q", got, want)
	}
	if len(res.Changes) != 1 || res.Changes[0].Path != "/params/query" || string(res.Changes[0].Before) != `"x"` || res.Changes[0].Key.ID != "p0" {
		t.Errorf("the changes are %+v", res.Changes)
	}
	if rec.kinds() != "change block" || len(m.calls) != 3 {
		t.Errorf("recorded %q of %d calls", rec.kinds(), len(m.calls))
	}
	for _, c := range m.calls {
		if string(c.Payload) != `{"toolName":"search","params":{"query":"x"}}` || c.TimeoutMillis > 15250 || c.TimeoutMillis < 10000 || c.Event != toolCall {
			t.Errorf("a handler saw %+v, want the original event", c)
		}
	}
}

func TestEmitChained(t *testing.T) {
	tests := []struct {
		event, payload, first, seen string
		sync                        bool
	}{
		{replySending, `{"payload":{"text":"0"}}`, `{"payload":{"text":"1"}}`, `{"payload":{"text":"1"}}`, false},
		{"tool_result_persist", `{"message":{"n":0}}`, `{"message":{"n":1}}`, `{"message":{"n":1}}`, true},
		{"before_message_write", `{"message":{"n":0}}`, `{"message":{"n":1}}`, `{"message":{"n":1}}`, true},
		{"message_sending", `{"content":"0"}`, `{"content":"1"}`, `{"content":"0"}`, false},
	}
	for _, tt := range tests {
		m := plugins(t, tt.event, returns(tt.first), returns(`{}`))
		emit(t, New(Config{Plugins: m}), tt.event, tt.payload)
		if len(m.calls) != 2 || string(m.calls[1].Payload) != tt.seen || m.calls[1].Sync != tt.sync {
			t.Errorf("the second handler of %s saw %s, want %s", tt.event, m.calls[1].Payload, tt.seen)
		}
	}
	m := plugins(t, "agent:message:before", answers(left(`{"content":"b"}`)), returns(`{}`))
	res := emit(t, New(Config{Plugins: m}), "agent:message:before", `{"content":"a"}`)
	if string(m.calls[1].Payload) != `{"content":"b"}` || string(res.Payload) != `{"content":"b"}` {
		t.Errorf("the second handler saw %s and %s is left, want what the first made", m.calls[1].Payload, res.Payload)
	}
}

func TestEmitClaim(t *testing.T) {
	m := plugins(t, "before_dispatch", fails(errors.New("x")), returns(`{"handled":false}`), returns(`{"handled":true,"text":"t"}`), returns(`{"handled":true}`))
	var rec record
	res := emit(t, New(Config{Plugins: m, Record: rec.write}), "before_dispatch", `{"content":"c"}`)
	if res.Outcome != OutcomeClaim || res.ClaimedBy == nil || res.ClaimedBy.ID != "p2" || canonical(res.Result) != `{"handled":true,"text":"t"}` {
		t.Errorf("Emit() = %s by %v: %s", res.Outcome, res.ClaimedBy, res.Result)
	}
	if got, want := statuses(res), "failed ok claim skipped"; got != want || rec.kinds() != "failure claim" {
		t.Errorf("the handlers did %q and %q was recorded, want %q", got, rec.kinds(), want)
	}
}

func TestEmitObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context, call wire.HookCall) (wire.HookResult, error) {
			select {
			case <-time.After(10 * time.Second):
				return returns(`{"content":"x","block":true}`)(ctx, call)
			case <-ctx.Done():
				return wire.HookResult{}, ctx.Err()
			}
		}
		p := New(Config{Plugins: plugins(t, "message_received", slow, slow, hangs, reports(wire.CodeThrew))})
		started := time.Now()
		res := emit(t, p, "message_received", `{"content":"c"}`)
		if took := time.Since(started); took != 15*time.Second {
			t.Errorf("Emit() took %s, want the longest handler's 15 s", took)
		}
		if got := statuses(res); got != "ok ok timeout failed" || string(res.Payload) != `{"content":"c"}` || res.Result != nil || res.Outcome != OutcomePass {
			t.Errorf("Emit() = %s: %+v", got, res)
		}
	})
}

func TestEmitEvaluate(t *testing.T) {
	m := plugins(t, evaluate,
		returns(`{"summary":"s","decision":"pass","other":1}`), returns(`{"decision":"block","decisionReason":"r"}`), returns(`null`),
		returns(`{"decision":"maybe"}`), returns(`{"decision":"revise"}`), answers(threw("b")))
	for i := range m.handlers {
		if m.handlers[i].Index == 4 {
			m.handlers[i].Rights = []plugin.HookRight{plugin.RightObserve}
		}
	}
	var rec record
	res := emit(t, New(Config{Plugins: m, Record: rec.write}), evaluate, `{"skill":{}}`)
	if got, want := statuses(res), "ok block ok failed dropped block"; got != want {
		t.Errorf("the handlers did %q, want %q", got, want)
	}
	if string(res.Handlers[0].Outcome) != `{"decision":"pass","summary":"s"}` || res.Handlers[2].Outcome != nil || res.Handlers[4].Outcome != nil {
		t.Errorf("the outcomes are %+v", res.Handlers)
	}
	if res.Outcome != OutcomeBlock || res.BlockedBy.Key.ID != "p1" || res.BlockedBy.Reason != "r" || rec.kinds() != "block failure drop" {
		t.Errorf("Emit() = %s by %+v, recorded %q", res.Outcome, res.BlockedBy, rec.kinds())
	}
}

func TestEmitFailure(t *testing.T) {
	down := fmt.Errorf("crashlooped: %w", errdefs.ErrFailedPrecondition)
	tests := []struct {
		name   string
		do     behaviour
		status string
		kinds  string // recorded where the event passes
	}{
		{"late", late, StatusTimeout, "failure"},
		{"hangs", hangs, StatusTimeout, "failure"},
		{"the runner gave up", reports(wire.CodeTimedOut), StatusTimeout, "failure"},
		{"threw", reports(wire.CodeThrew), StatusFailed, "failure"},
		{"down", fails(down), StatusDown, ""},
		{"not started in time", fails(fmt.Errorf("starting: %w", errdefs.ErrUnavailable)), StatusDown, ""},
		{"broken", fails(errors.New("x")), StatusFailed, "failure"},
		{"wrong shape", returns(`[]`), StatusFailed, "failure"},
		{"wrong field", returns(`{"params":1,"content":1}`), StatusFailed, "failure"},
		{"other call", func(context.Context, wire.HookCall) (wire.HookResult, error) {
			return wire.HookResult{ID: "other"}, nil
		}, StatusFailed, "failure"},
		{"enormous", returns(`{"params":{"a":"` + strings.Repeat("x", MaxPayload) + `"}}`), StatusFailed, "failure"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var rec record
				m := plugins(t, toolCall, tt.do, returns(`{}`))
				res := emit(t, New(Config{Plugins: m, Record: rec.write}), toolCall, `{"params":{}}`)
				if res.Outcome != OutcomeBlock || !res.BlockedBy.Failed || res.BlockedBy.Key.ID != "p0" || res.BlockedBy.Reason == "" || statuses(res) != tt.status+" skipped" {
					t.Errorf("a gate gave %s by %+v: %s", res.Outcome, res.BlockedBy, statuses(res))
				}
				if want := strings.TrimSpace(tt.kinds + " block"); rec.kinds() != want {
					t.Errorf("recorded %q, want %q", rec.kinds(), want)
				}
				if canonical(res.Result) != canonical(json.RawMessage(`{"block":true,"blockReason":`+string(quote(res.BlockedBy.Reason))+`}`)) {
					t.Errorf("the result is %s", res.Result)
				}

				rec.entries = nil
				m.handlers[1].Rights = []plugin.HookRight{plugin.RightModify} // p0 guards nothing
				res = emit(t, New(Config{Plugins: m, Record: rec.write}), toolCall, `{"params":{}}`)
				if res.Outcome != OutcomePass || statuses(res) != tt.status+" ok" || rec.kinds() != tt.kinds {
					t.Errorf("one that may not block gave %s: %s, recorded %q", res.Outcome, statuses(res), rec.kinds())
				}
				if res.Handlers[0].Detail == "" || strings.ContainsRune(res.Handlers[0].Detail, 0x1b) {
					t.Errorf("the detail is %q", res.Handlers[0].Detail)
				}

				m = plugins(t, "message_sending", tt.do, returns(`{}`))
				if res := emit(t, New(Config{Plugins: m}), "message_sending", `{}`); res.Outcome != OutcomePass {
					t.Errorf("an event that fails open gave %s", res.Outcome)
				}
			})
		})
	}
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		do := hangs
		m := plugins(t, toolCall, func(ctx context.Context, c wire.HookCall) (wire.HookResult, error) { return do(ctx, c) })
		var rec record
		p := New(Config{Plugins: m, Record: rec.write})
		key := m.handlers[0].Key
		once := func() (string, time.Duration) {
			started := time.Now()
			res := emit(t, p, toolCall, `{}`)
			if res.Outcome == OutcomePass && statuses(res) != StatusOK {
				t.Errorf("Emit() passed with %s", statuses(res))
			}
			return statuses(res), time.Since(started)
		}
		for range MaxLate - 1 {
			once()
		}
		do = returns(`{}`)
		once() // in time: it counts from the start again
		do = fails(fmt.Errorf("x: %w", errdefs.ErrUnavailable))
		once() // down counts for nothing
		do = hangs
		for range MaxLate {
			if p.CutOff(key, 0) {
				t.Fatal("cut off too early")
			}
			once()
		}
		do = returns(`{}`)
		if status, took := once(); status != StatusCutOff || took != 0 || !p.CutOff(key, 0) {
			t.Errorf("after %d late answers: %s after %s, want cut_off at once", MaxLate, status, took)
		}
		if n := strings.Count(rec.kinds(), EntryCutOff); n != 1 {
			t.Errorf("cut off was recorded %d times", n)
		}
		time.Sleep(24 * time.Hour)
		if status, _ := once(); status != StatusCutOff {
			t.Errorf("a day later: %s, want it to wait for a person", status)
		}
		p.Reset(plugin.Key{Tenant: "other", ID: key.ID})
		if !p.CutOff(key, 0) {
			t.Error("another tenant's reset counted")
		}
		p.Reset(key)
		if status, _ := once(); status != StatusOK {
			t.Errorf("after a reset: %s", status)
		}
	})
}

func TestShortTimeIsNotHeldAgainstTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := plugins(t, toolCall, hangs)
		p := New(Config{Plugins: m})
		for range MaxLate + 1 {
			res, err := p.Emit(t.Context(), Request{Tenant: "default", Event: toolCall, Timeout: time.Second})
			if err != nil || statuses(res) != StatusTimeout || res.Outcome != OutcomeBlock {
				t.Errorf("Emit() with a short time = %+v, %v", res, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := p.Emit(ctx, Request{Tenant: "default", Event: toolCall}); !errdefs.IsDeadlineExceeded(err) {
				t.Errorf("Emit() in a short context: %v", err)
			}
			cancel()
		}
		if p.CutOff(m.handlers[0].Key, 0) {
			t.Error("the handler was cut off though it never had its time")
		}
	})
}

func TestEmitCancelled(t *testing.T) {
	for _, name := range []string{toolCall, "message_received", evaluate} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			p := New(Config{Plugins: plugins(t, name, hangs, returns(`{}`))})
			_, err := p.Emit(ctx, Request{Tenant: "default", Event: name})
			if !errdefs.IsCanceled(err) {
				t.Errorf("Emit(%s) after the caller left: %v", name, err)
			}
		})
	}
}

func TestEmitPassesOver(t *testing.T) {
	do := returns(`{"block":true}`)
	m := plugins(t, toolCall, do, do, do, do, returns(`{}`))
	slices.Reverse(m.handlers)
	m.handlers[0].Rights = nil
	m.handlers[1].Tools = []string{"exec"}
	m.handlers[2].Lacks = "it needs more"
	p := New(Config{Plugins: m})
	res, err := p.Emit(t.Context(), Request{Tenant: "default", Event: toolCall, Payload: json.RawMessage(`{"toolName":"read"}`),
		Skip: func(h Handler) bool { return h.Key.ID == "p3" }})
	if err != nil || statuses(res) != "not_granted skipped skipped skipped ok" || len(m.calls) != 1 {
		t.Errorf("Emit() = %s, %v after %d calls", statuses(res), err, len(m.calls))
	}
	if res := emit(t, p, toolCall, `{"toolName":"Exec"}`); res.BlockedBy == nil || res.BlockedBy.Key.ID != "p1" {
		t.Errorf("the handler of exec was not asked about exec: %+v", res.BlockedBy)
	}
}

func TestEmitBadRequest(t *testing.T) {
	p := New(Config{Plugins: plugins(t, toolCall, returns(`{}`))})
	tests := []struct {
		event, payload string
		is             func(error) bool
	}{
		{"before_tool", `{}`, errdefs.IsNotFound},
		{toolCall, `[]`, errdefs.IsInvalidArgument},
		{toolCall, `{`, errdefs.IsInvalidArgument},
		{toolCall, `{"a":"` + strings.Repeat("x", MaxPayload) + `"}`, errdefs.IsInvalidArgument},
	}
	for _, tt := range tests {
		_, err := p.Emit(t.Context(), Request{Tenant: "default", Event: tt.event, Payload: json.RawMessage(tt.payload)})
		if !tt.is(err) {
			t.Errorf("Emit(%s, %.20s) = %v", tt.event, tt.payload, err)
		}
	}
}

func TestRecordFails(t *testing.T) {
	tests := []struct {
		event, result, kind string
		want                string
		failed              bool
	}{
		{toolCall, `{"params":{"a":1}}`, EntryChange, OutcomeBlock, true},
		{"before_prompt_build", `{"prependContext":"a"}`, EntryChange, OutcomeBlock, true},
		{"before_dispatch", `{"handled":true}`, EntryClaim, OutcomeBlock, true},
		{"message_sending", `[]`, EntryFailure, OutcomeBlock, true},
		{toolCall, `{"block":true,"blockReason":"r"}`, EntryBlock, OutcomeBlock, false},
		{"message_received", `{}`, EntryFailure, OutcomePass, false},
		{evaluate, `[]`, EntryFailure, OutcomePass, false},
	}
	for _, tt := range tests {
		rec := record{fail: tt.kind}
		res := emit(t, New(Config{Plugins: plugins(t, tt.event, returns(tt.result)), Record: rec.write}), tt.event, `{}`)
		if res.Outcome != tt.want || (res.BlockedBy != nil && res.BlockedBy.Failed != tt.failed) || res.ClaimedBy != nil {
			t.Errorf("Emit(%s) without a record of a %s = %s by %+v, want %s", tt.event, tt.kind, res.Outcome, res.BlockedBy, tt.want)
		}
	}
}

func TestInvoke(t *testing.T) {
	m := plugins(t, toolCall, returns(`{"block":true}`), returns(`{"params":{"a":2}}`))
	p := New(Config{Plugins: m})
	key := plugin.Key{Tenant: "default", ID: "p1"}
	res, err := p.Invoke(t.Context(), key, 1, Request{Event: toolCall, Payload: json.RawMessage(`{"params":{"a":1}}`)})
	if err != nil || res.Outcome != OutcomePass || string(res.Payload) != `{"params":{"a":2}}` || statuses(res) != StatusOK || len(m.calls) != 1 {
		t.Errorf("Invoke() = %+v, %v", res, err)
	}
	if _, err := p.Invoke(t.Context(), key, 7, Request{Event: toolCall}); !errdefs.IsNotFound(err) {
		t.Errorf("Invoke() of no handler: %v", err)
	}
}

func TestPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := plugins(t, "message_received", func(ctx context.Context, c wire.HookCall) (wire.HookResult, error) {
			<-release
			return returns(`{}`)(ctx, c)
		})
		p := New(Config{Plugins: m})
		const more = 10
		for range MaxPosting + MaxPosted + more {
			p.Post(Request{Tenant: "default", Event: "message_received"})
		}
		synctest.Wait()
		if len(m.calls) != MaxPosting || p.Dropped() != more {
			t.Errorf("%d run at once and %d were dropped, want %d and %d", len(m.calls), p.Dropped(), MaxPosting, more)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain() while they run: %v", err)
		}
		close(release)
		if err := p.Drain(t.Context()); err != nil {
			t.Errorf("Drain(): %v", err)
		}
		if len(m.calls) != MaxPosting+MaxPosted {
			t.Errorf("%d were delivered, want %d", len(m.calls), MaxPosting+MaxPosted)
		}
		p.Post(Request{Tenant: "default", Event: "message_received"})
		if p.Dropped() != more+1 {
			t.Error("an event was taken after Drain")
		}
	})
}
