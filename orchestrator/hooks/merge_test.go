package hooks

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func event(t testing.TB, name string) plugin.HookEvent {
	t.Helper()
	e, ok := plugin.HookEventOf(name)
	if !ok {
		t.Fatalf("there is no event %s", name)
	}
	return e
}

// handler returns the n-th of the handlers of an event, with all its rights.
func handler(e plugin.HookEvent, n int) Handler {
	return Handler{
		Key: plugin.Key{Tenant: "default", ID: fmt.Sprintf("p%d", n)}, Index: n, Event: e,
		Timeout: e.Timeout, Rights: e.Rights, InstalledAt: time.Unix(int64(n), 0), Form: "register",
	}
}

func state(t testing.TB, payload string) State {
	t.Helper()
	s, err := NewState(json.RawMessage(payload))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func returned(s string) wire.HookResult   { return wire.HookResult{Result: json.RawMessage(s)} }
func left(payload string) wire.HookResult { return wire.HookResult{Payload: json.RawMessage(payload)} }
func threw(reason string) wire.HookResult { return wire.HookResult{Block: &wire.Block{Reason: reason}} }

// merge merges the results of as many handlers, in order.
func merge(t testing.TB, name, payload string, results ...wire.HookResult) (State, []Effect) {
	t.Helper()
	e, s := event(t, name), state(t, payload)
	effects := make([]Effect, 0, len(results))
	for i, r := range results {
		next, effect, err := Merge(e, s, handler(e, i), r)
		if err != nil {
			t.Fatalf("Merge() of result %d: %v", i, err)
		}
		s = next
		effects = append(effects, effect)
	}
	return s, effects
}

func TestMergeRules(t *testing.T) {
	tests := []struct {
		name, event, payload string
		results              []string
		want, wantPayload    string
	}{
		{"nothing returned", "before_tool_call", `{"params":{"a":1}}`, []string{`null`, ``, `{}`}, ``, ``},
		{"first model wins", "before_model_resolve", `{}`,
			[]string{`{"modelOverride":null}`, `{"modelOverride":"a"}`, `{"modelOverride":"b","providerOverride":"c"}`},
			`{"modelOverride":"a","providerOverride":"c"}`, ``},
		{"context is joined", "agent_turn_prepare", `{}`,
			[]string{`{"prependContext":"1","appendContext":"x"}`, `{"prependContext":"2"}`, `{"prependContext":""}`, `{"prependContext":"3"}`},
			`{"prependContext":"1\n\n2\n\n3","appendContext":"x"}`, ``},
		{"heartbeat", "heartbeat_prompt_contribution", `{}`, []string{`{"appendContext":"1"}`, `{"appendContext":"2"}`}, `{"appendContext":"1\n\n2"}`, ``},
		{"first system prompt, tools intersect", "before_prompt_build", `{}`,
			[]string{
				`{"systemPrompt":"s1","prependSystemContext":"p1","toolsAllow":["read","web_*","Exec "]}`,
				`{"systemPrompt":"s2","prependSystemContext":"p2","appendSystemContext":"a","toolsAllow":["exec","web_fetch","write"]}`,
			},
			`{"systemPrompt":"s1","prependSystemContext":"p1\n\np2","appendSystemContext":"a","toolsAllow":["exec","web_fetch"]}`, ``},
		{"any tool is the others'", "before_prompt_build", `{}`, []string{`{"toolsAllow":["*"]}`, `{"toolsAllow":["read"]}`}, `{"toolsAllow":["read"]}`, ``},
		{"no list of tools allows none", "before_prompt_build", `{}`, []string{`{"toolsAllow":["read"]}`, `{"toolsAllow":"read"}`}, `{"toolsAllow":[]}`, ``},
		{"null allows no tools", "before_prompt_build", `{}`, []string{`{"toolsAllow":null}`}, `{"toolsAllow":[]}`, ``},
		{"last system prompt of old", "before_agent_start", `{}`,
			[]string{`{"systemPrompt":"1","prependContext":"a"}`, `{"systemPrompt":"2","prependContext":"b"}`}, `{"systemPrompt":"2","prependContext":"a\n\nb"}`, ``},
		{"run blocked", agentRun, `{"prompt":"p"}`,
			[]string{`{"outcome":"pass"}`, `{"outcome":"block","reason":"r","message":"m","category":"c","metadata":{"k":1}}`, `{"outcome":"pass"}`},
			`{"outcome":"block","reason":"r","message":"m","category":"c","metadata":{"k":1}}`, ``},
		{"revisions are joined", finalize, `{}`,
			[]string{`{"action":"continue"}`, `{"action":"revise","reason":"a","retry":{"instruction":" "}}`, `{"action":"revise","reason":"b","retry":{"instruction":"do"}}`, `{"action":"revise","retry":{"instruction":"other"}}`},
			`{"action":"revise","reason":"a\n\nb","retry":{"instruction":"do"}}`, ``},
		{"finalize overrides", finalize, `{}`, []string{`{"action":"revise","reason":"a"}`, `{"action":"finalize","reason":"f"}`, `{"action":"revise","reason":"b"}`}, `{"action":"finalize","reason":"f"}`, ``},
		{"continue", finalize, `{}`, []string{`{"action":"continue","reason":"ok"}`}, `{"action":"continue","reason":"ok"}`, ``},
		{"last params win", toolCall, `{"toolName":"t","params":{"a":1,"b":2}}`,
			[]string{`{"params":{"a":2,"b":2}}`, `{"block":false}`, `{"params":{"a":1,"b":3}}`}, `{"params":{"a":1,"b":3}}`, `{"toolName":"t","params":{"a":1,"b":3}}`},
		{"block ends", toolCall, `{"params":{}}`, []string{`{"block":true,"blockReason":"no"}`, `{"params":{"a":1}}`}, `{"block":true,"blockReason":"no"}`, ``},
		{"unknown fields", toolCall, `{"params":{}}`, []string{`{"Params":{"a":1},"BLOCK":true,"toolName":"x"}`}, ``, ``},
		{"environment", execEnv, `{"toolName":"exec"}`,
			[]string{`{"A":"1","B":"1"}`, `{"B":"2","PATH":"/x","ld_preload":"x","LD_PRELOAD":"x","NODE_OPTIONS":"x","https_proxy":"x","NO_PROXY":"x","SSL_CERT_FILE":"x","BAD-NAME":"x"}`},
			`{"A":"1","B":"2"}`, ``},
		{"persisted result", "tool_result_persist", `{"message":{"n":0},"toolName":"t"}`, []string{`{"message":{"n":1}}`, `{"message":null}`, `{"message":{"n":2}}`}, `{"message":{"n":2}}`, `{"message":{"n":2},"toolName":"t"}`},
		{"message not written", "before_message_write", `{"message":{}}`, []string{`{"message":{"n":1}}`, `{"block":true}`}, `{"message":{"n":1},"block":true}`, `{"message":{"n":1}}`},
		{"last content wins", "message_sending", `{"to":"x","content":"0"}`, []string{`{"content":"1"}`, `{"content":""}`, `{"cancel":false,"metadata":{"k":1}}`}, `{"content":""}`, `{"to":"x","content":""}`},
		{"cancel ends", "message_sending", `{"content":"0"}`, []string{`{"content":"1"}`, `{"cancel":true,"cancelReason":"r","metadata":{"k":1}}`, `{"content":"2"}`},
			`{"content":"1","cancel":true,"cancelReason":"r","metadata":{"k":1}}`, `{"content":"1"}`},
		{"reply", replySending, `{"payload":{"text":"0"},"kind":"final"}`, []string{`{"payload":{"text":"1"}}`, `{"cancel":true,"reason":"r"}`}, `{"payload":{"text":"1"},"cancel":true,"reason":"r"}`, `{"payload":{"text":"1"},"kind":"final"}`},
		{"reply cannot make itself trusted", replySending, `{"payload":{"text":"0"}}`, []string{`{"payload":{"text":"1","trustedLocalMedia":true}}`}, `{"payload":{"text":"1"}}`, `{"payload":{"text":"1"}}`},
		{"reply stays trusted with its media", replySending, `{"payload":{"mediaUrl":"m","trustedLocalMedia":true}}`, []string{`{"payload":{"text":"1","mediaUrl":"m"}}`},
			`{"payload":{"text":"1","mediaUrl":"m","trustedLocalMedia":true}}`, `{"payload":{"text":"1","mediaUrl":"m","trustedLocalMedia":true}}`},
		{"reply with other media", replySending, `{"payload":{"mediaUrl":"m","trustedLocalMedia":true}}`, []string{`{"payload":{"mediaUrl":"/etc/passwd"}}`}, `{"payload":{"mediaUrl":"/etc/passwd"}}`, `{"payload":{"mediaUrl":"/etc/passwd"}}`},
		{"findings are joined", "before_install", `{}`, []string{`{"findings":[1]}`, `{"findings":[]}`, `{"findings":[ 2, [3] ]}`, `{"block":true}`}, `{"findings":[1,2, [3]],"block":true}`, ``},
		{"first origin wins", "subagent_delivery_target", `{}`, []string{`{}`, `{"origin":{"to":"1"}}`, `{"origin":{"to":"2"}}`}, `{"origin":{"to":"1"}}`, ``},
		{"first claim wins", "before_agent_reply", `{}`, []string{`{"handled":false,"reply":{"text":"0"}}`, `{"handled":true,"reply":{"text":"1"},"reason":"r"}`, `{"handled":true,"reply":{"text":"2"}}`}, `{"handled":true,"reply":{"text":"1"},"reason":"r"}`, ``},
		{"dispatch", "before_dispatch", `{}`, []string{`{"handled":true,"text":"t","other":1}`}, `{"handled":true,"text":"t"}`, ``},
		{"reply dispatch", "reply_dispatch", `{}`, []string{`{"handled":true,"queuedFinal":true,"counts":{"final":1}}`}, `{"handled":true,"queuedFinal":true,"counts":{"final":1}}`, ``},
		{"inbound", "inbound_claim", `{}`, []string{`{"handled":true,"reply":{}}`}, `{"handled":true,"reply":{}}`, ``},
		{"observers return nothing", "message_received", `{"content":"c"}`, []string{`{"content":"d","block":true}`}, ``, ``},
		{"the document's own", "agent:message:before", `{"content":"c"}`, []string{`{"block":true,"blockReason":"r"}`}, `{"block":true,"blockReason":"r"}`, ``},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			results := make([]wire.HookResult, len(tt.results))
			for i, r := range tt.results {
				results[i] = returned(r)
			}
			s, _ := merge(t, tt.event, tt.payload, results...)
			want, wantPayload := Object{}, state(t, tt.payload).Payload
			if tt.want != "" {
				want = state(t, tt.want).Payload
			}
			if tt.wantPayload != "" {
				wantPayload = state(t, tt.wantPayload).Payload
			}
			if !equal(s.Result, want) {
				t.Errorf("the result is %s, want %s", s.Result.Encode(), tt.want)
			}
			if !equal(s.Payload, wantPayload) {
				t.Errorf("the payload is %s, want %s", s.Payload.Encode(), wantPayload.Encode())
			}
		})
	}
}

// equal compares as a caller would: the order of keys does not count.
func equal(a, b Object) bool {
	return maps.EqualFunc(a, b, func(x, y json.RawMessage) bool { return canonical(x) == canonical(y) })
}

func canonical(raw json.RawMessage) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return "bad: " + string(raw)
	}
	out, _ := json.Marshal(v)
	return string(out)
}

func TestMergePayloadForm(t *testing.T) {
	tests := []struct {
		name, event, payload string
		results              []wire.HookResult
		want                 string
		status               string // of the last
		dropped              string
	}{
		{"whole payload, chained", "agent:message:before", `{"content":"a","x":1}`,
			[]wire.HookResult{left(`{"content":"b","x":1}`), left(`{"content":"b"}`)}, `{"content":"b"}`, StatusOK, ""},
		{"unchanged", "agent:message:before", `{"n":1.0,"s":"<"}`, []wire.HookResult{left(`{"s":"\u003c","n":1}`)}, `{"n":1.0,"s":"<"}`, StatusOK, ""},
		{"BlockError", "agent:message:before", `{}`, []wire.HookResult{threw("r")}, `{}`, StatusBlock, ""},
		{"BlockError of a message", "message_sending", `{}`, []wire.HookResult{threw("r")}, `{}`, StatusBlock, ""},
		{"params", toolCall, `{"toolName":"t","params":{"a":1}}`, []wire.HookResult{left(`{"toolName":"t","params":{"a":2}}`)}, `{"toolName":"t","params":{"a":2}}`, StatusOK, ""},
		{"what it returned counts more", toolCall, `{"params":{"a":1}}`,
			[]wire.HookResult{{Payload: json.RawMessage(`{"params":{"a":2}}`), Result: json.RawMessage(`{"params":{"a":3}}`)}}, `{"params":{"a":3}}`, StatusOK, ""},
		{"another tool", toolCall, `{"toolName":"t","params":{"a":1}}`, []wire.HookResult{left(`{"toolName":"u","params":{"a":2}}`)},
			`{"toolName":"t","params":{"a":2}}`, StatusDropped, "toolName"},
		{"params taken away", toolCall, `{"toolName":"t","params":{"a":1}}`, []wire.HookResult{left(`{"toolName":"t"}`)}, `{"toolName":"t","params":{"a":1}}`, StatusDropped, "params"},
		{"prompt", "before_prompt_build", `{"prompt":"p"}`, []wire.HookResult{left(`{"prompt":"q"}`)}, `{"prompt":"p"}`, StatusDropped, "prompt"},
		{"claims do not change", "before_dispatch", `{"content":"p"}`, []wire.HookResult{left(`{"content":"q"}`)}, `{"content":"p"}`, StatusDropped, "content"},
		{"claims do not block", "before_dispatch", `{}`, []wire.HookResult{threw("r")}, `{}`, StatusDropped, "granted to block"},
		{"observers do not block", "message_received", `{}`, []wire.HookResult{threw("r")}, `{}`, StatusDropped, "granted to block"},
		{"bootstrap", "agent:bootstrap", `{"files":[1]}`, []wire.HookResult{left(`{"files":[]}`)}, `{"files":[]}`, StatusOK, ""},
		{"a block counts though the rest is no result", "message_sending", `{"content":"a"}`,
			[]wire.HookResult{returned(`{"cancel":true,"metadata":7}`)}, `{"content":"a"}`, StatusBlock, "metadata"},
		{"BlockError and no payload", "agent:message:before", `{}`, []wire.HookResult{{Block: &wire.Block{Reason: "r"}, Payload: json.RawMessage(`[]`)}}, `{}`, StatusBlock, "payload"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, effects := merge(t, tt.event, tt.payload, tt.results...)
			e := effects[len(effects)-1]
			if got := string(s.Payload.Encode()); canonical(s.Payload.Encode()) != canonical(json.RawMessage(tt.want)) {
				t.Errorf("the payload is %s, want %s", got, tt.want)
			}
			if e.Status != tt.status || !strings.Contains(e.Dropped, tt.dropped) || (tt.dropped == "" && e.Dropped != "") {
				t.Errorf("the effect is %s, dropped %q, want %s, dropped %q", e.Status, e.Dropped, tt.status, tt.dropped)
			}
			if s.Blocked != (tt.status == StatusBlock) {
				t.Errorf("blocked is %v", s.Blocked)
			}
		})
	}
}

func TestMergeWrongShape(t *testing.T) {
	long := strings.Repeat("x", MaxConcat/2)
	big := func(n int) string { return `{"params":{"a":"` + strings.Repeat("x", n) + `"}}` }
	tests := []struct{ name, event, result, want string }{
		{"list", toolCall, `[]`, "no object"},
		{"text", toolCall, `"block"`, "no object"},
		{"number", "message_sending", `7`, "no object"},
		{"true", "message_sending", `true`, "no object"},
		{"no JSON", toolCall, `{"params":`, "no JSON"},
		{"params", toolCall, `{"params":[]}`, "params is not an object"},
		{"block", toolCall, `{"block":"yes"}`, "block is not true or false"},
		{"title", toolCall, `{"requireApproval":{}}`, "requireApproval.title is not text"},
		{"approval", toolCall, `{"requireApproval":true}`, "requireApproval"},
		{"severity", toolCall, `{"requireApproval":{"title":"t","severity":"high"}}`, "severity"},
		{"decisions", toolCall, `{"requireApproval":{"title":"t","allowedDecisions":["allow"]}}`, "allowedDecisions"},
		{"time", toolCall, `{"requireApproval":{"title":"t","timeoutMs":"1"}}`, "timeoutMs"},
		{"content", "message_sending", `{"content":{}}`, "content is not text"},
		{"cancel", "message_sending", `{"cancel":1}`, "cancel"},
		{"context", "agent_turn_prepare", `{"prependContext":["a"]}`, "prependContext"},
		{"outcome", agentRun, `{"outcome":"ask"}`, "outcome"},
		{"no outcome", agentRun, `{}`, "outcome"},
		{"action", finalize, `{"action":"stop"}`, "action"},
		{"retry", finalize, `{"action":"revise","retry":{"instruction":1}}`, "retry.instruction"},
		{"attempts", finalize, `{"action":"revise","retry":{"instruction":"a","maxAttempts":"2"}}`, "maxAttempts"},
		{"variable", execEnv, `{"A":1}`, "A is not text"},
		{"handled", "before_dispatch", `{"handled":"yes"}`, "handled"},
		{"reply", "before_agent_reply", `{"handled":true,"reply":"text"}`, "reply"},
		{"message", "tool_result_persist", `{"message":"m"}`, "message"},
		{"findings", "before_install", `{"findings":{}}`, "findings"},
		{"origin", "subagent_delivery_target", `{"origin":"o"}`, "origin"},
		{"enormous", toolCall, big(MaxPayload), "bytes"},
		{"too many fields", toolCall, `{` + strings.Repeat(`"a":1,`, maxFields) + `"b":1}`, "fields"},
		{"larger than the event may be", toolCall, big(MaxPayload - 30), "bytes"},
		{"joined too long", "agent_turn_prepare", `{"prependContext":"` + long + `"}`, "prependContext has more than"},
		{"list too long", "before_install", `{"findings":["` + long + `"]}`, "findings has more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := event(t, tt.event)
			before := state(t, `{"toolName":"`+strings.Repeat("t", 64)+`","params":{},"content":"c"}`)
			before.Result = Object{"prependContext": quote(long), "findings": json.RawMessage(`["` + long + `"]`)}
			s, effect, err := Merge(e, before, handler(e, 0), returned(tt.result))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Merge() = %v, want an error with %q", err, tt.want)
			}
			if !equal(s.Payload, before.Payload) || !equal(s.Result, before.Result) || s.Blocked || len(effect.Changes) > 0 {
				t.Errorf("Merge() left a mark of what is no result")
			}
		})
	}
}

func TestMergeApproval(t *testing.T) {
	ask := `{"params":{"a":2},"requireApproval":{"title":"  Run \u001b[31mit\n ","description":"d","timeoutMs":1e9,"allowedDecisions":["allow-once"],"pluginId":"other"}}`
	s, effects := merge(t, toolCall, `{"toolName":"t","params":{"a":1}}`,
		wire.HookResult{ID: "h0", Result: json.RawMessage(ask)},
		returned(`{"params":{"a":3}}`),
		returned(`{"requireApproval":{"title":"second"}}`))
	a := s.Approval
	if a == nil {
		t.Fatal("nobody is asked")
	}
	if a.Title != "Run [31mit" || a.Key.ID != "p0" || a.HookID != "h0" || a.Timeout != MaxApprovalTimeout || a.Severity != "warning" {
		t.Errorf("the approval is %+v", a)
	}
	if fmt.Sprint(a.Allowed) != "[allow-once deny]" || string(a.Params) != `{"a":2}` || string(s.Payload["params"]) != `{"a":2}` {
		t.Errorf("it offers %v for %s, and the call would get %s", a.Allowed, a.Params, s.Payload["params"])
	}
	if effects[1].Status != StatusDropped || effects[2].Status != StatusDropped {
		t.Errorf("the effects are %+v, want the later ones dropped", effects)
	}
	e := event(t, toolCall)
	s, _, err := Merge(e, s, handler(e, 3), returned(`{"block":true,"blockReason":"no"}`))
	if err != nil || !s.Blocked || s.Reason != "no" {
		t.Errorf("a later block gave %+v, %v", s, err)
	}
}

func TestMergeRights(t *testing.T) {
	see, modify, block, claim := plugin.RightObserve, plugin.RightModify, plugin.RightBlock, plugin.RightClaim
	tests := []struct {
		name, event string
		rights      []plugin.HookRight
		result      wire.HookResult
		status      string
		changed     bool
	}{
		{"modify", toolCall, []plugin.HookRight{see, modify}, returned(`{"params":{"a":2}}`), StatusOK, true},
		{"modify without", toolCall, []plugin.HookRight{see, block}, returned(`{"params":{"a":2}}`), StatusDropped, false},
		{"payload without", "agent:message:before", []plugin.HookRight{see, block}, left(`{"a":1}`), StatusDropped, false},
		{"block", toolCall, []plugin.HookRight{block}, returned(`{"block":true}`), StatusBlock, false},
		{"block without", toolCall, []plugin.HookRight{see, modify}, returned(`{"block":true,"params":{"a":2}}`), StatusDropped, false},
		{"BlockError without", "agent:message:before", []plugin.HookRight{modify}, threw("r"), StatusDropped, false},
		{"block and modify, may block", toolCall, []plugin.HookRight{block}, returned(`{"block":true,"params":{"a":2}}`), StatusBlock, false},
		{"ask without", toolCall, []plugin.HookRight{modify}, returned(`{"requireApproval":{"title":"t"},"params":{"a":2}}`), StatusDropped, false},
		{"ask and modify, may ask", toolCall, []plugin.HookRight{block}, returned(`{"requireApproval":{"title":"t"},"params":{"a":2}}`), StatusDropped, false},
		{"claim", "before_dispatch", []plugin.HookRight{claim}, returned(`{"handled":true}`), StatusClaim, false},
		{"claim without", "before_dispatch", []plugin.HookRight{see}, returned(`{"handled":true}`), StatusDropped, false},
		{"prompt without", "before_prompt_build", []plugin.HookRight{see}, returned(`{"systemPrompt":"s"}`), StatusDropped, false},
		{"a right that the event does not have", "before_prompt_build", []plugin.HookRight{see, block}, threw("r"), StatusDropped, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, s := event(t, tt.event), state(t, `{"params":{"a":1}}`)
			h := handler(e, 0)
			h.Rights = tt.rights
			next, effect, err := Merge(e, s, h, tt.result)
			if err != nil || effect.Status != tt.status {
				t.Fatalf("Merge() = %+v, %v, want %s", effect, err, tt.status)
			}
			if (len(effect.Changes) > 0) != tt.changed || equal(next.Payload, s.Payload) == tt.changed {
				t.Errorf("changes %v, payload %s, want a change: %v", effect.Changes, next.Payload.Encode(), tt.changed)
			}
			if (next.Approval != nil) != (tt.name == "ask and modify, may ask") {
				t.Errorf("the approval is %+v", next.Approval)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	many := func(n int, v string) string {
		var fields []string
		for i := range n {
			fields = append(fields, fmt.Sprintf(`"k%02d":%s`, i, v))
		}
		return "{" + strings.Join(fields, ",") + "}"
	}
	tests := []struct {
		name, before, after string
		want                []string // path=before>after
	}{
		{"deep", `{"a":{"b":[1,{"c/~":2}]},"d":1}`, `{"a":{"b":[1,{"c/~":3}]},"d":1}`, []string{`/a/b/1/c~1~0=2>3`}},
		{"added and removed", `{"a":1}`, `{"b":2}`, []string{`/a=1>`, `/b=>2`}},
		{"list of another length", `{"a":[1]}`, `{"a":[1,2]}`, []string{`/a=[1]>[1,2]`}},
		{"another type", `{"a":[1]}`, `{"a":{}}`, []string{`/a=[1]>{}`}},
		{"large value", `{"a":1}`, `{"a":"` + strings.Repeat("x", MaxChangeValue) + `"}`, []string{`/a=1>`}},
		{"many", `{"a":` + many(MaxChanges+1, "1") + `}`, `{"a":` + many(MaxChanges+1, "2") + `}`, []string{`/a=` + many(MaxChanges+1, "1") + `>` + many(MaxChanges+1, "2")}},
		{"many at the top", many(MaxChanges+1, "1"), many(MaxChanges+1, "2"), []string{`=>`}},
		{"long key", `{}`, `{"` + strings.Repeat("k", maxDiffKey+1) + `":1}`, []string{`=>`}},
		{"deeper than is told", `{"1":{"2":{"3":{"4":{"5":{"6":{"7":{"8":{"9":1}}}}}}}}}`, `{"1":{"2":{"3":{"4":{"5":{"6":{"7":{"8":{"9":2}}}}}}}}}`, []string{`/1/2/3/4/5/6/7/8={"9":1}>{"9":2}`}},
		{"nothing", `{"a":[1,{"b":"<"}]}`, `{"a":[1.0,{"b":"\u003c"}]}`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, effects := merge(t, "agent:message:before", tt.before, left(tt.after))
			var got []string
			for _, c := range effects[0].Changes {
				got = append(got, fmt.Sprintf("%s=%s>%s", c.Path, c.Before, c.After))
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("changes are %.500v, want %.500v", got, tt.want)
			}
		})
	}
	_, effects := merge(t, "agent_turn_prepare", `{}`, returned(`{"prependContext":"a"}`), returned(`{"prependContext":"b"}`))
	c := effects[1].Changes
	if len(c) != 1 || c[0].Path != "/result/prependContext" || string(c[0].Before) != `"a"` || string(c[0].After) != `"a\n\nb"` || c[0].Key.ID != "p1" || c[0].Handler != 1 {
		t.Errorf("changes of the result are %+v", c)
	}
}
