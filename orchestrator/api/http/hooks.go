package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *api) hookRoutes(r *routes) {
	const tag = "hooks"
	listing[v1.Hook, v1.HookList]{
		name:  tag,
		items: func(ctx context.Context, tenant string) ([]v1.Hook, error) { return a.backend.Hooks.Hooks(ctx, tenant) },
		key:   func(h v1.Hook) string { return fmt.Sprintf("%s/%s/%d", h.Tenant, h.Plugin, h.Handler) },
		page: func(items []v1.Hook, next string) v1.HookList {
			return v1.HookList{Hooks: each(items, withRights), Next: next}
		},
	}.register(r)
	emit := op(AccessCall, http.MethodPost, tenantPath+"/hooks/{event}/emit", "emit-hook", "Give an event to the hooks of a tenant", tag)
	emit.MaxBodyBytes = v1.MaxCallBody
	emit.Description = "Hanging up cancels it, unless another request with the same idempotency key waits for it."
	handle(r, emit, a.emit)
	invoke := op(AccessCall, http.MethodPost, pluginPath+"/handlers/{handler}/invoke", "invoke-handler", "Give an event to one handler of one plugin", tag)
	invoke.MaxBodyBytes = v1.MaxCallBody
	invoke.Description = "For a host with a pipeline of its own. " + emit.Description
	handle(r, invoke, a.invoke)
	snapshot := op(AccessCall, http.MethodGet, tenantPath+"/registrations", "list-registrations", "All registrations of a tenant's plugins, in global order", tag)
	snapshot.Description = "The digest is the ETag too."
	snapshot.Responses = map[string]*huma.Response{"304": {Description: "The list is still the one with the given digest"}}
	handle(r, snapshot, a.snapshot)
}

func withRights(h v1.Hook) v1.Hook {
	h.Rights, h.Asks = orEmpty(h.Rights), orEmpty(h.Asks)
	return h
}

type emitInput struct {
	TenantParam
	KeyParam
	Event string `path:"event" maxLength:"128" pattern:"^[A-Za-z0-9_.:-]+$" doc:"name of the event" example:"agent:message:before"`
	Body  v1.EmitRequest
}

func (a *api) emit(ctx context.Context, in *emitInput) (*keyedAnswer[v1.EmitResult], error) {
	k := in.keyed(in.Tenant, "emit", in.Event, in.Body)
	return once(ctx, a.replays, k, func(ctx context.Context) (v1.EmitResult, error) {
		result, err := a.backend.Hooks.Emit(ctx, in.Tenant, in.Event, in.Body, CallWatch{})
		return withReports(result), err
	})
}

type invokeInput struct {
	PluginParam
	KeyParam
	Handler int `path:"handler" minimum:"0" doc:"index of the registration"`
	Body    v1.InvokeRequest
}

func (a *api) invoke(ctx context.Context, in *invokeInput) (*keyedAnswer[v1.EmitResult], error) {
	k := in.keyed(in.Tenant, "invoke", in.ID, in.Handler, in.Body)
	return once(ctx, a.replays, k, func(ctx context.Context) (v1.EmitResult, error) {
		result, err := a.backend.Hooks.Invoke(ctx, in.Tenant, in.ID, in.Handler, in.Body)
		return withReports(result), err
	})
}

func withReports(r v1.EmitResult) v1.EmitResult {
	r.Changes, r.Handlers = orEmpty(r.Changes), orEmpty(r.Handlers)
	if r.Payload == nil {
		r.Payload = []byte("{}")
	}
	if r.Approval != nil {
		approval := withDecisions(*r.Approval)
		r.Approval = &approval
	}
	return r
}

type snapshotInput struct {
	TenantParam
	IfNoneMatch string `header:"If-None-Match" maxLength:"1024" doc:"ETags of lists that the caller has"`
}

type snapshotOutput struct {
	Status int
	ETag   string `header:"ETag"`
	Body   v1.Snapshot
}

func (a *api) snapshot(ctx context.Context, in *snapshotInput) (*snapshotOutput, error) {
	s, err := a.backend.Hooks.Snapshot(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	s.Registrations = orEmpty(s.Registrations)
	out := &snapshotOutput{Status: http.StatusOK, ETag: `"` + s.Digest + `"`, Body: s}
	for tag := range strings.SplitSeq(in.IfNoneMatch, ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == out.ETag || tag == "*" {
			out.Status = http.StatusNotModified
		}
	}
	return out, nil
}
