// Command turn drives an agent's turn as a host does: turn SOCKET TENANT
// PLUGIN. The plugin has the tools "slow" (in steps), "echo" and "emit", as the
// conformance plugins have. What plugins say is printed as JSON: it may hold
// anything.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: turn SOCKET TENANT PLUGIN")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c := client.New(os.Args[1])
	defer c.Close()
	t := turn{
		client: c, tenant: os.Args[2], plugin: os.Args[3], out: os.Stdout,
		context: v1.CallContext{AgentID: "main", SessionKey: "agent:main:main", RunID: rand.Text()},
		emitted: make(chan struct{}, 1),
	}
	if err := t.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "turn:", err)
		os.Exit(1)
	}
}

// turn is what an agent does about one message.
type turn struct {
	client         *client.Client
	tenant, plugin string
	context        v1.CallContext
	out            io.Writer
	emitted        chan struct{} // told when a plugin has called the host
}

func (t *turn) run(ctx context.Context) error {
	attached, detach := context.WithCancel(ctx)
	defer detach()
	host, err := t.client.Attach(attached, t.tenant, "turn", []string{v1.HostEmit}, t.answer)
	if err != nil {
		return err
	}
	steps := []func(context.Context) error{
		// The message goes through the hooks before the agent sees it.
		func(ctx context.Context) error {
			return t.emit(ctx, "agent:message:before", map[string]string{"text": "hello"})
		},
		// The agent calls tools. This one tells how far it is.
		func(ctx context.Context) error { return t.call(ctx, "slow", map[string]any{"ms": 200}) },
		// A person stops this one: hanging up cancels it, in the plugin too.
		t.cancel,
		// A hook may want to have this one approved.
		func(ctx context.Context) error { return t.call(ctx, "echo", map[string]any{"text": "ask-me hello"}) },
		// And this one calls the host.
		func(ctx context.Context) error {
			return t.call(ctx, "emit", map[string]any{"event": "turn", "payload": map[string]any{"done": true}})
		},
		t.awaitEmit,
		// The answer goes through the hooks before it is sent.
		func(ctx context.Context) error {
			return t.emit(ctx, "message_sending", map[string]string{"to": "someone", "content": "bye"})
		},
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	detach()
	return host.Wait()
}

// answer answers what plugins call.
func (t *turn) answer(_ context.Context, m v1.HostMessage) (json.RawMessage, error) {
	var params struct{ Payload json.RawMessage }
	if err := json.Unmarshal(m.Params, &params); err != nil {
		return nil, err
	}
	t.print(m.Plugin+" emits", params.Payload)
	select {
	case t.emitted <- struct{}{}:
	default: // it was told before
	}
	return nil, nil
}

func (t *turn) awaitEmit(ctx context.Context) error {
	select {
	case <-t.emitted:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turn) emit(ctx context.Context, event string, payload map[string]string) error {
	text, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	result, err := t.client.Emit(ctx, t.tenant, event, v1.EmitRequest{Payload: text, Context: t.context})
	if err != nil {
		return err
	}
	t.print(event+" "+result.Outcome, result.Payload)
	return nil
}

func (t *turn) call(ctx context.Context, tool string, params map[string]any) error {
	text, err := json.Marshal(params)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	result, err := t.client.Stream(ctx, t.tenant, t.plugin, tool, v1.CallRequest{Params: text, Context: t.context}, client.Watch{
		Update: func(update json.RawMessage) { t.print(tool+" update", update) },
		Ask: func(a v1.Approval) {
			if a.Decision != "" {
				return // it is resolved
			}
			a, err := t.client.Resolve(ctx, t.tenant, a.ID, v1.AllowOnce)
			if err != nil {
				cancel(err)
				return
			}
			t.print(tool+" asks "+a.Title, json.RawMessage(`"`+a.Decision+`"`))
		},
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	t.print(tool+" done", result.Result)
	return nil
}

func (t *turn) cancel(ctx context.Context) error {
	stopped, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	err := t.call(stopped, "slow", map[string]any{"ms": 60_000})
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the call was not cancelled: %w", err)
	}
	t.print("slow cancelled", json.RawMessage("null"))
	return nil
}

func (t *turn) print(what string, value json.RawMessage) {
	fmt.Fprintf(t.out, "%s %s\n", what, value)
}
