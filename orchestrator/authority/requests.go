package authority

import (
	"context"
	"slices"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// Wish notes what a running plugin tried and may not, as a request. It
// reports whether that is news; of what is not installed it is not.
func (a *Authority) Wish(key plugin.Key, ask policy.Ask) bool {
	if _, ok := a.cfg.Plugins.Installed(key); !ok {
		return false
	}
	u := a.unit(key)
	a.mu.Lock()
	defer a.mu.Unlock()
	same := func(w policy.Ask) bool { return w.Kind == ask.Kind && w.Target == ask.Target && w.Value == ask.Value }
	if slices.ContainsFunc(u.wishes, same) {
		return false
	}
	if len(u.wishes) >= maxWishes {
		u.wishes = u.wishes[1:]
	}
	u.wishes = append(slices.Clip(u.wishes), ask)
	return true
}

// Requests returns what the plugin asks for and was neither granted nor
// denied: by its manifest, by what it registered, by config.json, and by what
// it tried while it ran.
func (a *Authority) Requests(key plugin.Key) []policy.Request {
	installed, ok := a.cfg.Plugins.Installed(key)
	if !ok {
		return nil
	}
	narrowing, limits := a.cfg.Plugins.Narrowing(key), a.cfg.Limits(installed.Source)
	a.mu.RLock()
	defer a.mu.RUnlock()
	u := a.units[key]
	if u == nil {
		u = &unit{}
	}
	now := time.Now()
	asked := policy.Asked(installed.Descriptor, installed.Surface, limits)
	granted := policy.Merge(u.grants, u.run)
	asks := slices.Concat(policy.Wanted(narrowing, asked, granted, limits, now), u.wishes, asked)
	return policy.Pending(key, asks, granted, u.denied, now)
}

// Request finds a request by its id.
func (a *Authority) Request(key plugin.Key, id string) (policy.Request, bool) {
	for _, r := range a.Requests(key) {
		if r.ID == id {
			return r, true
		}
	}
	return policy.Request{}, false
}

// Deny removes a request from those that wait, for good.
func (a *Authority) Deny(ctx context.Context, key plugin.Key, request, actor string) error {
	u := a.hold(key)
	defer u.changing.Unlock()
	if err := a.cfg.Store.PutDenial(ctx, key, request, actor, time.Now().UTC()); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	u.denied = with(u.denied, request)
	return nil
}
