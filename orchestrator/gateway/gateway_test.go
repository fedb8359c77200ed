package gateway

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
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// memPeer is a plugin in this process, which answers as its function says.
type memPeer struct {
	answer func(ctx context.Context, call wire.ToolCall, progress func(wire.Progress)) (wire.ToolResult, error)
	gone   chan struct{}

	mu        sync.Mutex
	calls     []wire.ToolCall
	cancelled []string
}

func (p *memPeer) CallTool(ctx context.Context, call wire.ToolCall, progress func(wire.Progress)) (wire.ToolResult, error) {
	p.mu.Lock()
	p.calls = append(p.calls, call)
	p.mu.Unlock()
	type outcome struct {
		result wire.ToolResult
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := p.answer(ctx, call, progress)
		done <- outcome{result, err}
	}()
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		return wire.ToolResult{}, ctx.Err()
	case <-p.gone:
		return wire.ToolResult{}, fmt.Errorf("the connection ended: %w", errdefs.ErrUnavailable)
	}
}

func (p *memPeer) Cancel(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancelled = append(p.cancelled, id)
}

func (p *memPeer) Gone() <-chan struct{} { return p.gone }

func (p *memPeer) sawCancel(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.calls) != 1 || !slices.Equal(p.cancelled, []string{p.calls[0].ID}) {
		t.Errorf("calls %v, cancelled %v: want the one call cancelled", p.calls, p.cancelled)
	}
}

// memPlugins holds one plugin.
type memPlugins struct {
	peer     Peer
	tools    map[string]string // name -> schema
	readyErr error
}

var testKey = plugin.Key{Tenant: "default", ID: "demo"}

func (m *memPlugins) Surface(key plugin.Key) (plugin.Installed, error) {
	if key != testKey {
		return plugin.Installed{}, fmt.Errorf("no row for %s: %w", key, errdefs.ErrNotFound)
	}
	var regs []plugin.Registration
	for name, schema := range m.tools {
		spec, err := json.Marshal(wire.ToolSpec{Parameters: json.RawMessage(schema)})
		if err != nil {
			return plugin.Installed{}, err
		}
		regs = append(regs, plugin.Registration{Kind: plugin.KindTool, Name: name, Spec: spec})
	}
	return plugin.Installed{Key: key, Surface: plugin.Surface{Registrations: regs}}, nil
}

func (m *memPlugins) Ready(ctx context.Context, _ plugin.Key) (Peer, error) {
	if m.readyErr != nil {
		return nil, m.readyErr
	}
	if m.peer == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return m.peer, nil
}

const querySchema = `{"type":"object","properties":{"query":{"type":"string","minLength":1},"limit":{"type":"integer","minimum":1}},"required":["query"],"additionalProperties":false}`

func ok(result string) func(context.Context, wire.ToolCall, func(wire.Progress)) (wire.ToolResult, error) {
	return func(_ context.Context, call wire.ToolCall, _ func(wire.Progress)) (wire.ToolResult, error) {
		return wire.ToolResult{ID: call.ID, Result: json.RawMessage(result)}, nil
	}
}

func failed(e wire.Error) func(context.Context, wire.ToolCall, func(wire.Progress)) (wire.ToolResult, error) {
	return func(_ context.Context, call wire.ToolCall, _ func(wire.Progress)) (wire.ToolResult, error) {
		return wire.ToolResult{ID: call.ID, Error: &e}, nil
	}
}

func hang(ctx context.Context, _ wire.ToolCall, _ func(wire.Progress)) (wire.ToolResult, error) {
	<-ctx.Done()
	return wire.ToolResult{}, ctx.Err()
}

func newPeer(answer func(context.Context, wire.ToolCall, func(wire.Progress)) (wire.ToolResult, error)) *memPeer {
	return &memPeer{answer: answer, gone: make(chan struct{})}
}

func newGateway(peer Peer) *Gateway {
	return New(Config{Plugins: &memPlugins{peer: peer, tools: map[string]string{"search": querySchema}}})
}

func search(params string) Request {
	return Request{Key: testKey, Tool: "search", Params: json.RawMessage(params)}
}

// wantFault checks class and code of err and returns it.
func wantFault(t *testing.T, err, class error, code string) *fault.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	f := fault.Of(err)
	if f.Code != code || !errors.Is(f.Class(), class) {
		t.Fatalf("got %s (%v): %v, want %s (%v)", f.Code, f.Class(), err, code, class)
	}
	return f
}

func TestCall(t *testing.T) {
	peer := newPeer(ok(`{"hits":1}`))
	req := search(`{"query":"x"}`)
	req.Context.AgentID = "main"
	got, err := newGateway(peer).Call(t.Context(), req)
	if err != nil || string(got) != `{"hits":1}` {
		t.Fatalf("got %s, %v", got, err)
	}
	call := peer.calls[0]
	want := wire.ToolCall{Type: "tool.call", ID: call.ID, Tool: "search", Params: json.RawMessage(`{"query":"x"}`),
		Context: wire.Context{AgentID: "main", ToolCallID: call.ID}, TimeoutMillis: call.TimeoutMillis}
	if diff := cmp.Diff(want, call); diff != "" {
		t.Error(diff)
	}
	if left := time.Duration(call.TimeoutMillis) * time.Millisecond; left <= 20*time.Second || left > DefaultTimeout+runnerGrace {
		t.Errorf("%s left for the tool, want about %s", left, DefaultTimeout)
	}
}

func TestCallNames(t *testing.T) {
	g := newGateway(newPeer(ok(`1`)))
	for _, tc := range []struct {
		name, id, tool string
		class          error
		code, hint     string
	}{
		{"unknown plugin", "nope", "search", errdefs.ErrNotFound, CodePluginNotFound, "ocmt plugins list"},
		{"unknown tool", "demo", "serach", errdefs.ErrNotFound, CodeToolNotFound, "did you mean search?"},
		{"nothing near", "demo", "frobnicate", errdefs.ErrNotFound, CodeToolNotFound, "ocmt plugins info demo"},
		{"slash", "demo", "../x", errdefs.ErrInvalidArgument, "invalid_argument", ""},
		{"space", "demo", "a b", errdefs.ErrInvalidArgument, "invalid_argument", ""},
		{"empty", "demo", "", errdefs.ErrInvalidArgument, "invalid_argument", ""},
		{"long", "demo", strings.Repeat("a", 300), errdefs.ErrInvalidArgument, "invalid_argument", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := g.Call(t.Context(), Request{Key: plugin.Key{Tenant: "default", ID: tc.id}, Tool: tc.tool})
			if f := wantFault(t, err, tc.class, tc.code); !strings.Contains(f.Hint, tc.hint) {
				t.Errorf("hint %q, want %q", f.Hint, tc.hint)
			}
		})
	}
}

func TestCallPluginFailures(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(context.Context, wire.ToolCall, func(wire.Progress)) (wire.ToolResult, error)
		class  error
		code   string
		says   string
	}{
		{"threw", failed(wire.Error{Code: wire.CodeThrew, Name: "TypeError", Message: "x is no function"}),
			fault.ErrPlugin, CodePluginThrew, "TypeError: x is no function"},
		{"unserialised", failed(wire.Error{Code: wire.CodeUnserialised, Message: "cycle"}), fault.ErrPlugin, CodeBadResult, "cycle"},
		{"unknown to the runner", failed(wire.Error{Code: wire.CodeUnknownTool}), errdefs.ErrNotFound, CodeToolNotFound, "search"},
		{"neither", ok(""), fault.ErrPlugin, CodeBadResult, "neither"},
		{"no JSON", ok(`{"a":`), fault.ErrPlugin, CodeBadResult, "no JSON"},
		{"too large", ok(`"` + strings.Repeat("x", 100) + `"`), fault.ErrPlugin, CodeBadResult, "at most 100"},
		{"another call's answer", func(context.Context, wire.ToolCall, func(wire.Progress)) (wire.ToolResult, error) {
			return wire.ToolResult{ID: "other", Result: json.RawMessage(`1`)}, nil
		}, fault.ErrPlugin, CodeBadResult, "another call"},
		{"unreachable", func(context.Context, wire.ToolCall, func(wire.Progress)) (wire.ToolResult, error) {
			return wire.ToolResult{}, fmt.Errorf("no responders: %w", errdefs.ErrUnavailable)
		}, fault.ErrPlugin, CodePluginCrashed, "ended"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGateway(newPeer(tc.answer))
			g.cfg.MaxResult = 100
			_, err := g.Call(t.Context(), search(`{"query":"x"}`))
			if f := wantFault(t, err, tc.class, tc.code); !strings.Contains(f.Message, tc.says) {
				t.Errorf("message %q does not say %q", f.Message, tc.says)
			}
		})
	}
}

func TestCallBoundsWhatWasThrown(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	g := newGateway(newPeer(failed(wire.Error{Code: wire.CodeThrew, Name: long, Message: long, Stack: long})))
	_, err := g.Call(t.Context(), search(`{"query":"x"}`))
	f := wantFault(t, err, fault.ErrPlugin, CodePluginThrew)
	details, isThrown := f.Details.(Thrown)
	if !isThrown || len(details.Message) > maxThrown+3 || len(details.Stack) > maxThrown+3 || len(f.Message) > 2*maxThrown {
		t.Errorf("message has %d bytes, details %T", len(f.Message), f.Details)
	}
}

func TestCallPluginDies(t *testing.T) {
	peer := newPeer(hang)
	arrived := make(chan struct{})
	peer.answer = func(ctx context.Context, call wire.ToolCall, p func(wire.Progress)) (wire.ToolResult, error) {
		close(arrived)
		return hang(ctx, call, p)
	}
	go func() { <-arrived; close(peer.gone) }()
	_, err := newGateway(peer).Call(t.Context(), search(`{"query":"x"}`))
	if f := wantFault(t, err, fault.ErrPlugin, CodePluginCrashed); !f.Retryable {
		t.Error("not retryable")
	}
}

func TestCallTimesOut(t *testing.T) {
	for _, tc := range []struct {
		name          string
		timeout, want time.Duration
	}{{"default", 0, DefaultTimeout}, {"caller's", time.Second, time.Second}, {"longest", MaxTimeout, MaxTimeout}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				peer := newPeer(hang)
				req := search(`{"query":"x"}`)
				req.Timeout = tc.timeout
				started := time.Now()
				_, err := newGateway(peer).Call(t.Context(), req)
				wantFault(t, err, context.DeadlineExceeded, CodeTimeout)
				if took := time.Since(started); took != tc.want {
					t.Errorf("took %s, want %s", took, tc.want)
				}
				peer.sawCancel(t)
			})
		})
	}
}

func TestCallWaitsForReadyWithinItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := newGateway(nil).Call(t.Context(), search(`{"query":"x"}`))
		wantFault(t, err, context.DeadlineExceeded, CodeTimeout)
	})
}

func TestCallRefusesTimeouts(t *testing.T) {
	for _, timeout := range []time.Duration{-1, MaxTimeout + 1} {
		req := search(`{"query":"x"}`)
		req.Timeout = timeout
		_, err := newGateway(newPeer(ok(`1`))).Call(t.Context(), req)
		wantFault(t, err, errdefs.ErrInvalidArgument, CodeInvalidTimeout)
	}
}

func TestCallCancelled(t *testing.T) {
	peer := newPeer(nil)
	ctx, cancel := context.WithCancel(t.Context())
	stuck := make(chan struct{})
	defer close(stuck)
	peer.answer = func(context.Context, wire.ToolCall, func(wire.Progress)) (wire.ToolResult, error) {
		cancel()
		<-stuck // does not listen
		return wire.ToolResult{}, errors.New("late")
	}
	_, err := newGateway(peer).Call(ctx, search(`{"query":"x"}`))
	wantFault(t, err, context.Canceled, CodeCancelled)
	peer.sawCancel(t)
}

func TestCallPassesReadyErrors(t *testing.T) {
	down := fault.New(errdefs.ErrUnavailable, "plugin_crashlooped", "plugin demo is crashlooped")
	g := New(Config{Plugins: &memPlugins{readyErr: down, tools: map[string]string{"search": querySchema}}})
	if _, err := g.Call(t.Context(), search(`{"query":"x"}`)); !errors.Is(err, down) {
		t.Errorf("got %v, want %v", err, down)
	}
}

func TestCallLimitsCallsInFlight(t *testing.T) {
	peer := newPeer(nil)
	arrived, release := make(chan struct{}), make(chan struct{})
	peer.answer = func(ctx context.Context, call wire.ToolCall, p func(wire.Progress)) (wire.ToolResult, error) {
		arrived <- struct{}{}
		<-release
		return ok(`1`)(ctx, call, p)
	}
	g := newGateway(peer)
	var wg sync.WaitGroup
	for range DefaultMaxInFlight {
		wg.Go(func() {
			if _, err := g.Call(t.Context(), search(`{"query":"x"}`)); err != nil {
				t.Error(err)
			}
		})
	}
	for range DefaultMaxInFlight {
		<-arrived
	}
	_, err := g.Call(t.Context(), search(`{"query":"x"}`))
	if f := wantFault(t, err, errdefs.ErrResourceExhausted, CodeBusy); !f.Retryable {
		t.Error("not retryable")
	}
	close(release)
	wg.Wait()
	go func() { <-arrived }()
	if _, err := g.Call(t.Context(), search(`{"query":"x"}`)); err != nil {
		t.Errorf("a place was not given back: %v", err)
	}
	if len(g.inFlight) != 0 {
		t.Errorf("places left over: %v", g.inFlight)
	}
}

func TestCallProgress(t *testing.T) {
	var late func(wire.Progress)
	peer := newPeer(func(ctx context.Context, call wire.ToolCall, progress func(wire.Progress)) (wire.ToolResult, error) {
		progress(wire.Progress{ID: call.ID, Update: json.RawMessage(`1`)})
		progress(wire.Progress{ID: "other", Update: json.RawMessage(`2`)})
		late = progress
		return ok(`"done"`)(ctx, call, nil)
	})
	var got []string
	req := search(`{"query":"x"}`)
	req.Progress = func(u json.RawMessage) { got = append(got, string(u)) }
	if _, err := newGateway(peer).Call(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	late(wire.Progress{ID: peer.calls[0].ID, Update: json.RawMessage(`3`)})
	if !slices.Equal(got, []string{"1"}) {
		t.Errorf("got %v, want the one update of this call before its end", got)
	}
}

func TestNear(t *testing.T) {
	names := []string{"kitchen_sink_search", "kitchen_sink_job", "weather", "Fetch"}
	for _, tc := range []struct {
		typed string
		want  []string
	}{
		{"kitchen_sink_serch", []string{"kitchen_sink_search", "kitchen_sink_job"}},
		{"fetch", []string{"Fetch"}},
		{"search", []string{"kitchen_sink_search"}},
		{"zzzz", nil},
		{"", nil},
		{strings.Repeat("x", 10_000), nil},
	} {
		if got := Near(tc.typed, names); !slices.Equal(got, tc.want) {
			t.Errorf("Near(%.20q) = %v, want %v", tc.typed, got, tc.want)
		}
	}
}
