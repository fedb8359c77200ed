package apitest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Hooks lists demo's hooks: a gate, a modifier and an observer that was granted
// nothing.
func (b *Backend) Hooks(_ context.Context, tenant string) ([]v1.Hook, error) {
	if tenant != "" && tenant != "default" {
		return nil, nil
	}
	hook := func(handler int, event, kind string, rights ...string) v1.Hook {
		return v1.Hook{Tenant: "default", Plugin: "demo", Handler: handler, Event: event, Kind: kind, Rights: rights, Form: "register", Timeout: 15000}
	}
	gate, modify, observe := hook(5, "before_tool_call", "gate", "observe", "modify", "block"), hook(6, "agent:message:before", "modify", "observe", "modify"), hook(7, "llm_output", "observe")
	gate.Priority, observe.Asks = 10, []string{"observe"}
	return []v1.Hook{gate, modify, observe}, nil
}

// Emit runs demo's hooks. "before_tool_call" blocks a toolName "forbidden", waits
// for an approval of "ask", and passes others; "agent:message:before" shouts
// the payload's text; "hang" waits for ctx; no other event has a hook.
func (b *Backend) Emit(ctx context.Context, tenant, event string, req v1.EmitRequest, watch httpapi.CallWatch) (v1.EmitResult, error) {
	out := v1.EmitResult{Event: event, Outcome: v1.OutcomePass, Payload: req.Payload}
	if out.Payload == nil {
		out.Payload = json.RawMessage("{}")
	}
	var payload map[string]any
	if err := json.Unmarshal(out.Payload, &payload); err != nil {
		return v1.EmitResult{}, fault.New(errdefs.ErrInvalidArgument, "bad_payload", "the payload must be a JSON object: %w", err)
	}
	if tenant != "default" {
		return out, nil
	}
	switch event {
	case "before_tool_call":
		return b.gate(ctx, tenant, payload, out, watch)
	case "agent:message:before":
		return shout(payload, out)
	case "hang":
		<-ctx.Done()
		return v1.EmitResult{}, ctx.Err()
	}
	return out, nil
}

func (b *Backend) gate(ctx context.Context, tenant string, payload map[string]any, out v1.EmitResult, watch httpapi.CallWatch) (v1.EmitResult, error) {
	report := v1.HandlerReport{Plugin: "demo", Handler: 5, Status: "ok", Millis: 1.5}
	switch payload["toolName"] {
	case "forbidden":
		out.BlockedBy = &v1.HookBlock{Plugin: "demo", Reason: "not today"}
	case "ask":
		a, err := b.ask(ctx, tenant, "ask", nil, nil, watch)
		if err != nil {
			return v1.EmitResult{}, err
		}
		out.Approval = &a
		if a.Decision == v1.Deny {
			out.BlockedBy = &v1.HookBlock{Plugin: "demo", Reason: "denied by " + a.Actor}
		}
	}
	if out.BlockedBy != nil {
		out.Outcome, report.Status, report.Detail = v1.OutcomeBlock, "block", out.BlockedBy.Reason
		b.event(tenant, "demo", v1.EventHook, v1.HookEvent{Event: out.Event, Status: "block", Detail: report.Detail})
	}
	out.Handlers = []v1.HandlerReport{report}
	return out, nil
}

func shout(payload map[string]any, out v1.EmitResult) (v1.EmitResult, error) {
	before, _ := payload["text"].(string)
	payload["text"] = before + "!"
	var err error
	if out.Payload, err = json.Marshal(payload); err != nil {
		return v1.EmitResult{}, err
	}
	out.Changes = []v1.HookChange{{
		Plugin: "demo", Handler: 6, Path: "/text", Before: fmt.Appendf(nil, "%q", before), After: fmt.Appendf(nil, "%q", before+"!"),
	}}
	out.Handlers = []v1.HandlerReport{{Plugin: "demo", Handler: 6, Status: "ok", Millis: 0.5}}
	return out, nil
}

// Invoke gives demo's gate (5) or modifier (6) an event.
func (b *Backend) Invoke(ctx context.Context, tenant, ref string, handler int, req v1.InvokeRequest) (v1.EmitResult, error) {
	if _, err := b.Get(ctx, tenant, ref); err != nil {
		return v1.EmitResult{}, err
	}
	events := map[int]string{5: "before_tool_call", 6: "agent:message:before"}
	event, ok := events[handler]
	switch {
	case !ok:
		return v1.EmitResult{}, fault.New(errdefs.ErrNotFound, "handler_not_found", "plugin %q has no hook with the index %d", ref, handler)
	case req.Event != "" && req.Event != event:
		return v1.EmitResult{}, fault.New(errdefs.ErrInvalidArgument, "wrong_event", "handler %d is of event %s", handler, event)
	}
	return b.Emit(ctx, tenant, event, v1.EmitRequest{Payload: req.Payload, Context: req.Context, TimeoutMillis: req.TimeoutMillis}, httpapi.CallWatch{})
}

// Snapshot lists the tools and hooks of tenant.
func (b *Backend) Snapshot(ctx context.Context, tenant string) (v1.Snapshot, error) {
	tools, err := b.Tools(ctx, tenant)
	if err != nil {
		return v1.Snapshot{}, err
	}
	hooks, err := b.Hooks(ctx, tenant)
	if err != nil {
		return v1.Snapshot{}, err
	}
	var s v1.Snapshot
	for i, t := range tools {
		s.Registrations = append(s.Registrations, v1.SnapshotItem{Plugin: t.Plugin, Handler: i, Kind: "tool", Name: t.Name, Form: "export", Spec: t.Parameters})
	}
	for _, h := range hooks {
		s.Registrations = append(s.Registrations, v1.SnapshotItem{Plugin: h.Plugin, Handler: h.Handler, Kind: "hook", Name: h.Event, Form: h.Form})
	}
	text, err := json.Marshal(s.Registrations)
	s.Digest = fmt.Sprintf("sha256:%x", sha256.Sum256(text))
	return s, err
}
