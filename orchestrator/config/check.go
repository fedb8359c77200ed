package config

import (
	"encoding/json"
	"errors"
	"strconv"
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
	var err error
	if e.Enabled, err = c.boolean(obj, path, "enabled"); err != nil {
		return e, err
	}
	if v := member(obj, "config"); v != nil {
		if _, err := c.object(v, path+".config"); err != nil {
			return e, err
		}
		e.Config = strictJSON(v)
	}
	if v := member(obj, "permissions"); v != nil {
		if e.Permissions, err = c.permissions(path+".permissions", v); err != nil {
			return e, err
		}
	}
	if v := member(obj, "hooks"); v != nil {
		e.Hooks, err = c.hooks(path+".hooks", v)
	}
	return e, err
}

// permissions checks a narrowing and places its errors, which may be deep
// inside.
func (c checker) permissions(path string, v *hujson.Value) (json.RawMessage, error) {
	text := strictJSON(v)
	_, _, err := plugin.ReadPermissions(text)
	var p *plugin.PermissionError
	if !errors.As(err, &p) {
		return text, err
	}
	at := v.Find(p.Pointer)
	if at == nil {
		at = v
	}
	field := path
	if p.Pointer != "" {
		field += "." + p.Field()
	}
	return nil, c.errorAt(at, "%s %s; %s", field, p.Problem, p.Hint)
}

// hooks reads what is ours of a hook policy. Names of events are not checked:
// an event that is unknown here may be a newer host's.
func (c checker) hooks(path string, v *hujson.Value) (HookPolicy, error) {
	var h HookPolicy
	obj, err := c.object(v, path)
	if err != nil {
		return h, err
	}
	if h.AllowConversationAccess, err = c.boolean(obj, path, "allowConversationAccess"); err != nil {
		return h, err
	}
	if h.AllowPromptInjection, err = c.boolean(obj, path, "allowPromptInjection"); err != nil {
		return h, err
	}
	if v := member(obj, "timeoutMs"); v != nil {
		if h.Timeout, err = c.millis(v, path+".timeoutMs"); err != nil {
			return h, err
		}
	}
	v = member(obj, "timeouts")
	if v == nil {
		return h, nil
	}
	timeouts, err := c.object(v, path+".timeouts")
	if err != nil {
		return h, err
	}
	h.Timeouts = make(map[string]time.Duration, len(timeouts.Members))
	for i := range timeouts.Members {
		m := &timeouts.Members[i]
		name := nameOf(m)
		if h.Timeouts[name], err = c.millis(&m.Value, path+".timeouts."+plugin.Printable(name, plugin.MaxEventLen)); err != nil {
			return h, err
		}
	}
	return h, nil
}

// boolean returns a member that is true or false, nil if it is not there.
func (c checker) boolean(obj *hujson.Object, path, name string) (*bool, error) {
	v := member(obj, name)
	if v == nil {
		return nil, nil
	}
	kind := v.Value.Kind()
	if kind != 't' && kind != 'f' {
		return nil, c.errorAt(v, "%s.%s must be true or false, not %s", path, name, kindOf(v))
	}
	on := kind == 't'
	return &on, nil
}

// millis returns a time in milliseconds that a handler may be given.
func (c checker) millis(v *hujson.Value, what string) (time.Duration, error) {
	most := plugin.MaxHookTimeout.Milliseconds()
	if v.Value.Kind() == '0' {
		if n, err := strconv.ParseInt(string(v.Value.(hujson.Literal)), 10, 64); err == nil && n >= 1 && n <= most {
			return time.Duration(n) * time.Millisecond, nil
		}
	}
	return 0, c.errorAt(v, "%s must be a whole number of milliseconds from 1 to %d", what, most)
}

// strictJSON returns the value without comments and trailing commas.
func strictJSON(v *hujson.Value) json.RawMessage {
	strict := v.Clone()
	strict.BeforeExtra, strict.AfterExtra = nil, nil
	strict.Minimize()
	return strict.Pack()
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
