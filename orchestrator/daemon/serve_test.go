package daemon

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/hooks"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// serve serves the API until stop is called, which returns what Serve does.
func (s *stage) serve(t *testing.T) (c *client.Client, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	c = client.New(s.home.AdminSocket())
	t.Cleanup(c.Close)
	s.eventually("it serves", func() bool { _, err := c.Version(t.Context()); return err == nil })
	return c, func() error { cancel(); return <-served }
}

// The daemon stops soon, whoever waits for it: readers of streams, attached
// hosts, a call that waits for a person, one that waits for its plugin.
func TestShutdownWaitsForNobody(t *testing.T) {
	s := newStage(t)
	hung := make(chan struct{})
	s.install("gate", script{
		registers: []wire.Registration{hook(beforeToolCall), tool("hang")},
		hook: func(call wire.HookCall) wire.HookResult {
			if decoded[toolEvent](call.Payload).ToolName == "hang" {
				return wire.HookResult{}
			}
			return wire.HookResult{Result: json.RawMessage(`{"requireApproval":{"title":"May it?","timeoutMs":600000}}`)}
		},
		tool: func(call wire.ToolCall) wire.ToolResult {
			close(hung)
			select {}
		},
	})
	s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	c, stop := s.serve(t)
	host, err := c.Attach(t.Context(), plugin.DefaultTenant, "test", []string{v1.HostEmit}, func(context.Context, v1.HostMessage) (json.RawMessage, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 10)
	watching, leave := context.WithCancel(t.Context()) // it comes back to a daemon that is gone
	go func() {
		ended <- c.Events(watching, v1.EventQuery{Follow: true}, func(v1.Event) error { return nil })
	}()
	go func() {
		ended <- c.LogLines(t.Context(), plugin.DefaultTenant, "demo", v1.LogQuery{Follow: true}, func(v1.LogLine) error { return nil })
	}()
	calls := make(chan error, 2)
	for plug, name := range map[string]string{"demo": "echo", "gate": "hang"} {
		go func() {
			_, err := c.Call(t.Context(), plugin.DefaultTenant, plug, name, v1.CallRequest{TimeoutMillis: 600_000})
			calls <- err
		}()
	}
	<-hung
	s.eventually("a person is asked", func() bool { return len(s.approvals.List("")) == 1 })
	started := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	for range 2 {
		if err := next(t, calls); !errdefs.IsUnavailable(err) {
			t.Errorf("a call ended with %v, want Unavailable", err)
		}
	}
	leave()
	for range 2 {
		next(t, ended)
	}
	if err := host.Wait(); err == nil {
		t.Error("the host is attached still")
	}
	started = time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("ending the plugins took %s", took)
	}
}

// Events that nobody waits for are through before the plugins end.
func TestPostedEventsAreThroughAtTheEnd(t *testing.T) {
	s := newStage(t)
	got := make(chan string, 100)
	s.install("demo", script{
		registers: []wire.Registration{hook(afterToolCall)},
		hook: func(call wire.HookCall) wire.HookResult {
			time.Sleep(20 * time.Millisecond)
			got <- string(call.Payload)
			return wire.HookResult{}
		},
	})
	for range 40 { // more than are given at a time
		s.hooks.Post(hooks.Request{Tenant: plugin.DefaultTenant, Event: afterToolCall, Payload: json.RawMessage(`{}`)})
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if len(got) != 40 {
		t.Errorf("%d of 40 events arrived", len(got))
	}
	if failed := s.outcomes("hook.failure"); slices.Contains(failed, outcomeFailed) {
		t.Errorf("failures %v", failed)
	}
}
