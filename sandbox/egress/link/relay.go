package link

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// Why a relay was cut off.
var (
	ErrBytes = fmt.Errorf("cannot pass more bytes on one connection: %w", errdefs.ErrResourceExhausted)
	ErrIdle  = fmt.Errorf("cannot keep an idle connection: %w", errdefs.ErrResourceExhausted)
)

// Stream is one end of a relay, for example a *net.TCPConn or *net.UnixConn.
type Stream interface {
	io.Reader
	io.Writer
	io.Closer
	CloseWrite() error
}

// Relay copies between two streams. The zero value has no limits.
type Relay struct {
	MaxUp   int64         // bytes from the client; 0 is no limit
	MaxDown int64         // bytes to the client; 0 is no limit
	Idle    time.Duration // without a byte in either direction; 0 is no limit
	// Up and Down, unless nil, are added to as bytes pass.
	Up, Down *atomic.Int64
	// Pace, unless nil, is called before n bytes are passed, and lets them go
	// by returning. Its error ends the relay.
	Pace func(n int) error
}

// Totals counts the bytes that were passed on.
type Totals struct {
	Up   int64 // from the client
	Down int64 // to the client
}

// bufferSize is what one direction holds at most, in bytes: a reader that
// does not read stops the writer at the other end after this and what the two
// sockets hold.
const bufferSize = 16 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Run copies until both directions have ended, closes both streams, and
// returns what was passed. The end of one direction is handed on by
// CloseWrite. A failure or a limit in one direction ends both and is returned.
func (r Relay) Run(client, upstream Stream) (Totals, error) {
	f := flow{client: client, upstream: upstream, pace: r.Pace}
	if r.Idle > 0 {
		f.touch()
		stop := f.watchIdle(r.Idle)
		defer stop()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.abortOn(f.copy(client, upstream, &f.down, r.Down, r.MaxDown))
	}()
	f.abortOn(f.copy(upstream, client, &f.up, r.Up, r.MaxUp))
	<-done
	f.abort(nil)
	return Totals{Up: f.up.Load(), Down: f.down.Load()}, f.err
}

// flow is one running relay.
type flow struct {
	client, upstream Stream
	pace             func(int) error
	up, down         atomic.Int64
	last             atomic.Int64 // when a byte was last passed, Unix nanoseconds
	once             sync.Once
	err              error // set once, read after both directions ended
}

// copy passes bytes by plain reads and writes. The streams' own ReadFrom and
// WriteTo are avoided on purpose: they use splice(2), which a container's
// system call filter may refuse.
func (f *flow) copy(dst, src Stream, total, sum *atomic.Int64, limit int64) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			if limit > 0 && total.Load()+int64(n) > limit {
				return ErrBytes
			}
			f.touch()
			if f.pace != nil {
				if err := f.pace(n); err != nil {
					return err
				}
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
			total.Add(int64(n))
			if sum != nil {
				sum.Add(int64(n))
			}
			f.touch()
		}
		if errors.Is(err, io.EOF) {
			return ignoreGone(dst.CloseWrite())
		}
		if err != nil {
			return err
		}
	}
}

func (f *flow) touch() { f.last.Store(time.Now().UnixNano()) }

// watchIdle aborts the relay when nothing was passed for idle. The returned
// function ends the watch.
func (f *flow) watchIdle(idle time.Duration) (stop func()) {
	end := make(chan struct{})
	go func() {
		timer := time.NewTimer(idle)
		defer timer.Stop()
		for {
			select {
			case <-end:
				return
			case <-timer.C:
			}
			rest := idle - time.Since(time.Unix(0, f.last.Load()))
			if rest <= 0 {
				f.abort(ErrIdle)
				return
			}
			timer.Reset(rest)
		}
	}()
	return sync.OnceFunc(func() { close(end) })
}

func (f *flow) abortOn(err error) {
	if err != nil {
		f.abort(err)
	}
}

// abort closes both streams and keeps the first reason.
func (f *flow) abort(err error) {
	f.once.Do(func() {
		f.err = err
		f.client.Close()
		f.upstream.Close()
	})
}

// ignoreGone drops the error of closing a direction whose peer has gone: the
// other direction notices by itself.
func ignoreGone(err error) error {
	if errors.Is(err, syscall.ENOTCONN) {
		return nil
	}
	return err
}

// Buffered is s with its reads taken from r, which holds what was read of s
// before.
func Buffered(s Stream, r io.Reader) Stream { return &buffered{Stream: s, r: r} }

type buffered struct {
	Stream
	r io.Reader
}

// Read reads what was buffered first.
func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
