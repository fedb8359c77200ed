package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// object is a JSON object that keeps the order of its members. Other values of
// a tree are []any, string, json.Number, bool and nil.
type object struct {
	names  []string
	values map[string]any
}

func (o *object) set(name string, value any) {
	if o.values == nil {
		o.values = map[string]any{}
	}
	if _, ok := o.values[name]; !ok {
		o.names = append(o.names, name)
	}
	o.values[name] = value
}

// text returns a member that is a string.
func (o *object) text(name string) (string, bool) {
	s, ok := o.values[name].(string)
	return s, ok
}

// readObject reads strict JSON that must be an object. InvalidArgument.
func readObject(raw json.RawMessage) (*object, error) {
	tree, err := readTree(raw)
	if err != nil {
		return nil, err
	}
	o, ok := tree.(*object)
	if !ok {
		return nil, fmt.Errorf("it is no object: %w", errdefs.ErrInvalidArgument)
	}
	return o, nil
}

func readTree(raw json.RawMessage) (any, error) {
	if !json.Valid(raw) { // also bounds how deep it nests
		return nil, fmt.Errorf("it is no JSON: %w", errdefs.ErrInvalidArgument)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	tree, err := readValue(dec)
	if err != nil {
		return nil, fmt.Errorf("it is no JSON: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return tree, nil
}

func readValue(dec *json.Decoder) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return readMembers(dec)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			value, err := readValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err := dec.Token()
		return list, err
	}
	return token, nil
}

func readMembers(dec *json.Decoder) (any, error) {
	o := &object{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, errors.New("a name is no string")
		}
		value, err := readValue(dec)
		if err != nil {
			return nil, err
		}
		o.set(name, value)
	}
	_, err := dec.Token()
	return o, err
}

// writeTree is the reverse of readTree.
func writeTree(tree any) (json.RawMessage, error) {
	var out bytes.Buffer
	err := writeValue(&out, tree)
	return out.Bytes(), err
}

func writeValue(out *bytes.Buffer, value any) error {
	switch v := value.(type) {
	case *object:
		return writeList(out, "{", "}", len(v.names), func(i int) error {
			if err := writeValue(out, v.names[i]); err != nil {
				return err
			}
			out.WriteByte(':')
			return writeValue(out, v.values[v.names[i]])
		})
	case []any:
		return writeList(out, "[", "]", len(v), func(i int) error { return writeValue(out, v[i]) })
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	out.Write(text)
	return nil
}

func writeList(out *bytes.Buffer, begin, end string, n int, write func(int) error) error {
	out.WriteString(begin)
	for i := range n {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := write(i); err != nil {
			return err
		}
	}
	out.WriteString(end)
	return nil
}

// visitor makes a copy of a tree in which visit has had its say: it is
// called with every value, outermost first, and the names above it, and may
// return another value in its place, or done for one that is to be taken as it
// is. Members whose names keep does not want are left out.
type visitor struct {
	visit func(path []string, value any) (instead any, done bool)
	keep  func(name string) bool
}

func (w visitor) walk(path []string, value any) any {
	if instead, done := w.visit(path, value); done {
		return instead
	}
	switch v := value.(type) {
	case *object:
		out := &object{}
		for _, name := range v.names {
			if w.keep == nil || w.keep(name) {
				out.set(name, w.walk(append(path, name), v.values[name]))
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = w.walk(append(path, strconv.Itoa(i)), v[i])
		}
		return out
	}
	return value
}

// dotPath joins names as people write a path into config.json; a dot or a
// backslash within a name has a backslash before it.
func dotPath(names []string) string {
	escaped := make([]string, len(names))
	for i, name := range names {
		escaped[i] = pathEscapes.Replace(name)
	}
	return strings.Join(escaped, ".")
}

var pathEscapes = strings.NewReplacer(`\`, `\\`, `.`, `\.`)
