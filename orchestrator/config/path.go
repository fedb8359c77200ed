package config

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// maxPath bounds a dot path, in bytes.
const maxPath = 4 << 10

// SplitPath returns the names of a dot path into an entry's configuration:
// "webSearch.apiKey", "accounts.0.token". A backslash goes before a dot or a
// backslash that belongs to a name. InvalidArgument.
func SplitPath(path string) ([]string, error) {
	bad := invalid("%q is no path into a configuration", plugin.Printable(path, plugin.MaxConfigPathLen)).
		WithHint(`write the names with dots between them, for example "webSearch.apiKey"`)
	if path == "" || len(path) > maxPath {
		return nil, bad
	}
	var names []string
	var name strings.Builder
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '.':
			names = append(names, name.String())
			name.Reset()
		case '\\':
			if i++; i == len(path) || path[i] != '.' && path[i] != '\\' {
				return nil, bad
			}
			name.WriteByte(path[i])
		default:
			name.WriteByte(path[i])
		}
	}
	return append(names, name.String()), nil
}

// JoinPath is the reverse of SplitPath.
func JoinPath(pointer []string) string {
	names := make([]string, len(pointer))
	for i, name := range pointer {
		names[i] = escapes.Replace(name)
	}
	return strings.Join(names, ".")
}

var escapes = strings.NewReplacer(`\`, `\\`, `.`, `\.`)

// ConfigValue returns the value at a dot path of the entry's configuration, as
// strict JSON, and the names of the path. NotFound if there is none,
// InvalidArgument if path is no path.
func (e Entry) ConfigValue(path string) (value json.RawMessage, pointer []string, err error) {
	pointer, err = SplitPath(path)
	if err != nil {
		return nil, nil, err
	}
	value = e.Config
	for _, name := range pointer {
		if value = valueBelow(value, name); value == nil {
			return nil, nil, fault.New(errdefs.ErrNotFound, "no_config_value", "there is no %s in the plugin's configuration", JoinPath(pointer)).
				WithHint("look at plugins.entries in config.json")
		}
	}
	return value, pointer, nil
}

// valueBelow returns a member of an object or an element of a list, nil if
// there is none.
func valueBelow(value json.RawMessage, name string) json.RawMessage {
	if len(value) > 0 && value[0] == '[' {
		var list []json.RawMessage
		if json.Unmarshal(value, &list) == nil {
			if i := element(name, len(list)); i >= 0 {
				return list[i]
			}
		}
		return nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return nil
	}
	return members[name]
}

// element returns the index that a name is in a list of n, -1 if it is none.
func element(name string, n int) int {
	i, err := strconv.Atoi(name)
	if err != nil || i < 0 || i >= n || strconv.Itoa(i) != name {
		return -1
	}
	return i
}

func noValue(id string, pointer []string) error {
	return fault.New(errdefs.ErrNotFound, "no_config_value", "there is no %s in the configuration of %s", JoinPath(pointer), id).
		WithHint("look at plugins.entries.%s in config.json", id)
}

// sameJSON reports whether two texts are the same JSON. Numbers are the same
// only when they are written alike.
func sameJSON(a, b json.RawMessage) bool {
	var values [2]any
	for i, text := range []json.RawMessage{a, b} {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		if !json.Valid(text) || dec.Decode(&values[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}
