package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	protoHTTP1 = "http/1.1"
	protoHTTP2 = "h2"
	// recordHandshake is the first byte of a TLS connection, and of no HTTP
	// request: RFC 8446, section 5.1.
	recordHandshake = 0x16
)

// inspect is the way of a connection that is inspected: the TLS server name,
// the host's certificate, a certificate of our own, the requests. Nothing but
// a TLS handshake goes to the host before a request was allowed.
func (s *session) inspect(ctx context.Context, t *terms, upstream streamConn, record *Connection) error {
	half, err := s.half()
	if err != nil {
		return err
	}
	in := &inspection{broker: s.broker, terms: t, template: *record}
	secure, err := s.beginsTLS(t.Rule)
	if err != nil {
		return err
	}
	if !secure {
		m := newMeter(ctx, s, half, s.reader)
		defer m.stop()
		record.Allowed = true
		in.first = upstream
		in.serve(ctx, m)
		record.BytesUp, record.BytesDown = m.up.n.Load(), m.down.n.Load()
		return nil
	}
	hello, err := s.hello(t.Rule, record)
	if err != nil {
		return err
	}
	in.template.SNI, in.secure = record.SNI, true
	if err := in.agree(ctx, upstream, hello.alp); err != nil {
		return err
	}
	m := newMeter(ctx, s, half, hello.replay(s.reader))
	defer m.stop()
	defer func() { record.BytesUp, record.BytesDown = m.up.n.Load(), m.down.n.Load() }()
	client, err := in.impersonate(ctx, m)
	if err != nil {
		return err
	}
	record.Allowed = true
	in.serve(ctx, client)
	return nil
}

// beginsTLS says whether the container speaks TLS. Only where the rule allows
// plaintext it may do anything else.
func (s *session) beginsTLS(rule Rule) (bool, error) {
	if !rule.Plaintext {
		return true, nil
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(s.broker.opts.Limits.Hello))
	first, err := s.reader.Peek(1)
	_ = s.conn.SetReadDeadline(time.Time{})
	if err != nil {
		return false, denial{link.RequestRefused, "there was no request"}
	}
	return first[0] == recordHandshake, nil
}

// inspection is one connection whose requests are looked at.
type inspection struct {
	broker   *Broker
	terms    *terms
	secure   bool   // TLS on both sides
	proto    string // that both sides speak: protoHTTP1 or protoHTTP2
	template Connection
	plain    *redactor // of the rule's secrets, or nil

	mu    sync.Mutex
	first net.Conn // to the host, until it is used
}

// agree has the host prove who it is, and agrees on a protocol that the
// container speaks too.
func (in *inspection) agree(ctx context.Context, upstream streamConn, offered []string) error {
	var protos []string
	for _, p := range offered {
		if p == protoHTTP1 || p == protoHTTP2 {
			protos = append(protos, p)
		}
	}
	switch {
	case len(offered) == 0:
		protos = []string{protoHTTP1}
	case len(protos) == 0:
		return denial{link.RequestRefused, "TLS for something else than HTTP"}
	}
	conn, err := in.verify(ctx, upstream, protos)
	if err != nil {
		return err
	}
	in.proto = protoHTTP1
	if conn.ConnectionState().NegotiatedProtocol == protoHTTP2 {
		in.proto = protoHTTP2
	}
	in.first = conn
	return nil
}

// verify begins TLS with the host, whose certificate must be good. Its error
// is a denial.
func (in *inspection) verify(ctx context.Context, upstream net.Conn, protos []string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, in.broker.opts.Limits.Dial)
	defer cancel()
	conn := tls.Client(upstream, &tls.Config{
		ServerName: in.terms.Host,
		RootCAs:    in.broker.opts.Roots,
		NextProtos: protos,
		MinVersion: tls.VersionTLS12,
	})
	err := conn.HandshakeContext(ctx)
	var bad *tls.CertificateVerificationError
	switch {
	case errors.As(err, &bad):
		return nil, denial{link.Certificate, printable(err.Error(), maxDetail)}
	case err != nil:
		return nil, denial{link.DialFailed, "cannot begin TLS: " + printable(err.Error(), maxDetail)}
	}
	return conn, nil
}

// maxDetail bounds what is said of an error that holds a host's words, in
// bytes.
const maxDetail = 300

// impersonate answers the container's hello as the host.
func (in *inspection) impersonate(ctx context.Context, m *meter) (*tls.Conn, error) {
	leaf, err := in.broker.opts.Authority.leaf(in.terms.Host)
	if err != nil {
		return nil, denial{link.Certificate, err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, in.broker.opts.Limits.Hello)
	defer cancel()
	conn := tls.Server(m, &tls.Config{
		Certificates:           []tls.Certificate{*leaf},
		NextProtos:             []string{in.proto},
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, denial{link.Certificate, "the container does not begin TLS with the certificate for inspection: " + printable(err.Error(), maxDetail)}
	}
	return conn, nil
}

// dial returns a connection to the host for the next requests: the one that
// was opened first, and when the host has ended that, a new one, opened and
// recorded in the same way. It ends with life.
func (in *inspection) dial(ctx, life context.Context) (net.Conn, error) {
	in.mu.Lock()
	first := in.first
	in.first = nil
	in.mu.Unlock()
	if first != nil {
		return first, nil
	}
	conn, err := in.reopen(ctx, life)
	if err != nil {
		var d denial
		if errors.As(err, &d) {
			in.fail(d)
		}
		return nil, err
	}
	return conn, nil
}

func (in *inspection) reopen(ctx, life context.Context) (net.Conn, error) {
	if err := in.broker.rate.Wait(ctx); err != nil {
		return nil, denial{link.Limit, "too many new connections per second"}
	}
	upstream, address, err := in.broker.open(ctx, in.terms.Rule)
	if err != nil {
		return nil, err
	}
	bound := &boundConn{streamConn: upstream}
	bound.release = context.AfterFunc(life, func() { upstream.Close() })
	conn, err := in.settle(ctx, bound, address)
	if err != nil {
		_ = bound.Close() // nothing was sent
		return nil, err
	}
	return conn, nil
}

// settle records a further connection to the host, and begins TLS on it as on
// the first.
func (in *inspection) settle(ctx context.Context, upstream net.Conn, address netip.AddrPort) (net.Conn, error) {
	if err := in.recordReopen(address); err != nil {
		return nil, err
	}
	if !in.secure {
		return upstream, nil
	}
	conn, err := in.verify(ctx, upstream, []string{in.proto})
	if err != nil {
		return nil, err
	}
	if proto := conn.ConnectionState().NegotiatedProtocol; proto != in.proto && (proto != "" || in.proto != protoHTTP1) {
		return nil, denial{link.DialFailed, "the host speaks another protocol than before"}
	}
	return conn, nil
}

func (in *inspection) recordReopen(address netip.AddrPort) error {
	c := in.connection(PhaseOpen)
	c.Address, c.Allowed = address, true
	if err := in.broker.opts.Record(c); err != nil {
		return denial{link.Audit, "cannot record the connection: " + err.Error()}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.template.Address = address
	return nil
}

// fail records that the host could not be reached again.
func (in *inspection) fail(d denial) {
	c := in.connection(PhaseDenied)
	c.Address, c.Code, c.Detail = netip.AddrPort{}, d.code, d.detail
	in.broker.stats.denied.Add(1)
	in.broker.record(c)
}

// connection returns what all records of the connection have in common.
func (in *inspection) connection(phase Phase) Connection {
	in.mu.Lock()
	defer in.mu.Unlock()
	c := in.template
	c.Phase, c.Time, c.Count = phase, time.Now(), 1
	return c
}

// boundConn is a connection that ends with something else.
type boundConn struct {
	streamConn
	release func() bool
}

// Close implements net.Conn.
func (c *boundConn) Close() error {
	c.release()
	return c.streamConn.Close()
}

// errServed ends a server whose only connection has ended.
var errServed = errors.New("the connection has ended")

// single is a listener with one connection. Accept waits after it until ended
// is closed.
type single struct {
	conn  chan net.Conn
	addr  net.Addr
	ended chan struct{}
}

func newSingle(conn net.Conn) *single {
	l := &single{conn: make(chan net.Conn, 1), addr: conn.LocalAddr(), ended: make(chan struct{})}
	l.conn <- conn
	return l
}

// Accept implements net.Listener.
func (l *single) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conn:
		return conn, nil
	default:
	}
	<-l.ended
	return nil, errServed
}

// Close implements net.Listener.
func (l *single) Close() error { return nil }

// Addr implements net.Listener.
func (l *single) Addr() net.Addr { return l.addr }

// busy counts the requests that are being answered.
type busy struct {
	mu    sync.Mutex
	n     int
	over  bool
	empty chan struct{} // closed when it is over and none is left
}

// begin is false when no more requests are answered.
func (b *busy) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return false
	}
	b.n++
	return true
}

func (b *busy) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n--; b.over && b.n == 0 {
		close(b.empty)
	}
}

// wait lets no more requests begin and waits for those that did.
func (b *busy) wait() {
	b.mu.Lock()
	b.over, b.empty = true, make(chan struct{})
	if b.n == 0 {
		close(b.empty)
	}
	empty := b.empty
	b.mu.Unlock()
	<-empty
}
