package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
)

// watchTenants watches the file and serves the call socket of every tenant,
// also of those that get their first plugin later.
func (d *Daemon) watchTenants(ctx context.Context, watching *sync.WaitGroup, handler http.Handler) {
	watched := map[string]bool{}
	for {
		for _, tenant := range slices.Concat(d.catalog.tenants(), slices.Collect(maps.Keys(d.opts.CallSockets))) {
			if !watched[tenant] {
				watched[tenant] = true
				watching.Go(func() { d.watchConfig(ctx, tenant) })
				watching.Go(func() { d.serveCalls(ctx, tenant, handler) })
			}
		}
		select {
		case <-d.installed:
		case <-ctx.Done():
			return
		}
	}
}

// watchConfig puts a person's edits of a tenant's config.json into effect.
func (d *Daemon) watchConfig(ctx context.Context, tenant string) {
	path := config.PathFor(d.home.Dir(), tenant)
	err := config.Watch(ctx, path, func(_ *config.File, err error) {
		if err != nil {
			d.logger.Error("the configuration is not in force", "tenant", tenant, "error", err)
		}
		d.applyConfig(ctx, tenant)
	})
	if err != nil && ctx.Err() == nil {
		d.logger.Error("edits of the configuration take effect at the next start only", "tenant", tenant, "error", err)
	}
}

// editConfig changes a tenant's config.json and takes the result as what is in
// force.
func (d *Daemon) editConfig(ctx context.Context, tenant string, change func(*config.Edit) error) error {
	d.configuring.Lock()
	defer d.configuring.Unlock()
	err := config.Update(ctx, config.PathFor(d.home.Dir(), tenant), change)
	d.readConfig(tenant)
	return err
}

// readConfig reads a tenant's file anew, and tells of a change and of what it
// asks for.
func (d *Daemon) readConfig(tenant string) {
	before, asked := d.catalog.whole(tenant), map[plugin.Key][]policy.Request{}
	installed := d.catalog.list(tenant)
	for _, p := range installed {
		asked[p.Key] = d.authority.Requests(p.Key)
	}
	d.catalog.readConfig(tenant)
	if bytes.Equal(before, d.catalog.whole(tenant)) {
		return // so it is at the first look, and after an edit of ours
	}
	d.events.Publish(tenant, "", v1.EventConfig, nil)
	d.hosts.Notify(tenant, "", v1.HostConfigChanged, json.RawMessage("{}"))
	for _, p := range installed {
		d.noteWidening(p.Key, asked[p.Key])
	}
}

// applyConfig switches plugins as the tenant's file now says, those that go
// off first, and replaces those whose own configuration changed. It waits for
// none of them: a plugin that does not get ready must not hold up the rest.
func (d *Daemon) applyConfig(ctx context.Context, tenant string) {
	d.configuring.Lock()
	defer d.configuring.Unlock()
	d.readConfig(tenant)
	installed := d.catalog.list(tenant)
	for _, on := range []bool{false, true} {
		for _, p := range installed {
			if d.catalog.enabled(p.Key) == on {
				d.applyEntry(ctx, p.Key, on)
			}
		}
	}
}

func (d *Daemon) applyEntry(ctx context.Context, key plugin.Key, on bool) {
	d.noteEdit(key)
	d.authority.Refresh(key)
	// One that waits for its next attempt may have failed for what was changed.
	state := d.state(key)
	restart := (d.active(key) || state == supervisor.StateBackoff || state == supervisor.StateCrashlooped) && d.stale(key)
	err := d.supervisor.SetDesired(ctx, key, on)
	if err == nil && on && restart {
		d.logger.Info("restarting for a new configuration", "tenant", key.Tenant, "plugin", key.ID)
		err = d.supervisor.Replace(ctx, key)
	}
	if err != nil && ctx.Err() == nil && !isRemoval(err) {
		d.logger.Error("cannot put a configuration into effect", "tenant", key.Tenant, "plugin", key.ID, "error", err)
	}
}

// noteEdit records that somebody edited what config.json says of a plugin. That
// may switch a gate off, so it has to be found later.
func (d *Daemon) noteEdit(key plugin.Key) {
	before, now := d.catalog.apply(key)
	if reflect.DeepEqual(before, now) {
		return
	}
	rec := audit.Record{
		Tenant: key.Tenant, Plugin: key.ID, Actor: theFile, Action: "config.change", Outcome: outcomeDone,
		Params: d.audit.HMAC(key.Tenant, now.Config),
		Details: map[string]bool{
			"enabled": now.On(), "permissionsChanged": !bytes.Equal(before.Permissions, now.Permissions),
			"configChanged": !bytes.Equal(before.Config, now.Config), "hooksChanged": !reflect.DeepEqual(before.Hooks, now.Hooks),
		},
	}
	if err := d.note(context.Background(), rec); err != nil {
		d.logger.Error("cannot record an edit of the configuration", "tenant", key.Tenant, "plugin", key.ID, "error", err)
	}
}

// isRemoval reports whether a plugin could not be told since it is being, or
// was, uninstalled.
func isRemoval(err error) bool {
	return errdefs.IsNotFound(err) || fault.Of(err).Code == supervisor.CodeRemoving
}

// noteMissing writes to config.json what was recorded and not noted there,
// since the daemon was killed in between.
func (d *Daemon) noteMissing(ctx context.Context) {
	for _, p := range d.catalog.list("") {
		if d.catalog.noted(p.Key) {
			continue
		}
		if err := d.noteInstall(ctx, p); err != nil {
			d.logger.Error("cannot note an installed plugin", "tenant", p.Key.Tenant, "plugin", p.Key.ID, "error", err)
		}
	}
}
