package daemon

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	for _, g := range slices.Concat(b.d.authority.Grants(p.Key), b.d.authority.RunGrants(p.Key)) {
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
	if err := b.d.checkGrant(p, g); err != nil {
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
func (d *Daemon) checkGrant(p plugin.Installed, g policy.Grant) error {
	switch g.Kind {
	case policy.Workspace:
		return instance.CheckWorkspace(g.Target, d.home)
	case policy.Resource:
		return d.checkResource(p, g)
	case policy.Network:
		return d.checkPlaintext(p, g)
	case policy.Secret:
		if _, err := d.boundSecret(p.Key, g.Target); err != nil {
			return err
		}
		return d.checkPlaintext(p, g)
	case policy.Env:
		if s, err := d.secrets.Get(p.Key.Tenant, g.Target); err == nil && !s.Env {
			return errNotPlain(g.Target)
		}
	}
	return nil
}

// checkPlaintext refuses grants that together would send a secret in plain text.
func (d *Daemon) checkPlaintext(p plugin.Installed, g policy.Grant) error {
	together := policy.Resolve(time.Now(), append(d.authority.Grants(p.Key), g), policy.Narrowing{}, policy.DefaultLimits(p.Source))
	for _, name := range together.Secrets {
		secret, err := d.secrets.Get(p.Key.Tenant, name)
		if err != nil {
			continue // it is sent nowhere
		}
		for _, n := range together.Network {
			if n.Plaintext && goesTo(secret, n) {
				return fault.New(errdefs.ErrInvalidArgument, "secret_in_plaintext", "the secret %s goes to %s:%d, where plain text may pass", name, n.Host, n.Port).
					WithHint("grant that destination without plaintext: ocmt plugins grant %s%s network %s:%d", p.Key.ID, tenantFlag(p.Key.Tenant), n.Host, n.Port)
			}
		}
	}
	return nil
}

// checkResource refuses a limit that this host does not have.
func (d *Daemon) checkResource(p plugin.Installed, g policy.Grant) error {
	asked := policy.Resolve(time.Now(), []policy.Grant{g}, policy.Narrowing{}, policy.DefaultLimits(p.Source)).Resources
	limits := sandbox.LimitsFor(sandbox.RolePlugin)
	limits.Memory, limits.CPUs, limits.PIDs = asked.Memory, asked.CPUs, asked.PIDs
	if err := limits.CheckHost(d.info); err != nil {
		return fault.New(errdefs.ErrInvalidArgument, "limits_too_large", "this host has less than that: %w", err).
			WithHint("it has %d CPUs and %s of memory; grant less", d.info.CPUs, humanSize(d.info.Memory))
	}
	return nil
}

// humanSize says a size in whole MiB, the unit that memory is granted in.
func humanSize(bytes int64) string { return strconv.FormatInt(bytes>>20, 10) + " MiB" }

// grant puts grants into force, all or none, and returns whether that took a
// restart. With an error of the restart they are granted all the same.
func (d *Daemon) grant(ctx context.Context, p plugin.Installed, grants ...policy.Grant) (restarted bool, err error) {
	texts := make([]string, len(grants))
	for i, g := range grants {
		texts[i] = describeGrant(g)
	}
	err = d.audited(ctx, p.Key, "permission.grant", strings.Join(texts, "; "), func() error { return d.authority.Grant(ctx, p.Key, grants...) })
	if err != nil {
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
	_, err = d.supervisor.Ready(ctx, key)
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
	for _, g := range ended {
		rec := audit.Record{
			Tenant: key.Tenant, Plugin: key.ID, Actor: theDaemon, Action: "permission.expire", Target: describeGrant(g), Outcome: outcomeDone,
		}
		if err := d.note(context.Background(), rec); err != nil {
			d.logger.Error("cannot record the end of a grant", "tenant", key.Tenant, "plugin", key.ID, "error", err)
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

func describeGrant(g policy.Grant) string {
	text := string(g.Kind) + " " + g.Target
	if g.Value != "" {
		text += " " + g.Value
	}
	if !g.ExpiresAt.IsZero() {
		text += " until " + g.ExpiresAt.Format(time.RFC3339)
	}
	return text
}
