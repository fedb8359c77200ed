package hooks

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// fixedPlugins answers without making anything, so that a benchmark measures
// the pipeline alone.
type fixedPlugins struct {
	handlers []Handler
	result   json.RawMessage
}

func (f *fixedPlugins) Handlers(string, string) []Handler { return f.handlers }

func (f *fixedPlugins) CallHook(_ context.Context, _ plugin.Key, call wire.HookCall) (wire.HookResult, error) {
	return wire.HookResult{ID: call.ID, Result: f.result}, nil
}

func BenchmarkEmit(b *testing.B) {
	for _, does := range []string{"nothing", "change"} {
		for _, bytes := range []int{256, 64 << 10} {
			for _, n := range []int{1, 10} {
				b.Run(fmt.Sprintf("does=%s/bytes=%d/handlers=%d", does, bytes, n), func(b *testing.B) {
					m := &fixedPlugins{}
					if does == "change" {
						m.result = json.RawMessage(`{"params":{"query":"y","limit":3}}`)
					}
					for i := range n {
						m.handlers = append(m.handlers, handler(event(b, toolCall), i))
					}
					p := New(Config{Plugins: m})
					req := Request{Tenant: "default", Event: toolCall, Payload: json.RawMessage(
						`{"toolName":"search","params":{"query":"x","limit":3,"text":"` + strings.Repeat("x", bytes) + `"}}`)}
					b.ReportAllocs()
					for b.Loop() {
						if _, err := p.Emit(b.Context(), req); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
