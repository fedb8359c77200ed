package daemon

import (
	"slices"
	"sync"

	"github.com/ocmt/ocmt/orchestrator/hooks"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// handlers holds the hook handlers of all plugins that are on, so that an
// event parses no registration.
type handlers struct {
	mu       sync.RWMutex
	byPlugin map[plugin.Key][]hooks.Handler
	byEvent  map[tenantEvent][]hooks.Handler // never altered in place
}

type tenantEvent struct{ tenant, event string }

func newHandlers() *handlers {
	return &handlers{byPlugin: map[plugin.Key][]hooks.Handler{}, byEvent: map[tenantEvent][]hooks.Handler{}}
}

// of returns the handlers of an event, in order. The caller must not alter it.
func (h *handlers) of(tenant, event string) []hooks.Handler {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.byEvent[tenantEvent{tenant, event}]
}

// all returns the handlers of a tenant, or of all for "".
func (h *handlers) all(tenant string) []hooks.Handler {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var list []hooks.Handler
	for key, hs := range h.byPlugin {
		if tenant == "" || key.Tenant == tenant {
			list = append(list, hs...)
		}
	}
	return list
}

// set replaces the handlers of one plugin.
func (h *handlers) set(key plugin.Key, list []hooks.Handler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	touched := map[tenantEvent]bool{}
	for _, old := range h.byPlugin[key] {
		touched[tenantEvent{key.Tenant, old.Event.Name}] = true
	}
	delete(h.byPlugin, key)
	if len(list) > 0 {
		h.byPlugin[key] = list
	}
	for _, n := range list {
		touched[tenantEvent{key.Tenant, n.Event.Name}] = true
	}
	for te := range touched {
		kept := slices.DeleteFunc(slices.Clone(h.byEvent[te]), func(o hooks.Handler) bool { return o.Key == key })
		for _, n := range list {
			if n.Event.Name == te.event {
				kept = append(kept, n)
			}
		}
		if len(kept) == 0 {
			delete(h.byEvent, te)
			continue
		}
		h.byEvent[te] = hooks.Sort(kept)
	}
}

// refreshHandlers takes what a plugin registered, what of it was granted, and
// whether it is on, into account.
func (d *Daemon) refreshHandlers(key plugin.Key) {
	p, ok := d.catalog.Installed(key)
	if !ok || !d.catalog.enabled(key) {
		d.handlers.set(key, nil)
		return
	}
	entry, _ := d.catalog.entry(key)
	allowed := d.authority.Effective(key)
	d.handlers.set(key, hooks.HandlersOf(p, func(event string) []plugin.HookRight { return allowed.Hooks[event] },
		hooks.Timeouts{All: entry.Hooks.Timeout, Events: entry.Hooks.Timeouts}))
}
