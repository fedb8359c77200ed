package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/gateway"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/store"
)

// catalog is what is installed and what people configured of it, held in
// memory so that a call reads no file. The store and the config.json files
// stay the truth: whoever changes them tells the catalog.
type catalog struct {
	home  home.Home
	store *store.Store

	mu        sync.RWMutex
	installed map[plugin.Key]plugin.Installed
	files     map[string]tenantConfig
}

// tenantConfig is the last config.json of a tenant that could be understood,
// and why the present one cannot.
type tenantConfig struct {
	file   *config.File
	broken error
}

func loadCatalog(ctx context.Context, h home.Home, s *store.Store) (*catalog, error) {
	c := &catalog{home: h, store: s, installed: map[plugin.Key]plugin.Installed{}, files: map[string]tenantConfig{}}
	all, err := s.Plugins(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		c.installed[p.Key] = p
	}
	for _, tenant := range c.tenants() {
		c.readConfig(tenant)
	}
	return c, nil
}

// tenants returns the default tenant and every tenant that has a plugin.
func (c *catalog) tenants() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	tenants := []string{plugin.DefaultTenant}
	for key := range c.installed {
		if !slices.Contains(tenants, key.Tenant) {
			tenants = append(tenants, key.Tenant)
		}
	}
	return tenants
}

// readConfig reads a tenant's config.json anew. A file that cannot be
// understood leaves the one before in force; where there is none before,
// plugins of the tenant stay off: fail closed.
func (c *catalog) readConfig(tenant string) {
	file, err := config.Load(config.PathFor(c.home.Dir(), tenant))
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.files[tenant] = tenantConfig{file: c.files[tenant].file, broken: err}
		return
	}
	c.files[tenant] = tenantConfig{file: file}
}

// get returns an installed plugin by its id, or by its package name.
func (c *catalog) get(tenant, ref string) (plugin.Installed, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if p, ok := c.installed[plugin.Key{Tenant: tenant, ID: ref}]; ok {
		return p, nil
	}
	var ids []string
	for key, p := range c.installed {
		if key.Tenant != tenant {
			continue
		}
		if p.Descriptor.Name == ref {
			return p, nil
		}
		ids = append(ids, key.ID)
	}
	err := fault.New(errdefs.ErrNotFound, "plugin_not_found", "there is no plugin %.100q", ref)
	if near := gateway.Near(ref, ids); len(near) > 0 {
		return plugin.Installed{}, err.WithHint("did you mean %s? `ocmt plugins list` shows all", strings.Join(near, " or "))
	}
	return plugin.Installed{}, err.WithHint("`ocmt plugins list` shows what is installed")
}

// list returns the plugins of a tenant, or of all for "", in order.
func (c *catalog) list(tenant string) []plugin.Installed {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := []plugin.Installed{}
	for key, p := range c.installed {
		if tenant == "" || key.Tenant == tenant {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b plugin.Installed) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return list
}

func (c *catalog) put(p plugin.Installed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.installed[p.Key] = p
}

// serve notes what a plugin registered when it was started, unless another
// version of it was installed in the meantime, and reports whether its tools
// are others than before.
func (c *catalog) serve(started plugin.Installed, surface plugin.Surface) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.installed[started.Key]
	if !ok || p.Payload.Digest != started.Payload.Digest {
		return false
	}
	changed = !slices.EqualFunc(p.Surface.Tools(), surface.Tools(), func(a, b plugin.Tool) bool { return a.Name == b.Name })
	p.Surface.Registrations = surface.Registrations
	c.installed[started.Key] = p
	return changed
}

func (c *catalog) remove(key plugin.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.installed, key)
}

// enabled reports whether config.json leaves the plugin on. Without a
// config.json that was ever understood it is off.
func (c *catalog) enabled(key plugin.Key) bool {
	entry, ok := c.entry(key)
	return ok && entry.On()
}

// entry returns the plugin's entry in config.json, and false when no
// configuration of the tenant was ever understood.
func (c *catalog) entry(key plugin.Key) (config.Entry, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	file := c.files[key.Tenant].file
	if file == nil {
		return config.Entry{}, false
	}
	entry, _ := file.Entry(key.ID)
	return entry, true
}

// noted reports whether config.json says that the plugin is installed. One
// that cannot be understood is left alone.
func (c *catalog) noted(key plugin.Key) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	f := c.files[key.Tenant]
	if f.broken != nil || f.file == nil {
		return true
	}
	_, ok := f.file.Install(key.ID)
	return ok
}

// broken returns why configurations cannot be understood, by tenant.
func (c *catalog) broken() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var notes []string
	for tenant, f := range c.files {
		if f.broken != nil {
			notes = append(notes, "the configuration of tenant "+tenant+" is not in force: "+f.broken.Error())
		}
	}
	slices.Sort(notes)
	return notes
}

// view returns the configuration as the plugin may see it: its own entry and
// nothing else.
func (c *catalog) view(key plugin.Key) (whole, own json.RawMessage, err error) {
	entry, _ := c.entry(key)
	own = entry.Config
	if own == nil {
		own = json.RawMessage("{}")
	}
	whole, err = json.Marshal(map[string]any{"plugins": map[string]any{"entries": map[string]any{
		key.ID: map[string]any{"enabled": true, "config": own},
	}}})
	return whole, own, err
}

// sameConfig reports whether two entries configure a plugin alike.
func sameConfig(a, b config.Entry) bool { return bytes.Equal(a.Config, b.Config) }
