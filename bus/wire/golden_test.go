package wire

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

type golden struct {
	file  string
	msg   Message
	empty func() Message
}

// goldens holds one message of every type, and more where it has several
// forms.
func goldens() []golden { return append(lifeGoldens(), handlerGoldens()...) }

func lifeGoldens() []golden {
	return []golden{
		{"hello", &Hello{Wire: []int{1}, Runner: "1.0.0", Node: "24.21.0", PID: 7}, func() Message { return new(Hello) }},
		{"load", load(), func() Message { return new(Load) }},
		{"load-learn", learn(), func() Message { return new(Load) }},
		{"ready", ready(), func() Message { return new(Ready) }},
		{"failed", &Failed{
			Error: Error{
				Code: CodeLoad, Message: "cannot import ./dist/index.js", Name: "SyntaxError",
				Stack: "SyntaxError: Unexpected token\n    at file:///plugin/package/dist/index.js:1:1",
			},
			Diagnostics: []Diagnostic{{Level: "error", Message: "entry 0: Unexpected token"}},
		}, func() Message { return new(Failed) }},
		{"tool.call", call(), func() Message { return new(ToolCall) }},
		{"tool.result", &ToolResult{
			ID:     callID,
			Result: json.RawMessage(`{"content":[{"type":"text","text":"5 < 6 & \"größer\""}]}`),
		}, func() Message { return new(ToolResult) }},
		{"tool.result-error", &ToolResult{
			ID:    callID,
			Error: &Error{Code: CodeThrew, Message: "no such city", Name: "Error", Stack: "Error: no such city\n    at execute"},
		}, func() Message { return new(ToolResult) }},
		{"progress", &Progress{ID: callID, Update: json.RawMessage(`{"percent":50}`)},
			func() Message { return new(Progress) }},
		{"cancel", &Cancel{ID: callID}, func() Message { return new(Cancel) }},
		{"ping", &Ping{}, func() Message { return new(Ping) }},
		{"pong", &Pong{RSS: 52428800}, func() Message { return new(Pong) }},
		{"stop", &Stop{Reason: "disabled", GraceMillis: 10000}, func() Message { return new(Stop) }},
		{"stopped", &Stopped{}, func() Message { return new(Stopped) }},
		{"ack", &Ack{}, func() Message { return new(Ack) }},
	}
}

const callID = "01JZ0000000000000000000001"

// handlerGoldens are the messages of hooks, services and host calls.
func handlerGoldens() []golden {
	failure := &Error{Code: CodeThrew, Message: "no such city", Name: "Error", Stack: "Error: no such city\n    at handler"}
	hookResult := func() Message { return new(HookResult) }
	hostResult := func() Message { return new(HostResult) }
	return []golden{
		{"hook.call", &HookCall{
			ID: callID, Handler: 1, Event: "before_tool_call",
			Payload: json.RawMessage(`{"toolName":"exec","params":{"command":"ls"}}`),
			Context: call().Context, TimeoutMillis: 15000,
		}, func() Message { return new(HookCall) }},
		{"hook.call-sync", &HookCall{
			ID: callID, Handler: 2, Event: "tool_result_persist",
			Payload: json.RawMessage(`{"message":{"role":"toolResult"}}`), Context: Context{AgentID: "main"}, Sync: true,
		}, func() Message { return new(HookCall) }},
		{"hook.result", &HookResult{ID: callID, Result: json.RawMessage(`{"params":{"command":"ls -l"}}`)}, hookResult},
		{"hook.result-payload", &HookResult{
			ID: callID, Result: json.RawMessage(`null`), Payload: json.RawMessage(`{"text":"größer"}`),
		}, hookResult},
		{"hook.result-block", &HookResult{
			ID: callID, Result: json.RawMessage(`null`), Block: &Block{Reason: "not <today>"},
		}, hookResult},
		{"hook.result-error", &HookResult{ID: callID, Error: failure}, hookResult},
		{"service.call", &ServiceCall{ID: callID, Service: "poller", Op: ServiceStart, TimeoutMillis: 30000},
			func() Message { return new(ServiceCall) }},
		{"service.result", &ServiceResult{ID: callID}, func() Message { return new(ServiceResult) }},
		{"service.result-error", &ServiceResult{ID: callID, Error: failure}, func() Message { return new(ServiceResult) }},
		{"service.health", &ServiceHealth{Service: "poller", Failed: true, Reason: "the upstream is gone"},
			func() Message { return new(ServiceHealth) }},
		{"service.health-clear", &ServiceHealth{Service: "poller"}, func() Message { return new(ServiceHealth) }},
		{"approval.resolved", &Resolved{ID: callID, Decision: DecisionAllowOnce}, func() Message { return new(Resolved) }},
		{"host.call", &HostCall{
			ID: "h1", Method: HostEmit, Params: json.RawMessage(`{"event":"tick","payload":{"n":1},"scope":"operator.read"}`),
		}, func() Message { return new(HostCall) }},
		{"host.call-wish", &HostCall{
			ID: "h2", Method: HostWish, Params: json.RawMessage(`{"kind":"secret","target":"WEATHER_API_KEY"}`),
		}, func() Message { return new(HostCall) }},
		{"host.result", &HostResult{ID: "h1", Result: json.RawMessage(`null`)}, hostResult},
		{"host.result-error", &HostResult{
			ID: "h1", Error: &Error{Code: CodeNotGranted, Message: "host.emit is not granted"},
		}, hostResult},
	}
}

func load() *Load {
	return &Load{
		Tenant: "default", Plugin: "weather", Generation: 3, Mode: ModeFull,
		Root: "/plugin/package", Entries: []string{"./dist/index.js"},
		Name: "@example/weather", Version: "1.2.3",
		Manifest:     json.RawMessage(`{"id":"weather","configSchema":{"type":"object"}}`),
		Config:       json.RawMessage(`{"agents":{"defaults":{"model":"x"}}}`),
		PluginConfig: json.RawMessage(`{"units":"metric"}`),
		StateDir:     "/state", WorkspaceDir: "/srv/work", AgentID: "main",
		Env: map[string]string{"TZ": "Europe/Berlin"}, Host: []string{HostEmit},
	}
}

func learn() *Load {
	l := load()
	l.Learn = true
	return l
}

func ready() *Ready {
	return &Ready{
		Registrations: []Registration{
			{
				Kind: "tool", Name: "get_weather", Entry: 0, Form: "export",
				Spec: json.RawMessage(`{"label":"Weather","description":"the weather of a city",` +
					`"parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]},"optional":true}`),
			},
			{
				Kind: "hook", Name: "before_tool_call", Entry: 0, Form: "register",
				Spec: json.RawMessage(`{"event":"before_tool_call","priority":10,"timeoutMs":5000,"registrar":"on","matcher":["exec"]}`),
			},
			{Kind: "service", Name: "poller", Entry: 0, Form: "register", Spec: json.RawMessage(`{}`)},
		},
		Diagnostics: []Diagnostic{{Level: "warn", Message: "tool get_weather has no label"}},
		LoadMillis:  12.5,
	}
}

func call() *ToolCall {
	return &ToolCall{
		ID: callID, Tool: "get_weather",
		Params: json.RawMessage(`{"city":"Zürich"}`),
		Context: Context{
			AgentID: "main", SessionKey: "agent:main:main", SessionID: "s1", RunID: "r1",
			ToolCallID: "t1", SenderID: "u1", WorkspaceDir: "/srv/work",
		},
		TimeoutMillis: 30000,
	}
}

// TestGolden holds every message to its file, which the runner's tests read
// too. A file is the message as it travels, and a line feed.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, g := range goldens() {
		t.Run(g.file, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join("testdata", g.file+".json")
			data, err := Encode(g.msg)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, append(bytes.Clone(data), '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(data)+"\n"); diff != "" {
				t.Errorf("encoded differs from %s (-want +got):\n%s", file, diff)
			}
			got := g.empty()
			if err := Decode(want, got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g.msg, got); diff != "" {
				t.Errorf("decoded differs (-want +got):\n%s", diff)
			}
			again, err := Encode(got)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, data) {
				t.Errorf("encoded again: got %s, want %s", again, data)
			}
		})
	}
}

// TestGoldenComplete fails for a file that no test reads.
func TestGoldenComplete(t *testing.T) {
	if *update {
		t.Skip("the files are being written")
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(files), len(goldens()); got != want {
		t.Errorf("testdata holds %d golden files, want %d", got, want)
	}
}
