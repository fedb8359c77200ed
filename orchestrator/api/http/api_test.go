package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

var update = flag.Bool("update", false, "write the golden files")

// lockedBuffer is a log that may be read while the server runs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// server serves the in-memory backend on a real socket until the test ends.
type server struct {
	socket string
	client *http.Client
	log    *lockedBuffer
	stop   func() error // stops serving and waits
}

func serve(t *testing.T, opts httpapi.Options) *server {
	t.Helper()
	return serveParts(t, apitest.New().Parts(), httpapi.Caller{Access: httpapi.AccessAdmin}, opts)
}

// serveParts serves any backend to callers with the given access.
func serveParts(t *testing.T, parts httpapi.Backend, access httpapi.Caller, opts httpapi.Options) *server {
	t.Helper()
	s := &server{socket: filepath.Join(t.TempDir(), "run", "admin.sock"), log: &lockedBuffer{}}
	ctx, cancel := context.WithCancel(t.Context())
	opts.Log = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	opts.UploadDir = t.TempDir()
	listener, err := httpapi.ListenUnix(t.Context(), s.socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- httpapi.Serve(ctx, listener, httpapi.New(parts, opts), access, opts.Log)
	}()
	s.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	s.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.socket)
	}}}
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

// reply is an answer without its body.
type reply struct {
	StatusCode int
	Header     http.Header
}

// do sends a request and returns the answer and its body.
func (s *server) do(t *testing.T, method, path, body string, headers ...string) (reply, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://ocmt"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header}, string(text)
}

func TestRefusedRequests(t *testing.T) {
	s := serve(t, httpapi.Options{})
	long := strings.Repeat("a", 300)
	const call = "/v1/tenants/default/plugins/demo/tools/echo/call"
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		code, says               string
	}{
		{"no route", "GET", "/v2/status", "", 404, "no_route", "/v2/status"},
		{"wrong method", "PUT", "/v1/status", "", 404, "no_route", "PUT"},
		{"tenant", "GET", "/v1/tenants/A%20b/plugins", "", 400, "invalid_argument", "tenant"},
		{"status of tenant", "GET", "/v1/status?tenant=A", "", 400, "invalid_argument", "tenant"},
		{"dots", "GET", "/v1/tenants/default/plugins/%2E%2E", "", 400, "invalid_argument", `".."`},
		{"slash", "GET", "/v1/tenants/default/plugins/a%2Fb", "", 400, "invalid_argument", "a/b"},
		{"deep", "GET", "/v1/tenants/default/plugins/..%2F..%2Fetc%2Fpasswd", "", 400, "invalid_argument", "passwd"},
		{"spaces", "GET", "/v1/tenants/default/plugins/a%20b", "", 400, "invalid_argument", "a b"},
		{"NUL", "GET", "/v1/tenants/default/plugins/a%00b", "", 400, "invalid_argument", `a\x00b`},
		{"long", "GET", "/v1/tenants/default/plugins/" + long, "", 400, "invalid_argument", "300 characters"},
		{"unknown", "GET", "/v1/tenants/default/plugins/nope", "", 404, "plugin_not_found", "nope"},
		{"another tenant's", "GET", "/v1/tenants/default/plugins/metrics", "", 404, "plugin_not_found", "metrics"},
		{"unknown tool", "POST", "/v1/tenants/default/plugins/demo/tools/nope/call", "{}", 404, "tool_not_found", "nope"},
		{"no body", "POST", call, "", 400, "invalid_request", "body"},
		{"broken body", "POST", call, `{"params":`, 400, "invalid_request", ""},
		{"unknown field", "POST", call, `{"parms":{}}`, 400, "invalid_request", "parms"},
		{"wrong type", "POST", call, `{"timeoutMs":"1s"}`, 400, "invalid_request", "timeoutMs"},
		{"long timeout", "POST", call, `{"timeoutMs":600001}`, 400, "invalid_request", "timeoutMs"},
		{"large body", "POST", call, `{"params":"` + strings.Repeat("x", v1.MaxCallBody) + `"}`, 400, "invalid_request", "too large"},
		{"no JSON", "POST", "/v1/tenants/default/plugins", "spec=x", 400, "invalid_request", ""},
		{"no spec", "POST", "/v1/tenants/default/plugins", `{"spec":"","source":"npm","confirmed":true}`, 400, "invalid_request", "spec"},
		{"unknown source", "POST", "/v1/tenants/default/plugins", `{"spec":"x","source":"git"}`, 400, "invalid_request", "source"},
		{"not confirmed", "POST", "/v1/tenants/default/plugins", `{"spec":"x","source":"npm"}`, 403, "confirmation_required", "not confirmed"},
		{"archive not confirmed", "POST", "/v1/tenants/default/plugins", `{"spec":"x","source":"archive","upload":"u"}`, 403, "confirmation_required", ""},
		{"no upload", "POST", "/v1/tenants/default/plugins", `{"spec":"/x","source":"path"}`, 400, "invalid_argument", "upload"},
		{"needless upload", "POST", "/v1/tenants/default/plugins", `{"spec":"x","source":"npm","upload":"u","confirmed":true}`, 400, "invalid_argument", "upload"},
		{"unknown upload", "POST", "/v1/tenants/default/plugins", `{"spec":"/x","source":"path","upload":"u"}`, 404, "upload_not_found", "u"},
		{"since", "GET", "/v1/tenants/default/plugins/demo/logs?since=yesterday", "", 400, "invalid_request", "since"},
		{"no event", "POST", "/v1/tenants/default/hooks/a%20b/emit", "{}", 400, "invalid_request", "event"},
		{"payload", "POST", "/v1/tenants/default/hooks/x/emit", `{"payload":[]}`, 400, "bad_payload", "object"},
		{"handler", "POST", "/v1/tenants/default/plugins/demo/handlers/x/invoke", "{}", 400, "invalid_request", "handler"},
		{"negative handler", "POST", "/v1/tenants/default/plugins/demo/handlers/-1/invoke", "{}", 400, "invalid_request", "handler"},
		{"unknown handler", "POST", "/v1/tenants/default/plugins/demo/handlers/99/invoke", "{}", 404, "handler_not_found", "99"},
		{"another event's handler", "POST", "/v1/tenants/default/plugins/demo/handlers/5/invoke", `{"event":"x"}`, 400, "wrong_event", "5"},
		{"service op", "POST", "/v1/tenants/default/plugins/demo/services/ticker/explode", "", 400, "invalid_request", "op"},
		{"unknown service", "POST", "/v1/tenants/default/plugins/demo/services/nope/stop", "", 404, "service_not_found", "nope"},
		{"failing service", "POST", "/v1/tenants/default/plugins/demo/services/poller/start", "", 502, "service_failed", "refused"},
		{"grant of what", "POST", "/v1/tenants/default/plugins/demo/permissions/grant", `{"kind":"moon","target":"x"}`, 400, "invalid_request", "kind"},
		{"grant nothing", "POST", "/v1/tenants/default/plugins/demo/permissions/grant", `{"kind":"env","target":""}`, 400, "invalid_request", "target"},
		{"revoke what is not", "POST", "/v1/tenants/default/plugins/demo/permissions/revoke", `{"kind":"env","target":"X"}`, 404, "not_granted", "X"},
		{"large grant", "POST", "/v1/tenants/default/plugins/demo/permissions/grant", `{"kind":"env","target":"` + strings.Repeat("x", v1.MaxSmallBody) + `"}`, 400, "invalid_request", "too large"},
		{"unknown approval", "POST", "/v1/tenants/default/approvals/nope", `{"decision":"deny"}`, 404, "approval_not_found", "nope"},
		{"decision", "POST", "/v1/tenants/default/approvals/request-1", `{"decision":"maybe"}`, 400, "invalid_request", "decision"},
		{"unknown review", "POST", "/v1/tenants/default/reviews/nope", `{"digest":"x","accept":"all"}`, 404, "review_not_found", "nope"},
		{"accept", "POST", "/v1/tenants/default/reviews/nope", `{"digest":"x","accept":"some"}`, 400, "invalid_request", "accept"},
		{"limit", "GET", "/v1/plugins?limit=0", "", 400, "invalid_request", "limit"},
		{"large limit", "GET", "/v1/plugins?limit=1001", "", 400, "invalid_request", "limit"},
		{"cursor", "GET", "/v1/plugins?cursor=*", "", 400, "invalid_cursor", "cursor"},
		{"lost cursor", "GET", "/v1/plugins?cursor=YQ", "", 409, "list_changed", "gone"},
		{"events since", "GET", "/v1/events?since=-1", "", 400, "invalid_request", "since"},
		{"events of", "GET", "/v1/events?tenant=A", "", 400, "invalid_argument", "tenant"},
		{"log format", "GET", "/v1/tenants/default/plugins/demo/logs?format=xml", "", 400, "invalid_request", "format"},
		{"log of nothing, followed", "GET", "/v1/tenants/default/plugins/nope/logs?follow=true", "", 404, "plugin_not_found", "nope"},
		{"no WebSocket", "GET", "/v1/tenants/default/host", "", 400, "websocket_required", "WebSocket"},
		{"reset of what is not there", "POST", "/v1/tenants/default/plugins/nope/reset", "", 404, "plugin_not_found", "nope"},
		{"reset of a changed payload", "POST", "/v1/tenants/acme/plugins/metrics/reset", "", 409, "payload_altered", "altered"},
		{"reinstall of an unknown upload", "POST", "/v1/tenants/acme/plugins/metrics/reinstall", `{"upload":"u"}`, 404, "upload_not_found", "u"},
		{"reinstall of something else", "POST", "/v1/tenants/acme/plugins/metrics/reinstall", `{"spec":"x"}`, 400, "invalid_request", "spec"},
		{"changed payload", "POST", "/v1/tenants/acme/plugins/metrics/verify", "", 500, "payload_tampered", "changed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, body := s.do(t, tc.method, tc.path, tc.body)
			var e v1.Error
			if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			if res.StatusCode != tc.status || e.Code != tc.code || !strings.Contains(e.Message, tc.says) || e.Class == "" {
				t.Errorf("got %d %+v, want %d %s, %q", res.StatusCode, e, tc.status, tc.code, tc.says)
			}
			if got := res.Header.Get("Content-Type"); got != "application/json" {
				t.Errorf("content type %s", got)
			}
		})
	}
}

func TestPackageNameAsID(t *testing.T) {
	s := serve(t, httpapi.Options{})
	res, body := s.do(t, "GET", "/v1/tenants/default/plugins/@scope%2Fdemo", "")
	var detail v1.PluginDetail
	if err := json.Unmarshal([]byte(body), &detail); err != nil || res.StatusCode != http.StatusOK || detail.ID != "demo" {
		t.Errorf("got %d %s (%v), want plugin demo", res.StatusCode, body, err)
	}
}

func TestPanicCostsOneRequest(t *testing.T) {
	s := serve(t, httpapi.Options{})
	res, body := s.do(t, "POST", "/v1/tenants/default/plugins/demo/tools/panic/call", "{}", "X-Request-Id", "req-1")
	if res.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "req-1") || strings.Contains(body, "as asked for") {
		t.Errorf("got %d %s", res.StatusCode, body)
	}
	if log := s.log.String(); !strings.Contains(log, "handler panicked") || !strings.Contains(log, "as asked for") {
		t.Errorf("the log does not tell: %s", log)
	}
	if res, body := s.do(t, "GET", "/v1/version", ""); res.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d %s", res.StatusCode, body)
	}
}

func TestRequestID(t *testing.T) {
	s := serve(t, httpapi.Options{})
	res, _ := s.do(t, "GET", "/v1/version", "", "X-Request-Id", "mine")
	if got := res.Header.Get("X-Request-Id"); got != "mine" {
		t.Errorf("got id %q, want the caller's", got)
	}
	res, _ = s.do(t, "GET", "/v1/version", "", "X-Request-Id", "not fit for a log\"")
	if got := res.Header.Get("X-Request-Id"); len(got) < 20 || strings.Contains(got, " ") {
		t.Errorf("got id %q, want one of ours", got)
	}
	if log := s.log.String(); !strings.Contains(log, `request_id=mine method=GET route="GET /v1/version"`) {
		t.Errorf("the log does not tell: %s", log)
	}
}

// A handler that runs for longer than a body may take is not cut off by the
// body's deadline, which is on the same connection.
func TestBodyDeadlineIsTakenBack(t *testing.T) {
	for _, body := range []io.Reader{strings.NewReader("x"), strings.NewReader("")} {
		var deadlines []time.Time
		b := httpapi.NewTimedBody(body, time.Now().Add(time.Minute), func(d time.Time) error {
			deadlines = append(deadlines, d)
			return nil
		})
		if _, err := io.ReadAll(b); err != nil {
			t.Fatal(err)
		}
		if len(deadlines) < 2 || deadlines[0].IsZero() || !deadlines[len(deadlines)-1].IsZero() {
			t.Errorf("deadlines %v: want one set and taken back at the end", deadlines)
		}
	}
}

func TestUploads(t *testing.T) {
	s := serve(t, httpapi.Options{MaxUpload: 1000})
	upload := func(body string) (int, v1.Upload, v1.Error) {
		res, text := s.do(t, "POST", "/v1/tenants/default/uploads", body)
		var u v1.Upload
		var e v1.Error
		if err := errors.Join(json.Unmarshal([]byte(text), &u), json.Unmarshal([]byte(text), &e)); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, u, e
	}
	if status, _, e := upload(strings.Repeat("x", 1001)); status != 400 || e.Code != "upload_too_large" {
		t.Errorf("too large: %d %+v", status, e)
	}
	var ids []string
	for range 4 {
		status, u, e := upload(strings.Repeat("x", 1000))
		if status != 201 || u.Size != 1000 || u.ID == "" {
			t.Fatalf("%d %+v %+v", status, u, e)
		}
		ids = append(ids, u.ID)
	}
	if status, _, e := upload("x"); status != 429 || e.Code != "too_many_uploads" || !e.Retryable {
		t.Errorf("fifth: %d %+v", status, e)
	}
	install := func(tenant, id string) string {
		_, text := s.do(t, "POST", "/v1/tenants/"+tenant+"/plugins", `{"spec":"/x","source":"path","upload":"`+id+`"}`)
		return text
	}
	if text := install("acme", ids[0]); !strings.Contains(text, "upload_not_found") {
		t.Errorf("another tenant's upload: %s", text)
	}
	if text := install("default", ids[0]); !strings.Contains(text, "event: error") || !strings.Contains(text, "bad_archive") {
		t.Errorf("not handed over: %s", text)
	}
	if text := install("default", ids[0]); !strings.Contains(text, "upload_not_found") {
		t.Errorf("used twice: %s", text)
	}
	if status, _, e := upload("x"); status != 201 {
		t.Errorf("no place after a use: %d %+v", status, e)
	}
}

func TestInstallStream(t *testing.T) {
	s := serve(t, httpapi.Options{})
	res, text := s.do(t, "POST", "/v1/tenants/default/plugins", `{"spec":"new","source":"npm","confirmed":true,"pin":true}`)
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %s", got)
	}
	var events []string
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			events = append(events, strings.TrimSpace(name))
		}
	}
	if diff := cmp.Diff([]string{"progress", "progress", "done"}, events); diff != "" || !strings.Contains(text, `"new@2.0.0"`) {
		t.Errorf("%s\n%s", diff, text)
	}
}

func TestReinstallStream(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for path, want := range map[string]string{
		"default/plugins/demo": "event: progress\nevent: done\n",
		"default/plugins/nope": "event: error\n",
		"acme/plugins/metrics": "event: progress\nevent: error\n",
	} {
		res, text := s.do(t, "POST", "/v1/tenants/"+path+"/reinstall", "{}")
		var events string
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "event: ") {
				events += line
			}
		}
		if events != want || res.StatusCode != 200 {
			t.Errorf("%s: %d, got %q, want %q", path, res.StatusCode, events, want)
		}
	}
}

// What is refused now and may succeed soon says when, and nothing else does.
func TestRetryAfter(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for class, want := range map[string]string{"unavailable": "1", "resource_exhausted": "1", "plugin": "", "not_found": ""} {
		res, body := s.do(t, "POST", "/v1/tenants/default/plugins/demo/tools/fail/call", `{"params":{"class":"`+class+`"}}`)
		if got := res.Header.Get("Retry-After"); got != want || !strings.Contains(body, `"retryable":true`) {
			t.Errorf("%s: %d, Retry-After %q, want %q: %s", class, res.StatusCode, got, want, body)
		}
	}
	empty := serveParts(t, httpapi.Backend{}, httpapi.Caller{Access: httpapi.AccessAdmin}, httpapi.Options{})
	if res, body := empty.do(t, "GET", "/v1/status", ""); res.StatusCode != 503 || res.Header.Get("Retry-After") != "" {
		t.Errorf("a part that is not there: %d, Retry-After %q: %s", res.StatusCode, res.Header.Get("Retry-After"), body)
	}
}

// Stopping ends what would otherwise go on for ever, so that a shutdown does
// not wait.
func TestStopEndsStreams(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for _, tc := range []struct{ method, path, body, first string }{
		{"GET", "/v1/tenants/default/plugins/demo/logs?follow=true&tail=1", "", "third line é\n"},
		{"POST", "/v1/tenants/default/plugins", `{"spec":"hang","source":"npm","confirmed":true}`, "event: progress\n"},
		{"GET", "/v1/events?follow=true", "", "id: 1\nevent: plugin.installed\n"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://ocmt"+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		first := make([]byte, len(tc.first))
		if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != tc.first {
			t.Fatalf("got %q (%v), want %q before the end", first, err, tc.first)
		}
	}
	started := time.Now()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("the shutdown took %s", took)
	}
}

func TestOpenAPI(t *testing.T) {
	s := serve(t, httpapi.Options{})
	res, body := s.do(t, "GET", "/v1/openapi.json", "")
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(body), "", "  "); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "openapi.json")
	if *update {
		if err := os.WriteFile(golden, indented.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), indented.String()); diff != "" {
		t.Errorf("the API changed; if that is meant, run the test with -update\n%s", diff)
	}
	for _, name := range []string{"ErrorModel", "base64"} {
		if strings.Contains(body, name) {
			t.Errorf("the document names %s", name)
		}
	}
}
