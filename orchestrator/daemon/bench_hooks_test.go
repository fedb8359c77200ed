package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ocmt/ocmt/bus/wire"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// hookSource is a plugin whose one hook changes every event, which is the
// dearest thing that a handler can do.
const hookSource = `exports.hooks = [{ event: "bench:through:before", handler: (payload) => { payload.n = (payload.n ?? 0) + 1; } }];`

// BenchmarkHook gives an event to the handlers of 1 and of 10 plugins, one
// after the other, each of which changes it; and to compare, sends the same to
// the same runners, over the bus and without anything around it.
func BenchmarkHook(b *testing.B) {
	d := openBench(b)
	req := v1.EmitRequest{Payload: payload}
	installed := 0
	for _, handlers := range []int{1, 10} {
		for ; installed < handlers; installed++ {
			installSource(b, d, fmt.Sprintf("hook-%d", installed), hookSource)
		}
		b.Run(fmt.Sprintf("path=bare/handlers=%d", handlers), func(b *testing.B) {
			parallel(b, 1, func(ctx context.Context) error { return bareHooks(ctx, d, handlers) })
		})
		b.Run(fmt.Sprintf("path=pipeline/handlers=%d", handlers), func(b *testing.B) {
			parallel(b, 1, func(ctx context.Context) error {
				result, err := hookAPI{d}.Emit(ctx, plugin.DefaultTenant, "bench:through:before", req, httpapi.CallWatch{})
				if err == nil && (result.Outcome != v1.OutcomePass || len(result.Changes) != handlers) {
					return fmt.Errorf("outcome %s with %d changes", result.Outcome, len(result.Changes))
				}
				return err
			})
		})
	}
}

// bareHooks calls the hook of so many plugins, one after the other.
func bareHooks(ctx context.Context, d *Daemon, plugins int) error {
	for i := range plugins {
		u := d.running(plugin.Key{Tenant: plugin.DefaultTenant, ID: fmt.Sprintf("hook-%d", i)})
		_, err := u.Instance.CallHook(ctx, wire.HookCall{
			ID: "bare", Handler: 0, Event: "bench:through:before", Payload: payload, TimeoutMillis: 10_000,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkRecord is what of a tool call is its audit record: to be read
// against BenchmarkToolCall/path=gateway of the same run.
func BenchmarkRecord(b *testing.B) {
	log, err := audit.Open(b.Context(), audit.Options{Dir: filepath.Join(b.TempDir(), "audit"), KeyDir: filepath.Join(b.TempDir(), "keys")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := log.Close(); err != nil {
			b.Error(err)
		}
	})
	d := &Daemon{audit: log}
	call := toolCall{
		d: d, plugin: plugin.Installed{Key: plugin.Key{Tenant: plugin.DefaultTenant, ID: benchPlugin}},
		tool: "cjs_add", req: v1.CallRequest{Params: payload}, context: callContext(v1.CallContext{}),
	}
	b.Run("callers=1", func(b *testing.B) {
		parallel(b, 1, func(ctx context.Context) error { return call.record(ctx, nil) })
	})
}
