package daemon

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// permissionAPI implements httpapi.Permissions.
type permissionAPI struct{ d *Daemon }

func (b permissionAPI) Permissions(_ context.Context, tenant, ref string) (v1.PluginPermissions, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.PluginPermissions{}, err
	}
	effective := b.d.authority.Effective(p.Key)
	out := v1.PluginPermissions{Plugin: p.Key.ID, Granted: []v1.Permission{}, Pending: []v1.Permission{}}
	narrowed := map[string]bool{}
	for _, g := range effective.Narrowed {
		narrowed[string(g.Kind)+" "+g.Target] = true
		out.Narrowed = append(out.Narrowed, permissionOf(g))
	}
	for _, g := range slices.Concat(b.d.authority.Grants(p.Key), b.d.authority.RunGrants(p.Key)) {
		if !narrowed[string(g.Kind)+" "+g.Target] {
			out.Granted = append(out.Granted, b.d.permissionIn(p.Key, g))
		}
	}
	for _, r := range b.d.authority.Requests(p.Key) {
		out.Pending = append(out.Pending, permissionOfRequest(r))
	}
	return out, nil
}

func permissionOf(g policy.Grant) v1.Permission {
	out := v1.Permission{
		Kind: string(g.Kind), Target: g.Target, Value: g.Value, Sentence: g.Explain(), Origin: g.Origin, Actor: g.Actor,
	}
	if !g.At.IsZero() {
		out.GrantedAt = &g.At
	}
	if !g.ExpiresAt.IsZero() {
		out.ExpiresAt = &g.ExpiresAt
	}
	return out
}

// permissionIn is permissionOf for a grant of a plugin. Of a secret it says also
// when it is sent nowhere, for want of another grant.
func (d *Daemon) permissionIn(key plugin.Key, g policy.Grant) v1.Permission {
	out := permissionOf(g)
	if g.Kind != policy.Secret {
		return out
	}
	s, err := d.boundSecret(key, g.Target)
	if err != nil {
		out.Sentence += " It is not used: " + fault.Of(err).Message + "."
		return out
	}
	leads := func(n policy.NetworkRule) bool { return goesTo(s, n) || n.Matches(s.Host, s.Port) }
	if !slices.ContainsFunc(d.authority.Effective(key).Network, leads) {
		ask, err := policy.Tried(s.Host, s.Port)
		if err == nil {
			out.Sentence += fmt.Sprintf(" It is sent nowhere yet: the plugin may not reach %s:%d. To grant that: %s", s.Host, s.Port, policy.Command(key, ask))
		}
	}
	return out
}

func permissionOfAsk(a policy.Ask) v1.Permission {
	return v1.Permission{
		Kind: string(a.Kind), Target: a.Target, Value: a.Value, Sentence: a.Explain(), Origin: a.Origin,
		Sensitive: a.Class != policy.Basic,
	}
}

func permissionOfRequest(r policy.Request) v1.Permission {
	out := permissionOfAsk(r.Ask)
	out.Request, out.Command = r.ID, r.Command
	return out
}

func (b permissionAPI) Grant(ctx context.Context, tenant, ref string, req v1.GrantRequest) (v1.GrantResult, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.GrantResult{}, err
	}
	g, err := policy.ParseGrant(req.Kind, req.Target, req.Value)
	if err != nil {
		return v1.GrantResult{}, err
	}
	g.Origin, g.Actor, g.At = policy.OriginGrant, actorOf(ctx), time.Now().UTC()
	if req.ForSeconds > 0 {
		g.ExpiresAt = g.At.Add(time.Duration(req.ForSeconds) * time.Second)
	}
	restarted, err := b.d.grant(ctx, p, g)
	return v1.GrantResult{Permission: b.d.permissionIn(p.Key, g), Restarted: restarted}, err
}

// humanSize says a size in whole MiB, the unit that memory is granted in.
func humanSize(bytes int64) string { return strconv.FormatInt(bytes>>20, 10) + " MiB" }

// grant puts grants into force, all or none, and returns whether that took a
// restart. With an error of the restart they are granted all the same.
func (d *Daemon) grant(ctx context.Context, p plugin.Installed, grants ...policy.Grant) (restarted bool, err error) {
	if err := d.putGrants(ctx, p, grants); err != nil {
		return false, err
	}
	for _, g := range grants {
		d.tellPermission(p.Key, "granted", permissionOf(g))
	}
	if restarted, err = d.restartFor(ctx, p.Key); err != nil {
		err = fmt.Errorf("it is granted, but plugin %s does not run with it: %w", p.Key.ID, err)
	}
	return restarted, err
}

// putGrants puts grants into force, if they can be.
func (d *Daemon) putGrants(ctx context.Context, p plugin.Installed, grants []policy.Grant) error {
	d.granting.Lock()
	defer d.granting.Unlock()
	if err := d.checkGrants(p, grants...); err != nil {
		return err
	}
	return d.auditedGrants(ctx, p.Key, "permission.grant", grants, func() error { return d.authority.Grant(ctx, p.Key, grants...) })
}

func (b permissionAPI) Revoke(ctx context.Context, tenant, ref string, req v1.RevokeRequest) (v1.GrantResult, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.GrantResult{}, err
	}
	target, err := policy.CanonicalTarget(policy.Kind(req.Kind), req.Target)
	if err != nil {
		return v1.GrantResult{}, err
	}
	return b.d.revoke(ctx, p.Key, policy.Kind(req.Kind), target)
}

// revoke takes a grant back. With an error of the restart it is taken back
// all the same, and nothing runs that has it once the restart is through.
func (d *Daemon) revoke(ctx context.Context, key plugin.Key, kind policy.Kind, target string) (out v1.GrantResult, err error) {
	err = d.audited(ctx, key, "permission.revoke", string(kind)+" "+target, func() error {
		g, err := d.authority.Revoke(ctx, key, kind, target)
		out.Permission = permissionOf(g)
		return err
	})
	if err != nil {
		return out, err
	}
	d.tellPermission(key, "revoked", out.Permission)
	if out.Restarted, err = d.restartFor(ctx, key); err != nil {
		err = fmt.Errorf("it is taken back, but plugin %s does not run without it: %w", key.ID, err)
	}
	return out, err
}

// restartFor restarts a plugin, if it runs or is about to, when what it may do
// now differs from what it was made with in a way that only a new container
// can have. The restart happens also when the caller leaves, who waits for the
// plugin to be ready.
func (d *Daemon) restartFor(ctx context.Context, key plugin.Key) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	restarted, err := d.remake(ctx, key)
	if !restarted {
		return false, err
	}
	_, err = d.ready(ctx, key)
	return true, err
}

// onPermissions puts what takes effect at once into force: network and hooks.
func (d *Daemon) onPermissions(key plugin.Key, _, after policy.Effective) {
	if u := d.newest(key); u != nil {
		u.SetNetwork(d.networkOf(key, after))
	}
	d.catalog.offer(key, after)
	d.refreshHandlers(key)
}

// onExpired records grants that ended by themselves, and restarts the plugin
// if that is what it takes to end their effect.
func (d *Daemon) onExpired(key plugin.Key, ended []policy.Grant) {
	restarted, err := d.remake(context.Background(), key)
	if err != nil {
		d.logger.Error("cannot restart for a grant that ended", "tenant", key.Tenant, "plugin", key.ID, "error", err)
	}
	if restarted {
		d.logger.Info("restarting for a grant that ended", "tenant", key.Tenant, "plugin", key.ID)
	}
	rec := audit.Record{Tenant: key.Tenant, Plugin: key.ID, Actor: theDaemon, Action: "permission.expire", Outcome: outcomeDone}
	for _, g := range ended {
		for _, part := range grantRecords(rec, []policy.Grant{g}) {
			if err := d.note(context.Background(), part); err != nil {
				d.logger.Error("cannot record the end of a grant", "tenant", key.Tenant, "plugin", key.ID, "error", err)
			}
		}
		d.tellPermission(key, "expired", permissionOf(g))
	}
}

// noteWidening records what an edit of config.json asks for a plugin that was
// not asked for before. It grants nothing.
func (d *Daemon) noteWidening(key plugin.Key, before []policy.Request) {
	for _, r := range d.authority.Requests(key) {
		known := slices.ContainsFunc(before, func(b policy.Request) bool { return b.ID == r.ID })
		if known || r.Origin != policy.OriginConfig {
			continue
		}
		rec := audit.Record{
			Tenant: key.Tenant, Plugin: key.ID, Actor: theFile, Action: "permission.request", Target: requestApproval(key, r).Target, Outcome: outcomePending,
		}
		if err := d.note(context.Background(), rec); err != nil {
			d.logger.Error("cannot record what config.json asks for", "tenant", key.Tenant, "plugin", key.ID, "error", err)
		}
		d.tellPermission(key, "requested", permissionOfRequest(r))
	}
}

func (d *Daemon) tellPermission(key plugin.Key, change string, p v1.Permission) {
	d.events.Publish(key.Tenant, key.ID, v1.EventGrant, v1.PermissionChange{Change: change, Permission: p})
}
