package forward_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress"
	"github.com/ocmt/ocmt/sandbox/egress/forward"
)

const host = "api.example.test"

// fixture is a broker and a forwarder that follows it.
type fixture struct {
	socket string
	dns    netip.AddrPort
	broker *egress.Broker
	stop   func() // ends the broker's service
}

// resolveAll gives every name the same public address.
type resolveAll struct{}

func (resolveAll) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
}

func newFixture(t testing.TB, upstream net.Listener) *fixture {
	t.Helper()
	broker, err := egress.NewBroker(egress.Options{
		Record:   func(egress.Connection) error { return nil },
		Resolver: resolveAll{},
		Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", upstream.Addr().String())
		},
		OwnAddresses: func() ([]netip.Addr, error) { return nil, nil },
		Limits:       egress.Limits{PerSecond: 1e6, Burst: 1e6},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{
		socket: filepath.Join(t.TempDir(), "egress.sock"),
		dns:    freePort(t),
		broker: broker,
	}
	return f
}

func freePort(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return netip.MustParseAddrPort(ln.Addr().String())
}

func (f *fixture) serve(t testing.TB) {
	t.Helper()
	ln, err := egress.Listen(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.broker.Serve(ctx, ln) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(f.stop)
}

func (f *fixture) forward(t testing.TB) *forward.Forwarder {
	t.Helper()
	fw := forward.New(forward.Options{Socket: f.socket, DNS: f.dns})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		fw.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return fw
}

func (f *fixture) grant(t testing.TB, rules ...egress.Rule) {
	t.Helper()
	p, err := egress.NewPolicy(rules...)
	if err != nil {
		t.Fatal(err)
	}
	f.broker.SetPolicy(p)
}

// dialer connects by name through the forwarder's name server.
func (f *fixture) dialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, Resolver: &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, f.dns.String())
		},
	}}
}

func (f *fixture) dial(host string, port uint16) (net.Conn, error) {
	return f.dialer().Dial("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
}

func echoServer(t testing.TB) net.Listener {
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
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return ln
}

// eventually waits until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

func wantEcho(t testing.TB, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, "ping"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(conn); err != nil || string(got) != "ping" {
		t.Fatalf("read %q, %v", got, err)
	}
}

func TestForward(t *testing.T) {
	f := newFixture(t, echoServer(t))
	port := freePort(t).Port()
	f.grant(t, egress.Rule{Host: host, Port: port, Plaintext: true})
	f.serve(t)
	<-f.forward(t).Ready()

	conn, err := f.dial(host, port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if addr := conn.RemoteAddr().(*net.TCPAddr); addr.IP.To4()[0] != 127 || addr.IP.To4()[1] != 1 {
		t.Errorf("connected to %v", addr)
	}
	wantEcho(t, conn)

	var dnsErr *net.DNSError
	if _, err := f.dial("other.example.test", port); !errors.As(err, &dnsErr) || !dnsErr.IsNotFound {
		t.Errorf("another name: %v", err)
	}
	if _, err := f.dial(host, freePort(t).Port()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("another port: %v", err)
	}
}

// TestForwardDenied has the broker refuse what the forwarder still offers: the
// client's connection is reset.
func TestForwardDenied(t *testing.T) {
	f := newFixture(t, echoServer(t))
	port := freePort(t).Port()
	inside := egress.Rule{Host: "inside.example.test", Port: port} // TLS only
	f.grant(t, inside)
	f.serve(t)
	<-f.forward(t).Ready()
	conn, err := f.dial("inside.example.test", port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("read %d bytes, %v, want the end of the connection", n, err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestLivePolicy(t *testing.T) {
	f := newFixture(t, echoServer(t))
	port := freePort(t).Port()
	f.serve(t)
	<-f.forward(t).Ready()
	if conn, err := net.Dial("tcp", f.dns.String()); err == nil {
		conn.Close()
		t.Error("the name server runs without a grant")
	}

	f.grant(t, egress.Rule{Host: host, Port: port, Plaintext: true})
	var conn net.Conn
	eventually(t, "the grant", func() (ok bool) {
		var err error
		conn, err = f.dial(host, port)
		return err == nil
	})
	defer conn.Close()
	at := conn.RemoteAddr().String()
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}

	f.grant(t)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the connection outlived its grant: %v", err)
	}
	eventually(t, "the end of listener and name server", func() bool {
		_, errListener := net.Dial("tcp", at)
		_, errDNS := net.Dial("tcp", f.dns.String())
		return errListener != nil && errDNS != nil
	})

	f.grant(t, egress.Rule{Host: host, Port: port, Plaintext: true})
	eventually(t, "the second grant", func() bool {
		again, err := net.Dial("tcp", at) // the same address as before
		if err != nil {
			return false
		}
		defer again.Close()
		return true
	})
}

// TestBrokerRestart loses the broker and gets it back: the forwarder starts
// before it, keeps its listeners while it is away, and follows the new one.
func TestBrokerRestart(t *testing.T) {
	f := newFixture(t, echoServer(t))
	port := freePort(t).Port()
	fw := f.forward(t)
	select {
	case <-fw.Ready():
		t.Fatal("ready without a broker")
	case <-time.After(20 * time.Millisecond):
	}
	f.grant(t, egress.Rule{Host: host, Port: port, Plaintext: true})
	f.serve(t)
	<-fw.Ready()
	conn, err := f.dial(host, port)
	if err != nil {
		t.Fatal(err)
	}
	wantEcho(t, conn)
	conn.Close()

	f.stop()
	if conn, err = f.dial(host, port); err == nil { // the reset may be faster
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without a broker: %v, want the listener still there and a reset", err)
	}

	second := freePort(t).Port()
	f.grant(t, egress.Rule{Host: host, Port: second, Plaintext: true})
	f.serve(t)
	eventually(t, "the new broker's policy", func() bool {
		conn, err := f.dial(host, second)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// TestLoopbackRegistry grants the host's own loopback: it appears at the same
// address and port inside.
func TestLoopbackRegistry(t *testing.T) {
	f := newFixture(t, echoServer(t))
	port := freePort(t).Port()
	f.grant(t,
		egress.Rule{Host: "localhost", Port: port, Plaintext: true, AllowNonPublic: true},
		egress.Rule{Host: "127.0.0.1", Port: port, Plaintext: true, AllowNonPublic: true})
	f.serve(t)
	<-f.forward(t).Ready()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantEcho(t, conn)
}

// TestPortTaken has something else on the granted port: the other grants work.
func TestPortTaken(t *testing.T) {
	f := newFixture(t, echoServer(t))
	taken, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bad, good := uint16(taken.Addr().(*net.TCPAddr).Port), freePort(t).Port()
	f.grant(t, egress.Rule{Host: host, Port: bad, Plaintext: true}, egress.Rule{Host: host, Port: good, Plaintext: true})
	f.serve(t)
	<-f.forward(t).Ready()
	conn, err := f.dial(host, good)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantEcho(t, conn)
}
