package daemon

import (
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
	"github.com/ocmt/ocmt/orchestrator/policy"
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
	offers    map[plugin.Key]offer
	files     map[string]tenantConfig
	applied   map[plugin.Key]config.Entry // what was put into effect last
}

// offer is what of a plugin's registrations may be used.
type offer struct {
	registrations []plugin.Registration
	refused       map[string]bool // tools that nobody accepted
}

// tenantConfig is the last config.json of a tenant that could be understood,
// and why the present one cannot.
type tenantConfig struct {
	file   *config.File
	broken error
}

func loadCatalog(ctx context.Context, h home.Home, s *store.Store) (*catalog, error) {
	c := &catalog{home: h, store: s, installed: map[plugin.Key]plugin.Installed{},
		offers: map[plugin.Key]offer{}, files: map[string]tenantConfig{}, applied: map[plugin.Key]config.Entry{}}
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
	for _, p := range all {
		c.apply(p.Key)
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
// version of it was installed in the meantime.
func (c *catalog) serve(started plugin.Installed, surface plugin.Surface) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.installed[started.Key]
	if !ok || p.Payload.Digest != started.Payload.Digest {
		return
	}
	p.Surface.Registrations = surface.Registrations
	c.installed[started.Key] = p
}

func (c *catalog) remove(key plugin.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.installed, key)
	delete(c.offers, key)
	delete(c.applied, key)
}

// Installed implements authority.Plugins.
func (c *catalog) Installed(key plugin.Key) (plugin.Installed, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p, ok := c.installed[key]
	return p, ok
}

// Narrowing implements authority.Plugins. A configuration that was never
// understood takes everything away.
func (c *catalog) Narrowing(key plugin.Key) policy.Narrowing {
	entry, _ := c.entry(key)
	n, err := policy.ParseNarrowing(entry.Permissions, entry.Hooks.AllowConversationAccess, entry.Hooks.AllowPromptInjection)
	if err != nil { // package config has refused such a file
		n, _ = policy.ParseNarrowing(nothing, nil, nil)
	}
	return n
}

// nothing is the narrowing that leaves nothing.
var nothing = json.RawMessage(`{"network":[],"workspace":"none","secrets":[],"env":[],"config":[],"hooks":{},"host":[]}`)

// offer notes what of the plugin's registrations may be used.
func (c *catalog) offer(key plugin.Key, allowed policy.Effective) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.installed[key]
	if !ok {
		return
	}
	o := offer{registrations: []plugin.Registration{}, refused: map[string]bool{}}
	for _, r := range p.Surface.Registrations {
		switch {
		case registrationAllowed(allowed, r):
			o.registrations = append(o.registrations, r)
		case r.Kind == plugin.KindTool:
			o.refused[r.Name] = true
		}
	}
	c.offers[key] = o
}

func registrationAllowed(allowed policy.Effective, r plugin.Registration) bool {
	if r.Kind == plugin.KindHook {
		return len(allowed.Rights(r.Name)) > 0
	}
	return allowed.MayRegister(r.Kind, r.Name)
}

// offered returns the plugin with what of its registrations may be used.
func (c *catalog) offered(p plugin.Installed) plugin.Installed {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p.Surface.Registrations = c.offers[p.Key].registrations
	return p
}

// mayCall refuses a tool that the plugin registered and nobody accepted. What
// there is not, others refuse.
func (c *catalog) mayCall(key plugin.Key, tool string) error {
	c.mu.RLock()
	refused := c.offers[key].refused[tool]
	c.mu.RUnlock()
	if !refused {
		return nil
	}
	return fault.New(errdefs.ErrPermissionDenied, "tool_not_accepted", "plugin %s registers the tool %q, which nobody has accepted", key.ID, tool).
		WithHint("see it with `ocmt plugins permissions %[1]s`, accept it with `ocmt plugins grant %[1]s registration tool:%[2]s`", key.ID, tool)
}

// inOrder returns the plugins of a tenant in the order of their installation.
func (c *catalog) inOrder(tenant string) []plugin.Installed {
	list := c.list(tenant)
	slices.SortStableFunc(list, func(a, b plugin.Installed) int { return a.FirstInstalled().Compare(b.FirstInstalled()) })
	return list
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

// apply notes that what the file says of a plugin is put into effect, and
// returns that and what it was the last time: the same, of a plugin that has
// just been installed.
func (c *catalog) apply(key plugin.Key) (before, now config.Entry) {
	now, _ = c.entry(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	before, ok := c.applied[key]
	if !ok {
		before = now
	}
	c.applied[key] = now
	return before, now
}

// switched notes that the plugin's switch was moved by a request, which is on
// record as such.
func (c *catalog) switched(key plugin.Key) {
	now, _ := c.entry(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, ok := c.applied[key]; ok {
		before.Enabled = now.Enabled
		c.applied[key] = before
	}
}

// understood refuses to speak for the plugins of a tenant whose config.json was
// never understood: they are off, and with them what would stop an event.
func (c *catalog) understood(tenant string) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	f := c.files[tenant]
	if f.file != nil || f.broken == nil {
		return nil
	}
	for key := range c.installed {
		if key.Tenant == tenant {
			return fault.New(errdefs.ErrFailedPrecondition, "config_broken", "the plugins of tenant %s are off: %w", tenant, f.broken).
				WithHint("mend config.json; it takes effect at once")
		}
	}
	return nil
}

// whole returns the tenant's configuration that is in force, as strict JSON.
func (c *catalog) whole(tenant string) json.RawMessage {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if file := c.files[tenant].file; file != nil {
		return file.Raw()
	}
	return json.RawMessage("{}")
}

// view returns the configuration as the plugin may see it: its own entry, and
// the paths that were granted.
func (c *catalog) view(key plugin.Key, paths []string) (whole, own json.RawMessage, err error) {
	all := c.whole(key.Tenant)
	entry, _ := c.entry(key)
	own = entry.Config
	if own == nil {
		own = json.RawMessage("{}")
	}
	seen, err := json.Marshal(map[string]any{"enabled": true, "config": own})
	if err != nil {
		return nil, nil, err
	}
	whole, err = policy.ConfigView(all, key.ID, seen, paths)
	return whole, own, err
}
