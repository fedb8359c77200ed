package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Sources of references to secrets, which are objects such as
// {"source": "ocmt", "id": "NAME"}.
const (
	// SourceOCMT refers to a secret of the tenant by its name.
	SourceOCMT = "ocmt"
	// SourceConfig stands in a view for a secret that the plugin is not shown;
	// the id is where it is in config.json.
	SourceConfig = "config"
)

// ConfigView returns what a plugin may see of config.json: its own entry and
// what was granted, as strict JSON. own takes the place of the entry in whole
// if it is not nil. Paths that are not there are left out, and lists are given
// whole or not at all.
//
// Outside of the entry, every string that looks like a secret, by its name or
// by itself, is replaced by a reference of SourceConfig, as is the same string
// elsewhere. A name that looks like a secret is left out with its value.
// InvalidArgument if whole or own are no objects.
func ConfigView(whole json.RawMessage, id string, own json.RawMessage, paths []string) (json.RawMessage, error) {
	root, err := readObject(whole)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	entry := []string{"plugins", "entries", id}
	mine, found := lookup(root, entry)
	if own != nil {
		if mine, err = readObject(own); err != nil {
			return nil, fmt.Errorf("cannot read the entry of the plugin: %w", err)
		}
		found = true
	}
	secret := secretsIn(root, entry)
	view := &object{}
	var given []string
	for _, p := range slices.Sorted(slices.Values(paths)) { // a path sorts before those below it
		within := func(wider string) bool { return strings.HasPrefix(p, wider+".") }
		if slices.ContainsFunc(given, within) {
			continue
		}
		parts := strings.Split(p, ".")
		if value, ok := lookup(root, parts); ok && !slices.ContainsFunc(parts, secret.is) {
			put(view, parts, secret.redact(parts, value))
			given = append(given, p)
		}
	}
	if found {
		put(view, entry, mine)
	}
	return writeTree(view)
}

// FillSecrets puts placeholders in the place of the references to the tenant's
// secrets, {"source": "ocmt", "id": NAME}, wherever they are in view. A
// reference for which fill has none stays as it is. InvalidArgument if view is
// no JSON.
func FillSecrets(view json.RawMessage, fill func(name string) (placeholder string, ok bool)) (json.RawMessage, error) {
	tree, err := readTree(view)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	w := visitor{visit: func(_ []string, value any) (any, bool) {
		o, ok := value.(*object)
		if !ok || !isReference(o) || o.values["source"] != SourceOCMT {
			return nil, false
		}
		name, _ := o.text("id")
		if plugin.CheckSecretName(name) != nil {
			return nil, false
		}
		return fill(name)
	}}
	return writeTree(w.walk(nil, tree))
}

// PlainSecrets returns the dot paths of the strings in a plugin's own
// configuration that look like keys kept in plain, in the order of the file.
// Indices of lists are numbers; a dot or a backslash within a name has a
// backslash before it. References are no keys. It returns none of what is no
// JSON.
func PlainSecrets(own json.RawMessage) []string {
	tree, err := readTree(own)
	if err != nil {
		return nil
	}
	var found []string
	newRecogniser().each(tree, nil, func(path []string, _ string) { found = append(found, dotPath(path)) })
	return found
}

// lookup returns the value at a path of names.
func lookup(at *object, parts []string) (any, bool) {
	for i, part := range parts {
		value, ok := at.values[part]
		if !ok || i == len(parts)-1 {
			return value, ok
		}
		if at, ok = value.(*object); !ok {
			return nil, false
		}
	}
	return nil, false
}

// put sets a value at a path, on top of what a wider path gave.
func put(view *object, parts []string, value any) {
	last := len(parts) - 1
	for _, part := range parts[:last] {
		next, ok := view.values[part].(*object)
		if !ok { // what is no object is replaced
			next = &object{}
			view.set(part, next)
		}
		view = next
	}
	view.set(parts[last], value)
}
