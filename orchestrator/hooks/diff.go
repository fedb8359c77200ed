package hooks

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Bounds of what is told of the changes that one handler made.
const (
	MaxChanges     = 64
	MaxChangeValue = 1 << 10 // bytes; a longer value is left out
)

// maxDiffDepth is how deep changes are told apart; what lies deeper is one
// value. It also bounds the work on values that nest.
const maxDiffDepth = 8

// maxDiffKey is how long the keys may be that a path is made of, bytes.
const maxDiffKey = 128

// Change is one field that a handler changed.
type Change struct {
	Key     plugin.Key
	Handler int
	// Path is a JSON pointer into the payload, or into the result if it begins
	// with "/result"; empty for the whole payload, without values.
	Path string
	// Before and After are absent if there was nothing, or if they are larger
	// than MaxChangeValue.
	Before, After json.RawMessage
}

// changes says what became of the payload, and of what is in the result alone.
// If there are more than MaxChanges, it tells less far apart, but leaves
// nothing out.
func changes(r rule, h Handler, before, after State) []Change {
	resultBefore, resultAfter := r.apart(before.Result), r.apart(after.Result)
	for _, depth := range []int{maxDiffDepth, 1, 0} {
		var d differ
		d.objects("", before.Payload, after.Payload, depth)
		d.objects("/result", resultBefore, resultAfter, depth)
		if d.full && depth > 0 {
			continue
		}
		for i := range d.list {
			d.list[i].Key, d.list[i].Handler = h.Key, h.Index
		}
		return d.list
	}
	return nil
}

type differ struct {
	list []Change
	full bool
}

func (d *differ) objects(path string, a, b Object, depth int) {
	keys := slices.Sorted(maps.Keys(a.with(b)))
	if depth == 0 || slices.ContainsFunc(keys, func(key string) bool { return len(key) > maxDiffKey }) {
		if !maps.EqualFunc(a, b, same) {
			d.add(path, nil, nil)
		}
		return
	}
	for _, key := range keys {
		d.values(path+"/"+escape(key), a[key], b[key], depth-1)
	}
}

func (d *differ) values(path string, a, b json.RawMessage, depth int) {
	if d.full || bytes.Equal(a, b) {
		return
	}
	if depth > 0 && looks(a, '{') && looks(b, '{') {
		x, errX := object(a)
		y, errY := object(b)
		if errX == nil && errY == nil {
			d.objects(path, x, y, depth)
			return
		}
	}
	if depth > 0 && looks(a, '[') && looks(b, '[') {
		x, okX := list(a)
		y, okY := list(b)
		if okX && okY && len(x) == len(y) {
			for i := range x {
				d.values(path+"/"+strconv.Itoa(i), x[i], y[i], depth-1)
			}
			return
		}
	}
	if !same(a, b) {
		d.add(path, a, b)
	}
}

func (d *differ) add(path string, before, after json.RawMessage) {
	if len(d.list) == MaxChanges {
		d.full = true
		return
	}
	d.list = append(d.list, Change{Path: path, Before: cut(before), After: cut(after)})
}

// cut leaves a value out that is too long to be told.
func cut(raw json.RawMessage) json.RawMessage {
	if len(raw) > MaxChangeValue {
		return nil
	}
	return raw
}

// list reads an array of at most maxFields values.
func list(raw json.RawMessage) ([]json.RawMessage, bool) {
	if commas(raw) >= maxFields {
		return nil, false
	}
	var values []json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return nil, false
	}
	return values, true
}

// escape writes a key as a token of a JSON pointer (RFC 6901).
func escape(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}
