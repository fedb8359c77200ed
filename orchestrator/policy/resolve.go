package policy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// WorkspaceDir is a directory that a plugin may use.
type WorkspaceDir struct {
	Path     string
	ReadOnly bool
}

// Effective is what a plugin may do now. The zero Effective allows nothing.
type Effective struct {
	Network    []NetworkRule  // one per host and port, sorted
	Workspaces []WorkspaceDir // sorted by path
	Secrets    []string       // sorted, as the three after it
	Env        []string
	Config     []string
	Host       []string
	Hooks      map[string][]plugin.HookRight // by event, in the event's order
	// Resources are the limits that apply: all fields are set.
	Resources Limits
	// Registered holds "kind:name" of what may be used.
	Registered map[string]bool
	// NextExpiry is when the first of the grants in force ends; zero if none
	// does.
	NextExpiry time.Time
	// Granted are the grants in force, with what the narrowing left of them,
	// and Narrowed those that it took something from, as they were granted.
	Granted  []Grant
	Narrowed []Grant
}

// MayRegister reports whether what the plugin registered under that kind and
// name may be used. Hooks are in e.Hooks.
func (e Effective) MayRegister(kind, name string) bool {
	return e.Registered[kind+":"+name] && !strings.Contains(kind, ":") // or "a:b" and "c" would be "a" and "b:c"
}

// Rights returns what the plugin's handlers may do with an event; none means
// that they are not called.
func (e Effective) Rights(event string) []plugin.HookRight { return e.Hooks[event] }

// Resolve returns what is in force at now: the grants that have not ended,
// narrowed, with the limits of a plugin that has no grant for more.
func Resolve(now time.Time, granted []Grant, n Narrowing, limits Limits) Effective {
	e := Effective{Hooks: map[string][]plugin.HookRight{}, Registered: map[string]bool{}, Resources: limits}
	for _, g := range granted {
		if g.Expired(now) {
			continue
		}
		// What is not in its canonical spelling was not checked by anybody.
		if checked, err := ParseGrant(string(g.Kind), g.Target, g.Value); err != nil || checked.Target != g.Target || checked.Value != g.Value {
			continue
		}
		kept := n.keep(g)
		if !slices.Contains(kept, g) {
			e.Narrowed = append(e.Narrowed, g)
		}
		for _, k := range kept {
			e.apply(k)
		}
		if len(kept) > 0 && !g.ExpiresAt.IsZero() && (e.NextExpiry.IsZero() || g.ExpiresAt.Before(e.NextExpiry)) {
			e.NextExpiry = g.ExpiresAt
		}
		e.Granted = append(e.Granted, kept...)
	}
	e.limit(n.permissions)
	e.sort()
	return e
}

// apply adds a grant. Its spelling was checked.
func (e *Effective) apply(g Grant) {
	switch g.Kind {
	case Network:
		e.addRule(g)
	case Workspace:
		e.Workspaces = append(e.Workspaces, WorkspaceDir{Path: g.Target, ReadOnly: g.Value != plugin.WorkspaceRW})
	case Secret:
		e.Secrets = append(e.Secrets, g.Target)
	case Env:
		e.Env = append(e.Env, g.Target)
	case Config:
		e.Config = append(e.Config, g.Target)
	case Host:
		e.Host = append(e.Host, g.Target)
	case Hook:
		e.Hooks[g.Target] = parseRights(g.Target, g.Value)
	case Resource:
		switch g.Target {
		case Memory:
			e.Resources.Memory = int64(amount(Memory, g.Value))
		case CPUs:
			e.Resources.CPUs = amount(CPUs, g.Value)
		case PIDs:
			e.Resources.PIDs = int64(amount(PIDs, g.Value))
		case State:
			e.Resources.State = int64(amount(State, g.Value))
		}
	case Registration:
		e.Registered[g.Target] = true
	}
}

// addRule adds a destination to the one of the same host and port, which a
// narrowed wildcard and a grant of the name itself can both lead to.
func (e *Effective) addRule(g Grant) {
	rule, err := readRule(g.Target, g.Value)
	if err != nil {
		return
	}
	i := slices.IndexFunc(e.Network, func(r NetworkRule) bool { return r.Host == rule.Host && r.Port == rule.Port })
	if i < 0 {
		e.Network = append(e.Network, rule)
		return
	}
	same := &e.Network[i]
	same.Plaintext = same.Plaintext || rule.Plaintext
	if len(same.Requests) == 0 || len(rule.Requests) == 0 {
		same.Requests = nil // one of the two lets every request pass
	} else {
		same.Requests = smallest(slices.Concat(same.Requests, rule.Requests))
	}
	same.Addresses = append(slices.Clone(same.Addresses), rule.Addresses...)
	slices.SortFunc(same.Addresses, netip.Prefix.Compare)
	same.Addresses = slices.Compact(same.Addresses)
}

// limit lowers the limits to those of config.json, also below the limits of a
// plugin without grants.
func (e *Effective) limit(p plugin.Permissions) {
	r := p.Resources
	if r.Memory > 0 {
		e.Resources.Memory = min(e.Resources.Memory, int64(r.Memory))
	}
	if r.CPUs > 0 {
		e.Resources.CPUs = min(e.Resources.CPUs, r.CPUs)
	}
	if r.PIDs > 0 {
		e.Resources.PIDs = min(e.Resources.PIDs, r.PIDs)
	}
	if p.State.Max > 0 {
		e.Resources.State = min(e.Resources.State, int64(p.State.Max))
	}
}

func (e *Effective) sort() {
	slices.SortFunc(e.Network, func(a, b NetworkRule) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
	slices.SortFunc(e.Workspaces, func(a, b WorkspaceDir) int { return strings.Compare(a.Path, b.Path) })
	for _, list := range []*[]string{&e.Secrets, &e.Env, &e.Config, &e.Host} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	for _, list := range [][]Grant{e.Granted, e.Narrowed} {
		slices.SortStableFunc(list, func(a, b Grant) int { return compare(a.Kind, b.Kind, a.Target, b.Target, a.Value, b.Value) })
	}
}

// RestartNeeded reports whether going from before to after needs a restart of
// the plugin: only the network and hooks take effect on a running one.
func RestartNeeded(before, after Effective) bool {
	return !slices.Equal(before.Workspaces, after.Workspaces) ||
		!slices.Equal(before.Secrets, after.Secrets) ||
		!slices.Equal(before.Env, after.Env) ||
		!slices.Equal(before.Config, after.Config) ||
		!slices.Equal(before.Host, after.Host) ||
		before.Resources != after.Resources ||
		!maps.Equal(before.Registered, after.Registered)
}
