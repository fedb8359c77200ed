package daemon

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/hooks"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// Kinds of approvals.
const (
	approvalCall       = "call"
	approvalPermission = "permission"
)

// ask has a person decide what a hook asks.
func (d *Daemon) ask(ctx context.Context, a hooks.Approval) (string, error) {
	question := approvalOf(a)
	decision, actor, err := d.approvals.Ask(ctx, question, a.Timeout)
	rec := audit.Record{
		Tenant: a.Tenant, Plugin: a.Key.ID, Actor: cmp.Or(actor, theDaemon), Action: "approval.call", Target: question.Target, Outcome: decision,
		Request: a.Context.RunID, Params: d.audit.HMAC(a.Tenant, a.Params),
	}
	if err != nil { // nobody was asked
		rec.Outcome, rec.Code = outcomeFailed, fault.Of(err).Code
	}
	if rerr := d.note(ctx, rec); rerr != nil {
		return "", errors.Join(err, rerr)
	}
	return decision, err
}

func approvalOf(a hooks.Approval) v1.Approval {
	context := v1.CallContext(a.Context)
	return v1.Approval{
		Tenant: a.Tenant, Kind: approvalCall, Plugin: a.Key.ID, Title: a.Title, Description: a.Description,
		Severity: a.Severity, Decisions: a.Allowed, Target: targetOf(a), Params: a.Params, Context: &context,
	}
}

func targetOf(a hooks.Approval) string {
	if a.Owner == "" {
		return a.Tool
	}
	return a.Owner + "/" + a.Tool
}

// approvalAPI implements httpapi.Approvals: what hooks asked and what plugins
// ask for.
type approvalAPI struct{ d *Daemon }

func (b approvalAPI) Approvals(_ context.Context, tenant string) ([]v1.Approval, error) {
	return append(b.d.approvals.List(tenant), b.d.permissionRequests(tenant)...), nil
}

// permissionRequests returns what plugins ask for and nobody has decided.
func (d *Daemon) permissionRequests(tenant string) []v1.Approval {
	list := []v1.Approval{}
	for _, p := range d.catalog.list(tenant) {
		for _, r := range d.authority.Requests(p.Key) {
			list = append(list, requestApproval(p.Key, r))
		}
	}
	return list
}

func requestApproval(key plugin.Key, r policy.Request) v1.Approval {
	return v1.Approval{
		ID: r.ID, Tenant: key.Tenant, Kind: approvalPermission, Plugin: key.ID,
		Title: r.Explain(), Description: strings.TrimSpace(r.Reason + " To grant it: " + r.Command),
		Target: strings.TrimSpace(string(r.Kind) + " " + r.Target + " " + r.Value), Decisions: decisionsOn(r),
	}
}

// decisionsOn says what a request can be resolved with: one that lacks a
// detail must be granted by name.
func decisionsOn(r policy.Request) []string {
	switch {
	case lacksDetail(r):
		return []string{v1.Deny}
	case forOneRun(r.Kind):
		return []string{v1.AllowOnce, v1.AllowAlways, v1.Deny}
	}
	return []string{v1.AllowAlways, v1.Deny}
}

// lacksDetail says that a request does not say all that a grant must. A secret
// has what it takes once it is set.
func lacksDetail(r policy.Request) bool {
	return r.Class == policy.NeedsDetail && r.Kind != policy.Secret
}

// forOneRun says that a permission takes effect on a running plugin, so that it
// can be allowed until the plugin's instance ends.
func forOneRun(kind policy.Kind) bool { return kind == policy.Network || kind == policy.Hook }

func (b approvalAPI) Resolve(ctx context.Context, tenant, id, decision string) (v1.Approval, error) {
	for _, p := range b.d.catalog.list(tenant) {
		if r, ok := b.d.authority.Request(p.Key, id); ok {
			return b.resolveRequest(ctx, p, r, decision)
		}
	}
	return b.d.approvals.Resolve(tenant, id, decision, actorOf(ctx))
}

// resolveRequest grants what a plugin asks for, or turns it down. That is the
// operator's alone.
func (b approvalAPI) resolveRequest(ctx context.Context, p plugin.Installed, r policy.Request, decision string) (v1.Approval, error) {
	if httpapi.CallerOf(ctx).Access != httpapi.AccessAdmin {
		return v1.Approval{}, fault.New(errdefs.ErrPermissionDenied, "permission_denied", "only the operator grants permissions to plugins").
			WithHint("run as the operator: %s", r.Command)
	}
	out := requestApproval(p.Key, r)
	out.Decision, out.Actor = decision, actorOf(ctx)
	if decision == v1.Deny {
		err := b.d.audited(ctx, p.Key, "permission.deny", out.Target, func() error { return b.d.authority.Deny(ctx, p.Key, r.ID, actorOf(ctx)) })
		if err == nil {
			b.d.tellPermission(p.Key, "denied", permissionOfRequest(r))
		}
		return out, err
	}
	if lacksDetail(r) {
		return v1.Approval{}, fault.New(errdefs.ErrFailedPrecondition, "needs_detail", "this request cannot be approved as it is: %s", r.Explain()).
			WithHint("grant it by name: %s", r.Command)
	}
	g, err := policy.ParseGrant(string(r.Kind), r.Target, r.Value)
	if err != nil {
		return v1.Approval{}, err
	}
	switch decision {
	case v1.AllowOnce:
		err = b.d.allowRun(ctx, p, g)
	case v1.AllowAlways:
		g.Origin, g.Actor, g.At = policy.OriginApproval, actorOf(ctx), time.Now().UTC()
		_, err = b.d.grant(ctx, p, g)
	default:
		return v1.Approval{}, fault.New(errdefs.ErrInvalidArgument, "invalid_argument", "a request cannot be resolved with %.64q", decision).
			WithHint("use one of %s", strings.Join(out.Decisions, ", "))
	}
	return out, err
}

// allowRun lets a plugin do something until its instance ends.
func (d *Daemon) allowRun(ctx context.Context, p plugin.Installed, g policy.Grant) error {
	key, u := p.Key, d.newest(p.Key)
	switch {
	case !forOneRun(g.Kind):
		return fault.New(errdefs.ErrInvalidArgument, "not_for_one_run", "a permission of the kind %s cannot be allowed for one run: it takes a restart", g.Kind).
			WithHint("grant it, for a while if you like: ocmt plugins grant %s%s %s %s --for 1h", key.ID, tenantFlag(key.Tenant), g.Kind, plugin.Printable(g.Target, 200))
	case u == nil:
		return errNoRun(key)
	}
	g.Origin, g.Actor, g.At = policy.OriginRun, actorOf(ctx), time.Now().UTC()
	d.granting.Lock()
	defer d.granting.Unlock()
	if err := d.checkGrants(p, g); err != nil {
		return err
	}
	err := d.auditedGrants(ctx, key, "permission.allow", []policy.Grant{g}, func() error {
		d.authority.AllowRun(key, u.ID(), g)
		if d.newest(key) != u { // it ended meanwhile, perhaps unseen
			d.authority.EndRun(key, u.ID())
			return errNoRun(key)
		}
		return nil
	})
	if err == nil {
		d.tellPermission(key, "granted", permissionOf(g))
	}
	return err
}

func errNoRun(key plugin.Key) error {
	return fault.New(errdefs.ErrFailedPrecondition, "not_running", "plugin %s does not run", key.ID).
		WithHint("grant it for good instead, or start the plugin first")
}
