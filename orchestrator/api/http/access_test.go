package httpapi_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// ofCallers are the operations of those who may read and call in one tenant.
var ofCallers = []string{
	"attach-host", "call-tool", "connections", "emit-hook", "events", "get-permissions", "get-plugin", "invoke-handler", "list-approvals", "list-hooks",
	"list-plugins", "list-registrations", "list-services", "list-tools", "plugin-logs", "resolve-approval", "stream-tool", "version",
}

// operation is one of the OpenAPI document.
type operation struct {
	method, path string
	ID           string `json:"operationId"`
	Access       string `json:"x-ocmt-access"`
}

func operations(t *testing.T) []operation {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var list []operation
	for path, methods := range doc.Paths {
		for method, o := range methods {
			o.method, o.path = strings.ToUpper(method), path
			list = append(list, o)
		}
	}
	return list
}

// request returns a request for o in a tenant; what the path names is not there.
func (o operation) request(t *testing.T, tenant string) *http.Request {
	path := strings.NewReplacer("{tenant}", tenant, "{id}", "nope", "{handler}", "0", "{op}", "stop", "{", "", "}", "").Replace(o.path)
	body := "{}"
	if o.ID == "resolve-approval" {
		body = `{"decision":"deny"}`
	}
	r := httptest.NewRequestWithContext(t.Context(), o.method, path, strings.NewReader(body))
	return r
}

func TestAccessOfEveryOperation(t *testing.T) {
	handler := httpapi.New(apitest.New().Parts(), httpapi.Options{})
	caller := httpapi.Caller{Actor: "uid:1000", Access: httpapi.AccessCall, Tenant: "default"}
	status := func(r *http.Request, c httpapi.Caller) (int, v1.Error) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(httpapi.WithCaller(r.Context(), c)))
		var e v1.Error
		if w.Code >= 400 {
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
				t.Errorf("%s: %s: %v", r.URL, w.Body, err)
			}
		}
		return w.Code, e
	}
	var allowed []string
	for _, o := range operations(t) {
		if o.Access == string(httpapi.AccessCall) {
			allowed = append(allowed, o.ID)
		} else if o.Access != string(httpapi.AccessAdmin) {
			t.Errorf("%s says access %q", o.ID, o.Access)
		}
		code, e := status(o.request(t, "default"), caller)
		if refused := code == 403 && e.Code == "permission_denied" && e.Hint != ""; refused == slices.Contains(ofCallers, o.ID) {
			t.Errorf("%s: %d %+v for a caller", o.ID, code, e)
		}
		if code, e := status(o.request(t, "acme"), caller); o.ID != "version" && (code != 403 || e.Code != "permission_denied") {
			t.Errorf("%s: %d %+v for another tenant's caller", o.ID, code, e)
		}
		if code, e := status(o.request(t, "default"), httpapi.Caller{}); code != 401 || e.Class != "unauthenticated" {
			t.Errorf("%s: %d %+v for nobody", o.ID, code, e)
		}
		if code, _ := status(o.request(t, "default"), httpapi.Caller{Access: httpapi.AccessAdmin}); code == 403 || code == 401 {
			t.Errorf("%s: %d for an operator", o.ID, code)
		}
	}
	slices.Sort(allowed)
	if diff := cmp.Diff(ofCallers, allowed); diff != "" {
		t.Errorf("the document's operations of callers: %s", diff)
	}
}

func TestMissingPartsAreUnavailable(t *testing.T) {
	handler := httpapi.New(httpapi.Backend{}, httpapi.Options{})
	for _, o := range operations(t) {
		w := httptest.NewRecorder()
		r := o.request(t, "default")
		handler.ServeHTTP(w, r.WithContext(httpapi.WithCaller(r.Context(), httpapi.Caller{Access: httpapi.AccessAdmin})))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "not_served") {
			t.Errorf("%s: %d %s", o.ID, w.Code, w.Body)
		}
	}
}

// The caller of a unix socket is who the kernel says, with the access of the
// socket.
func TestCallerOfSocket(t *testing.T) {
	backend := apitest.New()
	call := serveParts(t, backend.Parts(), httpapi.Caller{Access: httpapi.AccessCall, Tenant: "default"}, httpapi.Options{})
	if res, body := call.do(t, "POST", "/v1/tenants/default/approvals/request-1", `{"decision":"allow-once"}`); res.StatusCode != 403 {
		t.Errorf("a caller grants: %d %s", res.StatusCode, body)
	}
	if res, body := call.do(t, "GET", "/v1/tenants/acme/plugins", "", "Authorization", "Bearer x"); res.StatusCode != 403 || !strings.Contains(body, "acme") {
		t.Errorf("another tenant: %d %s", res.StatusCode, body)
	}
	admin := serveParts(t, backend.Parts(), httpapi.Caller{Access: httpapi.AccessAdmin}, httpapi.Options{})
	res, body := admin.do(t, "POST", "/v1/tenants/default/approvals/request-1", `{"decision":"allow-once"}`)
	var a v1.Approval
	if err := json.Unmarshal([]byte(body), &a); err != nil || res.StatusCode != 200 || a.Actor != fmt.Sprintf("uid:%d", os.Getuid()) {
		t.Errorf("got %d %s (%v)", res.StatusCode, body, err)
	}
	if _, body := admin.do(t, "POST", "/v1/tenants/default/approvals/request-1", `{"decision":"deny"}`); !strings.Contains(body, "already_resolved") {
		t.Errorf("resolved twice: %s", body)
	}
}

// Plain TCP has no callers.
func TestPlainTCPIsRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	get := serveTCP(t, listener, httpapi.Options{}, "http", http.DefaultTransport.(*http.Transport).Clone())
	if code, _, body := get("Bearer good"); code != 401 || !strings.Contains(body, "unauthenticated") {
		t.Errorf("got %d %s", code, body)
	}
}

// tokens are the callers by token; "broken" cannot be looked up.
type tokens map[string]httpapi.Caller

func (k tokens) Lookup(_ context.Context, token string) (httpapi.Caller, error) {
	if token == "broken" {
		return httpapi.Caller{}, fmt.Errorf("no disk: %w", errdefs.ErrUnavailable)
	}
	c, ok := k[token]
	if !ok {
		return httpapi.Caller{}, fmt.Errorf("no such token: %w", errdefs.ErrNotFound)
	}
	return c, nil
}

func TestTokensOverTLS(t *testing.T) {
	certFile, keyFile, pool := certificate(t)
	known := tokens{
		"operator":  {Actor: "token:ops", Access: httpapi.AccessAdmin},
		"caller":    {Actor: "token:agent", Access: httpapi.AccessCall, Tenant: "acme"},
		"powerless": {Actor: "token:none"},
	}
	for _, tc := range []struct {
		name, header string
		tokens       httpapi.Tokens
		status       int
	}{
		{"operator", "Bearer operator", known, 200},
		{"any case", "bearer operator", known, 200},
		{"caller of another tenant", "Bearer caller", known, 403},
		{"none", "", known, 401},
		{"empty", "Bearer ", known, 401},
		{"basic", "Basic operator", known, 401},
		{"unknown", "Bearer nope", known, 401},
		{"without access", "Bearer powerless", known, 401},
		{"long", "Bearer " + strings.Repeat("x", 513), known, 401},
		{"broken store", "Bearer broken", known, 503},
		{"no tokens", "Bearer operator", nil, 401},
	} {
		t.Run(tc.name, func(t *testing.T) {
			listener, err := httpapi.ListenTLS(t.Context(), "127.0.0.1:0", certFile, keyFile, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			get := serveTCP(t, listener, httpapi.Options{Tokens: tc.tokens}, "https",
				&http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}})
			code, header, body := get(tc.header)
			if code != tc.status || (code == 401) != (header.Get("WWW-Authenticate") == "Bearer") || strings.Contains(body, "operator") && code == 401 {
				t.Errorf("got %d %v %s", code, header, body)
			}
		})
	}
}

func TestListenTLSRefuses(t *testing.T) {
	certFile, keyFile, _ := certificate(t)
	if _, err := httpapi.ListenTLS(t.Context(), "127.0.0.1:0", certFile, certFile, slog.New(slog.DiscardHandler)); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no key: %v", err)
	}
	first, err := httpapi.ListenTLS(t.Context(), "127.0.0.1:0", certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := httpapi.ListenTLS(t.Context(), first.Addr().String(), certFile, keyFile, slog.New(slog.DiscardHandler)); !errdefs.IsConflict(err) {
		t.Errorf("taken address: %v", err)
	}
}

// serveTCP serves on listener and returns what asks for the plugins of default.
func serveTCP(t *testing.T, listener net.Listener, opts httpapi.Options, scheme string, transport *http.Transport) func(authorization string) (int, http.Header, string) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	handler := httpapi.New(apitest.New().Parts(), opts)
	// The access of a unix socket counts for nothing here.
	go func() {
		done <- httpapi.Serve(ctx, listener, handler, httpapi.Caller{Access: httpapi.AccessAdmin}, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(authorization string) (int, http.Header, string) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", scheme+"://"+listener.Addr().String()+"/v1/tenants/default/plugins", nil)
		if err != nil {
			t.Fatal(err)
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		res, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, maps.Clone(res.Header), string(body)
	}
}

// certificate makes a certificate for 127.0.0.1 that the pool trusts.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	err = errors.Join(os.WriteFile(certFile, certText, 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certText)
	return certFile, keyFile, pool
}
