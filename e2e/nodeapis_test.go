package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"

	"github.com/ocmt/ocmt/e2e/harness"
)

const (
	apis       = "node-apis"
	apiHost    = "api.node.example"
	deniedHost = "denied.node.example"
)

// nodeSite is a host of the test's own, on an address of this machine that is
// not loopback: nothing leaves the machine.
type nodeSite struct {
	address     netip.Addr
	port, plain string

	mu   sync.Mutex
	seen []string // protocol, method and path of each request
}

func newNodeSite(t *testing.T, cert tls.Certificate) *nodeSite {
	t.Helper()
	s := &nodeSite{address: ownAddress(t)}
	s.port = s.serve(t, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	s.plain = s.serve(t, nil)
	return s
}

// ownAddress is an address of this machine, neither loopback nor link-local.
func ownAddress(t *testing.T) netip.Addr {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr()
		}
	}
	t.Skip("this machine has no address but loopback")
	return netip.Addr{}
}

func (s *nodeSite) serve(t *testing.T, secure *tls.Config) (port string) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", netip.AddrPortFrom(s.address, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(s.answer))
	server.Listener.Close()
	server.Listener, server.TLS, server.EnableHTTP2 = ln, secure, true
	if secure == nil {
		server.Start()
	} else {
		server.StartTLS()
	}
	t.Cleanup(server.Close)
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

func (s *nodeSite) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, strings.Join([]string{r.Proto, r.Method, r.URL.Path}, " "))
	s.mu.Unlock()
	if r.URL.Path != "/socket" {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s%s", strings.TrimPrefix(r.URL.Path, "/"), body)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // whatever the Origin
	if err != nil {
		return
	}
	defer conn.CloseNow()
	kind, data, err := conn.Read(r.Context())
	if err == nil && conn.Write(r.Context(), kind, data) == nil {
		_, _, _ = conn.Read(r.Context()) // until the client closes
	}
}

// came returns the requests that came since the last time.
func (s *nodeSite) came() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// inside is an address of a granted name in a container.
const inside = `127\.1\.\d+\.\d+`

// nodeWays is what each way comes to when it gets there: a regular expression.
var nodeWays = map[string]string{
	"fetch": "fetch", "fetch without TLS": "fetch", "fetch of a stream": "bodybody", "https": "https", "https, kept": "kept", "http": "http",
	"net": "raw", "net, four addresses": "raw", "tls": "raw", "http2": "http2", "ws": "websocket", "ws without TLS": "websocket", "WebSocket": "websocket",
	"dns.lookup": inside, "dns.lookup of all": inside, "dns.resolve": inside, "dns.promises.resolve4": inside, "dns.Resolver": inside,
}

// TestNodeAPIs reaches a granted host in every way that Node has, and with the
// package ws, and one that is not granted in none.
func TestNodeAPIs(t *testing.T) {
	need(t)
	file, cert := authorityFor(t, apiHost, deniedHost)
	site, home := newNodeSite(t, cert), newHome(t)
	d := serve(t, home) // npm's names are not for the test's own name server
	install(t, d, apis)
	stop(t, d)

	names := nameServerOf(t, site.address.As4())
	d = serveWith(t, harness.Options{Home: home, Args: []string{"--resolver", names.LocalAddr().String()}, Env: []string{"SSL_CERT_FILE=" + file}})
	t.Cleanup(func() { stop(t, d) })
	c := connect(t, d)
	grant := func(rules string) {
		for port, how := range map[string]string{site.port: "", site.plain: "plaintext,"} {
			run(t, d, 0, nil, "plugins", "grant", apis, "network", apiHost+":"+port, how+"addresses="+site.address.String()+"/32"+rules)
		}
	}

	t.Run("nothing granted", func(t *testing.T) { site.refuses(t, c, apiHost, "ENOTFOUND") })
	grant("")
	t.Run("granted", func(t *testing.T) { site.serves(t, c) })
	t.Run("another host", func(t *testing.T) {
		site.refuses(t, c, deniedHost, "ENOTFOUND")
		if names.asked(deniedHost) {
			t.Error("its name was looked up")
		}
	})
	grant(",rules=* /*")
	t.Run("inspected", func(t *testing.T) { site.serves(t, c) })
	t.Run("another host beside an inspected one", func(t *testing.T) { site.refuses(t, c, deniedHost, "ENOTFOUND") })
	t.Run("other ports", func(t *testing.T) {
		closed := &nodeSite{port: "40001", plain: "40002"}
		closed.refuses(t, c, apiHost, "ECONNREFUSED")
	})
	run(t, d, 0, []string{deniedHost}, "network", "log", apis, "--denied")
}

// wentWay is what came of one way.
type wentWay struct {
	Text, Code   string
	Proper, Slow bool
}

func (s *nodeSite) reach(t *testing.T, c *client.Client, host string) map[string]wentWay {
	t.Helper()
	s.came()
	params := fmt.Sprintf(`{"host":%q,"port":%s,"plain":%s}`, host, s.port, s.plain)
	result, err := c.Call(t.Context(), tenant, apis, "reach", v1.CallRequest{Params: []byte(params), TimeoutMillis: 120_000})
	if err != nil {
		t.Fatal(err)
	}
	var came map[string]wentWay
	if err := json.Unmarshal(result.Result, &came); err != nil {
		t.Fatalf("%v: %s", err, result.Result)
	}
	if len(came) != len(nodeWays) {
		t.Errorf("%d ways were gone, want %d", len(came), len(nodeWays))
	}
	return came
}

// serves fails the test if a way does not lead to the site.
func (s *nodeSite) serves(t *testing.T, c *client.Client) {
	t.Helper()
	for name, got := range s.reach(t, c, apiHost) {
		if got.Code != "" || !regexp.MustCompile("^(?:"+nodeWays[name]+")$").MatchString(got.Text) {
			t.Errorf("%s: %+v, want %q", name, got, nodeWays[name])
		}
	}
	came := s.came()
	for _, want := range []string{"HTTP/2.0 GET /http2", "HTTP/1.1 GET /raw", "HTTP/1.1 GET /https", "HTTP/1.1 POST /body", "HTTP/1.1 GET /socket"} {
		if !slices.Contains(came, want) {
			t.Errorf("no %q came among %q", want, came)
		}
	}
}

// refuses fails the test if a way leads anywhere, or does not fail at once with
// a proper error.
func (s *nodeSite) refuses(t *testing.T, c *client.Client, host, code string) {
	t.Helper()
	for name, got := range s.reach(t, c, host) {
		want := code
		switch {
		case name == "WebSocket": // as in browsers, it does not say why
			want = "TypeError.*"
		case code == "ECONNREFUSED" && strings.HasPrefix(name, "dns."):
			continue // the name is granted
		}
		if !regexp.MustCompile("^(?:"+want+")$").MatchString(got.Code) || !got.Proper || got.Slow {
			t.Errorf("%s: %+v, want %s at once", name, got, want)
		}
	}
	if came := s.came(); len(came) > 0 {
		t.Errorf("the site was asked for %q", came)
	}
}
