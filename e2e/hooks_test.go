package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"

	"github.com/ocmt/ocmt/e2e/harness"
)

// The plugins of TestHooks that are conformance plugins.
const (
	first  = "conformance-register-esm" // installed before
	second = "conformance-register-cjs"
)

// TestHooks takes events and tool calls through the pipeline of several
// plugins. Its subtests share a daemon, and each leaves the plugins that it
// did not install as they were.
func TestHooks(t *testing.T) {
	d := start(t)
	c := connect(t, d)
	install(t, d, first, "--accept-permissions")
	install(t, d, second, "--accept-permissions")
	install(t, d, "conformance-seed-esm", "--accept-permissions")
	for _, tc := range []struct {
		name string
		test func(*testing.T, *harness.Daemon, *client.Client)
	}{
		{"order", hookOrder},
		{"chain", hookChain},
		{"observe", hookObserve},
		{"commands", hookCommands},
		{"rewrite a call", hookRewritesCall},
		{"block a call", hookBlocksCall},
		{"ask about a call", hookAsks},
		{"watch calls", hookWatchesCalls},
		{"invoke one", hookInvoke},
		{"snapshot", hookSnapshot},
		{"wrong answers", hookFaults},
		{"wrong answers in the document's form", hookFaultsSeed},
		{"cut off", hookCutOff},
		{"crash", hookCrash},
		{"grants", hookGrants},
	} {
		if !t.Run(tc.name, func(t *testing.T) { tc.test(t, d, c) }) {
			return // the others would find plugins that it left
		}
	}
}

// with installs a plugin for a test, with all that it asks for.
func with(t *testing.T, d *harness.Daemon, name string) {
	t.Helper()
	install(t, d, name, "--accept-permissions")
	t.Cleanup(func() {
		if res := d.Run(context.WithoutCancel(t.Context()), "plugins", "uninstall", name); res.Code != 0 {
			t.Errorf("uninstalling %s: %s", name, res.Stderr)
		}
	})
}

// hookOrder has four handlers of two plugins build one prompt.
func hookOrder(t *testing.T, d *harness.Daemon, c *client.Client) {
	with(t, d, "hook-order-a")
	with(t, d, "hook-order-b")
	got := emit(t, c, "before_prompt_build", `{"prompt":"p","messages":[]}`)
	want := []string{"hook-order-b ok", "hook-order-a ok", "hook-order-b ok", "hook-order-a ok"}
	if diff := cmp.Diff(want, statuses(got)); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	var result map[string]any
	if err := json.Unmarshal(got.Result, &result); err != nil {
		t.Fatal(err)
	}
	golden := map[string]any{
		"systemPrompt": "a 5", "prependContext": "b 10\n\na 5\n\nb 5\n\na -1", "appendSystemContext": "a -1",
		"toolsAllow": []any{"read_file", "write"},
	}
	if diff := cmp.Diff(golden, result); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	var who []string
	for _, change := range got.Changes {
		who = append(who, change.Plugin+" "+change.Path)
	}
	changes := []string{
		"hook-order-b /result/prependContext", "hook-order-b /result/toolsAllow",
		"hook-order-a /result/prependContext", "hook-order-a /result/systemPrompt", "hook-order-a /result/toolsAllow",
		"hook-order-b /result/prependContext",
		"hook-order-a /result/appendSystemContext", "hook-order-a /result/prependContext",
	}
	if diff := cmp.Diff(changes, who); diff != "" {
		t.Errorf("who changed what (-want +got):\n%s", diff)
	}
}

// hookChain has each handler of the document's form see what the one before
// it made of the payload.
func hookChain(t *testing.T, d *harness.Daemon, c *client.Client) {
	with(t, d, "conformance-seed-cjs")
	got := emit(t, c, "agent:message:before", `{"text":"hello"}`)
	if want := "hello [seen by conformance-seed-esm] [seen by conformance-seed-cjs]"; textOf(t, got.Payload, "text") != want {
		t.Errorf("payload %s, want %q", got.Payload, want)
	}
	if len(got.Changes) != 2 || string(got.Changes[1].Before) != `"hello [seen by conformance-seed-esm]"` {
		t.Errorf("changes %+v", got.Changes)
	}
	got = emit(t, c, "agent:message:before", `{"text":"forbidden"}`)
	want := []string{"conformance-seed-esm block", "conformance-seed-cjs skipped"}
	if diff := cmp.Diff(want, statuses(got)); diff != "" || got.Outcome != v1.OutcomeBlock {
		t.Errorf("%s (-want +got):\n%s", got.Outcome, diff)
	}
	records := audited(t, d, "hook.block", "conformance-seed-esm")
	if len(records) == 0 || records[len(records)-1]["target"] != "agent:message:before" {
		t.Errorf("the audit log holds %v", records)
	}
}

func hookObserve(t *testing.T, _ *harness.Daemon, c *client.Client) {
	got := emit(t, c, "message_received", `{"from":"a","content":"forbidden"}`)
	if diff := cmp.Diff([]string{first + " ok", second + " ok"}, statuses(got)); diff != "" || got.Outcome != v1.OutcomePass {
		t.Errorf("%s (-want +got):\n%s", got.Outcome, diff)
	}
	for _, plugin := range []string{first, second} {
		var seen struct{ Events []map[string]any }
		invoke(t, c, &seen, plugin, "seen", `{}`)
		if diff := cmp.Diff([]map[string]any{{"from": "a", "content": "forbidden"}}, seen.Events); diff != "" {
			t.Errorf("%s saw (-want +got):\n%s", plugin, diff)
		}
	}
	if got := emit(t, c, "message_sent", `{}`); len(got.Handlers) != 0 || got.Outcome != v1.OutcomePass {
		t.Errorf("an event without handlers: %+v", got)
	}
	for event, payload := range map[string]string{"no_such_event": `{}`, "message_sent": `[1]`} {
		_, err := c.Emit(t.Context(), tenant, event, v1.EmitRequest{Payload: json.RawMessage(payload)})
		if !errdefs.IsNotFound(err) && !errdefs.IsInvalidArgument(err) {
			t.Errorf("emitting %s %s: %v", event, payload, err)
		}
	}
}

func hookCommands(t *testing.T, d *harness.Daemon, _ *client.Client) {
	run(t, d, 0, []string{"agent:message:before", "conformance-seed-esm", "observe,modify,block", "before_tool_call"}, "hooks", "list")
	run(t, d, 0, []string{"hello [seen by conformance-seed-esm]", "conformance-seed-esm: /text"},
		"hooks", "emit", "agent:message:before", "--payload", `{"text":"hello"}`)
	run(t, d, 4, []string{"conformance-seed-esm forbids this text", "Blocked by"},
		"hooks", "emit", "agent:message:before", "--payload", `{"text":"forbidden"}`)
	run(t, d, 3, []string{"hint:"}, "hooks", "emit", "no_such_event")
	run(t, d, 2, []string{"hint:"}, "hooks", "emit", "message_sent", "--payload", `[]`)
}

func hookRewritesCall(t *testing.T, _ *harness.Daemon, c *client.Client) {
	var got struct{ Text string }
	result := invoke(t, c, &got, "conformance-seed-esm", "echo", `{"text":"please rewrite-me"}`)
	if got.Text != "please rewritten" {
		t.Errorf("the tool got %q", got.Text)
	}
	if len(result.Changes) == 0 || result.Changes[0].Plugin != first || result.Changes[0].Path != "/params/text" {
		t.Errorf("changes %+v, want one of %s", result.Changes, first)
	}
	result, err := c.Call(t.Context(), tenant, "conformance-seed-esm", "echo",
		v1.CallRequest{Params: json.RawMessage(`{"text":"rewrite-me"}`), SkipHooks: true})
	if err != nil || textOf(t, result.Result, "text") != "rewrite-me" || len(result.Changes) != 0 {
		t.Errorf("without hooks: %s, %+v, %v", result.Result, result.Changes, err)
	}
}

// blockOf returns who blocked a call.
func blockOf(t *testing.T, err error) v1.HookBlock {
	t.Helper()
	var by v1.HookBlock
	f := fault.Of(err)
	details, merr := json.Marshal(f.Details)
	if merr = errors.Join(merr, json.Unmarshal(details, &by)); !errdefs.IsPermissionDenied(err) || f.Code != "blocked_by_hook" || merr != nil {
		t.Fatalf("got %v (code %s, details %s), want a call that is blocked", err, f.Code, details)
	}
	return by
}

func hookBlocksCall(t *testing.T, d *harness.Daemon, c *client.Client) {
	request := v1.CallRequest{Params: json.RawMessage(`{"text":"block-me"}`)}
	_, err := c.Call(t.Context(), tenant, second, "echo", request)
	if diff := cmp.Diff(v1.HookBlock{Plugin: first, Reason: first + " blocks this call"}, blockOf(t, err)); diff != "" {
		t.Errorf("blocked by (-want +got):\n%s", diff)
	}
	run(t, d, 4, []string{first + " blocks this call"}, "tools", "call", second, "echo", "--params", `{"text":"block-me"}`)
	request.SkipHooks = true
	if _, err := c.Call(t.Context(), tenant, second, "echo", request); err != nil {
		t.Errorf("without hooks: %v", err)
	}
	if _, err := c.Call(t.Context(), tenant, second, "echo", v1.CallRequest{Params: json.RawMessage(`{"text":7}`)}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("parameters that the tool does not take: %v", err)
	}
}

// asked calls a tool whose call is asked about, waits for the approval, has
// answer do something to it, and returns how the call ended.
func asked(t *testing.T, c *client.Client, text string, answer func(v1.Approval)) (v1.CallResult, error) {
	t.Helper()
	asks := make(chan v1.Approval, 8)
	type outcome struct {
		result v1.CallResult
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		params, _ := json.Marshal(map[string]string{"text": text})
		result, err := c.Stream(t.Context(), tenant, "conformance-seed-esm", "echo", v1.CallRequest{Params: params},
			client.Watch{Ask: func(a v1.Approval) { asks <- a }})
		ended <- outcome{result, err}
	}()
	select {
	case a := <-asks:
		answer(a)
	case o := <-ended:
		t.Fatalf("the call ended without a question: %s, %v", o.result.Result, o.err)
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was asked")
	}
	o := <-ended
	return o.result, o.err
}

// noApprovals fails the test unless no call waits for a person.
func noApprovals(t *testing.T, c *client.Client) {
	t.Helper()
	eventually(t, 5*time.Second, "no approval is left", func() bool {
		list, err := c.Approvals(t.Context(), tenant)
		return err == nil && !slices.ContainsFunc(list, func(a v1.Approval) bool { return a.Kind == "call" })
	})
}

func hookAsks(t *testing.T, d *harness.Daemon, c *client.Client) {
	resolve := func(decision string) func(v1.Approval) {
		return func(a v1.Approval) {
			if a.Plugin != first || a.Title != "A call that asks" || a.Target != "conformance-seed-esm/echo" || a.Severity != "warning" {
				t.Errorf("asked %+v", a)
			}
			list, err := c.Approvals(t.Context(), tenant)
			if err != nil || !slices.ContainsFunc(list, func(other v1.Approval) bool { return other.ID == a.ID }) {
				t.Errorf("the approvals are %+v, %v", list, err)
			}
			if got, err := c.Resolve(t.Context(), tenant, a.ID, decision); err != nil || got.Decision != decision {
				t.Errorf("resolving: %+v, %v", got, err)
			}
			if _, err := c.Resolve(t.Context(), tenant, a.ID, v1.AllowOnce); !errdefs.IsConflict(err) || fault.Of(err).Code != "already_resolved" {
				t.Errorf("resolving twice: %v", err)
			}
		}
	}
	result, err := asked(t, c, "rewrite-me and ask-me", resolve(v1.AllowOnce))
	if err != nil || textOf(t, result.Result, "text") != "rewritten and ask-me" {
		t.Errorf("allowed: %s, %v", result.Result, err)
	}
	_, err = asked(t, c, "ask-me", resolve(v1.Deny))
	if by := blockOf(t, err); by.Plugin != first || by.Failed || !strings.Contains(by.Reason, "denied") {
		t.Errorf("denied: %+v", by)
	}
	_, err = asked(t, c, "ask-me", func(a v1.Approval) {
		run(t, d, 0, []string{a.ID, "A call that asks"}, "approvals", "list")
		run(t, d, 0, nil, "approvals", "deny", a.ID)
	})
	blockOf(t, err)
	var seen struct{ Resolutions []string }
	eventually(t, 5*time.Second, "the plugin was told of the decisions", func() bool {
		invoke(t, c, &seen, first, "seen", `{}`)
		return slices.Equal(seen.Resolutions, []string{v1.AllowOnce, v1.Deny, v1.Deny})
	})
	if _, err := c.Resolve(t.Context(), tenant, "no-such-approval", v1.Deny); !errdefs.IsNotFound(err) {
		t.Errorf("resolving what there is not: %v", err)
	}
	noApprovals(t, c)
}

// hookWatchesCalls has a plugin see how calls end, and has its question time
// out.
func hookWatchesCalls(t *testing.T, d *harness.Daemon, c *client.Client) {
	with(t, d, "hook-watch")
	invoke(t, c, nil, "conformance-seed-esm", "echo", `{"text":"watched"}`)
	if _, err := c.Call(t.Context(), tenant, "conformance-seed-esm", "slow",
		v1.CallRequest{Params: json.RawMessage(`{"ms":60000}`), TimeoutMillis: 200}); !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("a slow call: %v", err)
	}
	var question v1.Approval
	_, err := asked(t, c, "ask-briefly", func(a v1.Approval) { question = a })
	if by := blockOf(t, err); by.Plugin != "hook-watch" || by.Reason != "nobody was there" {
		t.Errorf("nobody answered: %+v", by)
	}
	if _, err := c.Resolve(t.Context(), tenant, question.ID, v1.AllowOnce); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("answered after its time: %v", err)
	}
	var got struct {
		Calls       []struct{ Plugin, ToolName, Error string }
		Resolutions []string
	}
	eventually(t, 5*time.Second, "both calls and the timeout were seen", func() bool {
		invoke(t, c, &got, "hook-watch", "watched", `{}`)
		return len(got.Calls) >= 2 && slices.Equal(got.Resolutions, []string{"timeout"})
	})
	tools := []string{got.Calls[0].ToolName, got.Calls[1].ToolName}
	if len(got.Calls) != 2 || !slices.Equal(tools, []string{"echo", "slow"}) || got.Calls[0].Error != "" || got.Calls[1].Error == "" {
		t.Errorf("calls %+v", got.Calls)
	}
	noApprovals(t, c)
}

// hookInvoke calls single handlers, as a host with a pipeline of its own does.
func hookInvoke(t *testing.T, _ *harness.Daemon, c *client.Client) {
	index := handlerOf(t, c, second, "before_tool_call")
	invokeText := func(text string) v1.EmitResult {
		t.Helper()
		payload, _ := json.Marshal(map[string]any{"toolName": "echo", "params": map[string]string{"text": text}})
		got, err := c.Invoke(t.Context(), tenant, second, index, v1.InvokeRequest{Event: "before_tool_call", Payload: payload})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := invokeText("rewrite-me")
	if len(got.Handlers) != 1 || got.Handlers[0].Plugin != second || len(got.Changes) != 1 || string(got.Changes[0].After) != `"rewritten"` {
		t.Errorf("got %+v", got)
	}
	if got := invokeText("block-me"); got.Outcome != v1.OutcomeBlock || got.BlockedBy.Plugin != second {
		t.Errorf("got %+v", got)
	}
	for _, tc := range []struct {
		handler int
		event   string
		is      func(error) bool
	}{{999, "", errdefs.IsNotFound}, {0, "", errdefs.IsNotFound}, {index, "message_sending", errdefs.IsInvalidArgument}} {
		if _, err := c.Invoke(t.Context(), tenant, second, tc.handler, v1.InvokeRequest{Event: tc.event}); !tc.is(err) {
			t.Errorf("handler %d for %q: %v", tc.handler, tc.event, err)
		}
	}
}

// handlerOf returns the index of a plugin's handler of an event.
func handlerOf(t *testing.T, c *client.Client, plugin, event string) int {
	t.Helper()
	list, err := c.Hooks(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(h v1.Hook) bool { return h.Plugin == plugin && h.Event == event })
	if i < 0 {
		t.Fatalf("no hook of %s on %s", plugin, event)
	}
	return list[i].Handler
}

// hookSnapshot looks at what is registered while a plugin is switched off and
// on, and at tools of one name.
func hookSnapshot(t *testing.T, d *harness.Daemon, c *client.Client) {
	look := func() v1.Snapshot {
		t.Helper()
		s, err := c.Registrations(t.Context(), tenant)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	echoes := func(s v1.Snapshot) map[string]string {
		shadows := map[string]string{}
		for _, r := range s.Registrations {
			if r.Kind == "tool" && r.Name == "echo" {
				shadows[r.Plugin] = r.Shadowed
			}
		}
		return shadows
	}
	all := look()
	if diff := cmp.Diff(map[string]string{first: "", second: first, "conformance-seed-esm": first}, echoes(all)); diff != "" {
		t.Errorf("who shadows whom (-want +got):\n%s", diff)
	}
	var listed []v1.Tool
	if err := d.JSON(t.Context(), &listed, "tools", "list"); err != nil {
		t.Fatal(err)
	}
	for _, plugin := range []string{first, second} {
		var got struct{ Text string }
		if invoke(t, c, &got, plugin, "echo", `{"text":"`+plugin+`"}`); got.Text != plugin {
			t.Errorf("echo of %s returned %q", plugin, got.Text)
		}
		if !slices.ContainsFunc(listed, func(tool v1.Tool) bool { return tool.Plugin == plugin && tool.Name == "echo" }) {
			t.Errorf("echo of %s is not listed", plugin)
		}
	}
	if again := look(); again.Digest != all.Digest {
		t.Errorf("the digest changed by itself from %s to %s", all.Digest, again.Digest)
	}
	run(t, d, 0, nil, "plugins", "disable", first)
	without := look()
	if diff := cmp.Diff(map[string]string{second: "", "conformance-seed-esm": second}, echoes(without)); diff != "" || without.Digest == all.Digest {
		t.Errorf("with one off the digest is %s (-want +got):\n%s", without.Digest, diff)
	}
	got := emit(t, c, "message_sending", `{"content":"hello"}`)
	if diff := cmp.Diff([]string{second + " ok"}, statuses(got)); diff != "" {
		t.Errorf("with one off (-want +got):\n%s", diff)
	}
	run(t, d, 0, nil, "plugins", "enable", first)
	if again := look(); again.Digest != all.Digest {
		t.Errorf("on again the digest is %s, want %s", again.Digest, all.Digest)
	}
}
