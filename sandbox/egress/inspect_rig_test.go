package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testPlaceholder = "ocmt-secret-0123456789abcdef"
	testValue       = "sk-live-the-real-value"
)

// inspected is a rule for the host of the tests that is looked into.
func inspected(requests ...string) Rule {
	rule := Rule{Host: apiHost, Port: 443, Inspect: true}
	for _, text := range requests {
		q, err := ParseRequestRule(text)
		if err != nil {
			panic(err)
		}
		rule.Requests = append(rule.Requests, q)
	}
	return rule
}

// withSecret is a rule whose secret belongs into the header X-Api-Key.
func withSecret() Rule {
	rule := inspected()
	rule.Secrets = []Secret{{Name: "API_KEY", Placeholder: testPlaceholder, Value: testValue, Header: "X-Api-Key"}}
	return rule
}

// inspectRig is a rig with an authority, an upstream server with TLS, and a
// log of everything that was recorded or logged.
type inspectRig struct {
	*rig
	authority *Authority
	trusted   *x509.CertPool // what the container trusts
	upstream  *httptest.Server

	mu  sync.Mutex
	log bytes.Buffer
}

func newInspectRig(t testing.TB, limits Limits, handler http.HandlerFunc, rules ...Rule) *inspectRig {
	t.Helper()
	ca := newAuthority(t, apiHost)
	upstream := httptest.NewUnstartedServer(handler)
	upstream.TLS = &tls.Config{Certificates: []tls.Certificate{ca.cert}}
	upstream.EnableHTTP2 = true
	upstream.Config.ErrorLog = silent
	upstream.StartTLS()
	t.Cleanup(upstream.Close)
	ir := newInspectRigTo(t, limits, upstream.Listener, ca, rules...)
	ir.upstream = upstream
	return ir
}

// newInspectRigTo has an upstream of the test's own, at port 443.
func newInspectRigTo(t testing.TB, limits Limits, upstream net.Listener, ca authority, rules ...Rule) *inspectRig {
	t.Helper()
	authority, err := NewAuthority("test plugin")
	if err != nil {
		t.Fatal(err)
	}
	ir := &inspectRig{authority: authority, trusted: x509.NewCertPool()}
	if !ir.trusted.AppendCertsFromPEM(authority.CertificatePEM()) {
		t.Fatal("the authority's certificate cannot be read")
	}
	ir.rig = newRig(t, limits, rules...)
	ir.route(apiAddr, 443, upstream)
	ir.broker.opts.Authority, ir.broker.opts.Roots = authority, ca.pool
	ir.broker.opts.Logger = slog.New(slog.NewJSONHandler(ir, nil))
	ir.refuseWith(func(c Connection) error {
		fmt.Fprintf(ir, "%+v\n", c)
		return nil
	})
	return ir
}

// Write takes what is logged.
func (ir *inspectRig) Write(p []byte) (int, error) {
	ir.mu.Lock()
	defer ir.mu.Unlock()
	return ir.log.Write(p)
}

// wantNoValue scans all that was recorded and logged.
func (ir *inspectRig) wantNoValue(t testing.TB, values ...string) {
	t.Helper()
	ir.mu.Lock()
	defer ir.mu.Unlock()
	for _, value := range values {
		if strings.Contains(ir.log.String(), value) {
			t.Errorf("%q is in the records:\n%s", value, ir.log.String())
		}
	}
}

// client is a program in the container.
func (ir *inspectRig) client(t testing.TB, protos ...string) *http.Client {
	t.Helper()
	return ir.clientFor(t, apiHost, 443, protos...)
}

func (ir *inspectRig) clientFor(t testing.TB, host string, port uint16, protos ...string) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(len(protos) > 0 && protos[0] == protoHTTP2)
	dial := func(context.Context, string, string) (net.Conn, error) {
		_, conn, err := ir.connect(t, host, port)
		if err == nil {
			conn.SetDeadline(time.Now().Add(time.Minute))
		}
		return conn, err
	}
	transport := &http.Transport{
		Protocols: p, DisableCompression: true, DialContext: dial,
		TLSClientConfig: &tls.Config{RootCAs: ir.trusted, ServerName: host},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// secure opens a TLS connection in the container, for bytes by hand.
func (ir *inspectRig) secure(t testing.TB) *tls.Conn {
	t.Helper()
	_, conn, err := ir.connect(t, apiHost, 443)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Client(conn, &tls.Config{RootCAs: ir.trusted, ServerName: apiHost})
}

// do sends a request and returns the answer with its body read.
func do(t testing.TB, client *http.Client, method, url string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(got)
}

// request waits for the next record of a request.
func (ir *inspectRig) request(t testing.TB) Connection {
	t.Helper()
	for {
		if c := ir.record(t); c.Phase == PhaseRequest {
			return c
		}
	}
}

// wantCut waits for the record of a connection's end.
func (ir *inspectRig) wantCut(t testing.TB, code Code) Connection {
	t.Helper()
	for {
		c := ir.record(t)
		if c.Phase == PhaseRequest {
			continue
		}
		if c.Code != code {
			t.Errorf("recorded %+v, want code %q", c, code)
		}
		return c
	}
}
