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
	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const host = "api.example.test"

// fixture is a broker and a forwarder that follows it.
type fixture struct {
	socket string
	dns    netip.AddrPort
	broker *egress.Broker
	stop   func() // ends the broker's service
	denied chan egress.Connection
	told   chan string // what the forwarder says was refused
}

// resolveAll gives every name the same public address.
type resolveAll struct{}

func (resolveAll) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
}

func newFixture(t testing.TB, upstream net.Listener) *fixture {
	t.Helper()
	denied := make(chan egress.Connection, 1024)
	broker, err := egress.NewBroker(egress.Options{
		Record: func(c egress.Connection) error {
			if c.Phase == egress.PhaseDenied {
				denied <- c
			}
			return nil
		},
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
		dns:    netip.AddrPortFrom(netip.MustParseAddr("127.77.0.2"), freePort(t).Port()),
		broker: broker,
		denied: denied,
		told:   make(chan string, 1024),
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
	fw := forward.New(forward.Options{Socket: f.socket, DNS: f.dns, Refused: func(target link.Grant, why link.Denied) {
		f.told <- target.String() + " " + string(why.Code)
	}})
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

// TestRefused tells of names that are not granted and of connections that the
// broker denies.
func TestRefused(t *testing.T) {
	f := newFixture(t, echoServer(t))
	port := freePort(t).Port()
	f.grant(t, egress.Rule{Host: host, Port: port, Inspect: true}) // the broker has no authority for it
	f.serve(t)
	<-f.forward(t).Ready()
	conn, err := f.dial(host, port)
	if err == nil { // the reset may be faster
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a denied connection: %v, want a reset", err)
	}
	if got, want := <-f.told, net.JoinHostPort(host, strconv.Itoa(int(port)))+" certificate"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	if _, err := f.dial("Other.example.test", port); err == nil {
		t.Error("a name that is not granted was reached")
	}
	if got, want := <-f.told, "other.example.test:0 not_granted"; got != want {
		t.Errorf("told %q, want %q", got, want)
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
	var dnsErr *net.DNSError
	began := time.Now()
	if _, err := f.dial(host, port); !errors.As(err, &dnsErr) || !dnsErr.IsNotFound {
		t.Errorf("without a grant: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the answer took %v", took)
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
	eventually(t, "the end of listener and name", func() bool {
		_, errListener := net.Dial("tcp", at)
		_, errName := f.dial(host, port)
		return errListener != nil && errors.As(errName, &dnsErr) && dnsErr.IsNotFound
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
	f.grant(t, egress.Rule{Host: host, Port: port, Plaintext: true}, egress.Rule{Host: host, Port: second, Plaintext: true})
	early, err := f.dial(host, port) // waits for the next broker
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	f.serve(t)
	wantEcho(t, early)
	eventually(t, "the new broker's policy", func() bool {
		conn, err := f.dial(host, second)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// TestLoopback grants the host's own loopback: it appears at the same address
// and port inside, and by its name.
func TestLoopback(t *testing.T) {
	ranges := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for name, rule := range map[string]egress.Rule{
		"a registry": {Plaintext: true, AllowNonPublic: true},
		"ranges":     {Plaintext: true, Allow: ranges},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, echoServer(t))
			rule.Host, rule.Port = "localhost", freePort(t).Port()
			same := rule
			same.Host = "127.0.0.1"
			f.grant(t, rule, same)
			f.serve(t)
			<-f.forward(t).Ready()
			addrs := []string{"127.0.0.1"}
			if ln, err := net.Listen("tcp6", "[::1]:0"); err == nil {
				ln.Close()
				addrs = append(addrs, "::1")
			}
			for _, addr := range addrs {
				conn, err := net.Dial("tcp", net.JoinHostPort(addr, strconv.Itoa(int(rule.Port))))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				wantEcho(t, conn)
			}
			conn, err := f.dial("localhost", rule.Port)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			wantEcho(t, conn)
		})
	}
}

// TestWildcard reaches names that come into being when they are asked for.
func TestWildcard(t *testing.T) {
	f := newFixture(t, echoServer(t))
	port, other := freePort(t).Port(), freePort(t).Port()
	wild := egress.Rule{Host: "*.example.test", Port: port, Plaintext: true}
	f.grant(t, wild, egress.Rule{Host: "b.example.test", Port: other, Plaintext: true})
	f.serve(t)
	<-f.forward(t).Ready()
	places := map[string]bool{}
	for _, target := range []string{"a.example.test", "b.example.test", "C.Example.Test"} {
		conn, err := f.dial(target, port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		places[conn.RemoteAddr().String()] = true
		wantEcho(t, conn)
	}
	if len(places) != 3 {
		t.Errorf("three names are at %v", places)
	}
	conn, err := f.dial("b.example.test", other)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := f.dial("a.example.test", other); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port of another name: %v", err)
	}
	var dnsErr *net.DNSError
	for _, target := range []string{"example.test", "a.b.example.test"} {
		if _, err := f.dial(target, port); !errors.As(err, &dnsErr) || !dnsErr.IsNotFound {
			t.Errorf("%s: %v", target, err)
		}
	}

	// A connection goes on when a rule of its own takes the wildcard's place.
	conn, err = f.dial("a.example.test", port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	f.grant(t, egress.Rule{Host: "a.example.test", Port: port, Plaintext: true})
	eventually(t, "the end of the wildcard", func() bool {
		_, err := f.dial("d.example.test", port)
		return errors.As(err, &dnsErr) && dnsErr.IsNotFound
	})
	wantEcho(t, conn)
}

// TestReports looks up names that are not granted: the broker is told, once
// each, and of no other.
func TestReports(t *testing.T) {
	f := newFixture(t, echoServer(t))
	port := freePort(t).Port()
	f.grant(t, egress.Rule{Host: host, Port: port, Plaintext: true})
	f.serve(t)
	<-f.forward(t).Ready()
	for _, name := range []string{"first.evil.test", host, "first.evil.test", "localhost", "Second.evil.test"} {
		if conn, err := f.dial(name, port); err == nil {
			conn.Close()
		}
	}
	for _, want := range []string{"first.evil.test", "second.evil.test"} {
		select {
		case c := <-f.denied:
			if c.Host != want || c.Port != 0 || c.Code != link.NotGranted || c.Allowed || c.Count != 1 {
				t.Errorf("recorded %+v, want %s", c, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s was not reported", want)
		}
	}
	f.stop() // which waits for the records
	if len(f.denied) != 0 {
		t.Errorf("recorded %+v, too", <-f.denied)
	}
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
