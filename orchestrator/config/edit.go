package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/tailscale/hujson"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Edit changes a config.json within [Update]. All that an operation does not
// name keeps its bytes, comments and order.
type Edit struct {
	tree    *hujson.Value
	newline string // of the file
	indent  string // of one level
}

func newEdit(tree *hujson.Value) *Edit {
	e := &Edit{tree: tree, newline: "\n", indent: "  "}
	if bytes.Contains(tree.Pack(), []byte("\r\n")) {
		e.newline = "\r\n"
	}
	if root, ok := tree.Value.(*hujson.Object); ok && len(root.Members) > 0 {
		if indent, own := lineIndent(root.Members[0].Name.BeforeExtra); own && indent != "" {
			e.indent = indent
		}
	}
	return e
}

// SetInstall notes where a plugin came from.
func (e *Edit) SetInstall(id string, in Install) error {
	if err := plugin.CheckID(id); err != nil {
		return err
	}
	note := e.child("plugins", "installs", id)
	e.set(note, "source", in.Source)
	e.set(note, "spec", in.Spec)
	e.set(note, "installedAt", in.InstalledAt.UTC().Format(time.RFC3339))
	return nil
}

// RemoveInstall removes the note of a plugin, if there is one.
func (e *Edit) RemoveInstall(id string) error { return e.remove("installs", id) }

// EnsureEntry makes an entry that is enabled, if the plugin has none.
func (e *Edit) EnsureEntry(id string) error {
	if e.tree.Find("/plugins/entries/"+id) != nil {
		return nil
	}
	return e.SetEnabled(id, true)
}

// SetEnabled switches a plugin on or off.
func (e *Edit) SetEnabled(id string, on bool) error {
	if err := plugin.CheckID(id); err != nil {
		return err
	}
	e.set(e.child("plugins", "entries", id), "enabled", on)
	return nil
}

// RemoveEntry removes the entry of a plugin with its configuration, if there
// is one.
func (e *Edit) RemoveEntry(id string) error { return e.remove("entries", id) }

// ReplaceConfigValue puts a value, strict JSON, in the place of the one at
// pointer within plugins.entries.<id>.config, if that is still expect: the same
// JSON, however it is written. Comments within the value go with it. NotFound
// if there is no value, Conflict if there is another one.
func (e *Edit) ReplaceConfigValue(id string, pointer []string, expect, with json.RawMessage) error {
	if err := plugin.CheckID(id); err != nil {
		return err
	}
	at, err := e.configValue(id, pointer)
	if err != nil {
		return err
	}
	if !sameJSON(strictJSON(at), expect) {
		return fault.New(errdefs.ErrConflict, "config_changed", "%s of %s is not what it was", JoinPath(pointer), id).
			WithHint("look at it in config.json and try again")
	}
	value, err := hujson.Parse(with)
	if err != nil || !json.Valid(with) {
		return invalid("cannot set %s of %s to what is no JSON", JoinPath(pointer), id)
	}
	at.Value = value.Value
	return nil
}

// configValue returns the place of a value in an entry's configuration.
func (e *Edit) configValue(id string, pointer []string) (*hujson.Value, error) {
	if len(pointer) == 0 { // the whole is an object, and stays one
		return nil, noValue(id, pointer)
	}
	at := e.tree
	for _, name := range append([]string{"plugins", "entries", id, "config"}, pointer...) {
		next := below(at, name)
		if next == nil {
			return nil, noValue(id, pointer)
		}
		at = next
	}
	return at, nil
}

// below returns a member of an object or an element of a list, nil if there is
// none.
func below(v *hujson.Value, name string) *hujson.Value {
	switch in := v.Value.(type) {
	case *hujson.Object:
		return member(in, name)
	case *hujson.Array:
		if i := element(name, len(in.Elements)); i >= 0 {
			return &in.Elements[i]
		}
	}
	return nil
}

func (e *Edit) remove(section, id string) error {
	if err := plugin.CheckID(id); err != nil {
		return err
	}
	pointer := "/plugins/" + section + "/" + id // an id needs no escapes
	if e.tree.Find(pointer) == nil {
		return nil
	}
	if err := e.tree.Patch(fmt.Appendf(nil, `[{"op": "remove", "path": %q}]`, pointer)); err != nil {
		return fmt.Errorf("cannot remove plugins.%s.%s: %w", section, id, err)
	}
	list := e.child("plugins", section).obj
	if len(list.Members) == 0 && len(bytes.TrimSpace(list.AfterExtra)) == 0 {
		list.AfterExtra = nil // {} instead of braces on two lines
	}
	return nil
}

// place is an object of the tree and the indent of the line it begins on.
type place struct {
	obj    *hujson.Object
	indent string
}

// child returns the object at path, and makes it where it is missing. The
// document was checked: what is there is an object.
func (e *Edit) child(path ...string) place {
	at := place{obj: e.tree.Value.(*hujson.Object)}
	for _, name := range path {
		i := index(at.obj, name)
		if i < 0 {
			i = e.insert(at, name, &hujson.Object{})
		}
		m := &at.obj.Members[i]
		indent := at.indent
		if own, ok := lineIndent(m.Name.BeforeExtra); ok {
			indent = own
		}
		at = place{obj: m.Value.Value.(*hujson.Object), indent: indent}
	}
	return at
}

// set gives a member a value that is no object or array.
func (e *Edit) set(at place, name string, value any) {
	text := new(strings.Builder)
	enc := json.NewEncoder(text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		panic(err) // strings and booleans can be encoded
	}
	literal := hujson.Literal(strings.TrimSpace(text.String()))
	if i := index(at.obj, name); i >= 0 {
		at.obj.Members[i].Value.Value = literal
		return
	}
	e.insert(at, name, literal)
}

// insert adds a member at the end of an object, in the manner of the members
// that are there, and returns its index.
func (e *Edit) insert(at place, name string, value hujson.ValueTrimmed) int {
	obj := at.obj
	m := hujson.ObjectMember{
		Name:  hujson.Value{Value: hujson.String(name)},
		Value: hujson.Value{BeforeExtra: hujson.Extra(" "), Value: value},
	}
	indent, ownLine := at.indent+e.indent, true
	if n := len(obj.Members); n > 0 {
		last := &obj.Members[n-1]
		if last.Value.AfterExtra != nil { // there is a trailing comma: keep one
			m.Value.AfterExtra = hujson.Extra{}
			if len(last.Value.AfterExtra) == 0 {
				last.Value.AfterExtra = nil
			}
		}
		if sibling, ok := lineIndent(obj.Members[0].Name.BeforeExtra); ok {
			indent = sibling
		} else {
			ownLine = bytes.ContainsRune(obj.AfterExtra, '\n')
		}
	}
	if ownLine {
		// Comments before the closing brace stay above the new member.
		kept := bytes.TrimRight(obj.AfterExtra, " \t\r\n")
		m.Name.BeforeExtra = hujson.Extra(string(kept) + e.newline + indent)
		obj.AfterExtra = hujson.Extra(e.newline + at.indent)
	} else {
		m.Name.BeforeExtra = hujson.Extra(" ")
	}
	obj.Members = append(obj.Members, m)
	return len(obj.Members) - 1
}

func index(obj *hujson.Object, name string) int {
	for i := range obj.Members {
		if nameOf(&obj.Members[i]) == name {
			return i
		}
	}
	return -1
}

// lineIndent returns the blanks between the start of the line and what
// follows extra, and whether a line starts there.
func lineIndent(extra hujson.Extra) (string, bool) {
	i := bytes.LastIndexByte(extra, '\n')
	if i < 0 || len(bytes.Trim(extra[i+1:], " \t")) > 0 {
		return "", false
	}
	return string(extra[i+1:]), true
}
