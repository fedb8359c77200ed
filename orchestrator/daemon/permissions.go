package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/sandbox"
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
	for _, g := range b.d.authority.Grants(p.Key) {
		if !narrowed[string(g.Kind)+" "+g.Target] {
			out.Granted = append(out.Granted, permissionOf(g))
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
	if err := b.d.checkGrant(g); err != nil {
		return v1.GrantResult{}, err
	}
	g.Origin, g.Actor, g.At = policy.OriginGrant, actorOf(ctx), time.Now().UTC()
	if req.ForSeconds > 0 {
		g.ExpiresAt = g.At.Add(time.Duration(req.ForSeconds) * time.Second)
	}
	restarted, err := b.d.grant(ctx, p, g)
	return v1.GrantResult{Permission: permissionOf(g), Restarted: restarted}, err
}

// checkGrant refuses what could not be put into force on this host.
func (d *Daemon) checkGrant(g policy.Grant) error {
	switch g.Kind {
	case policy.Workspace:
		return instance.CheckWorkspace(g.Target, d.home)
	case policy.Resource:
		return d.checkResource(g)
	case policy.Secret:
		return errNoSecrets(g.Target)
	}
	return nil
}

// checkResource refuses a limit that this host does not have.
func (d *Daemon) checkResource(g policy.Grant) error {
	asked := policy.Resolve(time.Now(), []policy.Grant{g}, policy.Narrowing{}, d.limits).Resources
	limits := sandbox.LimitsFor(sandbox.RolePlugin)
	limits.Memory, limits.CPUs, limits.PIDs = asked.Memory, asked.CPUs, asked.PIDs
	return limits.CheckHost(d.info)
}

func errNoSecrets(name string) error {
	return fault.New(errdefs.ErrFailedPrecondition, "no_secrets", "the secret %s cannot be granted: this version of ocmt keeps no secrets", plugin.Printable(name, 100)).
		WithHint("give the plugin its key in plugins.entries.<id>.config of config.json, or as an environment variable: grant ID env NAME")
}

// grant puts a grant into force and returns whether that took a restart.
func (d *Daemon) grant(ctx context.Context, p plugin.Installed, g policy.Grant) (restarted bool, err error) {
	before := d.authority.Effective(p.Key)
	err = d.audited(ctx, p.Key, "permission.grant", describeGrant(g), func() error {
		if err := d.authority.Grant(ctx, p.Key, g); err != nil {
			return err
		}
		restarted, err = d.restartFor(ctx, p.Key, before)
		return err
	})
	if err == nil {
		d.tellPermission(p.Key, "granted", permissionOf(g))
	}
	return restarted, err
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
	d := b.d
	var out v1.GrantResult
	before := d.authority.Effective(p.Key)
	err = d.audited(ctx, p.Key, "permission.revoke", req.Kind+" "+target, func() error {
		g, err := d.authority.Revoke(ctx, p.Key, policy.Kind(req.Kind), target)
		if err != nil {
			return err
		}
		out.Permission = permissionOf(g)
		out.Restarted, err = d.restartFor(ctx, p.Key, before)
		return err
	})
	if err == nil {
		d.tellPermission(p.Key, "revoked", out.Permission)
	}
	return out, err
}

// restartFor restarts a running plugin when what it may do now differs from
// before in a way that only a new container can have.
func (d *Daemon) restartFor(ctx context.Context, key plugin.Key, before policy.Effective) (bool, error) {
	if !policy.RestartNeeded(before, d.authority.Effective(key)) || d.running(key) == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := d.supervisor.Replace(ctx, key); err != nil {
		return false, err
	}
	_, err := d.supervisor.Ready(ctx, key)
	return true, err
}

// onPermissions puts what takes effect at once into force: network and hooks.
func (d *Daemon) onPermissions(key plugin.Key, _, after policy.Effective) {
	if u := d.running(key); u != nil {
		u.SetNetwork(d.networkOf(key, after))
	}
	d.catalog.offer(key, after)
	d.refreshHandlers(key)
}

// onExpired records grants that ended by themselves, and restarts the plugin
// if that is what it takes to end their effect.
func (d *Daemon) onExpired(key plugin.Key, ended []policy.Grant, restart bool) {
	for _, g := range ended {
		rec := audit.Record{
			Tenant: key.Tenant, Plugin: key.ID, Actor: theDaemon, Action: "permission.expire", Target: describeGrant(g), Outcome: outcomeDone,
		}
		if err := d.note(context.Background(), rec); err != nil {
			d.logger.Error("cannot record the end of a grant", "tenant", key.Tenant, "plugin", key.ID, "error", err)
		}
		d.tellPermission(key, "expired", permissionOf(g))
	}
	if !restart || d.running(key) == nil {
		return
	}
	d.logger.Info("restarting for a grant that ended", "tenant", key.Tenant, "plugin", key.ID)
	if err := d.supervisor.Replace(context.Background(), key); err != nil {
		d.logger.Error("cannot restart for a grant that ended", "tenant", key.Tenant, "plugin", key.ID, "error", err)
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

func describeGrant(g policy.Grant) string {
	text := string(g.Kind) + " " + g.Target
	if g.Value != "" {
		text += " " + g.Value
	}
	return text
}
