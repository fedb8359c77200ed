package egress

import (
	"bufio"
	"context"
	"errors"
	"net"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// session is one connection of a container to a destination.
type session struct {
	broker *Broker
	conn   net.Conn      // to the container
	reader *bufio.Reader // of conn
	cancel context.CancelCauseFunc
	began  time.Time
	target link.Grant
}

// run carries a CONNECT out and records how it went.
func (s *session) run(ctx context.Context) {
	record := Connection{
		ID: s.broker.lastID.Add(1), Phase: PhaseDenied, Time: s.began,
		Host: s.target.Host, Port: s.target.Port, Count: 1,
	}
	limit := denial{link.Limit, "the connection has lasted too long"}
	ctx, cancel := context.WithTimeoutCause(ctx, s.broker.opts.Limits.Duration, limit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	err := s.connect(ctx, &record)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what follows a cut is only its echo
	}
	var d denial
	switch {
	case errors.As(err, &d):
		record.Code, record.Detail = d.code, d.detail
	case err != nil:
		record.Detail = err.Error()
	}
	record.Duration = time.Since(s.began)
	if record.Phase == PhaseClose {
		s.broker.stats.open.Add(-1)
	} else {
		s.broker.stats.denied.Add(1)
	}
	s.broker.record(record)
}

// connect is the way of a connection: the rule, the address, the dial, the
// record, the TLS server name, the bytes or the requests.
func (s *session) connect(ctx context.Context, record *Connection) error {
	terms, ok := s.broker.admit(s)
	if !ok {
		return s.deny(denial{link.NotGranted, "no rule for " + s.target.String()})
	}
	defer s.broker.forget(s)
	record.Rule = terms.name
	if terms.inspects() && s.broker.opts.Authority == nil {
		return s.deny(denial{link.Certificate, "there is no authority to inspect with"})
	}

	upstream, address, err := s.broker.open(ctx, terms.Rule)
	if err != nil {
		return s.deny(err)
	}
	defer upstream.Close()
	defer context.AfterFunc(ctx, func() { upstream.Close() })()
	record.Address = address

	if err := s.recordOpen(ctx, record); err != nil {
		return s.deny(err)
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err := link.WriteOK(s.conn); err != nil {
		return err
	}
	_ = s.conn.SetWriteDeadline(time.Time{})

	if terms.inspects() {
		return s.inspect(ctx, terms, upstream, record)
	}
	client, err := s.client(terms.Rule, record)
	if err != nil {
		return err
	}
	record.Allowed = true
	return s.relay(ctx, client, upstream, record)
}

// recordOpen records that the connection is allowed, and denies it otherwise.
func (s *session) recordOpen(ctx context.Context, record *Connection) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause // revoked meanwhile
	}
	opened := *record
	opened.Phase, opened.Allowed = PhaseOpen, true
	opened.Duration = time.Since(s.began)
	if err := s.broker.opts.Record(opened); err != nil {
		return denial{link.Audit, "cannot record the connection: " + err.Error()}
	}
	record.Phase = PhaseClose
	s.broker.stats.open.Add(1)
	s.broker.stats.allowed.Add(1)
	return nil
}

func (s *session) deny(err error) error {
	var d denial
	if errors.As(err, &d) {
		deny(s.conn, d)
	}
	return err
}

// client returns the container's side of the relay, after a look at the
// ClientHello unless the rule allows plaintext. Nothing was sent upstream yet.
func (s *session) client(rule Rule, record *Connection) (link.Stream, error) {
	half, err := s.half()
	if err != nil {
		return nil, err
	}
	if rule.Plaintext {
		return link.Buffered(half, s.reader), nil
	}
	hello, err := s.hello(rule, record)
	if err != nil {
		return nil, err
	}
	return link.Buffered(half, hello.replay(s.reader)), nil
}

func (s *session) half() (streamConn, error) {
	half, ok := s.conn.(streamConn)
	if !ok {
		return nil, denial{link.BadRequest, "the connection cannot be half-closed"}
	}
	return half, nil
}

// hello reads a ClientHello and checks it.
func (s *session) hello(rule Rule, record *Connection) (clientHello, error) {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.broker.opts.Limits.Hello))
	hello, err := readHello(s.reader)
	_ = s.conn.SetReadDeadline(time.Time{})
	record.SNI = hello.sni
	if err != nil {
		return hello, denial{link.TLSRequired, err.Error()}
	}
	return hello, hello.check(rule)
}

func (s *session) relay(ctx context.Context, client, upstream link.Stream, record *Connection) error {
	limits := s.broker.opts.Limits
	totals, err := link.Relay{
		MaxUp:   limits.BytesUp,
		MaxDown: limits.BytesDown,
		Idle:    limits.Idle,
		Up:      &s.broker.stats.up,
		Down:    &s.broker.stats.down,
		Pace:    func(n int) error { return s.broker.pace(ctx, n) },
	}.Run(client, upstream)
	record.BytesUp, record.BytesDown = totals.Up, totals.Down
	if errors.Is(err, link.ErrBytes) || errors.Is(err, link.ErrIdle) {
		return denial{link.Limit, err.Error()}
	}
	return err
}
