package wire

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	invalid, precondition := errdefs.IsInvalidArgument, errdefs.IsFailedPrecondition
	many := func(item string) string { return strings.TrimSuffix(strings.Repeat(item+",", MaxItems+1), ",") }
	tests := []struct {
		name, data string
		into       Message
		class      func(error) bool
		want       string // in the message
	}{
		{"empty", "", new(Ping), invalid, "empty"},
		{"space", " \n", new(Ping), invalid, "empty"},
		{"truncated", `{"type":"ping"`, new(Ping), invalid, "truncated"},
		{"truncated in a string", `{"type":"pi`, new(Ping), invalid, "truncated"},
		{"trailing garbage", `{"type":"ping"}x`, new(Ping), invalid, "follows"},
		{"two messages", `{"type":"ping"}{"type":"ping"}`, new(Ping), invalid, "follows"},
		{"no object", `"ping"`, new(Ping), invalid, "cannot unmarshal"},
		{"null", `null`, new(Ping), invalid, "no type"},
		{"no JSON", `ping`, new(Ping), invalid, "invalid character"},
		{"no UTF-8", "{\"type\":\"tool.result\",\"id\":\"1\",\"result\":\"a\xff\"}", new(ToolResult), invalid, "UTF-8"},
		{"no type", `{}`, new(Ping), invalid, "no type"},
		{"unknown type", `{"type":"boom"}`, new(Ping), invalid, `"boom"`},
		{"another type", `{"type":"pong","rss":1}`, new(Ping), invalid, `"pong"`},
		{"type of another kind", `{"type":1}`, new(Ping), invalid, "cannot unmarshal"},
		{"field of another kind", `{"type":"pong","rss":"1"}`, new(Pong), invalid, "rss"},
		{"deep", `{"type":"tool.result","id":"1","result":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}", new(ToolResult), invalid, "depth"},
		{"too large", `{"type":"ping","x":"` + strings.Repeat("x", MaxSmallSize) + `"}`, new(Ping), invalid, "at most 4096"},
		{"ready too large", `{"type":"ready","x":"` + strings.Repeat("x", MaxReadySize) + `"}`, new(Ready), invalid, "at most 1048576"},
		{"wire version", `{"type":"hello","wire":[2,3]}`, new(Hello), precondition, "[2 3]"},
		{"no wire version", `{"type":"hello"}`, new(Hello), precondition, "speaks 1"},
		{"mode", `{"type":"load","mode":"x"}`, new(Load), invalid, `"x"`},
		{"registrations", `{"type":"ready","registrations":[` + many(`{"kind":"x"}`) + `]}`, new(Ready), invalid, "1025 registrations"},
		{"registration without kind", `{"type":"ready","registrations":[{}]}`, new(Ready), invalid, "no kind"},
		{"diagnostics", `{"type":"ready","diagnostics":[` + many(`{}`) + `]}`, new(Ready), invalid, "1025 diagnostics"},
		{"failed without code", `{"type":"failed"}`, new(Failed), invalid, "no code"},
		{"call without id", `{"type":"tool.call"}`, new(ToolCall), invalid, "no id"},
		{"result without id", `{"type":"tool.result","result":1}`, new(ToolResult), invalid, "no id"},
		{"neither result nor error", `{"type":"tool.result","id":"1"}`, new(ToolResult), invalid, "exactly one"},
		{"result and error", `{"type":"tool.result","id":"1","result":1,"error":{"code":"threw"}}`, new(ToolResult), invalid, "exactly one"},
		{"error without code", `{"type":"tool.result","id":"1","error":{}}`, new(ToolResult), invalid, "no code"},
		{"progress without id", `{"type":"progress"}`, new(Progress), invalid, "no id"},
		{"cancel without id", `{"type":"cancel"}`, new(Cancel), invalid, "no id"},
		{"negative handler", `{"type":"hook.call","id":"1","handler":-1}`, new(HookCall), invalid, "handler is -1"},
		{"handler out of bounds", `{"type":"hook.call","id":"1","handler":1024}`, new(HookCall), invalid, "handler is 1024"},
		{"handler of another kind", `{"type":"hook.call","id":"1","handler":1.5}`, new(HookCall), invalid, "handler"},
		{"hook without id", `{"type":"hook.call"}`, new(HookCall), invalid, "no id"},
		{"hook result without id", `{"type":"hook.result","result":null}`, new(HookResult), invalid, "no id"},
		{"hook result and error", `{"type":"hook.result","id":"1","result":null,"error":{"code":"threw"}}`, new(HookResult), invalid, "error and a result"},
		{"hook payload and error", `{"type":"hook.result","id":"1","payload":{},"error":{"code":"threw"}}`, new(HookResult), invalid, "error and a result"},
		{"hook block and error", `{"type":"hook.result","id":"1","block":{},"error":{"code":"threw"}}`, new(HookResult), invalid, "error and a result"},
		{"hook error without code", `{"type":"hook.result","id":"1","error":{}}`, new(HookResult), invalid, "no code"},
		{"hook block of another kind", `{"type":"hook.result","id":"1","block":true}`, new(HookResult), invalid, "block"},
		{"hook reason too long", `{"type":"hook.result","id":"1","block":{"reason":"` + strings.Repeat("x", MaxReason+1) + `"}}`, new(HookResult), invalid, "4097 bytes"},
		{"hook result too large", `{"type":"hook.result","id":"1","result":"` + strings.Repeat("x", MaxSize) + `"}`, new(HookResult), invalid, "at most 4194304"},
		{"service op", `{"type":"service.call","id":"1","service":"a","op":"restart"}`, new(ServiceCall), invalid, `"restart"`},
		{"service without name", `{"type":"service.call","id":"1","op":"start"}`, new(ServiceCall), invalid, "names no service"},
		{"service without id", `{"type":"service.call","service":"a","op":"start"}`, new(ServiceCall), invalid, "no id"},
		{"service result without id", `{"type":"service.result"}`, new(ServiceResult), invalid, "no id"},
		{"service error without code", `{"type":"service.result","id":"1","error":{"message":"x"}}`, new(ServiceResult), invalid, "no code"},
		{"service result too large", `{"type":"service.result","id":"1","x":"` + strings.Repeat("x", MaxFailSize) + `"}`, new(ServiceResult), invalid, "at most 65536"},
		{"health without name", `{"type":"service.health","failed":true}`, new(ServiceHealth), invalid, "names no service"},
		{"health reason too long", `{"type":"service.health","service":"a","reason":"` + strings.Repeat("x", MaxReason+1) + `"}`, new(ServiceHealth), invalid, "4097 bytes"},
		{"health too large", `{"type":"service.health","service":"` + strings.Repeat("x", maxHealthSize) + `"}`, new(ServiceHealth), invalid, "at most 28672"},
		{"decision", `{"type":"approval.resolved","id":"1","decision":"maybe"}`, new(Resolved), invalid, `"maybe"`},
		{"resolved without id", `{"type":"approval.resolved","decision":"deny"}`, new(Resolved), invalid, "no id"},
		{"host call without method", `{"type":"host.call","id":"1"}`, new(HostCall), invalid, "no method"},
		{"host call without id", `{"type":"host.call","method":"host.log"}`, new(HostCall), invalid, "no id"},
		{"host call too large", `{"type":"host.call","id":"1","method":"host.log","params":"` + strings.Repeat("x", MaxFailSize) + `"}`, new(HostCall), invalid, "at most 65536"},
		{"neither host result nor error", `{"type":"host.result","id":"1"}`, new(HostResult), invalid, "exactly one"},
		{"host result and error", `{"type":"host.result","id":"1","result":1,"error":{"code":"no_host"}}`, new(HostResult), invalid, "exactly one"},
		{"host error without code", `{"type":"host.result","id":"1","error":{}}`, new(HostResult), invalid, "no code"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := Decode([]byte(tt.data), tt.into)
			if !tt.class(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want one that says %q", err, tt.want)
			}
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestDecodeAccepts(t *testing.T) {
	t.Parallel()
	var r ToolResult
	if err := Decode([]byte(" {\"new\":true,\"type\":\"tool.result\",\"id\":\"1\",\"result\":null}\n"), &r); err != nil {
		t.Fatal(err)
	}
	if got, want := string(r.Result), "null"; got != want || r.Error != nil {
		t.Errorf("got %q, %v, want %q", got, r.Error, want)
	}
}

// TestSpecs reads the specs of the golden ready, with no field left over.
func TestSpecs(t *testing.T) {
	t.Parallel()
	strict := func(spec json.RawMessage, into any) {
		t.Helper()
		dec := json.NewDecoder(bytes.NewReader(spec))
		dec.DisallowUnknownFields()
		if err := dec.Decode(into); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
	}
	var tool ToolSpec
	strict(ready().Registrations[0].Spec, &tool)
	if tool.Label != "Weather" || !tool.Optional || len(tool.Parameters) == 0 {
		t.Errorf("got %+v", tool)
	}
	var hook HookSpec
	strict(ready().Registrations[1].Spec, &hook)
	want := HookSpec{Event: "before_tool_call", Priority: 10, TimeoutMillis: 5000, Registrar: RegistrarOn, Matcher: []string{"exec"}}
	if diff := cmp.Diff(want, hook); diff != "" {
		t.Errorf("hook (-want +got):\n%s", diff)
	}
}

// TestReasonFits sends the longest reasons that there are, of bytes that JSON
// writes with six.
func TestReasonFits(t *testing.T) {
	t.Parallel()
	reason := strings.Repeat("\x01", MaxReason)
	for _, msg := range []Message{
		&ServiceHealth{Service: "poller", Failed: true, Reason: reason},
		&HookResult{ID: "1", Block: &Block{Reason: reason}},
	} {
		data, err := Encode(msg)
		if err != nil {
			t.Fatal(err)
		}
		if err := Decode(data, msg); err != nil {
			t.Errorf("of %d bytes: %v", len(data), err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		msg  Message
	}{
		{"neither result nor error", &ToolResult{ID: "1"}},
		{"invalid JSON", &ToolCall{ID: "1", Params: json.RawMessage("{")}},
		{"too large", &Stop{Reason: strings.Repeat("x", MaxSmallSize)}},
		{"mode", &Load{}},
		{"service without name", &ServiceCall{ID: "1", Op: ServiceStop}},
		{"decision", &Resolved{ID: "1"}},
		{"reason", &ServiceHealth{Service: "a", Reason: strings.Repeat("x", MaxReason+1)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if data, err := Encode(tt.msg); !errdefs.IsInvalidArgument(err) {
				t.Errorf("got %q, %v, want InvalidArgument", data, err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, g := range goldens() {
			msg := g.empty()
			if Decode(data, msg) != nil {
				continue
			}
			// What was accepted can be sent on, and means the same.
			once, err := Encode(msg)
			if err != nil {
				t.Skip() // escapes can make it larger than it came
			}
			again := g.empty()
			if err := Decode(once, again); err != nil {
				t.Fatalf("cannot decode what was encoded: %v: %q", err, once)
			}
			twice, err := Encode(again)
			if err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("got %q, %v, want %q", twice, err, once)
			}
		}
	})
}
