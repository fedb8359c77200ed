package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

const toolsPath = "/v1/tenants/default/plugins/demo/tools/"

// sse is an event of a stream.
type sse struct{ ID, Name, Data string }

// open sends a request and returns the answer, whose events next reads.
func (s *server) open(t *testing.T, ctx context.Context, method, path, body string, headers ...string) (*http.Response, func() sse) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://ocmt"+path, strings.NewReader(body))
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
	t.Cleanup(func() { res.Body.Close() })
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 16<<20)
	return res, func() sse {
		var e sse
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				e.ID = value
			case "event":
				e.Name = value
			case "data":
				e.Data = value
			case "":
				if e != (sse{}) {
					return e
				}
			}
		}
		return e
	}
}

func TestCallStream(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for _, tc := range []struct {
		tool string
		want []sse
	}{
		{"count", []sse{{"", "update", `{"count":1}`}, {"", "update", `{"count":2}`}, {"", "update", `{"count":3}`}, {"", "done", `{"result":{"count":3}}`}}},
		{"nope", []sse{{"", "error", `{"class":"not_found","code":"tool_not_found","message":"plugin \"demo\" has no tool \"nope\"","hint":"did you mean echo?","retryable":false}`}}},
	} {
		res, next := s.open(t, t.Context(), "POST", toolsPath+tc.tool+"/stream", "{}")
		var got []sse
		for e := next(); e != (sse{}); e = next() {
			got = append(got, e)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || res.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%s: %s", tc.tool, diff)
		}
	}
}

// A call that waits for a person goes on when the approval is resolved.
func TestCallAsks(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for decision, last := range map[string]string{v1.AllowOnce: "done", v1.Deny: "error"} {
		_, next := s.open(t, t.Context(), "POST", toolsPath+"ask/stream", `{"params":{"path":"/x"},"context":{"agentId":"main"}}`)
		var asked, resolved v1.Approval
		e := next()
		if err := json.Unmarshal([]byte(e.Data), &asked); err != nil || e.Name != "ask" || asked.Decision != "" || asked.Context.AgentID != "main" {
			t.Fatalf("got %+v (%v)", e, err)
		}
		if res, body := s.do(t, "POST", "/v1/tenants/default/approvals/"+asked.ID, `{"decision":"`+decision+`"}`); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		e = next()
		if err := json.Unmarshal([]byte(e.Data), &resolved); err != nil || resolved.Decision != decision {
			t.Errorf("got %+v (%v)", e, err)
		}
		if e = next(); e.Name != last {
			t.Errorf("%s: got %+v, want %s", decision, e, last)
		}
	}
}

func TestIdempotencyKeyOverHTTP(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for _, path := range []string{
		toolsPath + "echo/call", toolsPath + "echo/stream", "/v1/tenants/default/hooks/agent:message:before/emit", "/v1/tenants/default/plugins/demo/handlers/6/invoke",
	} {
		t.Run(path, func(t *testing.T) {
			key := strings.ReplaceAll(path, "/", " ")
			body := `{"timeoutMs":1000}`
			first, text := s.do(t, "POST", path, body, v1.IdempotencyKey, key)
			if first.StatusCode != 200 || first.Header.Get(v1.IdempotencyReplayed) != "" {
				t.Errorf("first: %d %v %s", first.StatusCode, first.Header, text)
			}
			second, again := s.do(t, "POST", path, ` { "timeoutMs": 1000 } `, v1.IdempotencyKey, key)
			if second.StatusCode != 200 || second.Header.Get(v1.IdempotencyReplayed) != "true" || again != text {
				t.Errorf("second: %d %v %s, want %s", second.StatusCode, second.Header, again, text)
			}
			if res, text := s.do(t, "POST", path, `{"timeoutMs":2000}`, v1.IdempotencyKey, key); res.StatusCode != 409 || !strings.Contains(text, "idempotency_mismatch") {
				t.Errorf("another body: %d %s", res.StatusCode, text)
			}
			for _, bad := range []string{strings.Repeat("k", 256), "k\x80", "k\tk"} {
				if res, text := s.do(t, "POST", path, body, v1.IdempotencyKey, bad); res.StatusCode != 400 {
					t.Errorf("%q: %d %s", bad, res.StatusCode, text)
				}
			}
		})
	}
	failing := `{"params":{"class":"plugin","retryable":false}}`
	for _, replayed := range []string{"", "true"} {
		res, text := s.do(t, "POST", toolsPath+"fail/call", failing, v1.IdempotencyKey, "failing")
		if res.StatusCode != 502 || res.Header.Get(v1.IdempotencyReplayed) != replayed || !strings.Contains(text, "asked_for") {
			t.Errorf("failure: %d %v %s, want replayed %q", res.StatusCode, res.Header, text, replayed)
		}
	}
	if _, text := s.do(t, "POST", toolsPath+"count/stream", "{}", v1.IdempotencyKey, "counted"); strings.Count(text, "event: ") != 4 {
		t.Errorf("first: %s", text)
	}
	if _, text := s.do(t, "POST", toolsPath+"count/stream", "{}", v1.IdempotencyKey, "counted"); strings.Count(text, "event: ") != 1 || !strings.Contains(text, "event: done") {
		t.Errorf("replayed: %s", text)
	}
	if res, text := s.do(t, "POST", toolsPath+"panic/call", "{}", v1.IdempotencyKey, "panic"); res.StatusCode != 500 || !strings.Contains(s.log.String(), "as asked for") {
		t.Errorf("panic: %d %s", res.StatusCode, text)
	}
}

// endings tells which calls and events arrived and how they ended.
type endings struct {
	*apitest.Backend
	arrived, ended chan string
}

func (b endings) wait(ctx context.Context, what string) error {
	b.arrived <- what
	<-ctx.Done()
	b.ended <- what
	return ctx.Err()
}

func (b endings) Call(ctx context.Context, _, _, tool string, _ v1.CallRequest, watch httpapi.CallWatch) (v1.CallResult, error) {
	if watch.Update != nil {
		watch.Update(json.RawMessage(`{"interim":true}`))
	}
	return v1.CallResult{}, b.wait(ctx, tool)
}

func (b endings) Emit(ctx context.Context, _, event string, _ v1.EmitRequest, _ httpapi.CallWatch) (v1.EmitResult, error) {
	return v1.EmitResult{}, b.wait(ctx, event)
}

func (b endings) Invoke(ctx context.Context, _, ref string, _ int, _ v1.InvokeRequest) (v1.EmitResult, error) {
	return v1.EmitResult{}, b.wait(ctx, ref)
}

func TestHangingUpCancels(t *testing.T) {
	b := endings{apitest.New(), make(chan string, 1), make(chan string, 1)}
	parts := b.Parts()
	parts.Tools, parts.Hooks = b, b
	s := serveParts(t, parts, httpapi.Caller{Access: httpapi.AccessAdmin}, httpapi.Options{})
	for _, tc := range []struct{ what, path, key string }{
		{"called", toolsPath + "called/call", ""},
		{"called", toolsPath + "called/call", "1"},
		{"streamed", toolsPath + "streamed/stream", ""},
		{"streamed", toolsPath + "streamed/stream", "2"},
		{"emitted", "/v1/tenants/default/hooks/emitted/emit", ""},
		{"emitted", "/v1/tenants/default/hooks/emitted/emit", "3"},
		{"invoked", "/v1/tenants/default/plugins/invoked/handlers/1/invoke", ""},
		{"invoked", "/v1/tenants/default/plugins/invoked/handlers/1/invoke", "4"},
	} {
		t.Run(tc.what+tc.key, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, "POST", "http://ocmt"+tc.path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if tc.key != "" {
				req.Header.Set(v1.IdempotencyKey, tc.key)
			}
			var gone sync.WaitGroup
			gone.Go(func() {
				if res, err := s.client.Do(req); err == nil { // a stream
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
			if got := <-b.arrived; got != tc.what {
				t.Errorf("%s arrived", got)
			}
			cancel()
			if got := <-b.ended; got != tc.what {
				t.Errorf("%s ended", got)
			}
			gone.Wait()
		})
	}
}
