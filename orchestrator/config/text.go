package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tailscale/hujson"
)

// byteOrderMark begins the UTF-8 files of some editors.
const byteOrderMark = "\xef\xbb\xbf"

// maxDepth bounds the nesting, because the parser recurses, and maxValues the
// number of values, because it uses some 500 bytes of memory for each: the
// smallest ones would make 4 MiB of file 650 MB of memory.
const (
	maxDepth  = 200
	maxValues = 100_000
)

// positioned is an error at a place in the file. Its message never holds
// values of the file, which may be secrets.
type positioned struct {
	line, column int // from 1; the column counts characters
	message      string
}

func (p *positioned) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", p.line, p.column, p.message)
}

// position makes an error at the byte offset of text.
func position(text []byte, offset int, format string, args ...any) *positioned {
	before := text[:min(offset, len(text))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return &positioned{
		line:    1 + bytes.Count(before, []byte("\n")),
		column:  1 + utf8.RuneCount(before[start:]),
		message: fmt.Sprintf(format, args...),
	}
}

// checkText returns the text without its byte order mark, and refuses what
// the parser should not see.
func checkText(data []byte) (text []byte, bom bool, err error) {
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return nil, false, position(data, 0, "the file is UTF-16; save it as UTF-8")
	}
	text, bom = bytes.CutPrefix(data, []byte(byteOrderMark))
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return nil, bom, position(text, i, "this is not UTF-8")
		}
		i += size
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, bom, position(text, 0, "the file is empty; write {} into it, or remove it")
	}
	return text, bom, checkShape(text)
}

// checkShape refuses text that nests deeper than maxDepth or holds more than
// maxValues. It reads strings and comments as the parser does, and leaves all
// other errors to it.
func checkShape(text []byte) error {
	depth, values := 0, 1
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = skipString(text, i)
		case '/':
			i = skipComment(text, i)
		case '{', '[':
			depth++
			values++
		case ',', ':':
			values++
		case '}', ']':
			depth--
		}
		if depth > maxDepth {
			return position(text, i, "the nesting is deeper than %d", maxDepth)
		}
		if values > maxValues {
			return position(text, i, "there are more than %d values", maxValues)
		}
	}
	return nil
}

// skipString returns the index of the quote that ends the string at i.
func skipString(text []byte, i int) int {
	for i++; i < len(text) && text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i
}

// skipComment returns the index of the last byte of the comment at i, or i if
// there is none.
func skipComment(text []byte, i int) int {
	end := "\n"
	switch {
	case bytes.HasPrefix(text[i:], []byte("//")):
	case bytes.HasPrefix(text[i:], []byte("/*")):
		end = "*/"
	default:
		return i
	}
	n := bytes.Index(text[i+2:], []byte(end))
	if n < 0 {
		return len(text)
	}
	return i + 2 + n + len(end) - 1
}

// parseTree parses text. A comment on a last line without an end is fine for
// people, so it is for us.
func parseTree(text []byte) (hujson.Value, error) {
	tree, err := hujson.Parse(text)
	if err != nil && !bytes.HasSuffix(text, []byte("\n")) {
		if retry, retryErr := hujson.Parse(append(bytes.Clone(text), '\n')); retryErr == nil {
			return retry, nil
		}
	}
	if err == nil {
		return tree, nil
	}
	var line, column int
	if _, scanErr := fmt.Sscanf(err.Error(), "hujson: line %d, column %d:", &line, &column); scanErr != nil {
		return tree, position(text, 0, "this is not JSON")
	}
	return tree, position(text, offsetOf(text, line, column), "%s", syntaxMessage(err))
}

// syntaxMessage says what is wrong with the syntax, without the literal that
// the parser quotes.
func syntaxMessage(err error) string {
	message := errors.Unwrap(err).Error()
	if strings.HasPrefix(message, "invalid literal") {
		return "this is no JSON value (strings need double quotes and valid escapes)"
	}
	return message
}

// offsetOf returns the byte offset of a line and of a column in bytes.
func offsetOf(text []byte, line, column int) int {
	offset := 0
	for range line - 1 {
		offset += bytes.IndexByte(text[offset:], '\n') + 1
	}
	return offset + column - 1
}
