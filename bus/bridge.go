package bus

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// Bytes, one for each direction of a connection: the small one until it
	// was full, since most plugins are idle most of the time.
	smallBuffer = 2 << 10
	largeBuffer = 16 << 10

	farewellTimeout = 100 * time.Millisecond
	drainTimeout    = 100 * time.Millisecond
)

// throttle holds back what one plugin sends, over all its connections.
type throttle struct {
	messages, bytes *rate.Limiter
}

func newThrottle(l Limits) throttle {
	return throttle{
		messages: rate.NewLimiter(rate.Limit(l.MessagesPerSecond), l.MessageBurst),
		bytes:    rate.NewLimiter(rate.Limit(l.BytesPerSecond), l.ByteBurst),
	}
}

func (t throttle) wait(ctx context.Context, messages, bytes int) error {
	if err := waitN(ctx, t.messages, messages); err != nil {
		return err
	}
	return waitN(ctx, t.bytes, bytes)
}

// waitN is l.WaitN for numbers beyond l's burst, too.
func waitN(ctx context.Context, l *rate.Limiter, n int) error {
	for n > 0 {
		part := min(n, l.Burst())
		if err := l.WaitN(ctx, part); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// bridge carries one connection of a runner to the server and back. It copies
// by hand: nothing may read from the runner without measuring, or write to it
// without a deadline, as io.Copy would by way of ReaderFrom and WriterTo.
type bridge struct {
	socket   net.Conn // the runner's end
	link     *link    // the server's end
	meter    meter
	throttle throttle
	deadline time.Duration // of one write to the runner
}

// run copies until either end is closed or ctx is done, and closes both. It
// returns what the runner did wrong, if that was the end.
func (b *bridge) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, b.close)()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var down sync.WaitGroup
	down.Go(func() {
		b.down()
		// Wake up wherever it waits: for the throttle, the server, the runner.
		cancel()
		_ = b.link.Close()
		_ = b.socket.SetReadDeadline(time.Unix(1, 0))
	})
	wrong := b.up(ctx)
	if wrong != nil {
		_ = b.link.Close()
		down.Wait()
		b.farewell(wrong)
	}
	b.close()
	down.Wait()
	return wrong
}

func (b *bridge) close() {
	_ = b.link.Close()
	b.socket.Close()
}

// up carries the runner's bytes to the server until one of them is gone, or
// the runner violates the protocol.
func (b *bridge) up(ctx context.Context) error {
	buf := make([]byte, smallBuffer)
	for {
		n, err := b.socket.Read(buf)
		ops, wrong := b.meter.feed(buf[:n])
		if wrong != nil {
			return wrong
		}
		if !b.pass(ctx, ops, buf[:n]) {
			return nil
		}
		if err != nil {
			b.drain()
			return nil //nolint:nilerr // that the runner is gone is no violation
		}
		buf = grown(buf, n)
	}
}

// pass carries p, which holds ops operations, to the server when the throttle
// allows it, and says whether it got there.
func (b *bridge) pass(ctx context.Context, ops int, p []byte) bool {
	if b.throttle.wait(ctx, ops, len(p)) != nil {
		return false
	}
	if len(p) == 0 {
		return true
	}
	_, err := b.link.Write(p)
	return err == nil
}

// down carries the server's bytes to the runner until one of them is gone.
func (b *bridge) down() {
	buf := make([]byte, smallBuffer)
	for {
		n, err := b.link.Read(buf)
		if err != nil {
			return
		}
		if b.socket.SetWriteDeadline(time.Now().Add(b.deadline)) != nil {
			return
		}
		if _, err := b.socket.Write(buf[:n]); err != nil {
			return
		}
		buf = grown(buf, n)
	}
}

// grown returns the buffer for what is read after n bytes.
func grown(buf []byte, n int) []byte {
	if n < len(buf) || n == largeBuffer {
		return buf
	}
	return make([]byte, largeBuffer)
}

// drain returns when the server has dealt with all that the runner sent: the
// server takes the PING only then. A runner's last answer, sent just before
// it exits, thus comes before the news that it is gone.
func (b *bridge) drain() {
	if !b.meter.idle() || b.link.SetWriteDeadline(time.Now().Add(drainTimeout)) != nil {
		return
	}
	_, _ = b.link.Write([]byte("PING\r\n"))
}

// farewell tells the runner why it is cut off, as the server would.
func (b *bridge) farewell(wrong error) {
	if b.socket.SetWriteDeadline(time.Now().Add(farewellTimeout)) == nil {
		_, _ = fmt.Fprintf(b.socket, "-ERR '%s'\r\n", wrong)
	}
}
