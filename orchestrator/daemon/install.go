package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/install"
	"github.com/ocmt/ocmt/orchestrator/install/fetch"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/store"
)

// wireInstaller makes the installer and rolls back what a killed daemon left
// half-installed.
func (d *Daemon) wireInstaller(ctx context.Context) error {
	userHome, err := os.UserHomeDir()
	if err != nil {
		userHome = d.home.Dir() // no .npmrc there: npm's own defaults
	}
	registry, err := fetch.LoadRegistry(os.Getenv, userHome)
	if err != nil {
		return err
	}
	form := plugin.FormEROFS
	if ok, why := seal.CanMount(d.home.Store()); !ok && !d.info.ImageMounts {
		d.logger.Warn("payloads are sealed as trees: nothing can mount an image here", "reason", why)
		form = plugin.FormTree
	}
	d.installer = install.New(install.Config{
		StoreDir: d.home.Store(), StagingDir: d.home.Staging(), Form: form,
		Fetcher: &fetch.Fetcher{
			Registry: registry, Runner: d.factory,
			Platform: fetch.HostPlatform(), CAFiles: fetch.HostCAFiles(os.Getenv),
		},
		Checker: d.factory, Records: records{d}, RemoveState: d.factory.RemoveState, Log: d.logger,
	})
	return d.installer.Recover(ctx)
}

// records is the installer's view of the store; the catalog and the authority
// follow it.
type records struct{ d *Daemon }

// List implements install.Records.
func (r records) List(ctx context.Context) ([]plugin.Installed, error) {
	return r.d.store.Plugins(ctx, "")
}

// Put implements install.Records: the plugin and what was consented to are on
// record together or not at all, and the audit log says before what is granted.
func (r records) Put(ctx context.Context, p plugin.Installed, consent install.Consent) error {
	if err := r.d.recordConsent(ctx, p, consent); err != nil {
		return err
	}
	review := store.Consent{Digest: consent.Digest, Actor: consent.Actor, At: time.Now().UTC()}
	rec := audit.Record{
		Tenant: p.Key.Tenant, Plugin: p.Key.ID, Action: "plugin.record", Target: p.Descriptor.Name + "@" + p.Descriptor.Version,
		Details: map[string]string{"payload": p.Payload.Digest, "integrity": p.Integrity, "review": consent.Digest},
	}
	return r.d.auditedAs(ctx, rec, func() error {
		return r.d.authority.Adopt(p.Key, consent.Grants, func() error {
			if err := r.d.store.PutPluginWithGrants(ctx, p, consent.Grants, review); err != nil {
				return err
			}
			r.d.catalog.put(p)
			return nil
		})
	})
}

// Delete implements install.Records.
func (r records) Delete(ctx context.Context, key plugin.Key) error {
	if err := r.d.store.DeletePlugin(ctx, key); err != nil {
		return err
	}
	r.d.catalog.remove(key)
	r.d.authority.Forget(key)
	r.d.refreshHandlers(key)
	r.d.services.Remove(key)
	r.d.hooks.Reset(key)
	r.d.generations.forget(key)
	r.d.learning.forget(key)
	r.d.busy.forget(key)
	return nil
}

// uninstallTimeout bounds an uninstall, which goes on when its caller leaves.
const uninstallTimeout = 2 * time.Minute

// Install implements httpapi.Plugins. The record in the store is what counts:
// once it is there the plugin is installed and supervised. A config.json that
// could not be written is reported, and the next start of the daemon writes it.
func (b pluginAPI) Install(ctx context.Context, tenant string, req httpapi.Install, progress func(v1.Progress)) (v1.PluginDetail, error) {
	d := b.d
	// A config.json that cannot be understood must not be written later on.
	if _, err := config.Load(config.PathFor(d.home.Dir(), tenant)); err != nil {
		return v1.PluginDetail{}, err
	}
	d.readConfig(tenant) // the load check is to see the present one
	r := install.Request{
		Tenant: tenant, Source: plugin.Source(req.Source), Spec: req.Spec, Confirmed: req.Confirmed, Pin: req.Pin, Link: req.Link, Replace: req.Replace,
		Review: d.reviewer(req), Progress: shown(progress),
	}
	if req.Package != nil {
		r.Upload = req.Package
	}
	var p plugin.Installed
	err := d.audited(ctx, plugin.Key{Tenant: tenant}, "plugin.install", req.Source+" "+req.Spec, func() (err error) {
		p, err = d.installer.Install(ctx, r)
		return err
	})
	if err != nil {
		return v1.PluginDetail{}, err
	}
	noted := d.noteInstall(context.WithoutCancel(ctx), p)
	return b.started(ctx, p, req.Replace, progress, noted)
}

// started starts what was installed, which must follow whoever leaves, and
// returns what became of it, with the error of what was to be noted before.
func (b pluginAPI) started(ctx context.Context, p plugin.Installed, replaces bool, progress func(v1.Progress), noted error) (v1.PluginDetail, error) {
	ctx = context.WithoutCancel(ctx)
	select {
	case b.d.installed <- struct{}{}: // the tenant may be a new one to watch
	default:
	}
	progress(v1.Progress{Stage: "start", Message: "starting " + p.Key.ID})
	err := errors.Join(noted, b.startInstalled(ctx, p.Key, replaces))
	b.d.events.Publish(p.Key.Tenant, p.Key.ID, v1.EventInstalled, b.d.describe(p))
	return b.d.detail(ctx, p), err
}

// Reinstall implements httpapi.Plugins. Until the files are back in the store
// nothing else changes: a plugin in quarantine stays in it.
func (b pluginAPI) Reinstall(ctx context.Context, tenant, ref string, req httpapi.Install, progress func(v1.Progress)) (v1.PluginDetail, error) {
	d := b.d
	before, err := d.catalog.get(tenant, ref)
	if err != nil {
		return v1.PluginDetail{}, err
	}
	d.readConfig(tenant) // a load check is to see the present one
	r := install.Request{Confirmed: req.Confirmed, Review: d.reviewer(req), Progress: shown(progress)}
	if req.Package != nil {
		r.Upload = req.Package
	}
	p := before
	err = d.audited(ctx, before.Key, "plugin.reinstall", before.Payload.Digest, func() (err error) {
		p, err = d.installer.Reinstall(ctx, before.Key, r)
		return err
	})
	if err != nil {
		return v1.PluginDetail{}, err
	}
	var noted error
	if p.Payload != before.Payload {
		noted = d.noteInstall(context.WithoutCancel(ctx), p)
	}
	return b.started(ctx, p, true, progress, noted)
}

// shown passes an install's steps on as the API shows them.
func shown(progress func(v1.Progress)) func(install.Progress) {
	return func(p install.Progress) {
		progress(v1.Progress{Stage: p.Step, Message: p.Message, Done: p.Done, Total: p.Total})
	}
}

// noteInstall writes the install to config.json, where people look for it.
func (d *Daemon) noteInstall(ctx context.Context, p plugin.Installed) error {
	err := d.editConfig(ctx, p.Key.Tenant, func(e *config.Edit) error {
		note := config.Install{Source: p.Source, Spec: p.Spec, InstalledAt: p.InstalledAt}
		return errors.Join(e.EnsureEntry(p.Key.ID), e.SetInstall(p.Key.ID, note))
	})
	if err != nil {
		return fmt.Errorf("plugin %s is installed, but config.json does not say so: %w", p.Key.ID, err)
	}
	return nil
}

// startInstalled begins to supervise a plugin, or replaces what runs of it, and
// waits until it serves.
func (b pluginAPI) startInstalled(ctx context.Context, key plugin.Key, replaces bool) error {
	on := b.d.catalog.enabled(key)
	if err := b.d.supervisor.Add(ctx, key, on); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	b.d.hooks.Reset(key)
	if replaces { // what went wrong with the one before does not count any more
		if err := b.d.supervisor.Reset(ctx, key); err != nil {
			return err
		}
	}
	if !on {
		return nil
	}
	if replaces {
		if err := b.d.supervisor.Replace(ctx, key); err != nil {
			return err
		}
		defer b.d.prune(context.WithoutCancel(ctx))
	}
	if _, err := b.d.ready(ctx, key); err != nil {
		return fmt.Errorf("plugin %s is installed, but does not run: %w", key.ID, err)
	}
	return nil
}

// Uninstall implements httpapi.Plugins: it ends the plugin, then removes it.
func (b pluginAPI) Uninstall(ctx context.Context, tenant, ref string, keepState bool) error {
	d := b.d
	p, err := d.catalog.get(tenant, ref)
	if err != nil {
		return err
	}
	if _, err := config.Load(config.PathFor(d.home.Dir(), tenant)); err != nil {
		return err
	}
	// Half an uninstall helps nobody: it goes on when the caller leaves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), uninstallTimeout)
	defer cancel()
	err = d.audited(ctx, p.Key, "plugin.uninstall", p.Spec, func() error { return d.uninstall(ctx, p.Key, keepState) })
	if _, left := d.catalog.Installed(p.Key); !left { // also if config.json still speaks of it
		d.events.Publish(p.Key.Tenant, p.Key.ID, v1.EventRemoved, nil)
	}
	return err
}

func (d *Daemon) uninstall(ctx context.Context, key plugin.Key, keepState bool) error {
	if err := d.supervisor.Remove(ctx, key); err != nil {
		return err
	}
	if err := d.installer.Uninstall(ctx, key, keepState); err != nil {
		// It stays off where something of it may be gone: nothing is while it is being updated.
		on := errdefs.IsConflict(err) && d.catalog.enabled(key)
		return errors.Join(err, d.supervisor.Add(ctx, key, on))
	}
	return d.editConfig(ctx, key.Tenant, func(e *config.Edit) error {
		return errors.Join(e.RemoveInstall(key.ID), e.RemoveEntry(key.ID))
	})
}

// prune removes payloads that nothing refers to any more, once what ran of
// them has ended.
func (d *Daemon) prune(ctx context.Context) {
	if err := d.installer.Prune(ctx); err != nil {
		d.logger.Warn("cannot remove payloads that are not needed any more", "error", err)
	}
}
