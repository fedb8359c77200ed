package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// readRequests reads "GET /v1/* POST /v1/items": methods and paths in turn.
func readRequests(g Grant, list string) ([]string, error) {
	const example = "write rules= and methods with paths, for example: rules=GET /v1/* POST /v1/items"
	words := strings.Fields(list)
	if len(words) == 0 || len(words)%2 != 0 || len(words)/2 > plugin.MaxPermissionList {
		return nil, refuse(g, "names no rules, half of one, or more than "+strconv.Itoa(plugin.MaxPermissionList), example)
	}
	var out []string
	for pair := range slices.Chunk(words, 2) {
		rule := pair[0] + " " + pair[1]
		if err := plugin.CheckRequestRule(rule); err != nil {
			return nil, refuse(g, "has the rule "+plugin.Printable(rule, 100)+", which is none", example)
		}
		out = append(out, rule)
	}
	return smallest(out), nil
}

// smallest returns the rules sorted, without those that others cover.
func smallest(rules []string) []string {
	rules = slices.Clone(rules)
	slices.Sort(rules)
	rules = slices.Compact(rules)
	return slices.DeleteFunc(slices.Clone(rules), func(r string) bool {
		return slices.ContainsFunc(rules, func(other string) bool { return other != r && coversRequest(other, r) })
	})
}

// coverRequests reports whether a lets all requests pass that b does; none
// are all.
func coverRequests(a, b []string) bool {
	if len(a) == 0 {
		return true
	}
	return len(b) > 0 && !slices.ContainsFunc(b, func(want string) bool {
		return !slices.ContainsFunc(a, func(have string) bool { return coversRequest(have, want) })
	})
}

// coversRequest reports whether one rule lets all requests pass that another
// does.
func coversRequest(have, want string) bool {
	method, path, _ := strings.Cut(have, " ")
	wantMethod, wantPath, _ := strings.Cut(want, " ")
	if method != "*" && method != wantMethod {
		return false
	}
	prefix, open := strings.CutSuffix(path, "*")
	if !open {
		return path == wantPath
	}
	return strings.HasPrefix(strings.TrimSuffix(wantPath, "*"), prefix)
}

// meetRequests returns the rules for what both let pass, and whether there is
// any.
func meetRequests(a, b []string) ([]string, bool) {
	switch {
	case len(a) == 0:
		return b, true
	case len(b) == 0:
		return a, true
	}
	var out []string
	for _, x := range a {
		for _, y := range b {
			if both, ok := meetRequest(x, y); ok {
				out = append(out, both)
			}
		}
	}
	return smallest(out), len(out) > 0
}

// meetRequest returns the rule for what two rules both let pass: paths are one
// within the other, or apart.
func meetRequest(a, b string) (string, bool) {
	methodA, pathA, _ := strings.Cut(a, " ")
	methodB, pathB, _ := strings.Cut(b, " ")
	method := methodA
	if method == "*" {
		method = methodB
	} else if methodB != "*" && methodB != method {
		return "", false
	}
	switch {
	case coversRequest("* "+pathA, "* "+pathB):
		return method + " " + pathB, true
	case coversRequest("* "+pathB, "* "+pathA):
		return method + " " + pathA, true
	}
	return "", false
}
