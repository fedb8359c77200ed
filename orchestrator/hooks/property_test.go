package hooks

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// mergedEvents are the events whose results are merged.
var mergedEvents = append(slices.Sorted(maps.Keys(rules)), "agent:message:before", "agent:bootstrap", "message_received")

const original = `{"toolName":"t","plugin":"p","params":{"a":1},"content":"c","message":{"n":0},"payload":{"text":"x"},"prompt":"p"}`

// someResult makes a result out of every field that any rule knows, some of
// them of a wrong shape.
func someResult(r *rand.Rand) wire.HookResult {
	values := []string{
		`null`, `true`, `false`, `7`, `"text"`, `""`, `"block"`, `"revise"`, `"finalize"`, `"pass"`, `[]`, `["read","web_*"]`, `["*"]`, `[{"a":1}]`,
		`{}`, `{"a":2}`, `{"title":"Go on?"}`, `{"instruction":"again"}`,
	}
	fields := []string{
		"block", "cancel", "handled", "outcome", "action", "params", "content", "message", "payload", "requireApproval", "toolsAllow", "systemPrompt",
		"prependContext", "appendContext", "findings", "origin", "reason", "blockReason", "retry", "modelOverride", "PATH", "A", "unknown", "reply",
	}
	object := func() json.RawMessage {
		o := Object{}
		for range r.IntN(5) {
			o[fields[r.IntN(len(fields))]] = json.RawMessage(values[r.IntN(len(values))])
		}
		return o.Encode()
	}
	var result wire.HookResult
	switch r.IntN(8) {
	case 0:
		result.Result = json.RawMessage(values[r.IntN(len(values))])
	case 1:
		result.Block = &wire.Block{Reason: "r"}
	case 2:
		result.Payload = object()
	default:
		result.Result = object()
	}
	return result
}

func someRights(r *rand.Rand) []plugin.HookRight {
	rights := []plugin.HookRight{plugin.RightObserve}
	for _, right := range []plugin.HookRight{plugin.RightModify, plugin.RightBlock, plugin.RightClaim} {
		if r.IntN(2) == 0 {
			rights = append(rights, right)
		}
	}
	return rights
}

// holds checks what every merge has to keep.
func holds(t *testing.T, e plugin.HookEvent, s State, h Handler, result wire.HookResult) State {
	t.Helper()
	before, beforePayload := string(s.Result.Encode()), string(s.Payload.Encode())
	next, effect, err := Merge(e, s, h, result)
	again, effectAgain, errAgain := Merge(e, s, h, result)
	describe := func() string {
		return fmt.Sprintf("%s, rights %v, %+v, result %.300s, payload %.300s", e.Name, h.Rights, result.Block, result.Result, result.Payload)
	}
	if string(next.Result.Encode()) != string(again.Result.Encode()) || string(next.Payload.Encode()) != string(again.Payload.Encode()) ||
		fmt.Sprint(effect, err) != fmt.Sprint(effectAgain, errAgain) {
		t.Errorf("Merge() is not deterministic: %s", describe())
	}
	if string(s.Result.Encode()) != before || string(s.Payload.Encode()) != beforePayload {
		t.Errorf("Merge() changed its argument: %s", describe())
	}
	changed := !equal(s.Payload, next.Payload) || (!next.Blocked && !next.Claimed && !equal(s.Result, next.Result))
	can := func(right plugin.HookRight) bool {
		return slices.Contains(h.Rights, right) && slices.Contains(e.Rights, right)
	}
	switch {
	case err != nil && (changed || next.Blocked != s.Blocked || next.Approval != s.Approval):
		t.Errorf("what is no result had an effect: %s", describe())
	case next.Blocked && !s.Blocked && !can(plugin.RightBlock):
		t.Errorf("blocked without the right: %s", describe())
	case next.Approval != s.Approval && !can(plugin.RightBlock):
		t.Errorf("asked without the right: %s", describe())
	case next.Claimed && !s.Claimed && !can(plugin.RightClaim):
		t.Errorf("claimed without the right: %s", describe())
	case changed && !can(plugin.RightModify):
		t.Errorf("changed without the right: %s", describe())
	case changed && len(effect.Changes) == 0:
		t.Errorf("changed, and nobody is told: %s", describe())
	case (s.Blocked || s.Claimed) && (changed || next.Blocked != s.Blocked || next.Claimed != s.Claimed):
		t.Errorf("something happened after the end: %s", describe())
	case result.Block != nil && can(plugin.RightBlock) && !s.Claimed && !next.Blocked:
		t.Errorf("a block was lost: %s", describe())
	case s.Approval != nil && string(next.Payload["params"]) != string(s.Payload["params"]):
		t.Errorf("what a person is asked about changed: %s", describe())
	case string(next.Payload["toolName"]) != string(s.Payload["toolName"]) && e.Name == toolCall:
		t.Errorf("the tool changed: %s", describe())
	case !json.Valid(next.Payload.Encode()) || !json.Valid(next.Result.Encode()):
		t.Errorf("it left no JSON: %s", describe())
	}
	return next
}

func TestMergeProperties(t *testing.T) {
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 1))
		e := event(t, mergedEvents[r.IntN(len(mergedEvents))])
		s := state(t, original)
		for i := range 1 + r.IntN(5) {
			h := handler(e, i)
			h.Rights = someRights(r)
			s = holds(t, e, s, h, someResult(r))
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzMerge(f *testing.F) {
	f.Add("before_tool_call", []byte(`{"params":{"a":2},"requireApproval":{"title":"t","timeoutMs":1}}`), []byte(`{"params":{}}`), uint8(7), true)
	f.Add("agent:message:before", []byte(`{"block":true}`), []byte(`{"content":["\ud800"]}`), uint8(3), false)
	f.Add("before_prompt_build", []byte(`{"toolsAllow":["a*","*"],"prependContext":"\u0000"}`), []byte(``), uint8(1), false)
	f.Add("before_agent_finalize", []byte(`{"action":"revise","retry":{"instruction":"x","maxAttempts":1e400}}`), []byte(`null`), uint8(1), false)
	f.Add("resolve_exec_env", []byte(`{"A":"1","path":"2"}`), []byte(`{"toolName":1}`), uint8(1), false)
	f.Add("before_install", []byte(`{"findings":[[]]}`), []byte(`{"findings":[ ]}`), uint8(7), false)
	f.Add("reply_payload_sending", []byte(`{"payload":{"trustedLocalMedia":true}}`), []byte(`{"payload":{"a":{"b":[1]}}}`), uint8(7), false)
	f.Fuzz(func(t *testing.T, name string, result, payload []byte, rights uint8, block bool) {
		e, ok := plugin.HookEventOf(name)
		if !ok {
			return
		}
		s := state(t, original)
		for i := range 2 {
			h := handler(e, i)
			h.Rights = nil
			for bit, right := range []plugin.HookRight{plugin.RightModify, plugin.RightBlock, plugin.RightClaim} {
				if rights>>bit&1 == 1 {
					h.Rights = append(h.Rights, right)
				}
			}
			r := wire.HookResult{Result: result, Payload: payload}
			if block && i == 1 {
				r.Block = &wire.Block{Reason: string(result)}
			}
			s = holds(t, e, s, h, r)
		}
	})
}

// TestEmitProperties: the order in which the handlers come does not count,
// joined texts are in the order of the pipeline, and a block is never lost.
func TestEmitProperties(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 2))
		name := mergedEvents[r.IntN(len(mergedEvents))]
		do := make([]behaviour, 1+r.IntN(6))
		blocks := false
		for i := range do {
			result := someResult(r)
			blocks = blocks || result.Block != nil
			do[i] = answers(result)
		}
		m := plugins(t, name, do...)
		first := emit(t, New(Config{Plugins: m}), name, original)
		rand.Shuffle(len(m.handlers), func(i, j int) { m.handlers[i], m.handlers[j] = m.handlers[j], m.handlers[i] })
		second := emit(t, New(Config{Plugins: m}), name, original)
		for _, res := range []*Result{&first, &second} {
			for i := range res.Handlers {
				res.Handlers[i].Took = 0
			}
			res.Approval = nil // holds the ids of calls
		}
		a, _ := json.Marshal(first)
		b, _ := json.Marshal(second)
		if string(a) != string(b) {
			t.Fatalf("seed %d: %s\nand in another order: %s", seed, a, b)
		}
		e := event(t, name)
		if blocks && slices.Contains(e.Rights, plugin.RightBlock) && e.Kind != plugin.HookEvaluate && first.Outcome != OutcomeBlock {
			t.Fatalf("seed %d: a block of %s was lost: %s", seed, name, a)
		}
	}
	for n := range 12 {
		do := make([]behaviour, n)
		want := make([]string, n)
		for i := range do {
			want[i] = fmt.Sprint(i)
			do[i] = returns(fmt.Sprintf(`{"appendContext":"%d"}`, i))
		}
		res := emit(t, New(Config{Plugins: plugins(t, "agent_turn_prepare", do...)}), "agent_turn_prepare", `{}`)
		var got struct{ AppendContext string }
		if n > 0 {
			if err := json.Unmarshal(res.Result, &got); err != nil {
				t.Fatal(err)
			}
		}
		if got.AppendContext != strings.Join(want, "\n\n") {
			t.Errorf("joined %q, want %q", got.AppendContext, want)
		}
	}
}
