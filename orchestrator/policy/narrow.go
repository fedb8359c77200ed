package policy

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Narrowing is what config.json takes away from a plugin's grants. The zero
// Narrowing takes nothing.
type Narrowing struct {
	permissions plugin.Permissions
	present     map[string]bool
	// conversation and prompt are OpenClaw's allowConversationAccess and
	// allowPromptInjection; nil where the file does not say.
	conversation, prompt *bool
}

// ParseNarrowing reads plugins.entries.<id>.permissions, nil if it is absent,
// and allowConversationAccess and allowPromptInjection of the entry's hooks,
// nil where they are absent. A field of permissions that is there narrows,
// one that is absent leaves alone. Its error is a *[plugin.PermissionError].
func ParseNarrowing(permissions json.RawMessage, allowConversation, allowPrompt *bool) (Narrowing, error) {
	n := Narrowing{present: map[string]bool{}, conversation: allowConversation, prompt: allowPrompt}
	if permissions == nil {
		return n, nil
	}
	p, present, err := plugin.ReadPermissions(permissions)
	if err != nil {
		return Narrowing{}, err
	}
	n.permissions = p
	for _, name := range present {
		n.present[name] = true
	}
	return n, nil
}

// keep returns what the narrowing leaves of a grant: none, the grant itself,
// or smaller ones.
func (n Narrowing) keep(g Grant) []Grant {
	switch g.Kind {
	case Network:
		return n.keepNetwork(g)
	case Workspace:
		return n.keepWorkspace(g)
	case Secret:
		return keepIf(g, !n.present["secrets"] || slices.Contains(n.permissions.Secrets, g.Target))
	case Env:
		return keepIf(g, !n.present["env"] || slices.Contains(n.permissions.Env, g.Target))
	case Host:
		return keepIf(g, !n.present["host"] || slices.Contains(n.permissions.Host, g.Target))
	case Config:
		return n.keepConfig(g)
	case Hook:
		return n.keepHook(g)
	case Resource:
		return n.keepResource(g)
	}
	return []Grant{g}
}

func keepIf(g Grant, ok bool) []Grant {
	if !ok {
		return nil
	}
	return []Grant{g}
}

func (n Narrowing) keepNetwork(g Grant) []Grant {
	if !n.present["network"] {
		return []Grant{g}
	}
	rule, err := readRule(g.Target, g.Value)
	if err != nil {
		return nil
	}
	var out []Grant
	for _, other := range rulesOf(n.permissions.Network) {
		if both, ok := rule.meet(other); ok {
			smaller := g
			smaller.Target, smaller.Value = both.target(), both.value()
			out = append(out, smaller)
		}
	}
	return out
}

func (n Narrowing) keepWorkspace(g Grant) []Grant {
	if n.present["workspace"] {
		switch n.permissions.Workspace {
		case plugin.WorkspaceRW:
		case plugin.WorkspaceRO:
			g.Value = plugin.WorkspaceRO
		default:
			return nil
		}
	}
	return []Grant{g}
}

func (n Narrowing) keepConfig(g Grant) []Grant {
	if !n.present["config"] {
		return []Grant{g}
	}
	var out []Grant
	for _, path := range n.permissions.Config {
		switch {
		case withinPath(g.Target, path):
			return []Grant{g}
		case withinPath(path, g.Target):
			smaller := g
			smaller.Target = path
			out = append(out, smaller)
		}
	}
	return out
}

func (n Narrowing) keepHook(g Grant) []Grant {
	event, err := plugin.LookupEvent(g.Target)
	if err != nil || event.Conversation && says(n.conversation, false) || event.Prompt && says(n.prompt, false) {
		return nil
	}
	if !n.present["hooks"] {
		return []Grant{g}
	}
	allowed := n.permissions.Hooks[g.Target]
	rights := slices.DeleteFunc(parseRights(g.Target, g.Value), func(r plugin.HookRight) bool { return !slices.Contains(allowed, r) })
	g.Value = plugin.JoinRights(rights)
	return keepIf(g, len(rights) > 0)
}

func says(b *bool, want bool) bool { return b != nil && *b == want }

func (n Narrowing) keepResource(g Grant) []Grant {
	for _, a := range resourceAsks(n.permissions, OriginConfig, Limits{}) {
		if a.Target == g.Target && atMost(a.Target, a.Value, g.Value) {
			g.Value = a.Value
		}
	}
	return []Grant{g}
}

// Wanted returns what config.json names and nobody granted, sorted: a file
// that is edited widens nothing, but a person is asked. asked are the
// plugin's own asks, of which allowConversationAccess wants those about
// conversations.
func Wanted(n Narrowing, asked []Ask, granted []Grant, limits Limits, now time.Time) []Ask {
	asks := manifestAsks(n.permissions, OriginConfig, limits)
	for _, a := range asked {
		if event, err := plugin.LookupEvent(a.Target); a.Kind == Hook && err == nil && event.Conversation && says(n.conversation, true) {
			a.Origin = OriginConfig
			asks = append(asks, a)
		}
	}
	return normalAsks(slices.DeleteFunc(asks, func(a Ask) bool {
		withinLimits := a.Kind == Resource && a.Class == Basic
		return withinLimits || covered(a, granted, now)
	}))
}
