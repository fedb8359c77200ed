package config

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/tailscale/hujson"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// checker reads the parts of the tree that are ours and says where they are
// wrong. Names are matched exactly; what it does not know it leaves alone.
type checker struct{ text []byte }

func (c checker) errorAt(v *hujson.Value, format string, args ...any) error {
	return position(c.text, v.StartOffset, format, args...)
}

func (c checker) file(tree *hujson.Value) (*File, error) {
	f := &File{entries: map[string]Entry{}, installs: map[string]Install{}}
	if err := c.unique(tree); err != nil {
		return nil, err
	}
	root, err := c.object(tree, "the document")
	if err != nil {
		return nil, err
	}
	section := member(root, "plugins")
	if section == nil {
		return f, nil
	}
	plugins, err := c.object(section, "plugins")
	if err != nil {
		return nil, err
	}
	err = c.each(plugins, "entries", func(id string, obj *hujson.Object) error {
		f.entries[id], err = c.entry(id, obj)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = c.each(plugins, "installs", func(id string, obj *hujson.Object) error {
		f.installs[id], err = c.install(id, obj)
		return err
	})
	return f, err
}

// each calls do with every member of plugins.<section>.
func (c checker) each(plugins *hujson.Object, section string, do func(id string, obj *hujson.Object) error) error {
	v := member(plugins, section)
	if v == nil {
		return nil
	}
	list, err := c.object(v, "plugins."+section)
	if err != nil {
		return err
	}
	for i := range list.Members {
		m := &list.Members[i]
		id := nameOf(m)
		if err := plugin.CheckID(id); err != nil {
			return c.errorAt(&m.Name, "plugins.%s: %s", section, strings.TrimSuffix(err.Error(), ": "+errdefs.ErrInvalidArgument.Error()))
		}
		obj, err := c.object(&m.Value, "plugins."+section+"."+id)
		if err != nil {
			return err
		}
		if err := do(id, obj); err != nil {
			return err
		}
	}
	return nil
}

func (c checker) entry(id string, obj *hujson.Object) (Entry, error) {
	var e Entry
	path := "plugins.entries." + id
	if v := member(obj, "enabled"); v != nil {
		switch v.Value.Kind() {
		case 't', 'f':
			on := v.Value.Kind() == 't'
			e.Enabled = &on
		default:
			return e, c.errorAt(v, "%s.enabled must be true or false, not %s", path, kindOf(v))
		}
	}
	if v := member(obj, "config"); v != nil {
		if _, err := c.object(v, path+".config"); err != nil {
			return e, err
		}
		strict := v.Clone()
		strict.BeforeExtra, strict.AfterExtra = nil, nil
		strict.Minimize()
		e.Config = json.RawMessage(strict.Pack())
	}
	return e, nil
}

func (c checker) install(id string, obj *hujson.Object) (Install, error) {
	path := "plugins.installs." + id
	var texts [3]string
	for i, name := range []string{"source", "spec", "installedAt"} {
		v := member(obj, name)
		if v == nil {
			continue
		}
		if v.Value.Kind() != '"' {
			return Install{}, c.errorAt(v, "%s.%s must be a string, not %s", path, name, kindOf(v))
		}
		texts[i] = v.Value.(hujson.Literal).String()
	}
	in := Install{Source: plugin.Source(texts[0]), Spec: texts[1]}
	if texts[2] != "" {
		t, err := time.Parse(time.RFC3339, texts[2])
		if err != nil {
			return in, c.errorAt(member(obj, "installedAt"), "%s.installedAt must be a time such as 2024-01-01T00:00:00Z", path)
		}
		in.InstalledAt = t
	}
	return in, nil
}

func (c checker) object(v *hujson.Value, what string) (*hujson.Object, error) {
	obj, ok := v.Value.(*hujson.Object)
	if !ok {
		return nil, c.errorAt(v, "%s must be an object, not %s", what, kindOf(v))
	}
	return obj, nil
}

// unique refuses an object that has a name twice, anywhere: programs differ
// on which of the two counts, and people read the first.
func (c checker) unique(tree *hujson.Value) error {
	for v := range tree.All() {
		obj, ok := v.Value.(*hujson.Object)
		if !ok {
			continue
		}
		seen := make(map[string]bool, len(obj.Members))
		for i := range obj.Members {
			name := nameOf(&obj.Members[i])
			if seen[name] {
				return c.errorAt(&obj.Members[i].Name, "the name %.100q is there twice in one object", name)
			}
			seen[name] = true
		}
	}
	return nil
}

// member returns the value of a name in obj, nil if it is not there.
func member(obj *hujson.Object, name string) *hujson.Value {
	for i := range obj.Members {
		if nameOf(&obj.Members[i]) == name {
			return &obj.Members[i].Value
		}
	}
	return nil
}

func nameOf(m *hujson.ObjectMember) string { return m.Name.Value.(hujson.Literal).String() }

func kindOf(v *hujson.Value) string {
	switch v.Value.Kind() {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 'n':
		return "null"
	}
	return "true or false"
}
