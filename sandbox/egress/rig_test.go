package egress

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const apiHost = "api.example.test"

var apiAddr = netip.MustParseAddr("93.184.216.34")

// rig is a broker that serves a socket, with a resolver and a dialer of the
// test's own: nothing leaves loopback.
type rig struct {
	broker  *Broker
	socket  string
	stop    func()          // ends Serve and waits for it
	records chan Connection // what ended or was denied, and requests
	opens   chan Connection // what was allowed

	refuse func(Connection) error // makes records fail, unless nil

	mu      sync.Mutex
	answers map[string]func() ([]netip.Addr, error)
	dialled []netip.AddrPort
	routes  map[netip.AddrPort]string // checked address to loopback listener
}

func newRig(t testing.TB, limits Limits, rules ...Rule) *rig {
	t.Helper()
	r := &rig{
		records: make(chan Connection, 4096),
		opens:   make(chan Connection, 4096),
		answers: map[string]func() ([]netip.Addr, error){},
		routes:  map[netip.AddrPort]string{},
	}
	r.answer(apiHost, apiAddr)
	broker, err := NewBroker(Options{
		Record:       r.take,
		Resolver:     r,
		Dial:         r.dial,
		OwnAddresses: noOwn,
		Limits:       limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.broker = broker
	r.setPolicy(t, rules...)
	r.serve(t)
	return r
}

// take is the broker's Record.
func (r *rig) take(c Connection) error {
	r.mu.Lock()
	refuse := r.refuse
	r.mu.Unlock()
	if refuse != nil {
		if err := refuse(c); err != nil {
			return err
		}
	}
	if c.Phase == PhaseOpen {
		r.opens <- c
	} else {
		r.records <- c
	}
	return nil
}

func (r *rig) serve(t testing.TB) {
	t.Helper()
	r.socket = filepath.Join(t.TempDir(), "egress.sock")
	ln, err := Listen(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.broker.Serve(ctx, ln) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(r.stop)
}

func (r *rig) setPolicy(t testing.TB, rules ...Rule) {
	t.Helper()
	p, err := NewPolicy(rules...)
	if err != nil {
		t.Fatal(err)
	}
	r.broker.SetPolicy(p)
}

// answer makes host resolve to addrs.
func (r *rig) answer(host string, addrs ...netip.Addr) {
	r.answerBy(host, func() ([]netip.Addr, error) { return addrs, nil })
}

func (r *rig) answerBy(host string, f func() ([]netip.Addr, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[host] = f
}

// route makes dials of addr:port arrive at a listener.
func (r *rig) route(addr netip.Addr, port uint16, ln net.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.routes[netip.AddrPortFrom(addr, port)] = ln.Addr().String()
}

func (r *rig) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	f := r.answers[host]
	r.mu.Unlock()
	if f == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return f()
}

func (r *rig) dial(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	r.mu.Lock()
	r.dialled = append(r.dialled, dst)
	to, ok := r.routes[dst]
	r.mu.Unlock()
	switch {
	case !ok:
		return nil, fmt.Errorf("connection refused by %s", dst)
	case to == "black hole":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to)
}

func (r *rig) dials() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]netip.AddrPort(nil), r.dialled...)
}

// connect opens the socket and sends a CONNECT.
func (r *rig) connect(t testing.TB, host string, port uint16) (link.Stream, net.Conn, error) {
	t.Helper()
	conn := r.open(t)
	reader := link.NewReader(conn)
	if _, err := io.WriteString(conn, link.Request{Target: link.Grant{Host: host, Port: port}}.String()); err != nil {
		return nil, nil, err
	}
	if err := link.ReadAnswer(reader); err != nil {
		return nil, nil, err
	}
	return link.Buffered(conn, reader), conn, nil
}

func (r *rig) open(t testing.TB) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.UnixConn)
}

// record waits for the next record of what ended or was denied.
func (r *rig) record(t testing.TB) Connection {
	t.Helper()
	select {
	case c := <-r.records:
		if c.Phase != PhaseClose && c.Phase != PhaseDenied && c.Phase != PhaseRequest || c.Count < 1 || c.ID == 0 && c.Port != 0 {
			t.Errorf("recorded %+v", c)
		}
		return c
	case <-time.After(20 * time.Second):
		t.Fatal("no connection was recorded")
		return Connection{}
	}
}

// wantCode waits for the next record and checks its code.
func (r *rig) wantCode(t testing.TB, want Code) Connection {
	t.Helper()
	c := r.record(t)
	if c.Code != want {
		t.Errorf("recorded %+v, want code %q", c, want)
	}
	return c
}

// listen serves TCP connections on loopback.
func listen(t testing.TB, handle func(*net.TCPConn)) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			}()
		}
	}()
	return ln
}

// echo sends back what comes and hands on the half-close.
func echo(conn *net.TCPConn) {
	_, _ = io.Copy(conn, conn)
	conn.CloseWrite()
}

// authority is a certificate authority of the test's own.
type authority struct {
	pool *x509.CertPool
	cert tls.Certificate
}

// newAuthority makes an authority and a certificate for host.
func newAuthority(t testing.TB, host string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		DNSNames:              []string{host},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return authority{pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
}

// server is an upstream that speaks TLS and echoes.
func (a authority) server(t testing.TB) net.Listener {
	return listen(t, func(conn *net.TCPConn) {
		secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{a.cert}})
		_, _ = io.Copy(secure, secure)
		secure.CloseWrite()
	})
}
