package logfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

// How often a reader looks for more: soon after there was some, less often
// when there is none.
const (
	pollFirst = 10 * time.Millisecond
	pollLast  = 200 * time.Millisecond
)

// The buffer of a reader grows up to the longest record that there can be.
const readAhead = 8 << 10

// Read writes the output that is kept in dir to out, as sandbox.Engine.Logs
// says; options.Tail counts lines. With options.Follow it goes on until ended
// is closed, which may be nil, or the [Writer] is, and all was read. A dir that
// does not exist is one without output. An error is out's, the context's, or
// Unavailable.
func Read(ctx context.Context, dir string, options sandbox.LogOptions, ended <-chan struct{}, out io.Writer) error {
	r := &reader{dir: dir, sink: newSink(options, out), buf: make([]byte, readAhead)}
	defer r.close()
	err := r.open()
	if err == nil && options.Tail > 0 {
		err = r.skipTo(ctx, options.Tail)
	}
	if err == nil {
		err = r.follow(ctx, options.Follow, ended)
	}
	if r.sink.err == nil {
		r.sink.finish()
	}
	if r.sink.err != nil {
		return fmt.Errorf("cannot pass the output on: %w", r.sink.err)
	}
	return err
}

// reader goes through the files of a log, oldest first.
type reader struct {
	dir   string
	sink  *sink
	buf   []byte
	files []*logFile // those that are not read to their end yet
	last  uint64     // number of the newest that was opened
	skip  int        // lines that are left out
	ended bool       // the last record was of a closed Writer
}

type logFile struct {
	*os.File
	at int64 // where the next record begins
}

// open adds the files that are newer than those that were opened before.
func (r *reader) open() error {
	all, err := numbers(r.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	for _, number := range all {
		if number > r.last {
			if _, err := r.openOne(number); err != nil {
				return err
			}
		}
	}
	return nil
}

// openOne adds a file, unless it is not there.
func (r *reader) openOne(number uint64) (bool, error) {
	file, err := os.Open(path(r.dir, number))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot open a log file: %w: %w", err, errdefs.ErrUnavailable)
	}
	r.files, r.last = append(r.files, &logFile{File: file}), number
	return true, nil
}

// openNewer adds what is newer than a file that was the newest. The next one
// is gone already if that file itself is.
func (r *reader) openNewer(newest *logFile) error {
	if opened, err := r.openOne(r.last + 1); opened || err != nil {
		return err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(newest.Fd()), &stat); err != nil {
		return fmt.Errorf("cannot look at a log file: %w: %w", err, errdefs.ErrUnavailable)
	}
	if stat.Nlink > 0 {
		return nil
	}
	return r.open()
}

func (r *reader) close() {
	for _, file := range r.files {
		file.Close()
	}
}

// skipTo leaves out all but the last lines.
func (r *reader) skipTo(ctx context.Context, tail int) error {
	lines, unfinished := 0, false
	for _, file := range r.files {
		err := r.records(ctx, &logFile{File: file.File}, func(text []byte) error {
			switch {
			case finishes(text):
				lines, unfinished = lines+1, false
			case string(text) != ending:
				unfinished = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if unfinished {
		lines++
	}
	r.skip = max(0, lines-tail)
	return nil
}

// follow reads what there is, and with more what is still to come.
func (r *reader) follow(ctx context.Context, more bool, ended <-chan struct{}) error {
	pause := pollFirst
	for {
		select {
		case <-ended: // looked at before reading, so that nothing is missed
			more = false
		default:
		}
		found, err := r.drain(ctx)
		if err != nil || !more || r.ended {
			return err
		}
		if found {
			pause = pollFirst
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot follow the log: %w", ctx.Err())
		case <-ended:
		case <-time.After(pause):
		}
		pause = min(2*pause, pollLast)
	}
}

// drain reads all files to their end, and says whether there was anything. The
// newest stays open.
func (r *reader) drain(ctx context.Context) (found bool, err error) {
	if len(r.files) == 0 {
		if err := r.open(); err != nil || len(r.files) == 0 {
			return false, err
		}
	}
	for {
		file := r.files[0]
		if len(r.files) == 1 { // looked at before reading: a file with a newer one is complete
			if err := r.openNewer(file); err != nil {
				return found, err
			}
		}
		begin := file.at
		if err := r.records(ctx, file, r.take); err != nil {
			return found, err
		}
		found = found || file.at > begin
		if len(r.files) == 1 {
			return found, nil
		}
		file.Close()
		r.files, r.ended = r.files[1:], false
	}
}

// records calls do with each record of a file that has its new line; what has
// none yet is read again the next time.
func (r *reader) records(ctx context.Context, file *logFile, do func(text []byte) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("cannot read the log: %w", err)
		}
		n, err := file.ReadAt(r.buf, file.at)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("cannot read a log file: %w: %w", err, errdefs.ErrUnavailable)
		}
		whole := r.buf[:bytes.LastIndexByte(r.buf[:n], '\n')+1]
		for text := range bytes.Lines(whole) {
			file.at += int64(len(text))
			if err := do(text); err != nil {
				return err
			}
		}
		switch {
		case len(whole) > 0:
		case n < len(r.buf):
			return nil
		case n < maxRecord:
			r.buf = make([]byte, min(2*n, maxRecord))
		default: // no record of ours
			file.at += int64(n)
		}
	}
}

// take passes a record on, unless it is left out. What is none is left out.
func (r *reader) take(text []byte) error {
	r.ended = string(text) == ending
	if r.skip > 0 {
		if finishes(text) {
			r.skip--
		}
		return nil
	}
	if record, ok := decode(text); ok {
		return r.sink.put(record)
	}
	return nil
}

// sink writes records as they were printed, or as lines in JSON.
type sink struct {
	options sandbox.LogOptions
	out     io.Writer
	streams map[string]*sandbox.LogEncoder // by stream, for JSON
	err     error                          // of out
}

func newSink(options sandbox.LogOptions, out io.Writer) *sink {
	return &sink{options: options, out: out, streams: map[string]*sandbox.LogEncoder{
		sandbox.Stdout: sandbox.NewLogEncoder(out, sandbox.Stdout),
		sandbox.Stderr: sandbox.NewLogEncoder(out, sandbox.Stderr),
	}}
}

func (s *sink) put(r record) error {
	if r.Time.Before(s.options.Since) {
		return nil
	}
	text := []byte(r.Line)
	if !r.Partial {
		text = append(text, '\n')
	}
	if s.options.JSON {
		s.err = s.streams[r.Stream].Add(r.Time, text)
	} else {
		_, s.err = s.out.Write(text)
	}
	return s.err
}

// finish writes the lines that no new line has ended.
func (s *sink) finish() {
	for _, stream := range []string{sandbox.Stdout, sandbox.Stderr} {
		if s.err == nil {
			s.err = s.streams[stream].Flush()
		}
	}
}
