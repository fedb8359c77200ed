package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// ConfigView returns what a plugin may see of config.json: its own entry and
// what was granted, as strict JSON. own takes the place of the entry in whole
// if it is not nil. Paths that are not there are left out, and lists are given
// whole or not at all. InvalidArgument if whole or own are no objects.
func ConfigView(whole json.RawMessage, id string, own json.RawMessage, paths []string) (json.RawMessage, error) {
	root, err := members(whole)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	view := map[string]any{}
	// A path sorts before those below it, which then add nothing.
	paths = slices.Clone(paths)
	slices.Sort(paths)
	for _, p := range paths {
		parts := strings.Split(p, ".")
		if value, ok := lookup(root, parts); ok {
			put(view, parts, value)
		}
	}
	entry := []string{"plugins", "entries", id}
	if own == nil {
		own, _ = lookup(root, entry)
	} else if _, err := members(own); err != nil {
		return nil, fmt.Errorf("cannot read the entry of the plugin: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if own != nil {
		put(view, entry, own)
	}
	return json.Marshal(view)
}

func members(raw json.RawMessage) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	err := json.Unmarshal(raw, &fields)
	if err == nil && fields == nil {
		err = fmt.Errorf("it is null")
	}
	return fields, err
}

// lookup returns the value at a path of names.
func lookup(fields map[string]json.RawMessage, parts []string) (json.RawMessage, bool) {
	for i, part := range parts {
		value, ok := fields[part]
		if !ok || i == len(parts)-1 {
			return value, ok
		}
		var err error
		if fields, err = members(value); err != nil {
			return nil, false
		}
	}
	return nil, false
}

// put sets a value at a path, on top of what a wider path gave.
func put(view map[string]any, parts []string, value json.RawMessage) {
	last := len(parts) - 1
	for _, part := range parts[:last] {
		next, ok := view[part].(map[string]any)
		if !ok {
			next = map[string]any{}
			raw, _ := view[part].(json.RawMessage)
			given, _ := members(raw) // what is no object is replaced
			for name, v := range given {
				next[name] = v
			}
			view[part] = next
		}
		view = next
	}
	view[parts[last]] = value
}
