package audit

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Bounds of what a record holds, in bytes. What is longer is cut and marked.
const (
	MaxText    = 1 << 10  // of each string
	MaxDetails = 16 << 10 // of the details as JSON
	maxLine    = 64 << 10 // of a line, by the bounds above and the escapes
)

// ownActions is how the actions of the log's own records begin.
const ownActions = "audit."

// Actions of the log's own records.
const (
	ActionSegment = ownActions + "segment" // first in a file; details: the tree before it
	ActionOpened  = ownActions + "opened"  // details: how many records, how many of them unsigned
	ActionClosed  = ownActions + "closed"  // the log was closed in order
	ActionTorn    = ownActions + "torn"    // an unfinished last line was moved to another file
	ActionBroken  = ownActions + "broken"  // the log before this one does not verify; details: Problem
	ActionResumed = ownActions + "resumed" // records can be written again; details: since when not, and why
)

// Record says who did what to what, and how it ended. Its strings may come
// from a plugin: they lose what is not printable and are cut to [MaxText].
type Record struct {
	Time    time.Time // when it happened; zero is now
	Tenant  string    // "" is the host itself
	Plugin  string
	Actor   string // who: "uid:1000", "plugin:ID", "host"
	Action  string // what: "plugin.install"; required, "audit." is the log's own
	Target  string // to what: a tool, "api.example.com:443"
	Outcome string // "ok", "denied", "failed"
	Code    string // the stable code of an error
	Request string // the id that joins the records of one request

	DurationMicros int64
	Params         string // what [Log.HMAC] returned for the arguments
	Details        any    // marshalled to JSON, at most [MaxDetails]
}

// Entry is a record as it was read from the log.
type Entry struct {
	Seq            int64           `json:"seq"`  // from 1 in every epoch, without gaps
	Prev           tlog.Hash       `json:"prev"` // leaf hash of the record before; zero in the first
	Boot           string          `json:"boot"` // the boot of the machine it was written in
	Time           time.Time       `json:"time"`
	Tenant         string          `json:"tenant,omitempty"`
	Plugin         string          `json:"plugin,omitempty"`
	Actor          string          `json:"actor,omitempty"`
	Action         string          `json:"action"`
	Target         string          `json:"target,omitempty"`
	Outcome        string          `json:"outcome,omitempty"`
	Code           string          `json:"code,omitempty"`
	Request        string          `json:"request,omitempty"`
	DurationMicros int64           `json:"duration_us,omitempty"`
	Params         string          `json:"params,omitempty"`
	Details        json.RawMessage `json:"details,omitempty"`

	File    string `json:"-"` // name of the segment
	Line    int    `json:"-"` // in the segment, from 1
	Raw     []byte `json:"-"` // the line; valid until the callback returns
	Problem string `json:"-"` // why the line is no record; then the fields above are zero
}

// ParseEntry reads one line of a segment, without its line end.
func ParseEntry(line []byte) (Entry, error) {
	var e Entry
	if len(line) > maxLine {
		return e, fmt.Errorf("it has %d bytes, a record has at most %d", len(line), maxLine)
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, err
	}
	if e.Seq < 1 || e.Action == "" {
		return Entry{}, fmt.Errorf("it has no sequence number or no action")
	}
	e.Raw = line
	return e, nil
}

// encode writes all of a line that does not depend on its place in the log.
func encode(r Record, boot string) []byte {
	b := make([]byte, 0, 512)
	b = appendField(b, "boot", boot)
	b = append(b, `,"time":"`...)
	b = r.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	for _, f := range []struct{ name, value string }{
		{"tenant", r.Tenant},
		{"plugin", r.Plugin},
		{"actor", r.Actor},
		{"action", r.Action},
		{"target", r.Target},
		{"outcome", r.Outcome},
		{"code", r.Code},
		{"request", r.Request},
		{"params", r.Params},
	} {
		if f.value != "" {
			b = appendField(b, f.name, bounded(f.value))
		}
	}
	if r.DurationMicros != 0 {
		b = append(b, `,"duration_us":`...)
		b = strconv.AppendInt(b, r.DurationMicros, 10)
	}
	if r.Details != nil {
		b = append(b, `,"details":`...)
		b = append(b, details(r.Details)...)
	}
	return append(b, "}\n"...)
}

// appendLine makes the line of what encode returned, at the chain's end.
func appendLine(b []byte, c *chain, body []byte) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, c.tree.size+1, 10)
	b = append(b, `,"prev":"`...)
	b = append(b, c.prev.String()...)
	b = append(b, '"')
	return append(b, body...)
}

// appendField writes a string that bounded has seen: nothing but the quote and
// the backslash needs an escape.
func appendField(b []byte, name, value string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	for i := range len(value) {
		if value[i] == '"' || value[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, value[i])
	}
	return append(b, '"')
}

// bounded makes s printable, on one line, and at most MaxText long.
func bounded(s string) string {
	if plain(s) {
		return s
	}
	const mark = "..."
	const look = 4 * MaxText // no need to read more of an enormous one
	if len(s) <= look {
		return plugin.Printable(s, MaxText)
	}
	return strings.TrimSuffix(plugin.Printable(s[:look], MaxText), mark) + mark
}

// plain says whether bounded has nothing to do, as it mostly has.
func plain(s string) bool {
	if len(s) > MaxText {
		return false
	}
	for i := range len(s) {
		inner := s[i] == ' ' && i > 0 && i < len(s)-1 && s[i-1] != ' '
		if !inner && (s[i] <= ' ' || s[i] > '~') {
			return false
		}
	}
	return true
}

// cut stands in for details that are too long or that are no JSON.
type cut struct {
	Cut   bool   `json:"cut"`
	Bytes int    `json:"bytes"`
	Start string `json:"start,omitempty"`
	Error string `json:"error,omitempty"`
}

func details(v any) []byte {
	data, err := json.Marshal(v)
	switch {
	case err != nil:
		return mustMarshal(cut{Cut: true, Error: bounded(err.Error())})
	case len(data) > MaxDetails:
		// Half of it, since quoting it may need two bytes for one.
		start := strings.ToValidUTF8(string(data[:MaxDetails/2]), "")
		return mustMarshal(cut{Cut: true, Bytes: len(data), Start: start})
	case !utf8.Valid(data): // a json.RawMessage keeps what it holds
		return []byte(strings.ToValidUTF8(string(data), string(utf8.RuneError)))
	}
	return data
}

// mustMarshal marshals a type of ours that always can be.
func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
