package sandbox

import (
	"bytes"
	"encoding/json"
	"io"
	"time"
	"unicode/utf8"
)

// Streams of a [LogLine].
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// MaxLogLine bounds LogLine.Line, bytes: a longer line becomes several.
const MaxLogLine = 64 << 10

// LogLine is one line that a container printed, as [LogOptions].JSON writes it.
type LogLine struct {
	Time   time.Time `json:"time"`   // when the engine got its beginning, UTC
	Stream string    `json:"stream"` // [Stdout] or [Stderr]
	// Line has no new line at its end; what is no UTF-8 is U+FFFD.
	Line string `json:"line"`
}

// LogEncoder writes the output of one stream as [LogLine]s in JSON, one line
// and one Write each. It is for engines.
type LogEncoder struct {
	w      io.Writer
	stream string
	at     time.Time // of the beginning of held
	held   []byte    // of an unfinished line
}

// NewLogEncoder returns an encoder of the lines of one stream.
func NewLogEncoder(w io.Writer, stream string) *LogEncoder {
	return &LogEncoder{w: w, stream: stream}
}

// Add takes what was printed at that time and writes every line that it
// finishes. An error is the writer's.
func (e *LogEncoder) Add(at time.Time, text []byte) error {
	for part := range bytes.Lines(text) {
		if len(e.held) == 0 {
			e.at = at
		}
		e.held = append(e.held, part...)
		for len(e.held) > MaxLogLine+1 { // 1: a new line
			if err := e.write(MaxLogLine); err != nil {
				return err
			}
		}
		if bytes.HasSuffix(e.held, []byte("\n")) {
			if err := e.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Flush writes the line that no new line has ended yet, if there is one.
func (e *LogEncoder) Flush() error {
	for len(e.held) > 0 {
		if err := e.write(MaxLogLine); err != nil {
			return err
		}
	}
	return nil
}

// write writes a line of at most n bytes, never the half of a character.
func (e *LogEncoder) write(n int) error {
	line := e.held
	if end := bytes.IndexByte(line, '\n'); end >= 0 && end <= n {
		line = line[:end]
		e.held = e.held[end+1:]
	} else {
		n = min(n, len(line))
		for cut := n; cut < len(line) && cut > n-utf8.UTFMax; cut-- {
			if utf8.RuneStart(line[cut]) {
				n = cut
				break
			}
		}
		line, e.held = line[:n], e.held[n:]
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(LogLine{Time: e.at.UTC(), Stream: e.stream, Line: string(line)}); err != nil {
		return err
	}
	_, err := e.w.Write(out.Bytes())
	return err
}
