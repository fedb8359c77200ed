package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// clean makes a text of one line that a plugin made fit for a terminal:
// control characters, and those that change the direction of writing, are
// printed as escapes.
func clean(s string) string { return string(appendClean(nil, []byte(s), "")) }

// appendClean appends p to dst, with all but the characters in keep escaped as
// JSON does, so that JSON stays JSON.
func appendClean(dst, p []byte, keep string) []byte {
	for len(p) > 0 {
		r, size := utf8.DecodeRune(p)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = fmt.Appendf(dst, `\x%02x`, p[0])
		case !unsafe(r) || strings.ContainsRune(keep, r):
			dst = append(dst, p[:size]...)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		p = p[size:]
	}
	return dst
}

// unsafe says whether r commands a terminal: C0, C1, DEL, line separators, and
// the bidirectional controls.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// terminalWriter cleans what is written to it, but for line ends and tabs. A
// character that is split between two writes is held back until the second.
type terminalWriter struct {
	w    io.Writer
	held []byte
}

// Write writes p, cleaned.
func (t *terminalWriter) Write(p []byte) (int, error) {
	text := append(t.held, p...)
	whole := len(text) - partial(text)
	t.held = bytes.Clone(text[whole:])
	if _, err := t.w.Write(appendClean(nil, text[:whole], "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes what was held back.
func (t *terminalWriter) Flush() error {
	_, err := t.w.Write(appendClean(nil, t.held, "\n\t"))
	t.held = nil
	return err
}

// partial returns how many bytes at the end of p are the start of a character.
func partial(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		tail := p[len(p)-n:]
		if utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// print gives write a stream for text that a plugin made: as it is, or cleaned
// if standard output is a terminal.
func (a *app) print(write func(io.Writer) error) error {
	if !a.env.IsTerminal(a.env.Stdout) {
		return write(a.env.Stdout)
	}
	t := &terminalWriter{w: a.env.Stdout}
	if err := write(t); err != nil {
		return err
	}
	return t.Flush()
}

// printJSON prints v, indented.
func (a *app) printJSON(v any) error {
	return a.print(func(w io.Writer) error {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(v)
	})
}

// printLine prints v as JSON on one line.
func printLine(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// jsonLines returns JSON, indented, as lines; what is no JSON as it is.
func jsonLines(raw json.RawMessage) []string {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return []string{string(raw)}
	}
	return strings.Split(b.String(), "\n")
}

// compact returns JSON without spaces; what is no JSON as it is.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return string(raw)
	}
	return b.String()
}

// maxCell is how much of a name that a plugin chose a table shows, in
// characters.
const maxCell = 60

// table prints rows, the first of which is the head, in aligned columns. Every
// cell is cleaned.
func table(cmd *cobra.Command, rows [][]string) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for _, cell := range row {
			fmt.Fprint(w, clean(cell), "\t") // an empty cell too, or its column would end
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// textWidth is how wide a text of several lines is printed, in characters.
const textWidth = 80

// wrap breaks s at spaces into lines of at most width characters; a longer
// word has a line of its own.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// count writes n things, "1 tool" or "2 tools".
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.Itoa(n) + " " + thing
}

// shorten cuts s to n characters.
func shorten(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n-3]) + "..."
}

// byteSize writes a number of bytes for a person.
func byteSize(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// instant writes a time for a person.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
