package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// Whatever is granted, revoked, edited, restarted and called at once, in the
// end what runs is what counts, and nothing hangs.
func TestEverythingAtOnce(t *testing.T) {
	t.Setenv(colour, "red")
	s := newStage(t)
	sc := script{registers: []wire.Registration{tool("echo"), hook(beforeToolCall), hook("llm_output")}}
	key := s.install("demo", sc)
	other := s.install("other", sc)
	ctx, cancel := context.WithTimeout(operator(t.Context()), time.Minute)
	defer cancel()
	go s.authority.Run(ctx)
	grants := []v1.GrantRequest{
		{Kind: "env", Target: colour}, {Kind: "env", Target: colour, ForSeconds: 1}, {Kind: "network", Target: "api.example.com:443"},
		{Kind: "config", Target: "agents"}, {Kind: "hook", Target: "llm_output"}, {Kind: "resource", Target: "pids", Value: "32"},
	}
	permissions, plugins := permissionAPI{s.Daemon}, pluginAPI{s.Daemon}
	path := config.PathFor(s.home.Dir(), plugin.DefaultTenant)
	const edited = `{"agents": {"n": 0}, "plugins": {"entries": {"demo": {"config": {"n": 0}}, "other": {}}}}`
	if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	numbers := regexp.MustCompile(`"n": \d+`)
	acts := []func(i int){
		func(i int) { _, _ = permissions.Grant(ctx, key.Tenant, key.ID, grants[i%len(grants)]) },
		func(i int) {
			g := grants[i%len(grants)]
			_, _ = permissions.Revoke(ctx, key.Tenant, key.ID, v1.RevokeRequest{Kind: g.Kind, Target: g.Target})
		},
		func(i int) { _, _ = plugins.Restart(ctx, key.Tenant, key.ID) },
		func(i int) {
			_, _ = plugins.Disable(ctx, key.Tenant, key.ID)
			_, _ = plugins.Enable(ctx, key.Tenant, key.ID)
		},
		func(i int) {
			s.configuring.Lock() // or a plugin would be switched by accident
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, numbers.ReplaceAll(text, fmt.Appendf(nil, `"n": %d`, i)), 0o600)
			}
			s.configuring.Unlock()
			if err != nil {
				t.Error(err)
			}
			s.applyConfig(ctx, plugin.DefaultTenant)
		},
		func(i int) {
			_, _ = toolAPI{s.Daemon}.Call(ctx, other.Tenant, other.ID, "echo", v1.CallRequest{Params: json.RawMessage(`{}`)}, httpapi.CallWatch{})
		},
		func(i int) {
			_, _ = hookAPI{s.Daemon}.Emit(ctx, key.Tenant, "llm_output", v1.EmitRequest{}, httpapi.CallWatch{})
			_ = s.permissionRequests("")
		},
	}
	var running sync.WaitGroup
	for n, act := range acts {
		running.Go(func() {
			for i := range 12 {
				act(i + n)
				time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
			}
		})
	}
	running.Wait()
	if ctx.Err() != nil {
		t.Fatal("it hung")
	}
	s.applyConfig(ctx, plugin.DefaultTenant)
	if _, err := plugins.Enable(ctx, key.Tenant, key.ID); err != nil {
		t.Fatal(err)
	}
	s.eventually("what runs is what counts", func() bool {
		u := s.running(key)
		return u != nil && !s.stale(key) && !policy.RestartNeeded(u.made.allowed, s.authority.Effective(key))
	})
	onDisk, err := s.store.Grants(t.Context(), key)
	if inMemory := s.authority.Grants(key); err != nil || len(onDisk) != len(inMemory) {
		t.Errorf("on disk %v, in memory %v, %v", onDisk, inMemory, err)
	}
	if err := plugins.Uninstall(ctx, key.Tenant, key.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.generations.recipe(key); ok || s.newest(key) != nil || s.running(key) != nil || len(s.authority.Grants(key)) > 0 {
		t.Error("something is left of a plugin that was uninstalled")
	}
	for _, h := range s.handlers.all("") {
		if h.Key == key {
			t.Errorf("handler %+v is left", h)
		}
	}
}
