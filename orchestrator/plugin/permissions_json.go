package plugin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxPermissionDepth bounds the nesting of a permission manifest, which needs
// four levels.
const maxPermissionDepth = 8

// node is a JSON value of a permission manifest and where it is.
type node struct {
	pointer string
	value   any // object, []node, string, json.Number, bool or nil
}

// field is a member of an object.
type field struct {
	name string
	node
}

type object []field

// readStrict reads exactly one JSON value, in which no object has a name
// twice.
func readStrict(data []byte) (node, error) {
	top := node{}
	if len(data) > MaxPermissionFile {
		return top, top.problem("are larger than %d KiB", MaxPermissionFile>>10).hint("ask for less")
	}
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, byteOrderMark)))
	dec.UseNumber()
	n, err := readNode(dec, "", maxPermissionDepth)
	if err == nil {
		if _, end := dec.Token(); !errors.Is(end, io.EOF) {
			err = errTrailing
		}
	}
	var own *PermissionError
	if err != nil && !errors.As(err, &own) {
		return top, top.problem("are not JSON: %s", plainly(err)).hint("write one JSON object, without comments")
	}
	return n, err
}

var errTrailing = errors.New("there is more after the first value")

// plainly says what is wrong with the syntax without the text around it.
func plainly(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too soon"
	}
	return err.Error()
}

func readNode(dec *json.Decoder, pointer string, depth int) (node, error) {
	n := node{pointer: pointer}
	if depth == 0 {
		return n, n.problem("nests too deep").hint("write it as in the documentation")
	}
	token, err := dec.Token()
	if err != nil {
		return n, err
	}
	switch token {
	case json.Delim('{'):
		n.value, err = readObject(dec, pointer, depth)
	case json.Delim('['):
		n.value, err = readArray(dec, pointer, depth)
	default:
		n.value = token
	}
	return n, err
}

func readObject(dec *json.Decoder, pointer string, depth int) (object, error) {
	fields := object{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name := token.(string) // the name of a member always is one
		at := pointer + "/" + escapePointer.Replace(name)
		if slices.ContainsFunc(fields, func(f field) bool { return f.name == name }) {
			return nil, node{pointer: at}.problem("is there twice").hint("keep one of the two")
		}
		n, err := readNode(dec, at, depth-1)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field{name, n})
	}
	_, err := dec.Token()
	return fields, err
}

func readArray(dec *json.Decoder, pointer string, depth int) ([]node, error) {
	list := []node{}
	for dec.More() {
		n, err := readNode(dec, pointer+"/"+strconv.Itoa(len(list)), depth-1)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	_, err := dec.Token()
	return list, err
}

var (
	escapePointer   = strings.NewReplacer("~", "~0", "/", "~1")
	unescapePointer = strings.NewReplacer("~1", "/", "~0", "~")
)

// fieldName turns "/network/0/host" into "network[0].host".
func fieldName(pointer string) string {
	if pointer == "" {
		return "the permissions"
	}
	var b strings.Builder
	for i, part := range strings.Split(pointer[1:], "/") {
		part = Printable(unescapePointer.Replace(part), 100)
		if _, err := strconv.Atoi(part); err == nil && i > 0 {
			fmt.Fprintf(&b, "[%s]", part)
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(part)
	}
	return b.String()
}

func (n node) problem(format string, args ...any) *PermissionError {
	e := &PermissionError{Pointer: n.pointer, Problem: fmt.Sprintf(format, args...)}
	if s, ok := n.value.(string); ok {
		e.value = strconv.QuoteToASCII(Printable(s, 100))
	}
	return e
}

func (e *PermissionError) hint(format string, args ...any) *PermissionError {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// object returns the members of an object.
func (n node) object() (object, error) {
	fields, ok := n.value.(object)
	if !ok {
		return nil, n.wrongType("an object", "{}")
	}
	return fields, nil
}

// members returns the members of an object that may have no others than the
// allowed ones.
func (n node) members(allowed ...string) (map[string]node, error) {
	fields, err := n.object()
	if err != nil {
		return nil, err
	}
	out := make(map[string]node, len(fields))
	for _, f := range fields {
		if !slices.Contains(allowed, f.name) {
			return nil, f.problem("is unknown").hint("allowed here: %s", strings.Join(allowed, ", "))
		}
		out[f.name] = f.node
	}
	return out, nil
}

// list returns the elements of an array.
func (n node) list() ([]node, error) {
	list, ok := n.value.([]node)
	if !ok {
		return nil, n.wrongType("a list", "[]")
	}
	if len(list) > MaxPermissionList {
		return nil, n.problem("has %d entries", len(list)).hint("at most %d are allowed", MaxPermissionList)
	}
	return list, nil
}

func (n node) text() (string, error) {
	s, ok := n.value.(string)
	if !ok {
		return "", n.wrongType("a string", `"..."`)
	}
	return s, nil
}

// oneOf returns a string that is one of the allowed.
func (n node) oneOf(allowed ...string) (string, error) {
	s, err := n.text()
	if err == nil && !slices.Contains(allowed, s) {
		err = n.problem("is unknown").hint("write one of: %s", strings.Join(allowed, ", "))
	}
	return s, err
}

func (n node) boolean() (bool, error) {
	b, ok := n.value.(bool)
	if !ok {
		return false, n.wrongType("true or false", "true")
	}
	return b, nil
}

// texts returns a list of strings that pass check, sorted and without
// repetitions.
func (n node) texts(check func(string) error) ([]string, error) {
	list, err := n.list()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range list {
		s, err := e.text()
		if err != nil {
			return nil, err
		}
		if err := check(s); err != nil {
			return nil, e.refused(err)
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// refused places the error of a check.
func (n node) refused(err error) error {
	var p *PermissionError
	if !errors.As(err, &p) {
		return err
	}
	return n.problem("%s", p.Problem).hint("%s", p.Hint)
}

func (n node) wrongType(want, example string) *PermissionError {
	return n.problem("must be %s, not %s", want, n.kind()).hint("write it as in: %s", example)
}

func (n node) kind() string {
	switch n.value.(type) {
	case object:
		return "an object"
	case []node:
		return "a list"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	}
	return "null"
}

// names returns the keys of m in order.
func names[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
