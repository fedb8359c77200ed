package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
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
		Checker: d.factory, Records: records{d.store}, RemoveState: d.factory.RemoveState, Log: d.logger,
	})
	return d.installer.Recover(ctx)
}

// records is the store as the installer sees it.
type records struct{ *store.Store }

func (r records) List(ctx context.Context) ([]plugin.Installed, error) { return r.Plugins(ctx, "") }

func (r records) Put(ctx context.Context, p plugin.Installed) error { return r.PutPlugin(ctx, p) }

func (r records) Delete(ctx context.Context, key plugin.Key) error { return r.DeletePlugin(ctx, key) }

// Install implements httpapi.Plugins. The record in the store is what counts;
// what follows it (config.json, the first start) is repeated or reported, but
// the plugin stays installed.
func (b plugins) Install(ctx context.Context, tenant string, req httpapi.Install, progress func(v1.Progress)) (v1.PluginDetail, error) {
	d := b.d
	// A config.json that cannot be understood must not be written later on.
	path := config.PathFor(d.home.Dir(), tenant)
	if _, err := config.Load(path); err != nil {
		return v1.PluginDetail{}, err
	}
	r := install.Request{
		Tenant: tenant, Source: plugin.Source(req.Source), Spec: req.Spec, Confirmed: req.Confirmed,
		Progress: func(p install.Progress) {
			progress(v1.Progress{Stage: p.Step, Message: p.Message, Done: p.Done, Total: p.Total})
		},
	}
	if req.Package != nil {
		r.Upload = req.Package
	}
	p, err := d.installer.Install(ctx, r)
	if err != nil {
		return v1.PluginDetail{}, err
	}
	if req.Pin && p.Source == plugin.SourceNPM {
		p.Spec = p.Descriptor.Name + "@" + p.Descriptor.Version
	}
	d.catalog.put(p)
	ctx = context.WithoutCancel(ctx) // installed: the rest must follow
	if err := d.noteInstall(ctx, path, p); err != nil {
		return v1.PluginDetail{}, err
	}
	select {
	case d.installed <- struct{}{}: // the tenant may be a new one to watch
	default:
	}
	progress(v1.Progress{Stage: "start", Message: "starting " + p.Key.ID})
	err = b.firstStart(ctx, p.Key)
	return d.detail(p), err
}

// noteInstall writes the install to config.json, where people look for it.
func (d *Daemon) noteInstall(ctx context.Context, path string, p plugin.Installed) error {
	err := config.Update(ctx, path, func(e *config.Edit) error {
		note := config.Install{Source: p.Source, Spec: p.Spec, InstalledAt: p.InstalledAt}
		return errors.Join(e.EnsureEntry(p.Key.ID), e.SetInstall(p.Key.ID, note))
	})
	d.catalog.readConfig(p.Key.Tenant)
	if err != nil {
		return fmt.Errorf("plugin %s is installed, but config.json does not say so: %w", p.Key.ID, err)
	}
	return nil
}

// firstStart begins to supervise a plugin and waits until it serves.
func (b plugins) firstStart(ctx context.Context, key plugin.Key) error {
	on := b.d.catalog.enabled(key)
	if err := b.d.supervisor.Add(ctx, key, on); err != nil || !on {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if _, err := b.d.supervisor.Ready(ctx, key); err != nil {
		return fmt.Errorf("plugin %s is installed, but does not run: %w", key.ID, err)
	}
	return nil
}

// Uninstall implements httpapi.Plugins: it ends the plugin, then removes it.
func (b plugins) Uninstall(ctx context.Context, tenant, ref string, keepState bool) error {
	d := b.d
	p, err := d.catalog.get(tenant, ref)
	if err != nil {
		return err
	}
	path := config.PathFor(d.home.Dir(), tenant)
	if _, err := config.Load(path); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // half an uninstall helps nobody
	if err := d.supervisor.Remove(ctx, p.Key); err != nil {
		return err
	}
	if err := d.installer.Uninstall(ctx, p.Key, keepState); err != nil {
		return errors.Join(err, d.supervisor.Add(ctx, p.Key, false))
	}
	d.catalog.remove(p.Key)
	err = config.Update(ctx, path, func(e *config.Edit) error {
		return errors.Join(e.RemoveInstall(p.Key.ID), e.RemoveEntry(p.Key.ID))
	})
	d.catalog.readConfig(tenant)
	return err
}
