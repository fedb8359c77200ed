package e2e

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"

	"github.com/ocmt/ocmt/e2e/harness"
)

// hookFaults has handlers answer in every wrong way. A gate that fails closed
// blocks then, and says that nobody decided so; the others let the event pass.
func hookFaults(t *testing.T, d *harness.Daemon, c *client.Client) {
	with(t, d, "hook-faults")
	for _, tc := range []struct{ how, gate, observer string }{
		{"nothing", "ok", "ok"},
		{"text", "failed", "ok"}, // what an observer returns does not matter
		{"list", "failed", "ok"},
		{"shape", "failed", "ok"},
		{"throws", "failed", "failed"},
		{"rejects", "failed", "failed"},
		{"circular", "failed", "failed"},
		{"enormous", "failed", "failed"},
		{"late", "timeout", "timeout"},
	} {
		t.Run(tc.how, func(t *testing.T) {
			payload := `{"toolName":"none","params":{},"content":"as it was","how":"` + tc.how + `"}`
			for _, event := range []struct{ name, status, outcome string }{
				{"before_tool_call", tc.gate, v1.OutcomeBlock},
				{"message_sending", tc.gate, v1.OutcomePass},
				{"message_received", tc.observer, v1.OutcomePass},
			} {
				if tc.gate == "ok" {
					event.outcome = v1.OutcomePass
				}
				got := emit(t, c, event.name, payload)
				if !slices.Contains(statuses(got), "hook-faults "+event.status) || got.Outcome != event.outcome {
					t.Errorf("%s: %s, %+v, want %s and %s", event.name, got.Outcome, got.Handlers, event.outcome, event.status)
				}
				if by := got.BlockedBy; event.outcome == v1.OutcomeBlock && (by == nil || by.Plugin != "hook-faults" || !by.Failed) {
					t.Errorf("%s: blocked by %+v", event.name, by)
				}
				if event.name == "message_received" && string(got.Payload) != payload {
					t.Errorf("%s changed the event to %s", event.name, got.Payload)
				}
			}
		})
	}
	_, err := c.Call(t.Context(), tenant, first, "counter", v1.CallRequest{})
	if err != nil {
		t.Errorf("a call that it lets pass: %v", err)
	}
	if records := audited(t, d, "hook.failure", "hook-faults"); len(records) < 20 {
		t.Errorf("%d failures are in the audit log", len(records))
	}
}

func hookFaultsSeed(t *testing.T, d *harness.Daemon, c *client.Client) {
	with(t, d, "hook-faults-seed")
	for how, want := range map[string]v1.HookBlock{
		"circular": {Failed: true}, "enormous": {Failed: true}, "bigint": {Failed: true}, "throws": {Failed: true},
		"block": {Reason: "not this one"}, "returns": {Reason: "nor this one"},
	} {
		got := emit(t, c, "order:before", `{"how":"`+how+`"}`)
		by := got.BlockedBy
		if by == nil || by.Plugin != "hook-faults-seed" || by.Failed != want.Failed || !by.Failed && by.Reason != want.Reason {
			t.Errorf("%s: %s by %+v, want %+v", how, got.Outcome, by, want)
		}
		if string(got.Payload) != `{"how":"`+how+`"}` {
			t.Errorf("%s left %.100s", how, got.Payload)
		}
	}
}

// hookCutOff has a gate miss its time, which an operator has set, until it is
// not called any more.
func hookCutOff(t *testing.T, d *harness.Daemon, c *client.Client) {
	path := filepath.Join(d.Home, "config.json")
	edit(t, path, `"`+first+`": {`, `"`+first+`": {"hooks": {"timeoutMs": 400},`)
	index := handlerOf(t, c, first, "before_tool_call")
	hook := func() v1.Hook {
		t.Helper()
		list, err := c.Hooks(t.Context(), tenant)
		if err != nil {
			t.Fatal(err)
		}
		return list[slices.IndexFunc(list, func(h v1.Hook) bool { return h.Plugin == first && h.Handler == index })]
	}
	eventually(t, 10*time.Second, "the new timeout is in force", func() bool { return hook().Timeout == 400 })
	hang := v1.CallRequest{Params: json.RawMessage(`{"text":"hang-me"}`)}
	for range 3 {
		_, err := c.Call(t.Context(), tenant, "conformance-seed-esm", "echo", hang)
		if by := blockOf(t, err); by.Plugin != first || !by.Failed || !strings.Contains(by.Reason, "400ms") {
			t.Errorf("a late gate: %+v", by)
		}
	}
	if !hook().CutOff {
		t.Error("the hook is not cut off after it was late three times")
	}
	begun := time.Now()
	_, err := c.Call(t.Context(), tenant, "conformance-seed-esm", "echo", v1.CallRequest{Params: json.RawMessage(`{"text":"harmless"}`)})
	if by := blockOf(t, err); by.Plugin != first || !by.Failed || time.Since(begun) > 350*time.Millisecond {
		t.Errorf("a gate that is cut off: %+v after %s", by, time.Since(begun))
	}
	run(t, d, 4, []string{"hint:", first}, "tools", "call", "conformance-seed-esm", "echo", "--params", `{"text":"harmless"}`)
	if records := audited(t, d, "hook.cut_off", first); len(records) != 1 {
		t.Errorf("the audit log holds %v", records)
	}
	run(t, d, 0, nil, "plugins", "restart", first)
	eventually(t, 10*time.Second, "it guards again", func() bool {
		_, err := c.Call(t.Context(), tenant, "conformance-seed-esm", "echo", v1.CallRequest{Params: json.RawMessage(`{"text":"harmless"}`)})
		return err == nil
	})
	if hook().CutOff {
		t.Error("the hook is cut off after a person's restart")
	}
	edit(t, path, `"hooks": {"timeoutMs": 400},`, "")
	eventually(t, 10*time.Second, "the old timeout is in force", func() bool { return hook().Timeout == 15000 })
}

// hookCrash has a gate end its plugin again and again: the event never gets
// through, until a person switches the plugin off.
func hookCrash(t *testing.T, d *harness.Daemon, c *client.Client) {
	with(t, d, "hook-faults")
	for range 2 {
		before := getInfo(t, d, "hook-faults").Generation
		got := emit(t, c, "before_tool_call", `{"toolName":"none","params":{},"how":"exit"}`)
		if by := got.BlockedBy; by == nil || by.Plugin != "hook-faults" || !by.Failed {
			t.Fatalf("%s by %+v, handlers %+v", got.Outcome, by, got.Handlers)
		}
		if got := emit(t, c, "message_received", `{}`); got.Outcome != v1.OutcomePass {
			t.Errorf("an event that is observed: %+v", got)
		}
		eventually(t, 20*time.Second, "the plugin runs again", func() bool {
			i := getInfo(t, d, "hook-faults")
			return i.Generation > before && i.State == "running"
		})
	}
	container, err := d.Container(t.Context(), tenant, "hook-faults")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Engine().Kill(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	got := emit(t, c, "before_tool_call", `{"toolName":"none","params":{}}`)
	denied := got.Outcome == v1.OutcomeBlock && got.BlockedBy.Failed
	if !denied && !slices.Contains(statuses(got), "hook-faults ok") { // it may have waited for the next start
		t.Errorf("a killed gate: %+v", got)
	}
	run(t, d, 0, nil, "plugins", "disable", "hook-faults")
	got = emit(t, c, "before_tool_call", `{"toolName":"none","params":{},"how":"exit"}`)
	if diff := cmp.Diff([]string{first + " ok", second + " ok"}, statuses(got)); diff != "" || got.Outcome != v1.OutcomePass {
		t.Errorf("switched off: %s (-want +got):\n%s", got.Outcome, diff)
	}
}

// hookGrants has a hook do as much as it was granted, from one moment to the
// next and without a restart.
func hookGrants(t *testing.T, d *harness.Daemon, c *client.Client) {
	const id = "conformance-seed-cjs"
	install(t, d, id) // nobody is there to answer: without what is sensitive
	t.Cleanup(func() { d.Run(context.WithoutCancel(t.Context()), "plugins", "uninstall", id) })
	run(t, d, 0, nil, "plugins", "disable", "conformance-seed-esm")
	before := getInfo(t, d, id)
	expect := func(what, text, status, outcome, becomes string) {
		t.Helper()
		got := emit(t, c, "agent:message:before", `{"text":"`+text+`"}`)
		if diff := cmp.Diff([]string{id + " " + status}, statuses(got)); diff != "" || got.Outcome != outcome || textOf(t, got.Payload, "text") != becomes {
			t.Errorf("%s: %s %s (-want +got):\n%s", what, got.Outcome, got.Payload, diff)
		}
	}
	expect("not granted", "forbidden", "not_granted", v1.OutcomePass, "forbidden")
	var seen struct{ Events []any }
	if invoke(t, c, &seen, id, "seen", `{}`); len(seen.Events) != 0 {
		t.Errorf("it was not granted to see events and saw %v", seen.Events)
	}
	run(t, d, 0, []string{"agent:message:before"}, "plugins", "permissions", id)
	run(t, d, 0, nil, "plugins", "grant", id, "hook", "agent:message:before", "observe")
	expect("may see: change", "hello", "dropped", v1.OutcomePass, "hello")
	expect("may see: block", "forbidden", "dropped", v1.OutcomePass, "forbidden")
	if invoke(t, c, &seen, id, "seen", `{}`); len(seen.Events) != 2 {
		t.Errorf("it was granted to see events and saw %v", seen.Events)
	}
	if drops := audited(t, d, "hook.drop", id); len(drops) != 2 || !strings.Contains(string(mustJSON(t, drops[1]["details"])), "not granted to block") {
		t.Errorf("the audit log holds %v", drops)
	}
	run(t, d, 0, []string{"was not granted"}, "events", "--json")
	run(t, d, 0, nil, "plugins", "grant", id, "hook", "agent:message:before", "modify")
	expect("may change: change", "hello", "ok", v1.OutcomePass, "hello [seen by "+id+"]")
	expect("may change: block", "forbidden", "dropped", v1.OutcomePass, "forbidden")
	run(t, d, 0, nil, "plugins", "grant", id, "hook", "agent:message:before", "modify,block")
	expect("may block", "forbidden", "block", v1.OutcomeBlock, "forbidden")
	run(t, d, 0, nil, "plugins", "revoke", id, "hook", "agent:message:before")
	expect("revoked", "forbidden", "not_granted", v1.OutcomePass, "forbidden")
	if after := getInfo(t, d, id); after.Generation != before.Generation {
		t.Errorf("it was restarted: generation %d, before %d", after.Generation, before.Generation)
	}
}

func mustJSON(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
