package egress

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// pace waits until n bytes may pass within the container's throughput.
func (b *Broker) pace(ctx context.Context, n int) error {
	for burst := b.bytes.Burst(); n > 0; n -= burst {
		if err := b.bytes.WaitN(ctx, min(n, burst)); err != nil {
			return err
		}
	}
	return nil
}

// meter is the container's side of a connection that is inspected. What passes
// is counted and kept within the limits, as link.Relay does for the others.
type meter struct {
	streamConn
	r        io.Reader // of the connection, with what was read before
	up, down total
	pace     func(n int) error
	cut      func(why error)
	timer    *time.Timer
	idle     time.Duration
}

func newMeter(ctx context.Context, s *session, conn streamConn, r io.Reader) *meter {
	limits := s.broker.opts.Limits
	m := &meter{
		streamConn: conn,
		r:          r,
		up:         total{max: limits.BytesUp, sum: &s.broker.stats.up},
		down:       total{max: limits.BytesDown, sum: &s.broker.stats.down},
		pace:       func(n int) error { return s.broker.pace(ctx, n) },
		cut:        func(why error) { s.cancel(denial{link.Limit, why.Error()}) },
		idle:       limits.Idle,
	}
	m.timer = time.AfterFunc(m.idle, func() { m.cut(link.ErrIdle) })
	return m
}

// stop ends the watch for idleness.
func (m *meter) stop() { m.timer.Stop() }

// Read implements net.Conn.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if n > 0 {
		if err := m.pass(&m.up, n); err != nil {
			return 0, err
		}
	}
	return n, err
}

// Write implements net.Conn.
func (m *meter) Write(p []byte) (int, error) {
	if err := m.pass(&m.down, len(p)); err != nil {
		return 0, err
	}
	n, err := m.streamConn.Write(p)
	m.timer.Reset(m.idle)
	return n, err
}

// pass lets n bytes go in one direction.
func (m *meter) pass(t *total, n int) error {
	if !t.add(int64(n)) {
		m.cut(link.ErrBytes)
		return link.ErrBytes
	}
	m.timer.Reset(m.idle)
	return m.pace(n)
}

// total counts the bytes of one direction.
type total struct {
	n   atomic.Int64
	max int64
	sum *atomic.Int64 // of all connections
}

// add counts n bytes, unless they are more than may pass.
func (t *total) add(n int64) bool {
	if t.n.Add(n) > t.max {
		t.n.Add(-n)
		return false
	}
	t.sum.Add(n)
	return true
}

// printable returns text without what could disturb a log, cut to a number of
// bytes.
func printable(text string, limit int) string {
	text = strings.Map(func(c rune) rune {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, text)
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "")
	}
	return text
}
