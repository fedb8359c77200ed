package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

const (
	kindRegistration = "registration"
	maxHooks         = 8  // hooks that a list shows one by one
	maxNamed         = 40 // names that one line of a list holds
	maxOthers        = 5  // registrations of other kinds that are named
)

// alike are permissions of which a list says the same but for the name, at
// least one.
type alike []v1.Permission

// groups puts those together that a person reads as one: registrations of a
// kind, and of many hooks those with the same rights. Of two that were granted
// by someone else or at another time each stays by itself. Registrations of
// kinds that say little come last.
func groups(permissions []v1.Permission) []alike {
	hooks := 0
	for _, p := range permissions {
		if p.Kind == kindHook {
			hooks++
		}
	}
	index := map[string]int{}
	var out []alike
	for _, p := range permissions {
		key := likeness(p, hooks > maxHooks)
		i, known := index[key]
		if !known {
			i, index[key] = len(out), len(out)
			out = append(out, nil)
		}
		out[i] = append(out[i], p)
	}
	slices.SortStableFunc(out, func(a, b alike) int { return cmp.Compare(a.rank(), b.rank()) })
	return out
}

// rank is 1 for what comes last.
func (g alike) rank() int {
	kind, _, _ := strings.Cut(g[0].Target, ":")
	if _, known := registrationTexts[kind]; g[0].Kind == kindRegistration && !known {
		return 1
	}
	return 0
}

// likeness is the same for permissions that belong together.
func likeness(p v1.Permission, manyHooks bool) string {
	words := []string{p.Kind, grantText(p)}
	switch {
	case p.Kind == kindRegistration:
		kind, _, _ := strings.Cut(p.Target, ":")
		if _, ok := registrationTexts[kind]; !ok {
			kind = ""
		}
		words = append(words, kind)
	case p.Kind == kindHook && manyHooks:
		words = append(words, p.Value, hookNotes(p))
	default:
		words = append(words, p.Target, p.Value)
	}
	return strings.Join(words, "\x00")
}

// text says what the permissions are.
func (g alike) text() string {
	switch p := g[0]; {
	case len(g) == 1:
		return p.Sentence
	case p.Kind == kindHook:
		text := fmt.Sprintf("It may %s %d events: %s", hookVerbs(p), len(g), firstOf(g.targets(), maxNamed))
		if notes := hookNotes(p); notes != "" {
			text += " (" + notes + ")"
		}
		return text + "."
	}
	kind, _, _ := strings.Cut(g[0].Target, ":")
	names := make([]string, len(g))
	for i, p := range g {
		_, name, _ := strings.Cut(p.Target, ":")
		names[i] = quoteName(name)
	}
	if format, ok := registrationTexts[kind]; ok {
		return fmt.Sprintf(format, firstOf(names, maxNamed))
	}
	return g.others(names)
}

// others says what else is registered: each by its name, or, if it is more
// than a few, the kinds.
func (g alike) others(names []string) string {
	var kinds []string
	counts := map[string]int{}
	for i, p := range g {
		kind, _, _ := strings.Cut(p.Target, ":")
		names[i] = kind + " " + names[i]
		if counts[kind]++; counts[kind] == 1 {
			kinds = append(kinds, kind)
		}
	}
	if len(g) <= maxOthers {
		return fmt.Sprintf("It also registers: %s.", strings.Join(names, ", "))
	}
	for i, kind := range kinds {
		if counts[kind] > 1 {
			kinds[i] = fmt.Sprintf("%s (%d)", kind, counts[kind])
		}
	}
	return fmt.Sprintf("It also registers %d things of other kinds: %s.", len(g), strings.Join(kinds, ", "))
}

// name is what the permissions are called in the words of "plugins grant".
func (g alike) name() string {
	p := g[0]
	if len(g) == 1 {
		return nameOf(p)
	}
	kind, _, _ := strings.Cut(p.Target, ":")
	switch _, known := registrationTexts[kind]; {
	case p.Kind == kindHook:
		p.Target = "EVENT"
	case known:
		p.Target = kind + ":NAME"
	default:
		p.Target = "KIND:NAME"
	}
	return nameOf(p)
}

func (g alike) targets() []string {
	list := make([]string, len(g))
	for i, p := range g {
		list[i] = p.Target
	}
	return list
}

// registrationTexts say what is registered, of several of a kind. The others
// are of no use to a person until something uses them.
var registrationTexts = map[string]string{
	"tool":          "Its tools are offered to agents: %s.",
	"service":       "Its services run in the background: %s.",
	"gatewayMethod": "Its gateway methods can be called by clients of the agent host: %s.",
	"httpRoute":     "It answers HTTP requests to: %s.",
	"command":       "Its commands can be used in chats: %s.",
	"cli":           "Its commands can be run from the command line: %s.",
	"channel":       "It connects the channels: %s.",
	"provider":      "It provides models as: %s.",
}

// hookVerbs says what the rights of a hook allow.
func hookVerbs(p v1.Permission) string {
	verbs := []string{"read"}
	for _, r := range []struct{ right, verb string }{
		{string(plugin.RightModify), "change"}, {string(plugin.RightBlock), "block"}, {string(plugin.RightClaim), "answer in the agent's place"},
	} {
		if slices.Contains(strings.Split(p.Value, ","), r.right) {
			verbs = append(verbs, r.verb)
		}
	}
	last := len(verbs) - 1
	if last == 0 {
		return verbs[0]
	}
	return strings.Join(verbs[:last], ", ") + " and " + verbs[last]
}

// hookNotes says what is delicate about the event of a hook.
func hookNotes(p v1.Permission) string {
	event, err := plugin.LookupEvent(p.Target)
	if err != nil {
		return ""
	}
	var notes []string
	if event.Conversation {
		notes = append(notes, "they carry what people and agents say")
	}
	if event.Prompt && strings.Contains(p.Value, string(plugin.RightModify)) {
		notes = append(notes, "it can put words into prompts")
	}
	return strings.Join(notes, "; ")
}

// quoteName puts a name between quotes that could be read as more than one.
func quoteName(name string) string {
	plain := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_./@", r)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return "“" + name + "”"
	}
	return name
}

// firstOf names the first n, and how many more there are.
func firstOf(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s, and %d more", strings.Join(names[:n], ", "), len(names)-n)
}
