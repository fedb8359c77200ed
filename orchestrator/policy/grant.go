package policy

import (
	"errors"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Bounds of what a person types, in bytes.
const (
	maxPath = 4096
	maxName = 256
)

var registrationKind = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9]{0,63}$`)

// ParseGrant checks what a person typed and returns it in its canonical
// spelling, without origin, actor and times. An empty value means: of a hook
// all rights of its event, of a workspace read-only, of a destination TLS to
// public addresses.
//
// Errors are InvalidArgument with a hint. Whether a workspace's path may be
// granted on this host is not decided here, but where it is mounted.
func ParseGrant(kind, target, value string) (Grant, error) {
	g := Grant{Kind: Kind(kind), Target: target, Value: value}
	if !utf8.ValidString(target) || !utf8.ValidString(value) {
		return Grant{}, refuse(g, "is not UTF-8", "write it as text")
	}
	parse, ok := parsers[g.Kind]
	if !ok {
		return Grant{}, fault.New(errdefs.ErrInvalidArgument, "invalid_grant", "cannot grant %q: there is no such kind of permission", plugin.Printable(kind, 50)).
			WithHint("the kinds are network, workspace, secret, env, config, hook, host, resource, registration")
	}
	if err := parse(&g); err != nil {
		var p *plugin.PermissionError
		if errors.As(err, &p) {
			return Grant{}, refuse(g, p.Problem, p.Hint)
		}
		return Grant{}, err
	}
	return g, nil
}

// CanonicalTarget returns the target of a grant as it is kept, from what a
// person typed: enough to find the grant by. InvalidArgument if there can be
// no such grant.
func CanonicalTarget(kind Kind, target string) (string, error) {
	g := Grant{Kind: kind, Target: target}
	switch kind {
	case Network: // its value may be needed to grant it, and not to name it
		rule, err := readRule(target, "")
		if err != nil {
			return "", err
		}
		return rule.target(), nil
	case Resource:
		if target != Memory && target != CPUs && target != PIDs && target != State {
			return "", refuse(g, "is no resource", "the resources are memory, cpus, pids and state")
		}
		return target, nil
	}
	g, err := ParseGrant(string(kind), target, "")
	return g.Target, err
}

func refuse(g Grant, problem, hint string) error {
	return fault.New(errdefs.ErrInvalidArgument, "invalid_grant", "cannot grant %s %q: it %s",
		g.Kind, plugin.Printable(g.Target+" "+g.Value, 200), problem).WithHint("%s", hint)
}

// parsers bring the target and the value of each kind to their canonical
// spelling.
var parsers = map[Kind]func(*Grant) error{
	Network:      parseNetwork,
	Workspace:    parseWorkspace,
	Secret:       named(plugin.CheckSecretName),
	Env:          named(plugin.CheckEnvName),
	Config:       named(plugin.CheckConfigPath),
	Hook:         parseHook,
	Host:         named(plugin.CheckHostMethod),
	Resource:     parseResource,
	Registration: parseRegistration,
}

// named parses a kind whose grants have no value.
func named(check func(string) error) func(*Grant) error {
	return func(g *Grant) error {
		if g.Value != "" {
			return refuse(*g, "has a value", "leave out what follows the name")
		}
		return check(g.Target)
	}
}

func parseWorkspace(g *Grant) error {
	switch g.Value {
	case "":
		g.Value = plugin.WorkspaceRO
	case plugin.WorkspaceRO, plugin.WorkspaceRW:
	default:
		return refuse(*g, "is neither ro nor rw", "write: workspace ro PATH, or: workspace rw PATH")
	}
	clean := path.Clean(g.Target)
	if len(g.Target) > maxPath || !path.IsAbs(g.Target) || strings.TrimRight(g.Target, "/") != strings.TrimRight(clean, "/") {
		return refuse(*g, "is no absolute path in its shortest form", `write the whole path, without "." and ".."`)
	}
	if clean == "/" {
		return refuse(*g, "is everything on this host", "grant a directory below it")
	}
	if strings.ContainsFunc(clean, unicode.IsControl) {
		return refuse(*g, "has control characters", "rename the directory")
	}
	g.Target = clean
	return nil
}

// Within reports whether a clean path is dir or lies below it.
func Within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

func parseHook(g *Grant) error {
	event, err := plugin.LookupEvent(g.Target)
	if err != nil {
		return err
	}
	rights := event.Rights
	if g.Value != "" {
		if rights, err = event.ParseRights(g.Value); err != nil {
			return err
		}
	}
	g.Value = plugin.JoinRights(rights)
	return nil
}

// parseRights returns the rights of a hook grant, none if it cannot be
// understood.
func parseRights(name, value string) []plugin.HookRight {
	event, err := plugin.LookupEvent(name)
	if err != nil {
		return nil
	}
	rights, err := event.ParseRights(value)
	if err != nil {
		return nil
	}
	return rights
}

// withinRights reports whether there are rights, all of which are allowed.
func withinRights(rights, allowed []plugin.HookRight) bool {
	for _, r := range rights {
		if !slices.Contains(allowed, r) {
			return false
		}
	}
	return len(rights) > 0
}

func parseResource(g *Grant) error {
	switch g.Target {
	case Memory:
		size, err := plugin.ParseSize(g.Value)
		if err != nil {
			return err
		}
		g.Value = size.String()
		return plugin.CheckSize(size, plugin.MinMemory, plugin.MaxMemory)
	case State:
		size, err := plugin.ParseSize(g.Value)
		if err != nil {
			return err
		}
		g.Value = size.String()
		return plugin.CheckSize(size, plugin.MinState, plugin.MaxState)
	case CPUs:
		n, err := plugin.ParseCPUs(g.Value)
		g.Value = formatCPUs(n)
		return err
	case PIDs:
		n, err := plugin.ParsePIDs(g.Value)
		g.Value = strconv.FormatInt(n, 10)
		return err
	}
	return refuse(*g, "is no resource", "the resources are memory, cpus, pids and state, for example: resource memory 512MiB")
}

func formatCPUs(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// amount returns a resource's value as a number, 0 if it is none.
func amount(target, value string) float64 {
	g := Grant{Kind: Resource, Target: target, Value: value}
	if parseResource(&g) != nil {
		return 0
	}
	if target == Memory || target == State {
		size, _ := plugin.ParseSize(g.Value) // was parsed just now
		return float64(size)
	}
	n, _ := strconv.ParseFloat(g.Value, 64) // was formatted just now
	return n
}

// atMost reports whether a is an amount that is not larger than b.
func atMost(target, a, b string) bool {
	n := amount(target, a)
	return n > 0 && n <= amount(target, b)
}

func parseRegistration(g *Grant) error {
	kind, name, _ := strings.Cut(g.Target, ":")
	switch {
	case g.Value != "":
		return refuse(*g, "has a value", "leave out what follows the name")
	case kind == plugin.KindHook:
		return refuse(*g, "is a hook", "hooks are granted by event: hook EVENT RIGHTS")
	case !registrationKind.MatchString(kind) || name == "" || len(name) > maxName || !utf8.ValidString(name) || !printable(name):
		return refuse(*g, "is no registration", "write KIND:NAME, for example: registration tool:echo")
	}
	return nil
}

// printable reports whether s is shown as it is.
func printable(s string) bool { return plugin.Printable(s, len(s)) == s }

// withinPath reports whether the dot path p is base or below it.
func withinPath(p, base string) bool { return p == base || strings.HasPrefix(p, base+".") }
