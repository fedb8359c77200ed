package plugin

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/titanous/json5"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// maxDepth bounds how deep a manifest may nest.
const maxDepth = 200

var byteOrderMark = []byte("\xef\xbb\xbf")

// strictObject parses data as a JSON object.
func strictObject(file string, data []byte) (map[string]json.RawMessage, error) {
	data, err := prepare(file, data)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, at(file, data, err)
	}
	if fields == nil {
		return nil, broken(file, "it must be an object")
	}
	return fields, nil
}

// parseManifest returns a manifest, which is JSON5, as strict JSON. One that
// is strict JSON already keeps its numbers and the order of its keys.
func parseManifest(data []byte) (json.RawMessage, error) {
	data, err := prepare(ManifestFile, data)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if json.Compact(&compact, data) == nil {
		return compact.Bytes(), nil
	}
	var v any
	if err := json5.Unmarshal(data, &v); err != nil {
		return nil, at(ManifestFile, data, err)
	}
	if tooDeep(v, maxDepth) {
		return nil, broken(ManifestFile, "it nests too deep")
	}
	strict, err := json.Marshal(v)
	if err != nil { // Infinity and NaN
		return nil, broken(ManifestFile, err.Error())
	}
	return strict, nil
}

func prepare(file string, data []byte) ([]byte, error) {
	if len(data) > MaxDescriptionFile {
		return nil, broken(file, "it is larger than 1 MiB")
	}
	return bytes.TrimPrefix(data, byteOrderMark), nil
}

func tooDeep(v any, limit int) bool {
	if limit == 0 {
		return true
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if tooDeep(e, limit-1) {
				return true
			}
		}
	case map[string]any:
		for _, e := range v {
			if tooDeep(e, limit-1) {
				return true
			}
		}
	}
	return false
}

// at says where in data, by line and column, a parser failed.
func at(file string, data []byte, err error) error {
	var offset int64 = 1
	var strict *json.SyntaxError
	var lenient *json5.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &strict):
		offset = strict.Offset
	case errors.As(err, &lenient):
		offset = lenient.Offset
	case errors.As(err, &kind):
		return broken(file, "it must be an object")
	}
	// Offsets count the bytes that were read, the offending one included.
	before := data[:min(max(int(offset)-1, 0), len(data))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len([]rune(string(before[bytes.LastIndexByte(before, '\n')+1:]))) + 1
	return fault.New(fault.ErrPlugin, "bad_"+codeOf(file), "cannot read %s: line %d, column %d: %w", file, line, column, err).
		WithHint("mend the file at that place")
}

// member is one key of an object, in the order of the file: Node picks among
// the conditions of "exports" by that order.
type member struct {
	key   string
	value json.RawMessage
}

// members returns what an object holds, in order, and false for anything else.
func members(raw json.RawMessage) ([]member, bool) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	var list []member
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, false
		}
		m := member{key: key.(string)} // the key of an object always is one
		if err := dec.Decode(&m.value); err != nil {
			return nil, false
		}
		list = append(list, m)
	}
	return list, true
}
