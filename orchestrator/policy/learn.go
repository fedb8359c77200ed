package policy

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// WishedBy returns the ask for what a plugin in learn mode reached for, as its
// runner reports it: of kind "network", "env", "secret" or "config".
// InvalidArgument for what nobody can grant; the runner is not trusted, and a
// person reads what becomes of this.
func WishedBy(kind, target string) (Ask, error) {
	class := Sensitive
	switch Kind(kind) {
	case Network:
		return wishedDestination(target)
	case Env, Config:
	case Secret:
		class = NeedsDetail
	default:
		return Ask{}, fault.New(errdefs.ErrInvalidArgument, "invalid_wish", "cannot learn %q: plugins are not heard on it", plugin.Printable(kind, 50)).
			WithHint("the kinds are network, env, secret and config")
	}
	g, err := ParseGrant(kind, target, "")
	if err != nil {
		return Ask{}, err
	}
	return Ask{Kind: g.Kind, Target: g.Target, Origin: OriginRuntime, Class: class, Reason: "It looked for it."}, nil
}

func wishedDestination(target string) (Ask, error) {
	none := refuse(Grant{Kind: Network, Target: target}, "is no destination", "write host:port")
	i := strings.LastIndexByte(target, ':')
	port, err := strconv.ParseUint(target[i+1:], 10, 16)
	if i < 0 || err != nil || port == 0 {
		return Ask{}, none
	}
	a, err := Tried(target[:i], uint16(port))
	if err != nil {
		return Ask{}, err
	}
	// Text that is not UTF-8 has an ASCII form that is no name itself.
	if again, err := readRule(a.Target, ""); err != nil || again.target() != a.Target {
		return Ask{}, none
	}
	return a, nil
}

// Smallest returns the smallest manifest that asks for what was wished and for
// nothing else, normalised as [plugin.ReadPermissions] leaves it. What cannot
// be learned, the workspace, the resources and the size of the state, is as in
// the manifest that the plugin has. What no manifest can hold is left out:
// registrations, addresses, and what lies beyond the bounds of one.
func Smallest(d plugin.Descriptor, wished []Ask) plugin.Permissions {
	p := plugin.Permissions{Workspace: d.Permissions.Workspace, State: d.Permissions.State, Resources: d.Permissions.Resources}
	for limit := plugin.MaxPermissionList; ; limit /= 2 {
		p.Network = smallestNetwork(wished, limit)
		p.Secrets = wishedNames(wished, Secret, limit)
		p.Env = wishedNames(wished, Env, limit)
		p.Host = wishedNames(wished, Host, limit)
		p.Config = smallestConfig(d.ID, wished, limit)
		p.Hooks = wishedHooks(wished, limit)
		if data, err := json.Marshal(p); err == nil && len(data) <= plugin.MaxPermissionFile || limit == 0 {
			return p
		}
	}
}

// wishedNames returns the targets of a kind that has no values, sorted.
func wishedNames(wished []Ask, kind Kind, limit int) []string {
	var names []string
	for _, a := range wished {
		if a.Kind != kind {
			continue
		}
		if g, err := ParseGrant(string(kind), a.Target, ""); err == nil {
			names = append(names, g.Target)
		}
	}
	slices.Sort(names)
	return atMostOf(slices.Compact(names), limit)
}

// atMostOf returns the first of a list, nil for none.
func atMostOf[T any](list []T, limit int) []T {
	if n := min(len(list), limit); n > 0 {
		return list[:n:n]
	}
	return nil
}

// smallestConfig returns the wished paths without those below another one and
// those of the plugin's own entry, which it always sees.
func smallestConfig(id string, wished []Ask, limit int) []string {
	var paths []string
	own := "plugins.entries." + id
	for _, path := range wishedNames(wished, Config, len(wished)) {
		below := func(shorter string) bool { return withinPath(path, shorter) }
		if !below(own) && !slices.ContainsFunc(paths, below) { // a path sorts before those below it
			paths = append(paths, path)
		}
	}
	return atMostOf(paths, limit)
}

func wishedHooks(wished []Ask, limit int) map[string][]plugin.HookRight {
	rights := map[string][]string{}
	for _, a := range wished {
		if a.Kind != Hook {
			continue
		}
		if g, err := ParseGrant(string(Hook), a.Target, a.Value); err == nil {
			rights[g.Target] = append(rights[g.Target], g.Value)
		}
	}
	var hooks map[string][]plugin.HookRight
	for _, event := range atMostOf(slices.Sorted(maps.Keys(rights)), limit) {
		if hooks == nil {
			hooks = map[string][]plugin.HookRight{}
		}
		hooks[event] = parseRights(event, strings.Join(rights[event], ","))
	}
	return hooks
}

// smallestNetwork returns the wished destinations, one entry for all ports of
// a host that may be used alike.
func smallestNetwork(wished []Ask, limit int) []plugin.Network {
	var out []plugin.Network
	for _, r := range wishedRules(wished) {
		same := slices.IndexFunc(out, func(n plugin.Network) bool {
			return n.Host == r.Host && n.Plaintext == r.Plaintext && slices.Equal(n.Rules, r.Requests)
		})
		if same < 0 {
			same = len(out)
			out = append(out, plugin.Network{Host: r.Host, Rules: r.Requests, Plaintext: r.Plaintext})
		}
		if n := &out[same]; len(n.Ports) < limit {
			n.Ports = append(n.Ports, r.Port)
		}
	}
	return atMostOf(out, limit)
}

// wishedRules returns the wished destinations without those that others cover,
// one of each host and port, sorted by both.
func wishedRules(wished []Ask) []NetworkRule {
	byTarget := map[string]NetworkRule{}
	for _, a := range wished {
		if a.Kind != Network {
			continue
		}
		r, err := readRule(a.Target, a.Value)
		if err != nil || len(r.Addresses) > 0 {
			continue
		}
		if other, ok := byTarget[r.target()]; ok {
			r = r.join(other)
		}
		byTarget[r.target()] = r
	}
	all := slices.Collect(maps.Values(byTarget))
	for i := range all {
		all[i].Requests = atMostOf(all[i].Requests, plugin.MaxPermissionList)
	}
	out := slices.DeleteFunc(slices.Clone(all), func(r NetworkRule) bool {
		return slices.ContainsFunc(all, func(other NetworkRule) bool { return other.target() != r.target() && other.covers(r) })
	})
	slices.SortFunc(out, func(a, b NetworkRule) int {
		if d := strings.Compare(a.Host, b.Host); d != 0 {
			return d
		}
		return int(a.Port) - int(b.Port)
	})
	return out
}

// join returns the rule for what either of two for one destination allows.
func (r NetworkRule) join(other NetworkRule) NetworkRule {
	r.Plaintext = r.Plaintext || other.Plaintext
	if len(r.Requests) == 0 || len(other.Requests) == 0 {
		r.Requests = nil
		return r
	}
	r.Requests = smallest(slices.Concat(r.Requests, other.Requests))
	return r
}
