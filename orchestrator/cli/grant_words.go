package cli

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Kinds of permissions that are written in a way of their own.
const (
	kindNetwork   = "network"
	kindWorkspace = "workspace"
	kindHook      = "hook"
	kindResource  = "resource"
)

// permission is what the words of a grant mean, in the spelling of the API.
type permission struct{ kind, target, value string }

// grantWords reads the words of grant and revoke, with the flags that say how
// a destination may be reached. It refuses what is plainly wrong before the
// daemon, which decides, is asked.
type grantWords struct {
	plaintext bool
	addresses []string
	rules     []string
}

func (g *grantWords) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&g.plaintext, "plaintext", false, "of network: the connection need not be encrypted")
	cmd.Flags().StringSliceVar(&g.addresses, "addresses", nil, "of network: `RANGES` that the host may have addresses in besides public ones")
	cmd.Flags().StringArrayVar(&g.rules, "rule", nil, "of network: allow this `REQUEST` only, as in \"GET /v1/*\"; the connection is inspected; may be repeated")
}

// grant reads KIND WORDS... of a grant.
func (g *grantWords) grant(cmd *cobra.Command, args []string) (permission, error) {
	p, err := g.read(cmd, args)
	switch {
	case err != nil:
		return permission{}, err
	case p.value == "" && p.kind == kindWorkspace:
		return permission{}, usage(cmd, "ro or rw is missing: workspace ro PATH, or workspace rw PATH")
	case p.value == "" && p.kind == kindResource:
		return permission{}, usage(cmd, "the size is missing, as in: resource memory 512MiB")
	}
	return p, p.check()
}

// revoke reads KIND WORDS... of a revocation, without the value.
func (g *grantWords) revoke(cmd *cobra.Command, args []string) (permission, error) {
	p, err := g.read(cmd, args)
	if err != nil {
		return permission{}, err
	}
	p.value = ""
	return p, p.check()
}

func (g *grantWords) read(cmd *cobra.Command, args []string) (permission, error) {
	p, words := permission{kind: args[0]}, args[1:]
	if _, known := targetChecks[p.kind]; !known {
		return p, usage(cmd, "%q is no kind of permission; there are network, workspace, secret, env, config, hook, host, resource and registration", p.kind)
	}
	if p.kind != kindNetwork && (g.plaintext || len(g.addresses)+len(g.rules) > 0) {
		return p, usage(cmd, "--plaintext, --addresses and --rule go with network only")
	}
	if len(words) == 0 {
		return p, usage(cmd, "what %s it is about is missing", p.kind)
	}
	p.target = words[0]
	var err error
	switch p.kind {
	case kindNetwork:
		p.value, err = g.networkValue(cmd, words[1:])
	case kindWorkspace:
		err = p.readWorkspace(cmd, words)
	case kindHook:
		p.value = strings.Join(words[1:], ",")
	case kindResource:
		err = p.readResource(cmd, words)
	default:
		if len(words) > 1 {
			err = usage(cmd, "%q is one argument too many", words[1])
		}
	}
	return p, err
}

// networkValue joins the words and the flags that say how to reach a host:
// "plaintext,addresses=10.0.0.0/8 192.168.0.0/16,rules=GET /v1/*". The rules come
// last, since a path may hold a comma.
func (g *grantWords) networkValue(cmd *cobra.Command, words []string) (string, error) {
	words, rules := cutRules(words)
	plain, ranges, inRanges := g.plaintext, slices.Clone(g.addresses), false
	separator := func(r rune) bool { return r == ',' || r == ' ' }
	for _, word := range strings.FieldsFunc(strings.Join(words, ","), separator) {
		list, begins := strings.CutPrefix(word, "addresses=")
		inRanges = inRanges || begins
		switch {
		case word == "plaintext":
			plain = true
		case begins && list == "":
		case inRanges:
			ranges = append(ranges, list)
		default:
			return "", usage(cmd, "%q says in no known way how to reach the host: write plaintext, addresses=RANGE,RANGE, rules=REQUEST, or some of them, the rules last", word)
		}
	}
	if inRanges && len(ranges) == 0 {
		return "", usage(cmd, "addresses= names no range, for example 10.0.0.0/8")
	}
	var parts []string
	if plain {
		parts = append(parts, "plaintext")
	}
	if len(ranges) > 0 {
		parts = append(parts, "addresses="+strings.Join(ranges, " "))
	}
	if rules = append(rules, g.rules...); len(rules) > 0 {
		parts = append(parts, rulesPrefix+strings.Join(rules, " "))
	}
	return strings.Join(parts, ","), nil
}

const rulesPrefix = "rules="

// cutRules takes the rules off the end of the words of a destination.
func cutRules(words []string) (others, rules []string) {
	for i, word := range words {
		before, list, found := strings.Cut(word, rulesPrefix)
		before = strings.TrimRight(before, " ")
		if !found || before != "" && !strings.HasSuffix(before, ",") {
			continue
		}
		others = slices.Clone(words[:i])
		if before = strings.TrimSuffix(before, ","); before != "" {
			others = append(others, before)
		}
		if list != "" {
			rules = append(rules, list)
		}
		return others, append(rules, words[i+1:]...)
	}
	return words, nil
}

// readWorkspace reads [ro|rw] PATH; the path may be relative to where the
// command runs.
func (p *permission) readWorkspace(cmd *cobra.Command, words []string) error {
	if len(words) > 1 {
		if words[0] != plugin.WorkspaceRO && words[0] != plugin.WorkspaceRW {
			return usage(cmd, "%q is neither ro nor rw", words[0])
		}
		p.value, words = words[0], words[1:]
	}
	if len(words) > 1 {
		return usage(cmd, "%q is one argument too many", words[1])
	}
	if words[0] == "" {
		return usage(cmd, "PATH is empty")
	}
	var err error
	p.target, err = filepath.Abs(words[0])
	return err
}

// readResource reads NAME SIZE or NAME=SIZE.
func (p *permission) readResource(cmd *cobra.Command, words []string) error {
	name, size, joined := strings.Cut(words[0], "=")
	if joined {
		words = slices.Insert(slices.Clone(words[1:]), 0, size)
	} else {
		words = words[1:]
	}
	if len(words) > 1 {
		return usage(cmd, "%q is one argument too many", words[1])
	}
	p.target, p.value = name, strings.Join(words, "")
	return nil
}

// targetChecks are the kinds, each with what it asks of a target.
var targetChecks = map[string]func(string) error{
	kindNetwork:    checkDestination,
	kindWorkspace:  func(string) error { return nil }, // the daemon looks at the directory
	"secret":       plugin.CheckSecretName,
	"env":          plugin.CheckEnvName,
	"config":       plugin.CheckConfigPath,
	kindHook:       func(name string) error { _, err := plugin.LookupEvent(name); return err },
	"host":         plugin.CheckHostMethod,
	kindResource:   checkResource,
	"registration": checkRegistration,
}

// check refuses a target or a value that no daemon would take.
func (p permission) check() error {
	err := targetChecks[p.kind](p.target)
	if err == nil && p.value != "" {
		err = checkValue(p)
	}
	var bad *plugin.PermissionError
	if errors.As(err, &bad) {
		return fault.New(errdefs.ErrInvalidArgument, "invalid_grant", "%s %q %s", p.kind, plugin.Printable(p.target, 200), bad.Problem).
			WithHint("%s", bad.Hint)
	}
	return err
}

func checkValue(p permission) error {
	var err error
	switch p.kind {
	case kindHook:
		event, lookup := plugin.LookupEvent(p.target)
		if lookup != nil {
			return lookup
		}
		for word := range strings.SplitSeq(p.value, ",") {
			if _, err := event.ParseRights(word); err != nil {
				return fault.New(errdefs.ErrInvalidArgument, "invalid_grant", "%q is no right that the event %s has", plugin.Printable(word, 50), p.target).
					WithHint("its rights are %s", plugin.JoinRights(event.Rights))
			}
		}
	case kindResource:
		switch p.target {
		case "memory", "state":
			_, err = plugin.ParseSize(p.value)
		case "cpus":
			_, err = plugin.ParseCPUs(p.value)
		case "pids":
			_, err = plugin.ParsePIDs(p.value)
		}
	}
	return err
}

func checkDestination(target string) error {
	const example = "write host:port without a scheme, for example api.example.com:443"
	i := strings.LastIndexByte(target, ':')
	if strings.Contains(target, "://") {
		return &plugin.PermissionError{Problem: "has a scheme", Hint: example}
	}
	if i < 0 {
		return &plugin.PermissionError{Problem: "has no port", Hint: example}
	}
	if port, err := strconv.ParseUint(target[i+1:], 10, 16); err != nil || port == 0 {
		return &plugin.PermissionError{Problem: "has a port that is not between 1 and 65535", Hint: example}
	}
	_, err := plugin.CanonicalHost(target[:i])
	return err
}

func checkResource(name string) error {
	if !slices.Contains([]string{"memory", "cpus", "pids", "state"}, name) {
		return &plugin.PermissionError{Problem: "is no resource", Hint: "the resources are memory, cpus, pids and state, for example: resource memory 512MiB"}
	}
	return nil
}

func checkRegistration(target string) error {
	if kind, name, _ := strings.Cut(target, ":"); kind == "" || name == "" {
		return &plugin.PermissionError{Problem: "is no registration", Hint: "write KIND:NAME, for example: registration tool:search"}
	}
	return nil
}
