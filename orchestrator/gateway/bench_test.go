package gateway

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
// the gateway alone.
type fixedPlugins struct {
	installed plugin.Installed
	peer      Peer
}

func (f *fixedPlugins) Surface(plugin.Key) (plugin.Installed, error)    { return f.installed, nil }
func (f *fixedPlugins) Ready(context.Context, plugin.Key) (Peer, error) { return f.peer, nil }

type echoPeer struct{}

func (echoPeer) CallTool(_ context.Context, call wire.ToolCall, _ func(wire.Progress)) (wire.ToolResult, error) {
	return wire.ToolResult{ID: call.ID, Result: call.Params}, nil
}
func (echoPeer) Cancel(string)         {}
func (echoPeer) Gone() <-chan struct{} { return nil }

func BenchmarkCall(b *testing.B) {
	spec := json.RawMessage(`{"parameters":` + querySchema + `}`)
	g := New(Config{MaxInFlight: 1 << 20, Plugins: &fixedPlugins{peer: echoPeer{}, installed: plugin.Installed{
		Key:     testKey,
		Surface: plugin.Surface{Registrations: []plugin.Registration{{Kind: plugin.KindTool, Name: "search", Spec: spec}}},
	}}})
	for _, bytes := range []int{256, 64 << 10} {
		req := search(`{"query":"` + strings.Repeat("x", bytes-12) + `"}`)
		b.Run(fmt.Sprintf("bytes=%d/callers=1", bytes), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Call(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("bytes=%d/callers=16", bytes), func(b *testing.B) {
			b.SetParallelism(8) // times GOMAXPROCS
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := g.Call(b.Context(), req); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
