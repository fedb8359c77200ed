package egress

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

func plain(port uint16) Rule { return Rule{Host: apiHost, Port: port, Plaintext: true} }

func TestNewBrokerNeedsRecord(t *testing.T) {
	if _, err := NewBroker(Options{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("NewBroker without Record: %v", err)
	}
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t, apiHost)
	r := newRig(t, Limits{}, mustRule(t, apiHost+":443"))
	r.route(apiAddr, 443, ca.server(t))

	_, conn, err := r.connect(t, "API.Example.TEST", 443)
	if err != nil {
		t.Fatal(err)
	}
	client := tls.Client(conn, &tls.Config{ServerName: strings.ToUpper(apiHost), RootCAs: ca.pool})
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	client.CloseWrite()
	if got, err := io.ReadAll(client); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	conn.Close()
	c := r.wantCode(t, "")
	if !c.Allowed || !strings.EqualFold(c.SNI, apiHost) || c.Host != apiHost || c.Port != 443 ||
		c.Address != netip.AddrPortFrom(apiAddr, 443) || c.BytesUp < 200 || c.BytesDown < 200 || c.Duration <= 0 || c.Time.IsZero() {
		t.Errorf("recorded %+v", c)
	}
}

// TestHelloDenied sends what must not pass where TLS for the host is asked
// for, and has an upstream that must not see a byte of it.
func TestHelloDenied(t *testing.T) {
	tests := map[string]struct {
		talk func(net.Conn)
		code Code
		sni  string
	}{
		"another name": {hello(&tls.Config{ServerName: "evil.example.test"}), link.SNIMismatch, "evil.example.test"},
		"a sub-domain": {hello(&tls.Config{ServerName: "a." + apiHost}), link.SNIMismatch, "a." + apiHost},
		"a parent":     {hello(&tls.Config{ServerName: "example.test"}), link.SNIMismatch, "example.test"},
		"no name":      {hello(&tls.Config{InsecureSkipVerify: true}), link.SNIMismatch, ""},
		"ECH":          {hello(&tls.Config{ServerName: apiHost, EncryptedClientHelloConfigList: echConfigs(t, apiHost), MinVersion: tls.VersionTLS13}), link.SNIMismatch, apiHost},
		"HTTP": {func(c net.Conn) {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
		}, link.TLSRequired, ""},
		"endless hello": {func(c net.Conn) {
			record := append([]byte{0x16, 3, 1, 0x40, 0}, make([]byte, 0x4000)...)
			copy(record[5:], []byte{1, 0, 0xff, 0xff}) // a handshake message of 64 KiB
			for range 8 {
				if _, err := c.Write(record); err != nil {
					return
				}
				copy(record[5:], make([]byte, 4))
			}
		}, link.TLSRequired, ""},
		"nothing": {func(c net.Conn) { c.(*net.UnixConn).CloseWrite() }, link.TLSRequired, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{}, mustRule(t, apiHost+":443"))
			seen := make(chan int64, 1)
			r.route(apiAddr, 443, listen(t, func(c *net.TCPConn) {
				n, _ := io.Copy(io.Discard, c)
				seen <- n
			}))
			_, conn, err := r.connect(t, apiHost, 443)
			if err != nil {
				t.Fatal(err)
			}
			tt.talk(conn)
			c := r.wantCode(t, tt.code)
			if c.Allowed || c.SNI != tt.sni || c.Detail == "" {
				t.Errorf("recorded %+v, want server name %q", c, tt.sni)
			}
			if n := <-seen; n != 0 {
				t.Errorf("the upstream saw %d bytes", n)
			}
			if got, _ := io.ReadAll(conn); len(got) != 0 {
				t.Errorf("the client was told %q", got)
			}
		})
	}
}

// hello sends a ClientHello and does not wait for an answer.
func hello(config *tls.Config) func(net.Conn) {
	return func(conn net.Conn) {
		go func() { _ = tls.Client(conn, config).Handshake() }()
	}
}

func TestHelloTimeout(t *testing.T) {
	r := newRig(t, Limits{Hello: 50 * time.Millisecond}, mustRule(t, apiHost+":443"))
	r.route(apiAddr, 443, listen(t, echo))
	if _, _, err := r.connect(t, apiHost, 443); err != nil {
		t.Fatal(err)
	}
	r.wantCode(t, link.TLSRequired)
	r.open(t) // says nothing at all
	r.wantCode(t, link.BadRequest)
}

func TestPlaintext(t *testing.T) {
	r := newRig(t, Limits{}, plain(80))
	r.route(apiAddr, 80, listen(t, echo))
	stream, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(stream); err != nil || string(got) != "ping" {
		t.Errorf("read %q, %v", got, err)
	}
	if c := r.wantCode(t, ""); !c.Allowed || c.BytesUp != 4 || c.BytesDown != 4 {
		t.Errorf("recorded %+v", c)
	}
}

// TestServerClosesFirst has the upstream end its direction before the client.
func TestServerClosesFirst(t *testing.T) {
	r := newRig(t, Limits{}, plain(80))
	got := make(chan string, 1)
	r.route(apiAddr, 80, listen(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "banner")
		c.CloseWrite()
		rest, _ := io.ReadAll(c)
		got <- string(rest)
	}))
	stream, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	if banner, err := io.ReadAll(stream); err != nil || string(banner) != "banner" {
		t.Fatalf("read %q, %v", banner, err)
	}
	if _, err := io.WriteString(stream, "late"); err != nil {
		t.Fatal(err)
	}
	stream.CloseWrite()
	if late := <-got; late != "late" {
		t.Errorf("the upstream read %q", late)
	}
	r.wantCode(t, "")
}

func TestDenied(t *testing.T) {
	r := newRig(t, Limits{}, mustRule(t, apiHost+":443"), mustRule(t, "unknown.example.test:443"),
		mustRule(t, "empty.example.test:443"), mustRule(t, "inside.example.test:443"), mustRule(t, "mapped.example.test:443"),
		Rule{Host: "registry.example.test", Port: 443, AllowNonPublic: true})
	r.answer("empty.example.test")
	r.answer("inside.example.test", netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"))
	r.answer("mapped.example.test", netip.MustParseAddr("::ffff:93.184.216.34"))
	r.answer("registry.example.test", netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254"))
	tests := []struct {
		host string
		port uint16
		code Code
	}{
		{"other.example.test", 443, link.NotGranted},
		{"a." + apiHost, 443, link.NotGranted},
		{apiHost + ".", 443, link.NotGranted},
		{apiHost, 80, link.NotGranted},
		{"93.184.216.34", 443, link.NotGranted},
		{"127.0.0.1", 443, link.NotGranted},
		{"::1", 443, link.NotGranted},
		{"unknown.example.test", 443, link.ResolveFailed},
		{"empty.example.test", 443, link.ResolveFailed},
		{"inside.example.test", 443, link.AddressRefused},
		{"mapped.example.test", 443, link.AddressRefused},
		{"registry.example.test", 443, link.AddressRefused},
		{apiHost, 443, link.DialFailed}, // no route
	}
	for _, tt := range tests {
		_, _, err := r.connect(t, tt.host, tt.port)
		var denied *link.Denied
		if !errors.As(err, &denied) || denied.Code != tt.code || denied.Message == "" {
			t.Errorf("%s:%d: %v, want %s", tt.host, tt.port, err, tt.code)
		}
		if c := r.wantCode(t, tt.code); c.Allowed || c.Host != tt.host || c.Port != tt.port || c.Detail == "" || c.BytesUp != 0 {
			t.Errorf("%s:%d: recorded %+v", tt.host, tt.port, c)
		}
		for _, secret := range []string{"10.0.0.1", "fd00", "169.254"} {
			if denied != nil && strings.Contains(denied.Message, secret) {
				t.Errorf("the container is told %q", denied.Message)
			}
		}
	}
	if got := r.dials(); len(got) != 1 || got[0] != netip.AddrPortFrom(apiAddr, 443) {
		t.Errorf("dialled %v, want %s only", got, apiAddr)
	}
}

func TestBadRequests(t *testing.T) {
	r := newRig(t, Limits{}, mustRule(t, apiHost+":443"))
	for _, line := range []string{
		"GET / HTTP/1.1\r\n", "CONNECT\n", "CONNECT api.example.test\n", "CONNECT a b:443\n",
		"CONNECT \x00:443\n", "connect api.example.test:443\n", "CONNECT " + strings.Repeat("a", 2000) + ":443\n", "\n",
	} {
		conn := r.open(t)
		_, _ = io.WriteString(conn, line)
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "DENIED bad_request ") {
			t.Errorf("%.30q is answered by %q, %v", line, answer, err)
		}
		if c := r.wantCode(t, link.BadRequest); c.Host != "" || c.Allowed {
			t.Errorf("%.30q is recorded as %+v", line, c)
		}
	}
}

// TestMixedAnswers resolves to bad and good addresses: only the good ones may
// be dialled.
func TestMixedAnswers(t *testing.T) {
	r := newRig(t, Limits{}, plain(80))
	r.answer(apiHost,
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("169.254.169.254"),
		netip.MustParseAddr("64:ff9b::a00:1"), netip.MustParseAddr("203.0.113.1"), apiAddr, netip.MustParseAddr("2002:7f00:1::"))
	r.route(apiAddr, 80, listen(t, echo))
	stream, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	stream.Close()
	r.wantCode(t, "")
	if got := r.dials(); !slices.Equal(got, []netip.AddrPort{netip.AddrPortFrom(apiAddr, 80)}) {
		t.Errorf("dialled %v", got)
	}
}

// TestRebinding has a name whose answer turns bad after the first look: the
// address that was looked at is the one that is dialled, and the next
// connection is refused.
func TestRebinding(t *testing.T) {
	r := newRig(t, Limits{}, plain(80))
	var mu sync.Mutex
	calls := 0
	r.answerBy(apiHost, func() ([]netip.Addr, error) {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if calls == 1 {
			return []netip.Addr{apiAddr}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	})
	r.route(apiAddr, 80, listen(t, echo))
	stream, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	stream.Close()
	if c := r.wantCode(t, ""); c.Address.Addr() != apiAddr {
		t.Errorf("recorded %+v", c)
	}
	if _, _, err := r.connect(t, apiHost, 80); err == nil {
		t.Error("the second answer was dialled")
	}
	r.wantCode(t, link.AddressRefused)
	if calls != 2 {
		t.Errorf("resolved %d times for 2 connections", calls)
	}
	if got := r.dials(); !slices.Equal(got, []netip.AddrPort{netip.AddrPortFrom(apiAddr, 80)}) {
		t.Errorf("dialled %v", got)
	}
}

func TestHappyEyeballs(t *testing.T) {
	dead, alive := netip.MustParseAddr("2a00::1"), apiAddr
	refusing := netip.MustParseAddr("2a00::2")
	r := newRig(t, Limits{}, plain(80))
	r.answer(apiHost, dead, refusing, alive)
	r.routes[netip.AddrPortFrom(dead, 80)] = "black hole"
	r.route(alive, 80, listen(t, echo))
	stream, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	stream.Close()
	if c := r.wantCode(t, ""); c.Address.Addr() != alive || c.Duration > 5*time.Second {
		t.Errorf("recorded %+v", c)
	}
}

// TestDefaultDialer uses the broker's own dialer, to a loopback registry.
func TestDefaultDialer(t *testing.T) {
	ca := newAuthority(t, "localhost")
	ln := ca.server(t)
	port := netip.MustParseAddrPort(ln.Addr().String()).Port()
	r := newRig(t, Limits{},
		Rule{Host: "localhost", Port: port, AllowNonPublic: true},
		Rule{Host: "127.0.0.1", Port: port, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	r.broker.opts.Dial = nil
	for host, config := range map[string]*tls.Config{
		"localhost": {ServerName: "localhost", RootCAs: ca.pool},
		"127.0.0.1": {ServerName: "127.0.0.1", RootCAs: ca.pool}, // sends no server name
	} {
		_, conn, err := r.connect(t, host, port)
		if err != nil {
			t.Fatal(err)
		}
		if err := tls.Client(conn, config).Handshake(); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		conn.Close()
		if c := r.wantCode(t, ""); !c.Allowed || !c.Address.Addr().IsLoopback() {
			t.Errorf("recorded %+v", c)
		}
	}
}

func TestDefaultDialerRefused(t *testing.T) {
	ln := listen(t, echo)
	port := netip.MustParseAddrPort(ln.Addr().String()).Port()
	ln.Close()
	r := newRig(t, Limits{}, Rule{Host: "127.0.0.1", Port: port, AllowNonPublic: true})
	r.broker.opts.Dial = nil
	if _, _, err := r.connect(t, "127.0.0.1", port); err == nil {
		t.Error("connected to a closed port")
	}
	r.wantCode(t, link.DialFailed)
}
