package daemon

import (
	"context"
	"errors"
	"sync"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Serve answers on the admin socket and follows the tenants' config.json files
// until ctx ends.
func (d *Daemon) Serve(ctx context.Context) error {
	socket := d.opts.Socket
	if socket == "" {
		socket = d.home.AdminSocket()
	}
	listener, err := httpapi.ListenUnix(ctx, socket, 0o600)
	if err != nil {
		return err
	}
	handler := httpapi.New(httpapi.Backend{System: system{d}, Plugins: plugins{d}, Tools: tools{d}},
		httpapi.Options{Log: d.logger, UploadDir: d.home.Run(), Stopping: ctx.Done()})
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { d.watchConfigs(ctx, &watching) })
	d.logger.Info("serving", "socket", socket, "home", d.home.Dir(), "version", Version)
	return httpapi.Serve(ctx, listener, handler, d.logger)
}

// watchConfigs watches the file of every tenant, also of those that get their
// first plugin later.
func (d *Daemon) watchConfigs(ctx context.Context, watching *sync.WaitGroup) {
	watched := map[string]bool{}
	for {
		for _, tenant := range d.catalog.tenants() {
			if !watched[tenant] {
				watched[tenant] = true
				watching.Go(func() { d.watchConfig(ctx, tenant) })
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
	err := config.Watch(ctx, path, func(file *config.File, err error) {
		if err != nil {
			d.logger.Error("the configuration is not in force", "tenant", tenant, "error", err)
		}
		d.applyConfig(ctx, tenant, func() (*config.File, error) { return file, err })
	})
	if err != nil && ctx.Err() == nil {
		d.logger.Error("edits of the configuration take effect at the next start only", "tenant", tenant, "error", err)
	}
}

// applyConfig switches plugins as the tenant's file now says, and restarts
// those whose own configuration changed.
func (d *Daemon) applyConfig(ctx context.Context, tenant string, load func() (*config.File, error)) {
	before := map[plugin.Key]config.Entry{}
	for _, p := range d.catalog.list(tenant) {
		before[p.Key], _ = d.catalog.entry(p.Key)
	}
	d.catalog.setConfig(tenant, load)
	for key, old := range before {
		now, _ := d.catalog.entry(key)
		on := d.catalog.enabled(key)
		ctx, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		err := d.supervisor.SetDesired(ctx, key, on)
		if err == nil && on && !sameConfig(old, now) {
			d.logger.Info("restarting for a new configuration", "tenant", tenant, "plugin", key.ID)
			err = d.supervisor.Restart(ctx, key)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			d.logger.Error("cannot put a configuration into effect", "tenant", tenant, "plugin", key.ID, "error", err)
		}
	}
}
