package hostile

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// keep calls the neighbour's tool that some gates guard, and returns the code
// of the error and how long it took.
func (w *world) keep(t *testing.T) (code string, took time.Duration) {
	t.Helper()
	start := time.Now()
	_, err := w.invoke(t.Context(), victimID, "keep", `{"text":"`+w.victim.token+`"}`)
	if err == nil {
		return "", time.Since(start)
	}
	return fault.Of(err).Code, time.Since(start)
}

// stillDenied has the neighbour's tool called a few times, each of which the
// attacker's gate must have failed.
func (w *world) stillDenied(t *testing.T, times int, atMost time.Duration) {
	t.Helper()
	for range times {
		if code, took := w.keep(t); code != "blocked_by_hook" || took > atMost {
			t.Errorf("a guarded call: %q after %s, want blocked_by_hook within %s", code, took, atMost)
		}
	}
}

// openAgain has a person switch the attacker off, after which its gate must
// not be asked.
func (w *world) openAgain(t *testing.T) {
	t.Helper()
	w.run(t, "plugins", "disable", w.id)
	if code, took := w.keep(t); code != "" {
		t.Errorf("a call after the plugin was switched off: %q after %s", code, took)
	}
}

// emit gives an event to the hooks, and returns what became of it and what the
// attacker's handlers did.
func (w *world) emit(t *testing.T, event, payload string) (v1.EmitResult, []string) {
	t.Helper()
	result, err := w.client.Emit(t.Context(), tenant, event, v1.EmitRequest{Payload: json.RawMessage(payload)})
	if err != nil {
		t.Fatalf("emitting %s: %v", event, err)
	}
	var statuses []string
	for _, h := range result.Handlers {
		if h.Plugin == w.id {
			statuses = append(statuses, h.Status)
		}
	}
	return result, statuses
}

// unchanged fails the test unless an event passed as it was, with that status
// of the attacker's handlers.
func (w *world) unchanged(t *testing.T, event, payload, status string) {
	t.Helper()
	got, statuses := w.emit(t, event, payload)
	if got.Outcome != v1.OutcomePass || string(got.Payload) != payload || !slices.Equal(slices.Compact(statuses), []string{status}) || len(got.Result) > 0 {
		t.Errorf("%s: %s %.200s %.200s %v, want it to pass as it was, and %s", event, got.Outcome, got.Payload, got.Result, statuses, status)
	}
}

// hooksGroup is what a plugin makes of events that it was granted to see, or
// more. One after the other: gates are for all plugins of a tenant.
func hooksGroup() group {
	all := func(event string) []string { return []string{"hook", event, "observe,modify,block"} }
	return group{name: "hooks", alone: true, attacks: []attack{
		{
			name:    "hooks-slow-gate",
			aims:    "open a gate by not deciding, until nobody waits for it any more",
			layer:   "hooks: a gate that is late denies; one that is cut off denies at once",
			grants:  [][]string{{"hook", "before_tool_call", "observe,block"}},
			want:    map[string]string{"guarding": "keep"},
			records: []record{{action: "tool.call", target: "attack"}},
			check: func(t *testing.T, w *world) {
				w.stillDenied(t, 3, 5*time.Second)
				w.stillDenied(t, 5, 450*time.Millisecond)
				if records := w.of(t, "hook.cut_off"); len(records) != 1 {
					t.Errorf("recorded: %v", records)
				}
				w.victim.check(t, w.rig) // whose other tool is not guarded
				w.openAgain(t)
			},
		},
		{
			name:   "hooks-slow-rest",
			aims:   "hold up every message",
			layer:  "hooks: a deadline per handler, beyond which what is no gate lets events pass; a breaker",
			grants: [][]string{{"hook", "message_sending", "observe,modify"}, {"hook", "message_received", "observe"}, {"hook", "before_prompt_build", "observe,modify"}},
			want:   map[string]string{"watching": "messages"},
			check: func(t *testing.T, w *world) {
				for _, event := range []string{"message_sending", "message_received", "before_prompt_build"} {
					for range 3 {
						w.unchanged(t, event, `{"content":"as it was"}`, "timeout")
					}
					start := time.Now()
					w.unchanged(t, event, `{"content":"as it was"}`, "cut_off")
					if took := time.Since(start); took > 450*time.Millisecond {
						t.Errorf("%s after the breaker: %s", event, took)
					}
				}
			},
		},
		{
			name:   "hooks-crash-gate",
			aims:   "open a gate by ending instead of deciding",
			layer:  "hooks: a gate that ends, or does not run, denies until a person switches it off",
			grants: [][]string{{"hook", "before_tool_call", "observe,block"}},
			want:   map[string]string{"guarding": "keep"},
			check: func(t *testing.T, w *world) {
				w.stillDenied(t, 4, 40*time.Second)
				w.openAgain(t)
			},
		},
		{
			name:   "hooks-rewrite",
			aims:   "change what another plugin's networked tool is told, without the right to change calls",
			layer:  "hooks: the right to modify, audited; what was changed is checked against the tool's schema again",
			grants: [][]string{{"hook", "before_tool_call", "observe,block"}},
			want:   map[string]string{"rewriting": "keep"},
			check:  rewritten,
		},
		{
			name:   "hooks-fields",
			aims:   "redirect a call, or change whose it is, with the right to change its parameters",
			layer:  "hooks: of a call its parameters change and nothing else; what nobody may change is dropped and audited",
			grants: [][]string{all("before_tool_call")},
			want:   map[string]string{"changing": "all"},
			check: func(t *testing.T, w *world) {
				w.expect(t, "meant", `{"a":1}`, `{"meant":{"a":1}}`)
				if drops := w.of(t, "hook.drop"); len(drops) == 0 || !strings.Contains(string(mustJSON(t, drops)), "toolName") {
					t.Errorf("recorded: %v", drops)
				}
			},
		},
		{
			name:  "hooks-operator",
			aims:  "keep the operator from switching it off or taking it away",
			layer: "the operator's own commands consult no plugin",
			grants: [][]string{
				all("before_install"), all("plugin:before"), all("plugin:uninstall:before"), all("plugin:disable:before"),
				all("plugins:uninstall:before"), all("plugins:disable:before"), all("plugin:update:before"), all("gateway:stop:before"),
			},
			want: map[string]string{"guarding": "itself"},
			check: func(t *testing.T, w *world) {
				start := time.Now()
				for _, command := range []string{"restart", "disable", "enable", "disable"} {
					w.run(t, "plugins", command, w.id)
				}
				if took := time.Since(start); took > 40*time.Second {
					t.Errorf("the operator's commands took %s", took)
				}
				for _, action := range []string{"hook.block", "hook.failure"} {
					if records := w.of(t, action); len(records) > 0 {
						t.Errorf("it was consulted: %v", records)
					}
				}
			},
		},
		{
			name:   "hooks-huge",
			aims:   "have events grow until they end the host or the next handler",
			layer:  "wire and hooks: sizes of an answer, of a field that grows, and of an event; a gate that fails denies",
			grants: [][]string{{"hook", "message_sending", "observe,modify"}, {"hook", "before_prompt_build", "observe,modify"}, all("before_tool_call")},
			want:   map[string]string{"growing": "messages"},
			check: func(t *testing.T, w *world) {
				w.unchanged(t, "message_sending", `{"content":"as it was"}`, "failed")
				got, statuses := w.emit(t, "before_prompt_build", `{"prompt":"x"}`)
				if len(got.Result) > 300<<10 || !slices.Contains(statuses, "failed") || got.Outcome != v1.OutcomePass {
					t.Errorf("%s with %d bytes, %v", got.Outcome, len(got.Result), statuses)
				}
				w.stillDenied(t, 2, 20*time.Second)
				w.openAgain(t)
			},
		},
		{
			name:   "hooks-proto",
			aims:   "alter other handlers' objects by keys that mean something to JavaScript",
			layer:  "hooks: merged in Go, where a key is a text",
			grants: [][]string{{"hook", "agent:message:before", "observe,modify"}},
			want:   map[string]string{"polluting": "results"},
			check: func(t *testing.T, w *world) {
				got, statuses := w.emit(t, "agent:message:before", `{"text":"as it was"}`)
				var fields map[string]json.RawMessage
				if err := json.Unmarshal(got.Payload, &fields); err != nil || got.Outcome != v1.OutcomePass || !slices.Equal(statuses, []string{"ok"}) {
					t.Fatalf("%s %s %v %v", got.Outcome, got.Payload, statuses, err)
				}
				if string(fields["text"]) != `"changed"` || fields["block"] != nil || fields["polluted"] != nil {
					t.Errorf("the event became %s", got.Payload)
				}
			},
		},
		{
			name:  "hooks-eavesdrop",
			aims:  "read conversations by registering for them",
			layer: "hooks: the right to observe, which nobody has by registering",
			want:  map[string]string{"listening": "to conversations"},
			check: func(t *testing.T, w *world) {
				for _, event := range []string{"llm_input", "llm_output", "agent_end", "before_prompt_build", "before_agent_run", "agent:message:before"} {
					w.unchanged(t, event, `{"content":"between two people"}`, "not_granted")
				}
				w.expect(t, "heard", `{}`, `{"heard":0}`)
			},
		},
		{
			name:   "hooks-claim",
			aims:   "answer instead of the agent, where it may only watch",
			layer:  "hooks: the right to claim; what goes beyond a right is dropped and audited",
			grants: [][]string{{"hook", "inbound_claim", "observe"}, {"hook", "before_agent_reply", "observe"}, {"hook", "message_received", "observe"}},
			want:   map[string]string{"claiming": "messages"},
			check: func(t *testing.T, w *world) {
				w.unchanged(t, "inbound_claim", `{"content":"as it was"}`, "dropped")
				w.unchanged(t, "before_agent_reply", `{"content":"as it was"}`, "dropped")
				w.unchanged(t, "message_received", `{"content":"as it was"}`, "ok") // an observer's result counts for nothing
				if drops := w.of(t, "hook.drop"); len(drops) != 2 {
					t.Errorf("recorded: %v", drops)
				}
			},
		},
		{
			name:   "hooks-block-error",
			aims:   "block where it may change alone, by what looks like the document's BlockError",
			layer:  "hooks: the right to block; what goes beyond a right is dropped and audited",
			grants: [][]string{{"hook", "agent:message:before", "observe,modify"}},
			want:   map[string]string{"blocking": "messages"},
			check: func(t *testing.T, w *world) {
				for how, status := range map[string]string{"class": "dropped", "shape": "dropped", "returned": "dropped", "proxy": "dropped", "getter": "failed"} {
					w.unchanged(t, "agent:message:before", `{"how":"`+how+`"}`, status)
				}
			},
		},
		{
			name:   "hooks-forged-answer",
			aims:   "open its gate by the answer of another handler, or by nonsense, before the runner answers",
			layer:  "wire: form and id of an answer; a gate that fails denies",
			grants: [][]string{{"hook", "before_tool_call", "observe,block"}},
			want:   map[string]string{"answering": "for its gate"},
			check: func(t *testing.T, w *world) {
				for _, how := range []string{"id", "type", "text", "both"} {
					w.expect(t, "next", `{"how":"`+how+`"}`, `{"how":"`+how+`"}`)
					w.stillDenied(t, 1, 5*time.Second)
				}
				w.openAgain(t)
			},
		},
	}}
}

// rewritten looks at a call that a hook would change: without the right, and
// with it, to what does not fit the tool.
func rewritten(t *testing.T, w *world) {
	if code, _ := w.keep(t); code != "" {
		t.Errorf("the neighbour's call: %s", code)
	}
	w.victim.check(t, w.rig) // it has kept what it was told to
	drops := w.of(t, "hook.drop")
	if len(drops) == 0 || !strings.Contains(string(mustJSON(t, drops)), "not granted to modify") {
		t.Errorf("recorded: %v", drops)
	}
	w.expect(t, "strict", `{"text":"mine"}`, `{"text":"mine"}`)
	w.run(t, "plugins", "grant", w.id, "hook", "before_tool_call", "observe,modify,block")
	w.fails(t, "strict", `{"text":"mine"}`, "invalid_params", short) // another field than there is
	w.fails(t, "strict", `{"text":"number"}`, "invalid_params", short)
	if changes := w.of(t, "hook.change"); len(changes) == 0 {
		t.Error("the change is not in the audit log")
	}
}

// of returns the attacker's records of an action.
func (w *world) of(t *testing.T, action string) []map[string]any {
	t.Helper()
	return slices.DeleteFunc(w.audited(t), func(r map[string]any) bool { return r["action"] != action })
}
