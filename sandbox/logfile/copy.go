package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"golang.org/x/time/rate"

	"github.com/ocmt/ocmt/sandbox"
)

const (
	smallRead = 1 << 10  // bytes read at once, until there were that many
	readSize  = 16 << 10 // bytes read at once from then on
	batchSize = 16 << 10 // bytes written at once, unless a single record is longer
	tailSize  = 8 << 10  // bytes at the end of a gap that are kept
	gap       = time.Second
	pause     = 20 * time.Millisecond // the shortest wait of a flood
)

// Copy keeps what a stream of the container prints, until r ends; then the
// line that no new line has ended, too. One goroutine per stream. It reads on
// whatever cannot be written, so that the container need not wait: an error is
// r's, or InvalidArgument for an unknown stream.
func (w *Writer) Copy(stream string, r io.Reader) error {
	if stream != sandbox.Stdout && stream != sandbox.Stderr {
		return fmt.Errorf("cannot keep the output of stream %q: %w", stream, errdefs.ErrInvalidArgument)
	}
	c := &copier{
		w: w, stream: stream,
		piece:  int(min(maxPiece, (w.size-2*overhead)/widest)),
		batch:  int(min(batchSize, w.size/8)),
		budget: rate.NewLimiter(Rate, Burst),
	}
	defer c.finish()
	pace := rate.NewLimiter(ReadRate, Burst)
	buf := make([]byte, smallRead)
	for {
		n, err := r.Read(buf)
		now := time.Now()
		c.take(now, buf[:n])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read the output of the container: %w", err)
		}
		if debt := pace.ReserveN(now, n).DelayFrom(now); debt >= pause {
			<-time.After(debt)
		}
		if n == smallRead { // most plugins hardly ever print
			buf = make([]byte, readSize)
		}
	}
}

// copier takes one stream apart into records.
type copier struct {
	w      *Writer
	stream string
	piece  int // bound of a record's text, bytes
	batch  int // bound of what is written at once, bytes

	mu     sync.Mutex
	budget *rate.Limiter // overdrawn by what was begun
	at     time.Time     // of the beginning of held
	held   []byte        // of an unfinished line

	one     bytes.Buffer // the record that is being made
	pending bytes.Buffer // records that are not written yet
	lines   int          // those that end in pending
	told    int          // those that pending says are missing
	partial bool         // the last record in pending is a piece of a line
	open    bool         // so is the last one that was written

	missing int    // lines that were lost, and no record says so yet
	why     string // they were

	gap  *time.Timer // ends a gap; nil outside of one
	tail []byte      // the end of what was printed in it
	torn bool        // tail begins in the middle of a line
}

// take keeps or drops what was printed at that time.
func (c *copier) take(now time.Time, text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gap != nil {
		c.drop(text)
		return
	}
	c.keep(now, text)
	c.flush()
}

// keep makes records of lines, until the budget is spent: then a gap begins.
func (c *copier) keep(now time.Time, text []byte) {
	for part := range bytes.Lines(text) {
		if c.gap != nil {
			c.drop(part)
			continue
		}
		if len(c.held) == 0 {
			c.at = now
		}
		c.held = append(c.held, part...)
		c.cut(now)
		if c.budget.TokensAt(now) <= 0 {
			c.gap = time.AfterFunc(gap, c.resume)
			c.drop(c.held)
			c.held = c.held[:0]
		}
	}
}

// cut makes records of what is held: of a whole line, and of pieces of one
// that is too long.
func (c *copier) cut(now time.Time) {
	ended := bytes.HasSuffix(c.held, []byte("\n"))
	line := bytes.TrimSuffix(c.held, []byte("\n"))
	for len(line) > c.piece {
		n := boundary(line, c.piece)
		c.record(now, line[:n], true)
		line = line[n:]
	}
	if !ended {
		c.held = append(c.held[:0], line...)
		return
	}
	c.record(now, line, false)
	c.held = c.held[:0]
}

// boundary is the end of the last whole character in the first n bytes of a
// longer text, or n where there are none.
func boundary(text []byte, n int) int {
	for cut := n; cut > n-utf8.UTFMax; cut-- {
		if utf8.RuneStart(text[cut]) {
			return cut
		}
	}
	return n
}

// record adds a record to those that are written next, after one that says
// what is missing before it.
func (c *copier) record(now time.Time, text []byte, partial bool) {
	c.one.Reset()
	c.encode(&c.one, c.at, string(text), partial)
	if c.pending.Len() > 0 && c.pending.Len()+c.one.Len() > c.batch {
		c.flush()
	}
	if c.pending.Len() == 0 && c.missing > 0 {
		if c.open {
			c.encode(&c.pending, now, "", false)
		}
		c.encode(&c.pending, now, c.notice(), false)
		c.told, c.missing = c.missing, 0
	}
	c.budget.ReserveN(now, c.one.Len())
	c.pending.Write(c.one.Bytes())
	c.partial = partial
	if !partial {
		c.lines++
	}
}

func (c *copier) encode(out *bytes.Buffer, at time.Time, text string, partial bool) {
	r := record{LogLine: sandbox.LogLine{Time: at.UTC(), Stream: c.stream, Line: text}, Partial: partial}
	if err := r.encode(out); err != nil { // only for a clock beyond the year 9999
		c.miss(1, err.Error())
	}
}

func (c *copier) notice() string {
	if c.missing == 1 {
		return "ocmt: 1 line is missing here: " + c.why
	}
	return fmt.Sprintf("ocmt: %d lines are missing here: %s", c.missing, c.why)
}

// flush writes the records that were made.
func (c *copier) flush() {
	if c.pending.Len() == 0 {
		return
	}
	if err := c.w.append(c.pending.Bytes()); err != nil {
		c.miss(c.told+c.lines, reason(err))
	} else {
		c.open = c.partial
	}
	c.pending.Reset()
	c.told, c.lines = 0, 0
}

func (c *copier) miss(lines int, why string) {
	c.missing += lines
	c.why = why
}

// reason is what the readers of a log may know of an error: no paths.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return "the log cannot be written"
}

// drop leaves out what is printed in a gap, but for its end.
func (c *copier) drop(text []byte) {
	c.tail = append(c.tail, text...)
	excess := len(c.tail) - tailSize
	if excess <= 0 {
		return
	}
	excess += bytes.IndexByte(c.tail[excess:], '\n') + 1 // 0 without a new line
	lost := c.tail[:excess]
	c.miss(bytes.Count(lost, []byte("\n")), fmt.Sprintf("more than %d KiB/s were printed", Rate>>10))
	c.torn = !bytes.HasSuffix(lost, []byte("\n"))
	c.tail = append(c.tail[:0], c.tail[excess:]...)
}

// resume ends a gap.
func (c *copier) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endGap()
}

// endGap keeps what was printed last in a gap after all.
func (c *copier) endGap() {
	if c.gap == nil {
		return
	}
	c.gap.Stop()
	if c.torn {
		c.missing++
	}
	tail := c.tail
	c.gap, c.tail, c.torn = nil, nil, false
	c.keep(time.Now(), tail)
	c.flush()
}

// finish writes what is left, whatever was spent before.
func (c *copier) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget = rate.NewLimiter(Rate, Burst)
	c.endGap()
	if len(c.held) > 0 {
		c.record(time.Now(), c.held, true)
		c.lines++
	}
	c.flush()
}
