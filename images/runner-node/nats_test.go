package runnernode_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	base    = "ocmt.v1.default.demo.1."
	patient = 20 * time.Second // for anything that happens soon
)

// host is a NATS server behind a unix socket, and the host's end of the
// conversation with one runner.
type host struct {
	t        testing.TB
	server   *server.Server
	listener net.Listener
	conn     *nats.Conn
	outcomes chan map[string]any
}

// newHost starts a server that has one plugin to load.
func newHost(t testing.TB, socket, entry string) *host {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, MaxPayload: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patient) {
		t.Fatal("the server does not start")
	}
	h := &host{t: t, server: s, outcomes: make(chan map[string]any, 8)}
	h.conn, err = nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	h.serve(entry)
	h.listener, err = net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go h.accept()
	return h
}

// serve answers what a runner asks.
func (h *host) serve(entry string) {
	root, err := filepath.Abs(filepath.Join("test", "fixtures"))
	if err != nil {
		h.t.Fatal(err)
	}
	load, err := json.Marshal(map[string]any{
		"type": "load", "tenant": "default", "plugin": "demo", "generation": 1, "mode": "full",
		"root": root, "entries": []string{entry}, "name": "demo", "version": "1.0.0",
		"manifest": nil, "config": nil, "pluginConfig": nil, "stateDir": h.t.TempDir(), "agentId": "main",
		"host": []string{"host.emit"},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.subscribe("out.hello", func(m *nats.Msg) { _ = m.Respond(load) })
	outcome := func(m *nats.Msg) {
		var v map[string]any
		if err := json.Unmarshal(m.Data, &v); err != nil {
			h.t.Errorf("outcome %s: %v", m.Data, err)
		}
		_ = m.Respond([]byte(`{"type":"ack"}`))
		h.outcomes <- v
	}
	h.subscribe("out.ready", outcome)
	h.subscribe("out.failed", outcome)
}

func (h *host) subscribe(verb string, handle nats.MsgHandler) {
	h.t.Helper()
	if _, err := h.conn.Subscribe(base+verb, handle); err != nil {
		h.t.Fatal(err)
	}
	if err := h.conn.Flush(); err != nil {
		h.t.Fatal(err)
	}
}

// accept bridges every connection to the server.
func (h *host) accept() {
	for {
		outer, err := h.listener.Accept()
		if err != nil {
			return
		}
		inner, err := h.server.InProcessConn()
		if err != nil {
			outer.Close()
			continue
		}
		go func() { _, _ = io.Copy(inner, outer); inner.Close() }()
		go func() { _, _ = io.Copy(outer, inner); outer.Close() }()
	}
}

func (h *host) close() {
	h.listener.Close()
	h.conn.Close()
	h.server.Shutdown()
	h.server.WaitForShutdown()
}

// ready waits for the runner's report.
func (h *host) ready() map[string]any {
	h.t.Helper()
	select {
	case v := <-h.outcomes:
		if v["type"] != "ready" {
			h.t.Fatalf("the runner reports %v", v)
		}
		return v
	case <-time.After(patient):
		h.t.Fatal("the runner does not report")
	}
	return nil
}

// ask sends a message and returns the answer.
func (h *host) ask(verb string, message map[string]any) map[string]any {
	h.t.Helper()
	data, err := json.Marshal(message)
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := h.conn.Request(base+"in."+verb, data, patient)
	if err != nil {
		h.t.Fatalf("%s: %v", verb, err)
	}
	var v map[string]any
	if err := json.Unmarshal(m.Data, &v); err != nil {
		h.t.Fatalf("%s answers %s: %v", verb, m.Data, err)
	}
	return v
}

func (h *host) call(id, tool string, params any) map[string]any {
	h.t.Helper()
	return h.ask("tool", map[string]any{
		"type": "tool.call", "id": id, "tool": tool, "params": params,
		"context": map[string]any{"agentId": "main"}, "timeoutMs": patient.Milliseconds(),
	})
}

// startRunner starts the bundled runner; the function waits for its end.
func startRunner(t testing.TB, socket string) (wait func() (code int, stderr string)) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), node(t), bundled(t))
	cmd.Env = runnerEnv(t, socket)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return func() (int, string) {
		select {
		case err := <-done:
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			return cmd.ProcessState.ExitCode(), stderr.String()
		case <-time.After(patient):
			t.Fatal("the runner does not end")
		}
		return 0, ""
	}
}

func runnerEnv(t testing.TB, socket string) []string {
	t.Helper()
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "OCMT_BUS=" + socket,
		"OCMT_TENANT=default", "OCMT_PLUGIN=demo", "OCMT_GENERATION=1",
	}
}

func TestRealServer(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "bus.sock")
	h := newHost(t, socket, "./tools/index.mjs")
	defer h.close()
	wait := startRunner(t, socket)
	h.ready()

	text := strings.Repeat("größer ", 20_000) // many chunks of the socket, below the limit
	if got := h.call("1", "sync", text)["result"]; got != text {
		t.Errorf("a large result has %d bytes, want %d", len(got.(string)), len(text))
	}
	tooLarge := h.call("2", "result", map[string]any{"kind": "large"})
	if code := tooLarge["error"].(map[string]any)["code"]; code != "unserialised" {
		t.Errorf("a result over the server's limit is %v, want unserialised", code)
	}
	if got := h.ask("ping", map[string]any{"type": "ping"})["type"]; got != "pong" {
		t.Errorf("ping is answered with %v", got)
	}
	if got := h.ask("stop", map[string]any{"type": "stop", "reason": "test"})["type"]; got != "stopped" {
		t.Errorf("stop is answered with %v", got)
	}
	if code, stderr := wait(); code != 0 {
		t.Errorf("the runner ends with %d: %s", code, stderr)
	}
}

// TestHandlers runs a hook and a service, and lets them speak to the host.
func TestHandlers(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "bus.sock")
	h := newHost(t, socket, "./golden/index.mjs")
	defer h.close()
	health := h.listen("out.health", "")
	calls := h.listen("out.host", `{"type":"host.result","id":"h1","result":null}`)
	wait := startRunner(t, socket)
	h.ready()

	service := map[string]any{"type": "service.call", "id": "1", "service": "poller", "op": "start", "timeoutMs": patient.Milliseconds()}
	if got := h.ask("service", service); got["type"] != "service.result" || got["error"] != nil {
		t.Errorf("the start is answered with %v", got)
	}
	if got := receive(t, health); got["type"] != "service.health" || got["failed"] != true {
		t.Errorf("the service says %v, want its failure", got)
	}
	if got := receive(t, calls); got["type"] != "host.call" || got["method"] != "host.emit" {
		t.Errorf("the service says %v, want an event", got)
	}
	hook := map[string]any{
		"type": "hook.call", "id": "2", "handler": 1, "event": "before_tool_call", "timeoutMs": patient.Milliseconds(),
		"payload": map[string]any{"toolName": "exec", "params": map[string]any{"ask": true}}, "context": map[string]any{},
	}
	result, _ := h.ask("hook", hook)["result"].(map[string]any)
	if result["requireApproval"] == nil || result["params"] == nil {
		t.Errorf("the handler returns %v, want params and requireApproval", result)
	}
	resolved := []byte(`{"type":"approval.resolved","id":"2","decision":"allow-once"}`)
	if err := h.conn.Publish(base+"in.resolved", resolved); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, health); got["type"] != "service.health" || got["failed"] != false {
		t.Errorf("the service says %v, want that it is well", got)
	}
	if got := h.ask("stop", map[string]any{"type": "stop", "reason": "test", "graceMs": 5000})["type"]; got != "stopped" {
		t.Errorf("stop is answered with %v", got)
	}
	if code, stderr := wait(); code != 0 || !strings.Contains(stderr, "stop of service poller: no such city") {
		t.Errorf("the runner ends with %d: %s, want the failure of its service's stop", code, stderr)
	}
}

// listen returns what the runner says on a subject, and answers it.
func (h *host) listen(verb, answer string) <-chan map[string]any {
	h.t.Helper()
	said := make(chan map[string]any, 8)
	h.subscribe(verb, func(m *nats.Msg) {
		var v map[string]any
		if err := json.Unmarshal(m.Data, &v); err != nil {
			h.t.Errorf("%s: %s: %v", verb, m.Data, err)
		}
		if answer != "" {
			_ = m.Respond([]byte(answer))
		}
		said <- v
	})
	return said
}

func receive(t *testing.T, from <-chan map[string]any) map[string]any {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patient):
		t.Fatal("the runner says nothing")
	}
	return nil
}

// TestHostRestarts stops the server and starts another at the same socket.
func TestHostRestarts(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "bus.sock")
	first := newHost(t, socket, "./tools/index.mjs")
	startRunner(t, socket)
	before := first.ready()
	first.close()

	second := newHost(t, socket, "./tools/index.mjs")
	defer second.close()
	after := second.ready()
	if before["loadMs"] != after["loadMs"] {
		t.Errorf("the plugin was loaded twice: %v ms and %v ms", before["loadMs"], after["loadMs"])
	}
	if got := second.call("1", "sync", 42.0)["result"]; got != 42.0 {
		t.Errorf("after a restart the tool answers %v, want 42", got)
	}
}

// TestRunnerComesFirst starts the runner before there is a socket.
func TestRunnerComesFirst(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "bus.sock")
	startRunner(t, socket)
	h := newHost(t, socket, "./quiet/index.mjs")
	defer h.close()
	h.ready()
}
