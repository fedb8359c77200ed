package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/approval"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/gateway"
	"github.com/ocmt/ocmt/orchestrator/hooks"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// The events around a tool call.
const (
	beforeToolCall = "before_tool_call"
	afterToolCall  = "after_tool_call"
)

// maxHooksTime bounds all hooks before a call, each of which has a time of its
// own: with the longest that a person may take.
const maxHooksTime = defaultEmitTimeout + hooks.MaxApprovalTimeout

// toolAPI implements httpapi.Tools.
type toolAPI struct{ d *Daemon }

func (b toolAPI) Tools(_ context.Context, tenant string) ([]v1.Tool, error) {
	list := []v1.Tool{}
	for _, p := range b.d.catalog.list(tenant) {
		list = append(list, toolList(b.d.catalog.offered(p))...)
	}
	first := b.d.firstWith(tenant)
	for i, t := range list {
		if by := first[tenantTool{t.Tenant, t.Name}]; by != t.Plugin {
			list[i].Shadowed = by
		}
	}
	return list, nil
}

type tenantTool struct{ tenant, tool string }

// firstWith returns of every name of a tool the plugin that was the first to
// be installed with it, of those that are on.
func (d *Daemon) firstWith(tenant string) map[tenantTool]string {
	first := map[tenantTool]string{}
	for _, p := range d.catalog.inOrder(tenant) {
		if !d.catalog.enabled(p.Key) {
			continue
		}
		for _, r := range d.catalog.offered(p).Surface.Registrations {
			if name := (tenantTool{p.Key.Tenant, r.Name}); r.Kind == plugin.KindTool && first[name] == "" {
				first[name] = p.Key.ID
			}
		}
	}
	return first
}

// Call carries a tool call out: it lets the hooks see it, asks a person where
// a hook wants that, calls the tool, and records all of it before anybody is
// answered.
func (b toolAPI) Call(ctx context.Context, tenant, ref, tool string, req v1.CallRequest, watch httpapi.CallWatch) (v1.CallResult, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.CallResult{}, err
	}
	if err := b.d.recordable(); err != nil {
		return v1.CallResult{}, err
	}
	c := toolCall{d: b.d, plugin: p, tool: tool, req: req, context: callContext(req.Context), watch: watch, started: time.Now()}
	result, err := c.run(ctx)
	if errdefs.IsCanceled(err) && isClosed(b.d.stopping) {
		err = fault.New(errdefs.ErrUnavailable, "shutting_down", "the daemon is stopping; the call of tool %q was given up", tool).
			WithHint("try again when it runs").WithRetry()
	}
	if rerr := c.record(ctx, err); rerr != nil {
		return v1.CallResult{}, rerr
	}
	return result, err
}

// toolCall is one call under way.
type toolCall struct {
	d       *Daemon
	plugin  plugin.Installed
	tool    string
	req     v1.CallRequest
	context wire.Context
	watch   httpapi.CallWatch
	started time.Time
}

func (c *toolCall) run(ctx context.Context) (v1.CallResult, error) {
	if err := c.d.catalog.mayCall(c.plugin.Key, c.tool); err != nil {
		return v1.CallResult{}, err
	}
	timeout := time.Duration(c.req.TimeoutMillis) * time.Millisecond
	if timeout > 0 { // the caller's bound is for all of it; without one, hooks, persons and the tool have their own
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	params, changes, err := c.before(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fault.New(context.DeadlineExceeded, gateway.CodeTimeout, "the hooks before the tool %q took longer than the call may take", c.tool).
			WithHint("give the call more time")
	}
	if err != nil {
		return v1.CallResult{}, err
	}
	result, err := c.d.gateway.Call(ctx, gateway.Request{
		Key: c.plugin.Key, Tool: c.tool, Params: params, Context: c.context,
		Timeout: timeout, Progress: c.watch.Update,
	})
	c.after(params, result, err)
	if err != nil {
		return v1.CallResult{}, err
	}
	return v1.CallResult{Result: result, Changes: changes}, nil
}

// toolEvent is the payload of the events around a tool call.
type toolEvent struct {
	ToolName   string          `json:"toolName"`
	Plugin     string          `json:"plugin"`
	Params     json.RawMessage `json:"params"`
	RunID      string          `json:"runId,omitempty"`
	ToolCallID string          `json:"toolCallId,omitempty"`
	Result     json.RawMessage `json:"result,omitempty"`
	Error      string          `json:"error,omitempty"`
	Millis     float64         `json:"durationMs,omitempty"`
}

func (c *toolCall) event(params json.RawMessage) toolEvent {
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	return toolEvent{
		ToolName: c.tool, Plugin: c.plugin.Key.ID, Params: params, RunID: c.context.RunID, ToolCallID: c.context.ToolCallID,
	}
}

// before gives the call to the hooks and returns the parameters as they are
// afterwards; the gateway checks them against the tool's schema, as it checks
// the caller's.
func (c *toolCall) before(ctx context.Context) (json.RawMessage, []v1.HookChange, error) {
	if c.req.SkipHooks || len(c.d.handlers.of(c.plugin.Key.Tenant, beforeToolCall)) == 0 {
		return c.req.Params, nil, nil
	}
	if err := c.d.gateway.Check(c.plugin.Key, c.tool, c.req.Params); err != nil {
		return nil, nil, err // no reason to bother the hooks, or a person
	}
	payload, err := json.Marshal(c.event(c.req.Params))
	if err != nil {
		return nil, nil, fault.New(errdefs.ErrInvalidArgument, gateway.CodeInvalidParams, "the parameters are no JSON: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, maxHooksTime)
	defer cancel()
	result, err := c.d.hooks.Emit(approval.WithWatch(ctx, c.watch.Ask), hooks.Request{
		Tenant: c.plugin.Key.Tenant, Event: beforeToolCall, Payload: payload, Context: c.context,
	})
	if err != nil {
		return nil, nil, err
	}
	if result.Outcome == hooks.OutcomeBlock {
		return nil, nil, c.blocked(result)
	}
	var now toolEvent
	if err := json.Unmarshal(result.Payload, &now); err != nil {
		return nil, nil, fault.New(errdefs.ErrInternal, "internal", "cannot read the call after its hooks: %w", err)
	}
	return now.Params, changesOf(result.Changes), nil
}

func (c *toolCall) blocked(r hooks.Result) error {
	by := v1.HookBlock{}
	if r.BlockedBy != nil {
		by = v1.HookBlock{Plugin: r.BlockedBy.Key.ID, Reason: r.BlockedBy.Reason, Failed: r.BlockedBy.Failed}
	}
	err := fault.New(errdefs.ErrPermissionDenied, "blocked_by_hook", "plugin %s blocked the call of %s: %s", by.Plugin, c.tool, by.Reason).WithDetails(by)
	if by.Failed {
		return err.WithHint("its hook did not decide so, it failed: see `ocmt plugins logs %s`, or switch it off with `ocmt plugins disable %s`", by.Plugin, by.Plugin)
	}
	return err
}

// after tells the hooks that watch how the call ended.
func (c *toolCall) after(params, result json.RawMessage, err error) {
	if c.req.SkipHooks || len(c.d.handlers.of(c.plugin.Key.Tenant, afterToolCall)) == 0 {
		return
	}
	event := c.event(params)
	event.Result, event.Millis = result, float64(time.Since(c.started).Microseconds())/1000
	if err != nil {
		event.Error = fault.Of(err).Message
	}
	payload, merr := json.Marshal(event)
	if merr != nil {
		return // the result was checked to be JSON, so this is not
	}
	c.d.hooks.Post(hooks.Request{Tenant: c.plugin.Key.Tenant, Event: afterToolCall, Payload: payload, Context: c.context})
}

// callDetail is what the audit log keeps of a call's context.
type callDetail struct {
	Agent     string `json:"agent,omitempty"`
	Session   string `json:"session,omitempty"`
	Sender    string `json:"sender,omitempty"`
	SkipHooks bool   `json:"skipHooks,omitempty"`
}

func (c *toolCall) record(ctx context.Context, err error) error {
	rec := audit.Record{
		Tenant: c.plugin.Key.Tenant, Plugin: c.plugin.Key.ID, Action: "tool.call", Target: c.tool, Outcome: outcomeDone,
		Request: c.context.RunID, DurationMicros: time.Since(c.started).Microseconds(),
		Params:  c.d.audit.HMAC(c.plugin.Key.Tenant, c.req.Params),
		Details: callDetail{c.context.AgentID, c.context.SessionKey, c.context.SenderID, c.req.SkipHooks},
	}
	var f *fault.Error
	switch {
	case err == nil:
	case errors.As(err, &f) && errdefs.IsPermissionDenied(err):
		rec.Outcome, rec.Code = outcomeDenied, f.Code
	default:
		rec.Outcome, rec.Code = outcomeFailed, fault.Of(err).Code
	}
	return c.d.note(ctx, rec)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// defaultAgent is the agent of callers that name none.
const defaultAgent = "main"

func callContext(c v1.CallContext) wire.Context {
	if c.AgentID == "" {
		c.AgentID = defaultAgent
	}
	return wire.Context(c)
}
