package apitest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

func services() []v1.Service {
	next := Epoch.Add(time.Minute)
	return []v1.Service{
		{Tenant: "default", Plugin: "demo", ID: "ticker", State: "running", Desired: true, Since: Epoch},
		{Tenant: "default", Plugin: "demo", ID: "poller", State: "backoff", Desired: true, Since: Epoch, Restarts: 3, LastError: "connection refused", NextAttempt: &next},
	}
}

// Services lists the services of tenant, or of all tenants for "".
func (b *Backend) Services(_ context.Context, tenant string) ([]v1.Service, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []v1.Service
	for _, s := range b.services {
		if tenant == "" || s.Tenant == tenant {
			list = append(list, s)
		}
	}
	return list, nil
}

// Change changes demo's services: "ticker" does as it is told, "poller" cannot
// be started.
func (b *Backend) Change(ctx context.Context, tenant, ref, service, op string) (v1.Service, error) {
	p, err := b.Get(ctx, tenant, ref)
	if err != nil {
		return v1.Service{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.services, func(s v1.Service) bool { return s.Tenant == tenant && s.Plugin == p.ID && s.ID == service })
	if i < 0 {
		return v1.Service{}, fault.New(errdefs.ErrNotFound, "service_not_found", "plugin %q has no service %q", ref, service)
	}
	s := &b.services[i]
	switch {
	case op == "stop":
		s.State, s.Desired, s.NextAttempt = "stopped", false, nil
	case service == "poller":
		return v1.Service{}, fault.New(fault.ErrPlugin, "service_failed", "service %q did not start: connection refused", service)
	default:
		s.State, s.Desired = "running", true
	}
	b.eventLocked(tenant, p.ID, v1.EventService, *s)
	return *s, nil
}

func granted() []v1.Permission {
	at := Epoch
	return []v1.Permission{{
		Kind: "hook", Target: "before_tool_call", Value: "modify,block", Sentence: "see every tool call, change it and stop it",
		Origin: "review", Actor: "uid:1000", GrantedAt: &at, Sensitive: true,
	}}
}

// Permissions tells of demo what was granted and the host that it asks for, and
// of other plugins nothing.
func (b *Backend) Permissions(ctx context.Context, tenant, ref string) (v1.PluginPermissions, error) {
	p, err := b.Get(ctx, tenant, ref)
	if err != nil {
		return v1.PluginPermissions{}, err
	}
	out := v1.PluginPermissions{Plugin: p.ID}
	if p.ID != "demo" {
		return out, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	out.Granted = slices.Clone(b.granted)
	for _, a := range b.approvals {
		if a.Kind == "permission" && a.Decision == "" {
			out.Pending = append(out.Pending, v1.Permission{
				Kind: "network", Target: a.Target, Sentence: "connect to api.example.net, port 443", Origin: "runtime",
				Request: a.ID, Command: "ocmt plugins grant demo network " + a.Target,
			})
		}
	}
	return out, nil
}

// Grant grants anything but a secret named "refused". All but networks restart
// the plugin.
func (b *Backend) Grant(ctx context.Context, tenant, ref string, req v1.GrantRequest) (v1.GrantResult, error) {
	p, err := b.Get(ctx, tenant, ref)
	if err != nil {
		return v1.GrantResult{}, err
	}
	if req.Target == "refused" {
		return v1.GrantResult{}, fault.New(errdefs.ErrInvalidArgument, "bad_target", "cannot grant %s %q", req.Kind, req.Target)
	}
	at := Epoch
	granted := v1.Permission{
		Kind: req.Kind, Target: req.Target, Value: req.Value, Sentence: fmt.Sprintf("use the %s %s", req.Kind, req.Target),
		Origin: "grant", Actor: httpapi.CallerOf(ctx).Actor, GrantedAt: &at,
	}
	if req.ForSeconds > 0 {
		ends := Epoch.Add(time.Duration(req.ForSeconds) * time.Second)
		granted.ExpiresAt = &ends
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grant(granted)
	b.eventLocked(tenant, p.ID, v1.EventGrant, v1.PermissionChange{Change: "granted", Permission: granted})
	return v1.GrantResult{Permission: granted, Restarted: req.Kind != "network"}, nil
}

// grant needs the lock.
func (b *Backend) grant(p v1.Permission) {
	b.granted = append(slices.DeleteFunc(b.granted, func(old v1.Permission) bool {
		return old.Kind == p.Kind && old.Target == p.Target
	}), p)
}

// Revoke takes back what was granted.
func (b *Backend) Revoke(ctx context.Context, tenant, ref string, req v1.RevokeRequest) (v1.GrantResult, error) {
	p, err := b.Get(ctx, tenant, ref)
	if err != nil {
		return v1.GrantResult{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.granted, func(g v1.Permission) bool { return g.Kind == req.Kind && g.Target == req.Target })
	if i < 0 {
		return v1.GrantResult{}, fault.New(errdefs.ErrNotFound, "not_granted", "plugin %q was not granted %s %s", ref, req.Kind, req.Target)
	}
	revoked := b.granted[i]
	b.granted = slices.Delete(b.granted, i, i+1)
	b.eventLocked(tenant, p.ID, v1.EventGrant, v1.PermissionChange{Change: "revoked", Permission: revoked})
	return v1.GrantResult{Permission: revoked, Restarted: req.Kind != "network"}, nil
}
