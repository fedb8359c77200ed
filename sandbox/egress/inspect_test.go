package egress

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const base = "https://" + apiHost

// show answers with what the server saw.
func show(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Proto", r.Proto)
	fmt.Fprintf(w, "%s %s host=%s key=%s body=%s trailer=%s", r.Method, r.RequestURI, r.Host, r.Header.Get("X-Api-Key"), body, r.Trailer.Get("X-Sum"))
}

func TestInspect(t *testing.T) {
	for _, proto := range []string{protoHTTP1, protoHTTP2} {
		t.Run(proto, func(t *testing.T) {
			r := newInspectRig(t, Limits{}, show, inspected())
			client := r.client(t, proto)
			res, got := do(t, client, "POST", base+"/a%2Fb//c/../d?x=1;y=%zz&z", strings.NewReader("hello"), "X-Forwarded-For", "1.2.3.4")
			want := "POST /a%2Fb//c/../d?x=1;y=%zz&z host=" + apiHost + " key= body=hello trailer="
			if res.StatusCode != 200 || got != want {
				t.Errorf("answered %d %q, want %q", res.StatusCode, got, want)
			}
			if major := map[string]string{protoHTTP1: "HTTP/1.1", protoHTTP2: "HTTP/2.0"}[proto]; res.Proto != major || res.Header.Get("X-Proto") != major {
				t.Errorf("spoken %s and %s, want %s on both sides", res.Proto, res.Header.Get("X-Proto"), major)
			}
			if c := <-r.opens; !c.Allowed || c.Rule != apiHost+":443" || c.Address != netip.AddrPortFrom(apiAddr, 443) {
				t.Errorf("opened as %+v", c)
			}
			c := r.request(t)
			if !c.Allowed || c.Method != "POST" || c.Path != "/a%2Fb//c/../d" || c.SNI != apiHost || c.Rule != apiHost+":443" || c.ID != 1 ||
				c.Host != apiHost || c.Port != 443 || c.Status != 0 || c.Address.Addr() != apiAddr || len(c.Secrets) != 0 {
				t.Errorf("recorded %+v", c)
			}
			do(t, client, "GET", base+"/", nil)
			client.CloseIdleConnections()
			if c := r.wantCut(t, ""); !c.Allowed || c.Phase != PhaseClose || c.BytesUp < 500 || c.BytesDown < 500 {
				t.Errorf("recorded %+v", c)
			}
			if s := r.broker.Stats(); s.Requests != 2 || s.Refused != 0 || s.Allowed != 1 || s.Open != 0 || s.BytesUp < 500 {
				t.Errorf("counted %+v", s)
			}
			if n := len(r.dials()); n != 1 {
				t.Errorf("%d dials for two requests", n)
			}
		})
	}
}

func TestInspectRules(t *testing.T) {
	for _, proto := range []string{protoHTTP1, protoHTTP2} {
		r := newInspectRig(t, Limits{}, show, inspected("GET /v1/*", "POST /v1/x"))
		client := r.client(t, proto)
		tests := []struct {
			method, path, missing string
			status                int
		}{
			{"GET", "/v1/a?q=/../", "", 200},
			{"POST", "/v1/x", "", 200},
			{"POST", "/v1/y", "POST /v1/y", 403},
			{"HEAD", "/v1/a", "", 403},
			{"GET", "/", "GET /", 403},
			{"GET", "/v1/%2e%2e/admin", "", 403},
			{"GET", "/v1/../admin", "", 403},
			{"GET", "/v1//a", "", 403},
			{"GET", "/v1/..%2fadmin", "", 403},
			{"GET", "/v1/a%5cb", "", 403},
			{"GET", "/v2/a%20b", "", 403}, // no rule can name it
			{"TRACE", "/v1/a", "", 403},
		}
		for _, tt := range tests {
			res, body := do(t, client, tt.method, base+tt.path, nil)
			if res.StatusCode != tt.status {
				t.Errorf("%s %s is answered %d %q", tt.method, tt.path, res.StatusCode, body)
			}
			c := r.request(t)
			if tt.status == 200 {
				if !c.Allowed || c.Code != "" {
					t.Errorf("%s %s: recorded %+v", tt.method, tt.path, c)
				}
				continue
			}
			if c.Allowed || c.Code != link.RequestRefused || c.Status != tt.status || c.Method != tt.method || c.Detail == "" {
				t.Errorf("%s %s: recorded %+v", tt.method, tt.path, c)
			}
			var told struct{ Error, Message, Missing string }
			if tt.method != "HEAD" && (json.Unmarshal([]byte(body), &told) != nil || told.Error != "request_refused" || told.Missing != tt.missing || told.Message == "") {
				t.Errorf("%s %s: told %q, want the missing rule %q", tt.method, tt.path, body, tt.missing)
			}
		}
		if res, _ := do(t, client, "GET", base+"/v1/a", nil, "X-HTTP-Method-Override", "DELETE"); res.StatusCode != 403 {
			t.Errorf("an overridden method is answered %d", res.StatusCode)
		}
		if s := r.broker.Stats(); s.Requests != 2 || s.Refused != 11 {
			t.Errorf("counted %+v", s)
		}
	}
}

// TestInspectHost asks for another host behind the same connection.
func TestInspectHost(t *testing.T) {
	for _, proto := range []string{protoHTTP1, protoHTTP2} {
		r := newInspectRig(t, Limits{}, show, withSecret())
		client := r.client(t, proto)
		for host, status := range map[string]int{
			apiHost: 200, strings.ToUpper(apiHost): 200, apiHost + ":443": 200,
			"evil.test": 421, apiHost + ".": 421, apiHost + ":80": 421, apiHost + ":": 421, "a." + apiHost: 421, "evil.test:443": 421,
		} {
			req, _ := http.NewRequest("GET", base+"/", nil)
			req.Host = host
			req.Header.Set("X-Api-Key", testPlaceholder)
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != status || strings.Contains(string(body), testValue) {
				t.Errorf("%s: Host %q is answered %d %s", proto, host, res.StatusCode, body)
			}
		}
		r.wantNoValue(t, testValue)
	}
}

// TestInspectOddRequests sends by hand what no client library does.
func TestInspectOddRequests(t *testing.T) {
	head := " HTTP/1.1\r\nHost: " + apiHost + "\r\n"
	for name, tt := range map[string]struct{ request, status string }{
		"absolute form":      {"GET https://" + apiHost + "/" + head + "\r\n", "403"},
		"another's absolute": {"GET https://evil.test/" + head + "\r\n", "403"},
		"CONNECT":            {"CONNECT evil.test:443" + head + "\r\n", "403"},
		"asterisk":           {"OPTIONS *" + head + "\r\n", "403"},
		"two slashes":        {"GET //evil.test/x" + head + "\r\n", "403"},
		"fragment":           {"GET /a#b" + head + "\r\n", "403"},
		"no host":            {"GET / HTTP/1.0\r\n\r\n", "421"},
		"two hosts":          {"GET /" + head + "Host: evil.test\r\n\r\n", "400"},
		"no HTTP":            {"\x00\x01\x02\r\n\r\n", "400"},
		"smuggled length":    {"POST /" + head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400"},
		"huge head":          {"GET /" + head + "X: " + strings.Repeat("x", 2*maxRequestHead) + "\r\n\r\n", "431"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newInspectRig(t, Limits{}, func(http.ResponseWriter, *http.Request) { t.Error("it arrived") }, inspected())
			conn := r.secure(t)
			go func() { _, _ = io.WriteString(conn, tt.request) }()
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || !strings.HasPrefix(res.Status, tt.status) {
				t.Errorf("answered %+v, %v, want %s", res, err, tt.status)
			}
		})
	}
}

// TestInspectUpgradeToH2C must not open a way for requests that nobody sees.
func TestInspectUpgradeToH2C(t *testing.T) {
	r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q", r.Header["Upgrade"], r.Header["Http2-Settings"])
	}, inspected())
	_, got := do(t, r.client(t), "GET", base+"/", nil, "Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABk")
	if got != "[] []" {
		t.Errorf("the host saw %s", got)
	}
}

func TestInspectNeedsAuthority(t *testing.T) {
	r := newRig(t, Limits{}, inspected())
	_, _, err := r.connect(t, apiHost, 443)
	wantDenied(t, err, link.Certificate)
	r.wantCode(t, link.Certificate)
	if len(r.dials()) != 0 {
		t.Error("it was dialled")
	}
}

func TestInspectHello(t *testing.T) {
	r := newInspectRig(t, Limits{}, show, inspected())
	for name, tt := range map[string]struct {
		config *tls.Config
		code   Code
	}{
		"another name": {&tls.Config{ServerName: "evil.test"}, link.SNIMismatch},
		"not HTTP":     {&tls.Config{ServerName: apiHost, RootCAs: r.trusted, NextProtos: []string{"mqtt"}}, link.RequestRefused},
		"no trust":     {&tls.Config{ServerName: apiHost}, link.Certificate},
	} {
		_, conn, err := r.connect(t, apiHost, 443)
		if err != nil {
			t.Fatal(err)
		}
		if err := tls.Client(conn, tt.config).Handshake(); err == nil {
			t.Errorf("%s: TLS began", name)
		}
		conn.Close()
		if c := r.wantCode(t, tt.code); c.Allowed {
			t.Errorf("%s: recorded %+v", name, c)
		}
	}
	_, conn, err := r.connect(t, apiHost, 443)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
	r.wantCode(t, link.TLSRequired)
}

// TestInspectPlaintext has HTTP and HTTPS at one port.
func TestInspectPlaintext(t *testing.T) {
	rule := inspected("GET /v1/*")
	rule.Plaintext = true
	r := newInspectRig(t, Limits{}, show, rule)
	ln := listen(t, func(c *net.TCPConn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.RequestURI), req.RequestURI)
	})
	if res, _ := do(t, r.client(t), "GET", base+"/v1/x", nil); res.StatusCode != 200 {
		t.Errorf("HTTPS is answered %d", res.StatusCode)
	}
	r.route(apiAddr, 443, ln)
	client := r.client(t)
	for path, status := range map[string]int{"/v1/x": 200, "/v2": 403} {
		if res, got := do(t, client, "GET", "http://"+apiHost+":443"+path, nil); res.StatusCode != status || status == 200 && got != path {
			t.Errorf("%s is answered %d %s", path, res.StatusCode, got)
		}
	}
	_, conn, err := r.connect(t, apiHost, 443)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	if answer, _ := io.ReadAll(conn); !strings.HasPrefix(string(answer), "HTTP/1.1 4") && !strings.HasPrefix(string(answer), "HTTP/1.1 5") {
		t.Errorf("HTTP/2 without TLS is answered %q", answer)
	}
}

// TestInspectRecordFails has a log that takes no request.
func TestInspectRecordFails(t *testing.T) {
	r := newInspectRig(t, Limits{}, func(http.ResponseWriter, *http.Request) { t.Error("it arrived") }, withSecret())
	r.refuseWith(func(c Connection) error {
		if c.Phase == PhaseRequest {
			return errors.New("no space left on device")
		}
		return nil
	})
	res, body := do(t, r.client(t), "GET", base+"/", nil, "X-Api-Key", testPlaceholder)
	if res.StatusCode != 503 || !strings.Contains(body, `"audit"`) || strings.Contains(body, "space") {
		t.Errorf("answered %d %q", res.StatusCode, body)
	}
	if s := r.broker.Stats(); s.Requests != 0 || s.Refused != 1 {
		t.Errorf("counted %+v", s)
	}
}

// TestInspectReopens has a host that hangs up after every answer, and turns
// bad later: each new connection is checked and recorded like the first.
func TestInspectReopens(t *testing.T) {
	r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }, inspected())
	client := r.client(t)
	for range 3 {
		if res, _ := do(t, client, "GET", base+"/", nil); res.StatusCode != 200 {
			t.Errorf("answered %d", res.StatusCode)
		}
	}
	for range 3 {
		if c := <-r.opens; c.ID != 1 || !c.Allowed || c.Address.Addr() != apiAddr {
			t.Errorf("opened as %+v", c)
		}
	}
	r.answer(apiHost, netip.MustParseAddr("127.0.0.1")) // rebinding
	res, body := do(t, client, "GET", base+"/", nil)
	if res.StatusCode != 502 || !strings.Contains(body, `"address_refused"`) || strings.Contains(body, "127.0.0.1") {
		t.Errorf("answered %d %q", res.StatusCode, body)
	}
	r.wantCut(t, link.AddressRefused)
	r.answer(apiHost, apiAddr)
	r.route(apiAddr, 443, newAuthority(t, apiHost).server(t)) // of nobody who is trusted
	if res, body = do(t, client, "GET", base+"/", nil); res.StatusCode != 502 || !strings.Contains(body, `"certificate"`) {
		t.Errorf("answered %d %q", res.StatusCode, body)
	}
	r.wantCut(t, link.Certificate)
}

// TestInspectPolicyChange cuts a stream off when its secret changes.
func TestInspectPolicyChange(t *testing.T) {
	rule := withSecret()
	other := inspected("GET /v1/*")
	changes := map[string]Rule{"other requests": other, "uninspected": mustRule(t, apiHost+":443")}
	changed := withSecret()
	changed.Secrets[0].Value = "another value"
	changes["other value"] = changed
	for name, now := range changes {
		r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "first")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, rule)
		res, err := r.client(t).Get(base + "/")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		r.setPolicy(t, withSecret()) // the same
		r.setPolicy(t, now)
		if rest, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%s: the stream ended well, with %q", name, rest)
		}
		if c := r.wantCut(t, link.NotGranted); c.Phase != PhaseClose || !c.Allowed {
			t.Errorf("%s: recorded %+v", name, c)
		}
	}
}

func TestInspectConcurrent(t *testing.T) {
	for _, proto := range []string{protoHTTP1, protoHTTP2} {
		r := newInspectRig(t, Limits{}, show, withSecret())
		client := r.client(t, proto)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				body := strings.Repeat(fmt.Sprint(i, ","), 10_000)
				req, _ := http.NewRequest("POST", fmt.Sprintf("%s/%d", base, i), strings.NewReader(body))
				req.Header.Set("X-Api-Key", testPlaceholder)
				res, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				got, err := io.ReadAll(res.Body)
				want := fmt.Sprintf("POST /%d host=%s key=%s body=%s trailer=", i, apiHost, testPlaceholder, body)
				if err != nil || string(got) != want {
					t.Errorf("request %d: %d bytes, %v, want %d", i, len(got), err, len(want))
				}
			})
		}
		wg.Wait()
		if s := r.broker.Stats(); s.Requests != 100 {
			t.Errorf("%s: counted %+v", proto, s)
		}
	}
}

// TestInspectIPv6 has an upstream that has no other address.
func TestInspectIPv6(t *testing.T) {
	ca := newAuthority(t, apiHost)
	ln, err := tls.Listen("tcp6", "[::1]:0", &tls.Config{Certificates: []tls.Certificate{ca.cert}})
	if err != nil {
		t.Skipf("this host has no IPv6 loopback: %v", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(show)}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Close() })
	r := newInspectRigTo(t, Limits{}, ln, ca, inspected())
	addr := netip.MustParseAddr("2a00:1450:4001::1")
	r.answer(apiHost, addr)
	r.route(addr, 443, ln)
	if res, _ := do(t, r.client(t), "GET", base+"/", nil); res.StatusCode != 200 {
		t.Errorf("answered %d", res.StatusCode)
	}
	if c := r.request(t); c.Address != netip.AddrPortFrom(addr, 443) {
		t.Errorf("recorded %+v", c)
	}
}

func TestInspectClosesWithItsServer(t *testing.T) {
	r := newInspectRig(t, Limits{}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, inspected())
	done := make(chan error, 1)
	go func() {
		_, err := r.client(t).Get(base + "/")
		done <- err
	}()
	r.request(t)
	began := time.Now()
	r.stop()
	if err := <-done; err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("the request ended with %v after %v", err, time.Since(began))
	}
	if c := r.record(t); c.Phase != PhaseClose {
		t.Errorf("recorded %+v", c)
	}
}
