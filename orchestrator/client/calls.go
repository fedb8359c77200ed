package client

import (
	"context"
	"encoding/json"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// Option changes a call.
type Option func(*options)

type options struct{ key *string }

// WithIdempotencyKey has the daemon answer the same request with the same key
// once: within ten minutes a repetition gets the first answer, and waits for it
// if it has to. A key has 1 to 255 printable ASCII characters.
func WithIdempotencyKey(key string) Option { return func(o *options) { o.key = &key } }

func apply(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// Tools lists the tools of tenant.
func (c *Client) Tools(ctx context.Context, tenant string) ([]v1.Tool, error) {
	return list(ctx, c, tenant,
		func(cursor *string) gen.Request[v1.ToolList] {
			return gen.ListAllTools(gen.ListAllToolsParams{Cursor: cursor})
		},
		func(cursor *string) gen.Request[v1.ToolList] {
			return gen.ListTools(tenant, gen.ListToolsParams{Cursor: cursor})
		},
		func(l v1.ToolList) ([]v1.Tool, string) { return l.Tools, l.Next })
}

// Call calls a tool.
func (c *Client) Call(ctx context.Context, tenant, ref, tool string, req v1.CallRequest, opts ...Option) (v1.CallResult, error) {
	return do(ctx, c, gen.CallTool(tenant, ref, tool, gen.CallToolParams{IdempotencyKey: apply(opts).key}, req))
}

// Watch is told what happens during a call. Its functions may be nil; they
// hold up the reading of what comes next, and are not called after the call
// has returned.
type Watch struct {
	Update func(json.RawMessage) // an interim result
	Ask    func(v1.Approval)     // the call waits for it; once more when it is resolved
}

// Stream calls a tool and tells watch of it meanwhile.
func (c *Client) Stream(ctx context.Context, tenant, ref, tool string, req v1.CallRequest, watch Watch, opts ...Option) (v1.CallResult, error) {
	request := gen.StreamTool(tenant, ref, tool, gen.StreamToolParams{IdempotencyKey: apply(opts).key}, req)
	return follow[v1.CallResult](ctx, c, request, watch.event)
}

func (w Watch) event(name string, data []byte) error {
	switch {
	case name == v1.EventUpdate && w.Update != nil:
		w.Update(json.RawMessage(data))
	case name == v1.EventAsk && w.Ask != nil:
		var a v1.Approval
		if err := decode(name, data, &a); err != nil {
			return err
		}
		w.Ask(a)
	}
	return nil
}

// Hooks lists the hooks of tenant in the order in which they run.
func (c *Client) Hooks(ctx context.Context, tenant string) ([]v1.Hook, error) {
	return list(ctx, c, tenant,
		func(cursor *string) gen.Request[v1.HookList] {
			return gen.ListAllHooks(gen.ListAllHooksParams{Cursor: cursor})
		},
		func(cursor *string) gen.Request[v1.HookList] {
			return gen.ListHooks(tenant, gen.ListHooksParams{Cursor: cursor})
		},
		func(l v1.HookList) ([]v1.Hook, string) { return l.Hooks, l.Next })
}

// Emit gives an event to the hooks of tenant. A block is no error: see the
// result's Outcome.
func (c *Client) Emit(ctx context.Context, tenant, event string, req v1.EmitRequest, opts ...Option) (v1.EmitResult, error) {
	return do(ctx, c, gen.EmitHook(tenant, event, gen.EmitHookParams{IdempotencyKey: apply(opts).key}, req))
}

// Invoke gives an event to one handler of one plugin, for a host with a
// pipeline of its own.
func (c *Client) Invoke(ctx context.Context, tenant, ref string, handler int, req v1.InvokeRequest, opts ...Option) (v1.EmitResult, error) {
	return do(ctx, c, gen.InvokeHandler(tenant, ref, int64(handler), gen.InvokeHandlerParams{IdempotencyKey: apply(opts).key}, req))
}

// Registrations returns all that tenant's plugins registered and were granted,
// in the order in which a host would register it.
func (c *Client) Registrations(ctx context.Context, tenant string) (v1.Snapshot, error) {
	return do(ctx, c, gen.ListRegistrations(tenant, gen.ListRegistrationsParams{}))
}
