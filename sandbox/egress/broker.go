package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// Broker reaches destinations for one container. It starts with an empty
// policy. Its methods may be called from several goroutines.
type Broker struct {
	opts  Options
	guard guard
	rate  *rate.Limiter
	bytes *rate.Limiter
	slots chan struct{} // holds one element per open connection
	// requests holds one element per inspected request that is being answered.
	requests chan struct{}
	asked    *rate.Limiter // inspected requests
	lastID   atomic.Uint64
	stats    counters
	turned   *tally // connections beyond the limits
	reports  *tally // names that the inside did not know
	refused  *tally // inspected requests that no rule allows
	crowded  *tally // inspected requests beyond the limits

	mu      sync.Mutex
	policy  Policy
	changed chan struct{}       // closed at the next change of policy
	active  map[*session]*terms // connections and what they run under
}

// NewBroker makes a broker that grants nothing yet.
func NewBroker(opts Options) (*Broker, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Broker{
		opts:     opts,
		guard:    guard{own: opts.OwnAddresses},
		rate:     rate.NewLimiter(rate.Limit(opts.Limits.PerSecond), opts.Limits.Burst),
		bytes:    rate.NewLimiter(rate.Limit(opts.Limits.Throughput), int(min(opts.Limits.Throughput, math.MaxInt32))),
		slots:    make(chan struct{}, opts.Limits.Connections),
		requests: make(chan struct{}, opts.Limits.Requests),
		asked:    rate.NewLimiter(rate.Limit(opts.Limits.RequestsPerSecond), opts.Limits.RequestBurst),
		changed:  make(chan struct{}),
		active:   map[*session]*terms{},
	}
	b.turned = newTally(PhaseDenied, link.Limit, b.record)
	b.reports = newTally(PhaseDenied, link.NotGranted, b.record)
	b.refused = newTally(PhaseRequest, link.RequestRefused, b.record)
	b.crowded = newTally(PhaseRequest, link.Limit, b.record)
	return b, nil
}

// Format implements fmt.Formatter for every verb: what a broker holds is not
// for a log.
func (b *Broker) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "egress broker") }

// SetPolicy puts a policy in force. Watchers are told, and connections whose
// rule is gone or different are cut off before it returns.
func (b *Broker) SetPolicy(p Policy) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.policy = p
	close(b.changed)
	b.changed = make(chan struct{})
	for s, t := range b.active {
		if now, ok := p.find(s.target); !ok || !now.sameTerms(t.Rule) {
			// Closed by nobody else before, it is closed now; and the session
			// cannot be forgotten before it is told why.
			_ = s.conn.Close()
			s.cancel(denial{link.NotGranted, "the grant was revoked or changed"})
		}
	}
}

// snapshot returns the policy and a channel that is closed when it changes.
func (b *Broker) snapshot() (Policy, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.policy, b.changed
}

// admit finds the rule for the session's target and ties the session to it.
func (b *Broker) admit(s *session) (*terms, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.policy.find(s.target)
	if ok {
		b.active[s] = t
	}
	return t, ok
}

func (b *Broker) forget(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.active, s)
}

const (
	// turnAwayPause is how long the socket rests after a connection beyond the
	// limits, so that a flood stalls itself and not the host.
	turnAwayPause = 10 * time.Millisecond
	// acceptPause is how long a broker waits when the host has no descriptors.
	acceptPause = 100 * time.Millisecond
	// drainMax is how much of a refused client's bytes is read, so that it can
	// read the answer.
	drainMax = 64 << 10
	// writeTimeout bounds writing a line to a client that does not read.
	writeTimeout = 10 * time.Second
)

// Serve answers the connections of ln until ctx ends, and returns nil then,
// after all of them were closed and recorded. It closes ln.
func (b *Broker) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	var sessions sync.WaitGroup
	defer func() {
		cancel()
		sessions.Wait()
		stop()
		ln.Close()
		b.turned.flush()
		b.reports.flush()
		b.refused.flush()
		b.crowded.flush()
	}()
	for {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			b.opts.Logger.Warn("cannot accept egress connections", "error", err)
			pause(ctx, acceptPause)
			continue
		case err != nil:
			return err
		}
		if d, ok := b.take(); !ok {
			b.turnAway(conn, d)
			pause(ctx, turnAwayPause)
			continue
		}
		sessions.Go(func() {
			defer func() { <-b.slots }()
			b.serve(ctx, conn)
		})
	}
}

// take takes a slot for a new connection, or says which limit was hit.
func (b *Broker) take() (denial, bool) {
	if !b.rate.Allow() {
		return denial{link.Limit, "too many new connections per second"}, false
	}
	select {
	case b.slots <- struct{}{}:
		return denial{}, true
	default:
		return denial{link.Limit, "too many connections at once"}, false
	}
}

// turnAway denies a connection without reading from it.
func (b *Broker) turnAway(conn net.Conn, d denial) {
	defer conn.Close()
	b.stats.denied.Add(1)
	b.turned.add(Connection{ID: b.lastID.Add(1), Time: time.Now(), Detail: d.detail})
	deny(conn, d)
}

// serve reads the request and carries it out.
func (b *Broker) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	s := &session{broker: b, conn: conn, cancel: cancel, began: time.Now()}
	_ = conn.SetReadDeadline(s.began.Add(b.opts.Limits.Hello))
	s.reader = link.NewReader(conn)
	request, err := link.ReadRequest(s.reader)
	_ = conn.SetReadDeadline(time.Time{})
	switch {
	case err != nil:
		d := denial{link.BadRequest, err.Error()}
		b.stats.denied.Add(1)
		b.record(Connection{
			ID: b.lastID.Add(1), Phase: PhaseDenied, Time: s.began, Code: d.code, Detail: d.detail,
			Duration: time.Since(s.began), Count: 1,
		})
		deny(conn, d)
	case request.Watch:
		b.watch(ctx, s)
	case request.Report != "":
		b.report(request.Report, s.began)
	default:
		s.target = request.Target
		s.run(ctx)
	}
}

// watch tells the client the grants, now and after every change, until it
// hangs up or says anything more.
func (b *Broker) watch(ctx context.Context, s *session) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = s.reader.ReadByte()
	}()
	for {
		policy, changed := b.snapshot()
		_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err := link.WriteGrants(s.conn, policy.Grants()); err != nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// messages are what the inside of the container is told: nothing about the
// host's names and addresses.
var messages = map[Code]string{
	link.NotGranted:     "this host and port are not granted",
	link.AddressRefused: "the name has no address that may be reached",
	link.ResolveFailed:  "the name cannot be resolved",
	link.DialFailed:     "the host cannot be reached",
	link.Limit:          "too many connections",
	link.BadRequest:     "the request cannot be read",
	link.Audit:          "the connection cannot be recorded",
	link.Certificate:    "the host's certificate is not good, or the host cannot be inspected",
}

// deny answers a request that was refused. The client may be gone.
func deny(conn net.Conn, d denial) {
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_ = link.WriteDenied(conn, link.Denied{Code: d.code, Message: messages[d.code]})
	drain(conn)
}

// drain lets the client read the answer: closing a socket with unread bytes
// resets it.
func drain(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(turnAwayPause))
		_, _ = io.CopyN(io.Discard, conn, drainMax)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
