package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// dial opens the WebSocket of tenant default.
func (s *server) dial(t *testing.T, header http.Header) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	conn, res, err := websocket.Dial(t.Context(), "http://ocmt/v1/tenants/default/host", &websocket.DialOptions{HTTPClient: s.client, HTTPHeader: header})
	if conn != nil {
		conn.SetReadLimit(v1.MaxHostMessage)
		t.Cleanup(func() { conn.CloseNow() })
	}
	return conn, res, err
}

// attach attaches a host of that name which answers host.emit.
func (s *server) attach(t *testing.T, name string) *websocket.Conn {
	t.Helper()
	conn, _, err := s.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, conn, v1.HostMessage{Type: v1.HostAttachType, Name: name, Methods: []string{v1.HostEmit}})
	if m := read(t, conn); m.Type != v1.HostAttachedType {
		t.Fatalf("got %+v", m)
	}
	return conn
}

func write(t *testing.T, conn *websocket.Conn, m v1.HostMessage) {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, text); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, conn *websocket.Conn) v1.HostMessage {
	t.Helper()
	_, text, err := conn.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var m v1.HostMessage
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAttachedHostAnswersCalls(t *testing.T) {
	backend := apitest.New()
	s := serveParts(t, backend.Parts(), httpapi.Caller{Access: httpapi.AccessCall, Tenant: "default"}, httpapi.Options{})
	conn := s.attach(t, "gateway")
	if names := backend.AttachedHosts("default"); len(names) != 1 || names[0] != "gateway" {
		t.Errorf("attached: %v", names)
	}
	answers := make(chan string, 1)
	go func() {
		result, err := backend.CallHost(t.Context(), "default", v1.HostEmit, json.RawMessage(`{"event":"x"}`))
		answers <- string(result) + errorText(err)
	}()
	call := read(t, conn)
	if call.Type != v1.HostCallType || call.Method != v1.HostEmit || call.Plugin != "demo" || string(call.Params) != `{"event":"x"}` {
		t.Errorf("got %+v", call)
	}
	write(t, conn, v1.HostMessage{Type: "of a later version"})
	write(t, conn, v1.HostMessage{Type: v1.HostAnswerType, ID: "unknown", Result: json.RawMessage(`0`)})
	write(t, conn, v1.HostMessage{Type: v1.HostAnswerType, ID: call.ID, Result: json.RawMessage(`{"ok":true}`)})
	if got := <-answers; got != `{"ok":true}` {
		t.Errorf("got %s", got)
	}
	if err := backend.NotifyHosts("default", v1.HostConfigChanged, json.RawMessage(`{}`)); err != nil {
		t.Fatal(err)
	}
	if m := read(t, conn); m.Type != v1.HostNoticeType || m.Method != v1.HostConfigChanged {
		t.Errorf("got %+v", m)
	}
	large := json.RawMessage(`"` + strings.Repeat("x", v1.MaxHostMessage) + `"`)
	if err := backend.NotifyHosts("default", v1.HostLog, large); !errdefs.IsInvalidArgument(err) {
		t.Errorf("1 MiB: %v", err)
	}
	if err := conn.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("closing: %v", err)
	}
	eventually(t, func() bool { return len(backend.AttachedHosts("default")) == 0 })
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// eventually waits for what another process or connection brings about.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come")
		}
	}
}

func TestHostIsClosedWithAReason(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for _, tc := range []struct {
		name  string
		first string
		code  websocket.StatusCode
		says  string
	}{
		{"no JSON", "hello", websocket.StatusPolicyViolation, "bad_message"},
		{"another message", `{"type":"answer"}`, websocket.StatusPolicyViolation, "attach_first"},
		{"refused", `{"type":"attach","name":"refused"}`, websocket.StatusPolicyViolation, "host_refused"},
		{"large", `{"type":"attach","name":"` + strings.Repeat("x", v1.MaxHostMessage) + `"}`, websocket.StatusMessageTooBig, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, _, err := s.dial(t, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.Write(t.Context(), websocket.MessageText, []byte(tc.first)); err != nil {
				t.Fatal(err)
			}
			_, _, err = conn.Read(t.Context())
			var closed websocket.CloseError
			if !errors.As(err, &closed) || closed.Code != tc.code || !strings.Contains(closed.Reason, tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestBrowsersCannotAttach(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for _, origin := range []string{"http://ocmt", "https://evil.example", "null", ""} {
		_, res, err := s.dial(t, http.Header{"Origin": {origin}})
		if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
			t.Errorf("origin %q: %v, %v", origin, res, err)
		}
	}
}

// A shutdown tells the hosts and waits until they are detached.
func TestStopClosesHosts(t *testing.T) {
	backend := apitest.New()
	s := serveParts(t, backend.Parts(), httpapi.Caller{Access: httpapi.AccessAdmin}, httpapi.Options{})
	conn := s.attach(t, "gateway")
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	_, _, err := conn.Read(t.Context())
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != websocket.StatusGoingAway {
		t.Errorf("got %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	eventually(t, func() bool { return len(backend.AttachedHosts("default")) == 0 })
}

// floods sends to its host until that fails.
type floods struct{ failed chan error }

func (f floods) Attach(_ context.Context, _ string, _ v1.HostMessage, send func(v1.HostMessage) error) (func(v1.HostMessage), error) {
	params := json.RawMessage(`"` + strings.Repeat("x", 512<<10) + `"`)
	var err error
	for err == nil {
		err = send(v1.HostMessage{Type: v1.HostNoticeType, Params: params})
	}
	f.failed <- err
	return nil, nil
}

func TestQueueOfAHostIsBounded(t *testing.T) {
	parts, hosts := apitest.New().Parts(), floods{make(chan error, 1)}
	parts.Hosts = hosts
	s := serveParts(t, parts, httpapi.Caller{Access: httpapi.AccessAdmin}, httpapi.Options{})
	conn := s.attach(t, "slow")
	if err := <-hosts.failed; !errdefs.IsResourceExhausted(err) {
		t.Errorf("got %v, want exhausted", err)
	}
	if m := read(t, conn); m.Type != v1.HostNoticeType {
		t.Errorf("what was queued is lost: %+v", m)
	}
	write(t, conn, v1.HostMessage{Type: v1.HostAnswerType, ID: "1"}) // nobody takes it
	if res, body := s.do(t, "GET", "/v1/version", ""); res.StatusCode != 200 {
		t.Errorf("an answer for nobody: %d %s", res.StatusCode, body)
	}
}
