package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// generations serves one peer after the other: the next once one has ended.
type generations struct {
	memPlugins
	peers []*memPeer
}

func (g *generations) Ready(context.Context, plugin.Key) (Peer, error) {
	for _, p := range g.peers {
		if !isClosed(p.gone) {
			return p, nil
		}
	}
	return nil, fault.New(fault.ErrPlugin, "none", "no generation is left")
}

func notThere(context.Context, wire.ToolCall, func(wire.Progress)) (wire.ToolResult, error) {
	return wire.ToolResult{}, fmt.Errorf("bus: %w", ErrNotDelivered)
}

func TestCallGoesToTheNextGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dying := &memPeer{answer: notThere, gone: make(chan struct{})}
		next := &memPeer{answer: ok(`"from the next"`), gone: make(chan struct{})}
		g := New(Config{Plugins: &generations{memPlugins{tools: map[string]string{"t": `{}`}}, []*memPeer{dying, next}}})
		time.AfterFunc(time.Second, func() { close(dying.gone) })
		got, err := g.Call(t.Context(), Request{Key: testKey, Tool: "t"})
		if err != nil || string(got) != `"from the next"` {
			t.Errorf("Call() = %s, %v; want the next generation's answer", got, err)
		}
		if len(dying.calls) != 1 || len(next.calls) != 1 {
			t.Errorf("the generations got %d and %d calls, want one each", len(dying.calls), len(next.calls))
		}
	})
}

func TestCallIsNotRepeatedOnceDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dying := &memPeer{answer: hang, gone: make(chan struct{})}
		next := &memPeer{answer: ok(`1`), gone: make(chan struct{})}
		g := New(Config{Plugins: &generations{memPlugins{tools: map[string]string{"t": `{}`}}, []*memPeer{dying, next}}})
		time.AfterFunc(time.Second, func() { close(dying.gone) })
		_, err := g.Call(t.Context(), Request{Key: testKey, Tool: "t", Params: json.RawMessage(`{}`)})
		if f := fault.Of(err); f.Code != CodePluginCrashed || !f.Retryable {
			t.Errorf("Call() = %v, want a retryable %s", err, CodePluginCrashed)
		}
		if len(next.calls) != 0 {
			t.Error("a call that may have had an effect was sent again")
		}
	})
}

func TestCallNotDeliveredTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deaf := &memPeer{answer: notThere, gone: make(chan struct{})}
		g := New(Config{Plugins: &generations{memPlugins{tools: map[string]string{"t": `{}`}}, []*memPeer{deaf}}})
		_, err := g.Call(t.Context(), Request{Key: testKey, Tool: "t", Timeout: time.Second})
		if f := fault.Of(err); f.Code != CodeTimeout || len(deaf.calls) != 1 {
			t.Errorf("Call() = %v after %d tries, want %s after one", err, len(deaf.calls), CodeTimeout)
		}
	})
}
