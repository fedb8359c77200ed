package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Call calls a tool of demo: "echo" returns the request, "text" a text with a
// terminal escape, "hang" waits for the timeout or ctx, "panic" panics, and
// "fail" fails with the class that {"class":...} names. Two more are not listed:
// "count" has three interim results, and "ask" waits for an approval.
func (b *Backend) Call(ctx context.Context, tenant, ref, tool string, req v1.CallRequest, watch httpapi.CallWatch) (v1.CallResult, error) {
	if _, err := b.Get(ctx, tenant, ref); err != nil {
		return v1.CallResult{}, err
	}
	switch tool {
	case "echo":
		return result(map[string]any{"params": req.Params, "agent": req.Context.AgentID, "timeoutMs": req.TimeoutMillis, "paramBytes": len(req.Params)})
	case "text":
		return v1.CallResult{Result: json.RawMessage(`{"content":[{"type":"text","text":"hello \u001b[31mred"},{"type":"text","text":"second"}],"details":{}}`)}, nil
	case "hang":
		return v1.CallResult{}, hang(ctx, time.Duration(req.TimeoutMillis)*time.Millisecond)
	case "panic":
		panic("as asked for")
	case "fail":
		return v1.CallResult{}, failure(req.Params)
	case "count":
		for i := range 3 {
			if watch.Update != nil {
				watch.Update(fmt.Appendf(nil, `{"count":%d}`, i+1))
			}
		}
		return result(map[string]any{"count": 3})
	case "ask":
		approval, err := b.ask(ctx, tenant, tool, req.Params, &req.Context, watch)
		if err != nil {
			return v1.CallResult{}, err
		}
		if approval.Decision == v1.Deny {
			return v1.CallResult{}, fault.New(errdefs.ErrPermissionDenied, "approval_denied", "%s denied the call of tool %q", approval.Actor, tool)
		}
		return result(map[string]any{"approved": approval.Decision})
	}
	return v1.CallResult{}, fault.New(errdefs.ErrNotFound, "tool_not_found", "plugin %q has no tool %q", ref, tool).WithHint("did you mean echo?")
}

func result(value any) (v1.CallResult, error) {
	text, err := json.Marshal(value)
	return v1.CallResult{Result: text}, err
}

// hang waits for ctx, and no longer than timeout if there is one.
func hang(ctx context.Context, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	<-ctx.Done()
	return fault.New(ctx.Err(), "timeout", "tool \"hang\" did not answer")
}

func failure(params json.RawMessage) error {
	var ask struct {
		Class     string `json:"class"`
		Message   string `json:"message"`
		Retryable *bool  `json:"retryable"`
	}
	if err := json.NewDecoder(bytes.NewReader(params)).Decode(&ask); err != nil {
		return fmt.Errorf("no class: %w", errdefs.ErrInvalidArgument)
	}
	if ask.Class == "" {
		return errors.New("an error without a class")
	}
	if ask.Message == "" {
		ask.Message = "failed as asked for"
	}
	retryable := ask.Retryable == nil || *ask.Retryable
	return v1.Error{Class: ask.Class, Code: "asked_for", Message: ask.Message, Hint: "ask for\nsomething else", Retryable: retryable}.Err()
}

// approval is an approval with those who wait for it.
type approval struct {
	v1.Approval
	resolved chan struct{}
}

// ask makes an approval of a call and waits until it is resolved.
func (b *Backend) ask(ctx context.Context, tenant, target string, params json.RawMessage, of *v1.CallContext, watch httpapi.CallWatch) (v1.Approval, error) {
	b.mu.Lock()
	a := approval{
		Approval: v1.Approval{
			ID: fmt.Sprintf("call-%d", len(b.approvals)), Tenant: tenant, Kind: "call", Plugin: "demo", Title: "Run " + target + "?", Severity: "warning",
			Decisions: []string{v1.AllowOnce, v1.AllowAlways, v1.Deny}, CreatedAt: Epoch, Target: target, Params: params, Context: of,
		},
		resolved: make(chan struct{}),
	}
	i := len(b.approvals)
	b.approvals = append(b.approvals, a)
	b.eventLocked(tenant, "demo", v1.EventApproval, a.Approval)
	b.mu.Unlock()
	if watch.Ask != nil {
		watch.Ask(a.Approval)
	}
	select {
	case <-a.resolved:
	case <-ctx.Done():
		return v1.Approval{}, ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if watch.Ask != nil {
		watch.Ask(b.approvals[i].Approval)
	}
	return b.approvals[i].Approval, nil
}

// permissionRequest is the one approval that waits from the start: demo asks
// for a host.
func permissionRequest() v1.Approval {
	return v1.Approval{
		ID: "request-1", Tenant: "default", Kind: "permission", Plugin: "demo", Title: "demo asks to connect to api.example.net, port 443",
		Decisions: []string{v1.AllowOnce, v1.AllowAlways, v1.Deny}, CreatedAt: Epoch, Target: "api.example.net:443",
	}
}

// Approvals lists what is not resolved.
func (b *Backend) Approvals(_ context.Context, tenant string) ([]v1.Approval, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []v1.Approval
	for _, a := range b.approvals {
		if a.Decision == "" && (tenant == "" || a.Tenant == tenant) {
			list = append(list, a.Approval)
		}
	}
	return list, nil
}

// Resolve resolves an approval; one of a permission only for an operator. An
// allowed permission is granted, by allow-once for this run.
func (b *Backend) Resolve(ctx context.Context, tenant, id, decision string) (v1.Approval, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.approvals {
		a := &b.approvals[i]
		switch {
		case a.ID != id || a.Tenant != tenant:
			continue
		case a.Decision != "":
			return v1.Approval{}, fault.New(errdefs.ErrConflict, "already_resolved", "the approval %s was resolved with %s", id, a.Decision)
		case a.Kind == "permission" && httpapi.CallerOf(ctx).Access != httpapi.AccessAdmin:
			return v1.Approval{}, fault.New(errdefs.ErrPermissionDenied, "permission_denied", "only an operator grants permissions")
		}
		a.Decision, a.Actor = decision, httpapi.CallerOf(ctx).Actor
		if a.Kind == "permission" && decision != v1.Deny {
			origin := "approval"
			if decision == v1.AllowOnce {
				origin = "run"
			}
			b.grant(v1.Permission{Kind: "network", Target: a.Target, Sentence: "connect to api.example.net, port 443", Origin: origin, Actor: a.Actor})
		}
		close(a.resolved)
		b.eventLocked(tenant, a.Plugin, v1.EventApproval, a.Approval)
		return a.Approval, nil
	}
	return v1.Approval{}, fault.New(errdefs.ErrNotFound, "approval_not_found", "there is no approval %q", id)
}
