package egress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
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
// record, the TLS server name, the bytes.
func (s *session) connect(ctx context.Context, record *Connection) error {
	rule, ok := s.broker.admit(s)
	if !ok {
		return s.deny(denial{link.NotGranted, "no rule for " + s.target.String()})
	}
	defer s.broker.forget(s)

	upstream, address, err := s.broker.open(ctx, rule)
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

	client, err := s.client(rule, record)
	if err != nil {
		return err
	}
	record.Allowed = true
	return s.relay(client, upstream, record)
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
	half, ok := s.conn.(link.Stream)
	if !ok {
		return nil, denial{link.BadRequest, "the connection cannot be half-closed"}
	}
	if rule.Plaintext {
		return link.Buffered(half, s.reader), nil
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(s.broker.opts.Limits.Hello))
	hello, err := readHello(s.reader)
	_ = s.conn.SetReadDeadline(time.Time{})
	record.SNI = hello.sni
	if err != nil {
		return nil, denial{link.TLSRequired, err.Error()}
	}
	if err := hello.check(rule); err != nil {
		return nil, err
	}
	return link.Buffered(half, io.MultiReader(bytes.NewReader(hello.raw), s.reader)), nil
}

func (s *session) relay(client, upstream link.Stream, record *Connection) error {
	limits := s.broker.opts.Limits
	totals, err := link.Relay{
		MaxUp:   limits.BytesUp,
		MaxDown: limits.BytesDown,
		Idle:    limits.Idle,
		Up:      &s.broker.stats.up,
		Down:    &s.broker.stats.down,
	}.Run(client, upstream)
	record.BytesUp, record.BytesDown = totals.Up, totals.Down
	if errors.Is(err, link.ErrBytes) || errors.Is(err, link.ErrIdle) {
		return denial{link.Limit, err.Error()}
	}
	return err
}
