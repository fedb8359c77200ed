package httpapi_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func TestTokenRoutes(t *testing.T) {
	s := serve(t, httpapi.Options{})
	create := func(body string) (int, string, v1.CreatedToken) {
		var made v1.CreatedToken
		res, text := s.do(t, "POST", "/v1/tokens", body)
		if res.StatusCode == http.StatusCreated {
			if err := json.Unmarshal([]byte(text), &made); err != nil {
				t.Fatal(err)
			}
			if got := res.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control %q of a secret", got)
			}
		}
		return res.StatusCode, text, made
	}
	for _, tc := range []struct {
		name, body string
		status     int
	}{
		{"caller", `{"access":"call","tenant":"acme","name":"agent","forSeconds":60}`, 201},
		{"another", `{"access":"call","tenant":"default"}`, 201},
		{"operator", `{"access":"admin"}`, 201},
		{"no access", `{"tenant":"acme"}`, 400},
		{"other access", `{"access":"root"}`, 400},
		{"caller of nobody", `{"access":"call"}`, 400},
		{"caller of no tenant", `{"access":"call","tenant":"A b"}`, 400},
		{"operator of one", `{"access":"admin","tenant":"acme"}`, 400},
		{"long name", `{"access":"admin","name":"` + strings.Repeat("x", 101) + `"}`, 400},
		{"past", `{"access":"admin","forSeconds":-1}`, 400},
		{"too long", `{"access":"admin","forSeconds":315360001}`, 400},
	} {
		if code, text, made := create(tc.body); code != tc.status || code == 201 && (made.ID == "" || !strings.HasPrefix(made.Secret, "ocmt_")) {
			t.Errorf("%s: %d %s, want %d", tc.name, code, text, tc.status)
		}
	}
	for query, want := range map[string][]string{
		"":                           {"token-1", "token-2", "token-3"},
		"?tenant=acme":               {"token-1", "token-3"},
		"?limit=1&cursor=dG9rZW4tMQ": {"token-2"},
	} {
		res, text := s.do(t, "GET", "/v1/tokens"+query, "")
		var list v1.TokenList
		if err := json.Unmarshal([]byte(text), &list); err != nil || res.StatusCode != 200 || strings.Contains(text, "secret") {
			t.Fatalf("list%s: %d %s", query, res.StatusCode, text)
		}
		var got []string
		for _, token := range list.Tokens {
			got = append(got, token.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("list%s: -want +got\n%s", query, diff)
		}
	}
	if res, text := s.do(t, "GET", "/v1/tokens?tenant=A", ""); res.StatusCode != 400 {
		t.Errorf("list of no tenant: %d %s", res.StatusCode, text)
	}
	for _, want := range []int{200, 404} {
		if res, text := s.do(t, "DELETE", "/v1/tokens/token-1", ""); res.StatusCode != want {
			t.Errorf("revoke: %d %s, want %d", res.StatusCode, text, want)
		}
	}
}

// over returns the answer to a request that came over TLS from remote.
func over(t *testing.T, handler http.Handler, remote, authorization string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/version", nil)
	r.TLS, r.RemoteAddr = &tls.ConnectionState{}, remote
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

func TestGuessesAreHeldOff(t *testing.T) {
	known := tokens{"good": {Actor: "token:1", Access: httpapi.AccessAdmin}}
	for _, tc := range []struct {
		name, guesser, same, others string
	}{
		{"IPv4", "192.0.2.1:1000", "192.0.2.1:2000", "192.0.3.%d:1000"},
		{"IPv6", "[2001:db8::1]:1000", "[2001:db8::2]:1000", "[2001:db8:1:%d::1]:1000"},
		{"mapped", "[::ffff:192.0.2.1]:1000", "192.0.2.1:1000", "[::ffff:192.0.3.%d]:1000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &lockedBuffer{}
				handler := httpapi.New(apitest.New().Parts(), httpapi.Options{Tokens: known, Log: slog.New(slog.NewTextHandler(log, nil))})
				for range 100 { // whoever has a token may ask as often as he likes
					if w := over(t, handler, tc.same, "Bearer good"); w.Code != 200 {
						t.Fatalf("a good token: %d %s", w.Code, w.Body)
					}
				}
				for i := range 10 {
					if w := over(t, handler, tc.guesser, []string{"Bearer guess", ""}[i%2]); w.Code != 401 {
						t.Fatalf("guess %d: %d %s", i, w.Code, w.Body)
					}
				}
				for _, token := range []string{"Bearer guess", "Bearer good"} { // they must look the same
					w := over(t, handler, tc.same, token)
					if w.Code != 429 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "too_many_failures") {
						t.Errorf("held off, %s: %d %s", token, w.Code, w.Body)
					}
				}
				if n := strings.Count(log.String(), "held off"); n != 1 {
					t.Errorf("%d lines in the log, want 1:\n%s", n, log.String())
				}
				others := 0
				for i := range 3 { // two networks share a count once in 1024 runs
					if w := over(t, handler, fmt.Sprintf(tc.others, i), "Bearer guess"); w.Code == 401 {
						others++
					}
				}
				if others == 0 {
					t.Error("other networks are held off too")
				}
				time.Sleep(time.Second / 10) // of the bubble
				if w := over(t, handler, tc.same, "Bearer good"); w.Code != 200 {
					t.Errorf("after a while: %d %s", w.Code, w.Body)
				}
			})
		})
	}
}

// revocable admits one caller, until revoke.
type revocable struct {
	caller httpapi.Caller
	revoke func()
}

func newRevocable(tenant string) revocable {
	ended := make(chan struct{})
	return revocable{
		httpapi.Caller{Actor: "token:1", Access: httpapi.AccessCall, Tenant: tenant, Ended: ended},
		func() { close(ended) },
	}
}

func (r revocable) Lookup(context.Context, string) (httpapi.Caller, error) { return r.caller, nil }

// tlsServer serves the in-memory backend over TLS until the test ends.
func tlsServer(t *testing.T, opts httpapi.Options) (addr string, config *tls.Config) {
	t.Helper()
	certFile, keyFile, pool := certificate(t)
	listener, err := httpapi.ListenTLS(t.Context(), "127.0.0.1:0", certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- httpapi.Serve(ctx, listener, httpapi.New(apitest.New().Parts(), opts), httpapi.Caller{}, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String(), &tls.Config{RootCAs: pool}
}

func TestRevokedTokenEndsItsRequests(t *testing.T) {
	token := newRevocable("default")
	addr, config := tlsServer(t, httpapi.Options{Tokens: token})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	defer client.CloseIdleConnections()
	start := func(method, path, body string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer x")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	stream := start("GET", "/v1/tenants/default/events?follow=true", "")
	defer stream.Body.Close()
	events := bufio.NewReader(stream.Body)
	if line, err := events.ReadString('\n'); err != nil || line != "id: 1\n" {
		t.Fatalf("the stream begins with %q, %v", line, err)
	}
	host, _, err := websocket.Dial(t.Context(), "wss://"+addr+"/v1/tenants/default/host", &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: http.Header{"Authorization": {"Bearer x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer host.CloseNow()
	var attached v1.HostMessage
	if err := wsjson.Write(t.Context(), host, v1.HostMessage{Type: v1.HostAttachType, Name: "test"}); err != nil {
		t.Fatal(err)
	}
	if err := wsjson.Read(t.Context(), host, &attached); err != nil || attached.Type != v1.HostAttachedType {
		t.Fatalf("attach: %+v, %v", attached, err)
	}
	call := start("POST", "/v1/tenants/default/plugins/demo/tools/hang/stream", `{}`)
	defer call.Body.Close()

	token.revoke()
	if _, err := io.ReadAll(events); err != nil {
		t.Errorf("the stream breaks with %v, want its end", err)
	}
	if text, err := io.ReadAll(call.Body); err != nil || !strings.Contains(string(text), "event: error") {
		t.Errorf("the call ends with %s, %v", text, err)
	}
	err = wsjson.Read(t.Context(), host, &attached)
	if websocket.CloseStatus(err) != websocket.StatusPolicyViolation || !strings.Contains(err.Error(), "token_ended") {
		t.Errorf("the host is closed with %v", err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	addr, config := tlsServer(t, httpapi.Options{})
	const most = 512
	var idle []net.Conn
	defer func() {
		for _, conn := range idle {
			conn.Close()
		}
	}()
	shake := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
		if err == nil {
			idle = append(idle, conn)
		}
		return err
	}
	for range most {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	if err := shake(300 * time.Millisecond); err == nil {
		t.Fatalf("connection %d is served", most+1)
	}
	for _, conn := range idle[:2] { // the one that gave up may still wait before this one
		conn.Close()
	}
	if err := shake(5 * time.Second); err != nil {
		t.Errorf("after others ended: %v", err)
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	certFile, keyFile, first := certificate(t)
	log := &lockedBuffer{}
	listener, err := httpapi.ListenTLS(t.Context(), "127.0.0.1:0", certFile, keyFile, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	wantServed := func(what string, config *tls.Config) {
		t.Helper()
		conn, err := tls.Dial("tcp", listener.Addr().String(), config)
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, err, log)
		}
		conn.Close()
	}
	replace := func(file string, text []byte) { // as an agent does, and with another time
		t.Helper()
		if err := os.WriteFile(file+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	read := func(file string) []byte {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	newCert, newKey, second := certificate(t)
	wantServed("at first", &tls.Config{RootCAs: first})
	replace(certFile, []byte("none"))
	for range 2 {
		wantServed("while the file is of no use", &tls.Config{RootCAs: first})
	}
	if n := strings.Count(log.String(), "is not used"); n != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", n, log)
	}
	replace(certFile, read(newCert))
	wantServed("while the key is still that of the other", &tls.Config{RootCAs: first})
	replace(keyFile, read(newKey))
	wantServed("after both are there", &tls.Config{RootCAs: second})
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	wantServed("after a file is gone", &tls.Config{RootCAs: second})
}
