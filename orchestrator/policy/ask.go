package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Asked returns all that a plugin asks for, sorted: what its manifest says
// and what it registered when it was loaded, with what its wishes seem to be.
// A hook that the manifest does not mention asks for all rights of its event;
// one of an event that no host sends asks for nothing.
func Asked(d plugin.Descriptor, s plugin.Surface, limits Limits) []Ask {
	asks := manifestAsks(d.Permissions, OriginManifest, limits)
	for _, r := range s.Registrations {
		if r.Kind != plugin.KindHook {
			if g, err := ParseGrant(string(Registration), r.Kind+":"+r.Name, ""); err == nil {
				asks = append(asks, Ask{Kind: Registration, Target: g.Target, Origin: OriginRegistration, Class: Basic})
			}
			continue
		}
		if _, mentioned := d.Permissions.Hooks[r.Name]; mentioned {
			continue
		}
		if event, err := plugin.LookupEvent(r.Name); err == nil {
			asks = append(asks, hookAsk(event, event.Rights, OriginRegistration))
		}
	}
	wishes := make([]Ask, len(d.Wishes))
	for i, w := range d.Wishes {
		wishes[i] = Ask{Kind: Kind(w.Kind), Target: w.Target, Origin: OriginManifest, Class: Wish, Reason: w.Reason}
	}
	return normalAsks(append(asks, beyond(wishes, asks)...))
}

// maxUnused is how many registrations are named that nobody can grant.
const maxUnused = 16

// Unused says which registrations nobody can grant, and so are never called.
// It keeps silent about those without a name, of which there may be many.
func Unused(s plugin.Surface) []plugin.Diagnostic {
	var list []plugin.Diagnostic
	seen := map[string]bool{}
	for _, r := range s.Registrations {
		shown := plugin.Printable(r.Name, maxShown)
		text := fmt.Sprintf("the %s %s is never used: its name is too long, or cannot be shown", r.Kind, shown)
		var err error
		if r.Kind == plugin.KindHook {
			text = fmt.Sprintf("the hook of %s is never called: no host sends such an event", shown)
			_, err = plugin.LookupEvent(r.Name)
		} else {
			_, err = ParseGrant(string(Registration), r.Kind+":"+r.Name, "")
		}
		if err == nil || r.Name == "" || seen[text] {
			continue
		}
		seen[text] = true
		if len(list) < maxUnused {
			list = append(list, plugin.Diagnostic{Level: "warn", Message: text})
		}
	}
	return list
}

// Tried returns the ask for a destination that a running plugin tried to
// reach. InvalidArgument for what cannot be granted, such as an address.
func Tried(host string, port uint16) (Ask, error) {
	rule, err := readRule(host+":"+strconv.Itoa(int(port)), "")
	if err != nil {
		return Ask{}, err
	}
	a := Ask{Kind: Network, Target: rule.target(), Origin: OriginRuntime, Class: Sensitive, Reason: "It tried to."}
	if needsAddresses(rule.Host) {
		a.Class = NeedsDetail
	}
	return a, nil
}

// TriedRequest returns the ask for a request that a running plugin made to a
// destination which it was granted for other requests. InvalidArgument for what
// no rule can name, and for what the rules let pass.
func TriedRequest(granted NetworkRule, method, path string) (Ask, error) {
	request := method + " " + path
	if err := plugin.CheckRequestRule(request); err != nil {
		return Ask{}, err
	}
	if coverRequests(granted.Requests, []string{request}) {
		return Ask{}, fmt.Errorf("cannot ask for what is granted: %w", errdefs.ErrInvalidArgument)
	}
	granted.Requests = smallest(append(slices.Clone(granted.Requests), request))
	if len(granted.Requests) > plugin.MaxPermissionList {
		return Ask{}, fmt.Errorf("cannot ask for more than %d rules: %w", plugin.MaxPermissionList, errdefs.ErrInvalidArgument)
	}
	return Ask{
		Kind: Network, Target: granted.target(), Value: granted.value(), Origin: OriginRuntime, Class: Sensitive, Reason: "It tried " + request + ".",
	}, nil
}

// AskedBy returns what a permission manifest asks for, sorted.
func AskedBy(p plugin.Permissions, limits Limits) []Ask {
	return normalAsks(manifestAsks(p, OriginManifest, limits))
}

// manifestAsks returns what permissions ask for.
func manifestAsks(p plugin.Permissions, origin string, limits Limits) []Ask {
	var asks []Ask
	add := func(kind Kind, target, value string, class Class) {
		asks = append(asks, Ask{Kind: kind, Target: target, Value: value, Origin: origin, Class: class})
	}
	for _, rule := range rulesOf(p.Network) {
		class := Sensitive
		if needsAddresses(rule.Host) {
			class = NeedsDetail
		}
		add(Network, rule.target(), rule.value(), class)
	}
	if p.Workspace == plugin.WorkspaceRO || p.Workspace == plugin.WorkspaceRW {
		add(Workspace, "", p.Workspace, NeedsDetail)
	}
	for _, list := range []struct {
		kind  Kind
		names []string
		class Class
	}{{Secret, p.Secrets, NeedsDetail}, {Env, p.Env, Sensitive}, {Config, p.Config, Sensitive}, {Host, p.Host, Basic}} {
		for _, name := range list.names {
			add(list.kind, name, "", list.class)
		}
	}
	for name, rights := range p.Hooks {
		if event, err := plugin.LookupEvent(name); err == nil {
			asks = append(asks, hookAsk(event, rights, origin))
		}
	}
	return append(asks, resourceAsks(p, origin, limits)...)
}

func hookAsk(event plugin.HookEvent, rights []plugin.HookRight, origin string) Ask {
	class := Basic
	if event.Sensitive() {
		class = Sensitive
	}
	return Ask{Kind: Hook, Target: event.Name, Value: plugin.JoinRights(rights), Origin: origin, Class: class}
}

func resourceAsks(p plugin.Permissions, origin string, limits Limits) []Ask {
	r := p.Resources
	var asks []Ask
	add := func(target, value string, above bool) {
		class := Basic
		if above {
			class = Sensitive
		}
		asks = append(asks, Ask{Kind: Resource, Target: target, Value: value, Origin: origin, Class: class})
	}
	if r.Memory > 0 {
		add(Memory, r.Memory.String(), int64(r.Memory) > limits.Memory)
	}
	if r.CPUs > 0 {
		add(CPUs, formatCPUs(r.CPUs), r.CPUs > limits.CPUs)
	}
	if r.PIDs > 0 {
		add(PIDs, strconv.FormatInt(r.PIDs, 10), r.PIDs > limits.PIDs)
	}
	if size := p.State.Max; size > 0 {
		add(State, size.String(), int64(size) > limits.State)
	}
	return asks
}

// normalAsks sorts asks in the order in which they are shown, and keeps the
// first of those for the same.
func normalAsks(asks []Ask) []Ask {
	type key struct {
		kind          Kind
		target, value string
	}
	seen := map[key]bool{}
	var out []Ask
	for _, a := range asks {
		k := key{a.Kind, a.Target, a.Value}
		if !seen[k] {
			seen[k] = true
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b Ask) int { return compare(a.Kind, b.Kind, a.Target, b.Target, a.Value, b.Value) })
	return out
}

// compare orders permissions: by kind, target and value.
func compare(kindA, kindB Kind, targetA, targetB, valueA, valueB string) int {
	if d := slices.Index(kinds, kindA) - slices.Index(kinds, kindB); d != 0 {
		return d
	}
	if d := strings.Compare(targetA, targetB); d != 0 {
		return d
	}
	return strings.Compare(valueA, valueB)
}

// Diff compares what two versions of a manifest ask for: added is what after
// asks for and before did not, removed the other way round.
func Diff(before, after plugin.Permissions, limits Limits) (added, removed []Ask) {
	old, now := manifestAsks(before, OriginManifest, limits), manifestAsks(after, OriginManifest, limits)
	return normalAsks(beyond(now, old)), normalAsks(beyond(old, now))
}

// beyond returns the asks that no ask of base covers.
func beyond(asks, base []Ask) []Ask {
	return slices.DeleteFunc(slices.Clone(asks), func(a Ask) bool {
		return slices.ContainsFunc(base, func(b Ask) bool {
			return Grant{Kind: b.Kind, Target: b.Target, Value: b.Value}.Covers(a)
		})
	})
}
