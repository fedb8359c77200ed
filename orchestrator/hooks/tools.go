package hooks

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// maxTools bounds a list of tools.
const maxTools = 1024

// readTools reads a list of tool names and of patterns, in which "*" stands
// for anything.
func readTools(raw json.RawMessage) ([]string, error) {
	if commas(raw) >= maxTools {
		return nil, fmt.Errorf("it has more than %d tools", maxTools)
	}
	var tools []*string
	if err := json.Unmarshal(raw, &tools); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(tools))
	for _, t := range tools {
		if t == nil || len(*t) > maxTools {
			return nil, fmt.Errorf("it holds something that is no name")
		}
		names = append(names, strings.ToLower(strings.TrimSpace(*t)))
	}
	return names, nil
}

// intersection returns what both lists allow, of what either of them names.
// Two patterns that only overlap allow nothing.
func intersection(a, b json.RawMessage) (json.RawMessage, error) {
	x, err := readTools(a)
	if err != nil {
		return nil, err
	}
	y, err := readTools(b)
	if err != nil {
		return nil, err
	}
	allowedX, allowedY := newToolSet(x), newToolSet(y)
	both := []string{}
	for _, name := range append(x, y...) {
		if allowedX.has(name) && allowedY.has(name) && !slices.Contains(both, name) {
			both = append(both, name)
		}
	}
	return json.Marshal(both)
}

type toolSet struct {
	names    map[string]bool
	patterns []string
}

func newToolSet(list []string) toolSet {
	s := toolSet{names: make(map[string]bool, len(list))}
	for _, name := range list {
		s.names[name] = true
		if strings.Contains(name, "*") {
			s.patterns = append(s.patterns, name)
		}
	}
	return s
}

func (s toolSet) has(name string) bool {
	return s.names[name] || slices.ContainsFunc(s.patterns, func(p string) bool { return glob(p, name) })
}

// glob reports whether name fits the pattern.
func glob(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	head, tail := parts[0], parts[len(parts)-1]
	if len(name) < len(head)+len(tail) || !strings.HasPrefix(name, head) || !strings.HasSuffix(name, tail) {
		return false
	}
	name = name[len(head) : len(name)-len(tail)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return true
}
