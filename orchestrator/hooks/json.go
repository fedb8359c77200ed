package hooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ocmt/ocmt/bus/wire"
)

// MaxPayload bounds an event and the merged result, bytes: what fits into one
// message of the bus, with the rest of the message.
const MaxPayload = wire.MaxSize - 64<<10

// maxFields bounds how many fields an event or a result may have at its top,
// so that reading them costs no large multiple of their text.
const maxFields = 4096

// Object is a JSON object, read one level deep. An Object is never changed
// once it was handed out.
type Object map[string]json.RawMessage

// Encode returns o as JSON, its keys sorted.
func (o Object) Encode() json.RawMessage {
	buf := make([]byte, 0, o.size())
	buf = append(buf, '{')
	for i, key := range slices.Sorted(maps.Keys(o)) {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(append(append(buf, quote(key)...), ':'), o[key]...)
	}
	return append(buf, '}')
}

// size is about how long o is as JSON, bytes; never less.
func (o Object) size() int {
	n := 2
	for key, value := range o {
		n += len(quote(key)) + len(value) + 2
	}
	return n
}

// with returns o with the fields set.
func (o Object) with(fields Object) Object {
	if len(fields) == 0 {
		return o
	}
	all := make(Object, len(o)+len(fields))
	maps.Copy(all, o)
	maps.Copy(all, fields)
	return all
}

// object reads a JSON object of at most MaxPayload bytes.
func object(raw json.RawMessage) (Object, error) {
	if len(raw) > MaxPayload {
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", len(raw), MaxPayload)
	}
	if isNull(raw) || !looks(raw, '{') {
		return nil, errors.New("it is no object")
	}
	if commas(raw) >= maxFields {
		return nil, fmt.Errorf("it has more than %d fields", maxFields)
	}
	var o Object
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, errors.New("it is no JSON")
	}
	return o, nil
}

// commas counts those at the top level of an object, before it is read.
func commas(raw []byte) int {
	count, depth := 0, 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',':
			if depth == 1 {
				count++
			}
		}
	}
	return count
}

func looks(raw json.RawMessage, first byte) bool {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	return len(raw) > 0 && raw[0] == first
}

// isNull reports whether raw stands for nothing: JavaScript's null, or a field
// that is not there.
func isNull(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) == 0 || string(raw) == "null"
}

// quote writes a string as JSON.stringify does.
func quote(s string) json.RawMessage {
	if isPlain(s) {
		return json.RawMessage(`"` + s + `"`)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always is JSON
		return json.RawMessage(`""`)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// isPlain reports whether s needs no escape in JSON, as nearly all keys.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// text reads a string; that of nothing is empty.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// same reports whether a and b are the same JSON: the same tokens in the same
// order, numbers by their value in JavaScript. It needs no more memory than a
// and b do.
func same(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, y := json.NewDecoder(bytes.NewReader(a)), json.NewDecoder(bytes.NewReader(b))
	x.UseNumber()
	y.UseNumber()
	for {
		s, errX := x.Token()
		t, errY := y.Token()
		if errX != nil || errY != nil {
			return errors.Is(errX, io.EOF) && errors.Is(errY, io.EOF)
		}
		if s != t && !sameNumber(s, t) {
			return false
		}
	}
}

func sameNumber(a, b json.Token) bool {
	x, okX := a.(json.Number)
	y, okY := b.(json.Number)
	if !okX || !okY {
		return false
	}
	f, errX := strconv.ParseFloat(string(x), 64)
	g, errY := strconv.ParseFloat(string(y), 64)
	return errX == nil && errY == nil && f == g
}

// clean makes a plugin's words fit to be shown to people: at most limit bytes,
// and nothing that steers a terminal.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < 0x20, r >= 0x7f && r < 0xa0, r == 0x2028, r == 0x2029, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
	s = strings.TrimSpace(s)
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-3], "") + "..."
}
