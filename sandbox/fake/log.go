package fake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/ocmt/ocmt/sandbox"
)

// log keeps the last bytes of a container's output as lines.
type log struct {
	limit int64 // bytes

	mu      sync.Mutex
	lines   []line
	size    int64
	dropped int // lines that are gone from the front
	closed  bool
	changed chan struct{} // closed and replaced at every change
}

type line struct {
	at     time.Time
	stream string
	text   []byte // with its new line, unless it is unfinished
}

func newLog(limit int64) *log {
	return &log{limit: limit, changed: make(chan struct{})}
}

// Write writes to standard output.
func (l *log) Write(p []byte) (int, error) { return l.add(sandbox.Stdout, p) }

// Stderr returns the writer to standard error; see [Options].
func (l *log) Stderr() io.Writer { return stderr{l} }

type stderr struct{ log *log }

func (s stderr) Write(p []byte) (int, error) { return s.log.add(sandbox.Stderr, p) }

// add never fails: the output of a container that has ended goes nowhere.
func (l *log) add(stream string, p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(p), nil
	}
	for rest := range bytes.Lines(p) {
		l.append(stream, bytes.Clone(rest))
	}
	l.trim()
	l.notify()
	return len(p), nil
}

// trim drops whole lines, and the beginning of a single one that is too long.
func (l *log) trim() {
	for l.size > l.limit && len(l.lines) > 1 {
		l.size -= int64(len(l.lines[0].text))
		l.lines, l.dropped = l.lines[1:], l.dropped+1
	}
	if excess := l.size - l.limit; excess > 0 {
		l.lines[0].text = bytes.Clone(l.lines[0].text[excess:])
		l.size = l.limit
	}
}

func (l *log) append(stream string, text []byte) {
	l.size += int64(len(text))
	if last := len(l.lines) - 1; last >= 0 && l.lines[last].stream == stream && !bytes.HasSuffix(l.lines[last].text, []byte("\n")) {
		l.lines[last].text = append(l.lines[last].text, text...)
		return
	}
	l.lines = append(l.lines, line{at: time.Now(), stream: stream, text: text})
}

func (l *log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.notify()
	}
}

// notify wants l.mu to be held.
func (l *log) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// copy writes the lines that options select; following, until the log closes.
func (l *log) copy(ctx context.Context, options sandbox.LogOptions, w io.Writer) error {
	next := l.first(options)
	for {
		start, lines, closed, changed := l.from(next, options)
		next = start + len(lines)
		for _, line := range lines {
			if line.at.Before(options.Since) {
				continue
			}
			if err := line.write(w, options.JSON); err != nil {
				return fmt.Errorf("cannot write the output: %w", err)
			}
		}
		if len(lines) > 0 {
			continue
		}
		if closed || !options.Follow {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("cannot follow the output: %w", ctx.Err())
		}
	}
}

// first is the number of the first line to write, counted from the very first
// that was written.
func (l *log) first(options sandbox.LogOptions) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if options.Tail > 0 && options.Tail < len(l.lines) {
		return l.dropped + len(l.lines) - options.Tail
	}
	return l.dropped
}

// from returns the lines from number next on, or from the first that is left,
// and its number; an unfinished one only when nothing can be added to it, or
// when nobody waits for the rest.
func (l *log) from(next int, options sandbox.LogOptions) (start int, lines []line, closed bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	start = max(next, l.dropped)
	lines = l.lines[min(start-l.dropped, len(l.lines)):]
	if last := len(lines) - 1; last >= 0 && options.Follow && !l.closed && !bytes.HasSuffix(lines[last].text, []byte("\n")) {
		lines = lines[:last]
	}
	return start, slices.Clone(lines), l.closed, l.changed
}

func (l line) write(w io.Writer, structured bool) error {
	if !structured {
		_, err := w.Write(l.text)
		return err
	}
	encoder := sandbox.NewLogEncoder(w, l.stream)
	return errors.Join(encoder.Add(l.at, l.text), encoder.Flush())
}
