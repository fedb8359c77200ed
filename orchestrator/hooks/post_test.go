package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// The slow plugins of one tenant hold up no events of another.
func TestPostKeepsTenantsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, got := make(chan struct{}), 0
		p := New(Config{Plugins: fakePlugins{
			handlers: func(tenant string) []Handler {
				h := Handler{Key: plugin.Key{Tenant: tenant, ID: "p"}, Timeout: plugin.MaxHookTimeout, Rights: []plugin.HookRight{plugin.RightObserve}}
				return []Handler{h}
			},
			call: func(_ context.Context, key plugin.Key, call wire.HookCall) (wire.HookResult, error) {
				if key.Tenant == "slow" {
					<-release
				} else {
					got++
				}
				return wire.HookResult{ID: call.ID}, nil
			},
		}})
		for range MaxPosting + MaxPosted + 1 {
			p.Post(Request{Tenant: "slow", Event: "message_received"})
		}
		p.Post(Request{Tenant: "other", Event: "message_received"})
		synctest.Wait()
		if got != 1 || p.Dropped() != 1 {
			t.Errorf("%d events of the other tenant are through and %d were dropped, want 1 and 1", got, p.Dropped())
		}
		close(release)
		if err := p.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if len(p.posts.tenants) != 0 {
			t.Errorf("%d queues are left of no events", len(p.posts.tenants))
		}
	})
}

// Events that wait take a bounded amount of memory, however large they are.
func TestPostIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := plugins(t, "message_received", func(ctx context.Context, c wire.HookCall) (wire.HookResult, error) {
			<-release
			return returns(`{}`)(ctx, c)
		})
		p := New(Config{Plugins: m})
		large := json.RawMessage(`{"a":"` + string(bytes.Repeat([]byte("x"), 1<<20)) + `"}`)
		for range MaxPosting {
			p.Post(Request{Tenant: "default", Event: "message_received"})
		}
		for range 40 {
			p.Post(Request{Tenant: "default", Event: "message_received", Payload: large})
		}
		taken := MaxPostedBytes / len(large)
		if want := uint64(40 - taken); p.Dropped() != want {
			t.Errorf("%d of 40 MiB were dropped, want %d", p.Dropped(), want)
		}
		close(release)
		if err := p.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if len(m.calls) != MaxPosting+taken {
			t.Errorf("%d were delivered, want %d", len(m.calls), MaxPosting+taken)
		}
	})
}

// fakePlugins are plugins that exist in every tenant.
type fakePlugins struct {
	handlers func(tenant string) []Handler
	call     func(ctx context.Context, key plugin.Key, call wire.HookCall) (wire.HookResult, error)
}

func (f fakePlugins) Handlers(tenant, _ string) []Handler { return f.handlers(tenant) }

func (f fakePlugins) CallHook(ctx context.Context, key plugin.Key, call wire.HookCall) (wire.HookResult, error) {
	return f.call(ctx, key, call)
}
