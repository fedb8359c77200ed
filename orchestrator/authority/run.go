package authority

import (
	"slices"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// AllowRun puts a grant into force until [Authority.EndRun] of that instance,
// in place of what is granted about the same. It is kept in memory alone, and
// must be of a kind that takes effect on a running plugin. What was allowed for
// another instance ends.
func (a *Authority) AllowRun(key plugin.Key, instance string, g policy.Grant) {
	u := a.hold(key)
	defer u.changing.Unlock()
	g.Origin = policy.OriginRun
	a.update(key, u, func() {
		if u.instance != instance {
			u.run, u.instance = nil, instance
		}
		u.run = policy.Merge(u.run, []policy.Grant{g})
	})
}

// EndRun takes back what was allowed until an instance ends, for "" until any
// does.
func (a *Authority) EndRun(key plugin.Key, instance string) {
	if len(a.RunGrants(key)) == 0 {
		return
	}
	u := a.hold(key)
	defer u.changing.Unlock()
	if instance == "" || instance == u.instance {
		a.update(key, u, func() { u.run = nil })
	}
}

// RunGrants returns what is allowed until the plugin's instance ends.
func (a *Authority) RunGrants(key plugin.Key) []policy.Grant {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if u := a.units[key]; u != nil {
		return slices.Clone(u.run)
	}
	return nil
}
