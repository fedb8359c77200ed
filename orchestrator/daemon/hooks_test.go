package daemon

import (
	"encoding/json"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
)

// An event that began with one generation does not reach another handler of
// the next one that has the same number there.
func TestEventOfAnotherGeneration(t *testing.T) {
	s := newStage(t)
	called := make(chan wire.HookCall, 10)
	key := s.install("demo", script{
		registers: []wire.Registration{hook("llm_output"), tool("echo"), hook(beforeToolCall)},
		hook:      func(call wire.HookCall) wire.HookResult { called <- call; return wire.HookResult{} },
	})
	call := wire.HookCall{ID: "1", Handler: 2, Event: beforeToolCall, Payload: json.RawMessage(`{}`), TimeoutMillis: 1000}
	if _, err := (hooked{s.Daemon}).CallHook(t.Context(), key, call); err != nil {
		t.Fatal(err)
	}
	<-called
	for _, number := range []int{0, 1, 3, -1} {
		call.Handler = number
		if _, err := (hooked{s.Daemon}).CallHook(t.Context(), key, call); !errdefs.IsUnavailable(err) {
			t.Errorf("handler %d: %v, want Unavailable", number, err)
		}
	}
	if len(called) > 0 {
		t.Errorf("the plugin got %+v", <-called)
	}
}
