package hooks

import (
	"maps"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Names of events that have code of their own.
const (
	toolCall     = "before_tool_call"
	replySending = "reply_payload_sending"
	agentRun     = "before_agent_run"
	finalize     = "before_agent_finalize"
	execEnv      = "resolve_exec_env"
	evaluate     = "skill_proposal_evaluate"
)

// shape is what a field's value must look like.
type shape int

const (
	isText shape = iota
	isFlag
	isNumber
	isObject
	isArray
	isTools // a list of tool names and patterns
)

// how says what a second value of a field becomes.
type how int

const (
	last      how = iota // the last one wins
	first                // the first one wins
	concat               // texts are joined by an empty line
	appended             // lists are joined
	intersect            // only what both allow
)

// field is a field of a result that is known.
type field struct {
	name  string
	shape shape
	how   how
	// payload says that it replaces the payload's field of the same name.
	payload bool
	// reply says that it goes with a block or a claim, and counts for nothing
	// without one.
	reply bool
}

// rule says what the results of an event's handlers mean.
type rule struct {
	fields []field
	// whole says that a handler may replace the whole payload.
	whole bool
	// chained says that each handler sees the payload as the ones before left
	// it, and not the original.
	chained bool
	// block is the flag that blocks, and reason the text that says why; empty
	// if a result cannot block.
	block, reason string
	// approves says that a handler can ask a person first, with
	// requireApproval.
	approves bool
	// claims says that {handled:true} claims the event.
	claims bool
}

// ruleOf returns the rule of an event: OpenClaw's (docs/plugins/hooks), and
// for names with a colon the document's. Nothing of a result counts where an
// event has no rule.
func ruleOf(event plugin.HookEvent) rule {
	if r, ok := rules[event.Name]; ok {
		return r
	}
	switch event.Kind {
	case plugin.HookGate:
		return rule{whole: true, chained: true, block: "block", reason: "blockReason"}
	case plugin.HookModify:
		return rule{whole: true, chained: true}
	case plugin.HookClaim:
		return rule{claims: true}
	}
	return rule{}
}

// apart is the result without what is in the payload too.
func (r rule) apart(result Object) Object {
	rest := make(Object, len(result))
	maps.Copy(rest, result)
	for _, f := range r.fields {
		if f.payload {
			delete(rest, f.name)
		}
	}
	return rest
}

var promptContext = []field{
	{name: "prependContext", shape: isText, how: concat},
	{name: "appendContext", shape: isText, how: concat},
}

var rules = map[string]rule{
	"before_model_resolve": {fields: []field{
		{name: "providerOverride", shape: isText, how: first},
		{name: "modelOverride", shape: isText, how: first},
	}},
	"agent_turn_prepare":            {fields: promptContext},
	"heartbeat_prompt_contribution": {fields: promptContext},
	"before_prompt_build": {fields: []field{
		{name: "systemPrompt", shape: isText, how: first},
		{name: "prependContext", shape: isText, how: concat},
		{name: "appendContext", shape: isText, how: concat},
		{name: "prependSystemContext", shape: isText, how: concat},
		{name: "appendSystemContext", shape: isText, how: concat},
		{name: "toolsAllow", shape: isTools, how: intersect},
	}},
	"before_agent_start": {fields: []field{ // OCMT's time
		{name: "systemPrompt", shape: isText, how: last},
		{name: "prependContext", shape: isText, how: concat},
	}},
	finalize: {fields: []field{ // merged by mergeFinalize
		{name: "action", shape: isText},
		{name: "reason", shape: isText},
		{name: "retry", shape: isObject},
	}},
	agentRun: {fields: []field{ // read by readDecision
		{name: "reason", shape: isText, reply: true},
		{name: "message", shape: isText, reply: true},
		{name: "category", shape: isText, reply: true},
		{name: "metadata", shape: isObject, reply: true},
	}},
	toolCall: {
		fields: []field{{name: "params", shape: isObject, payload: true}},
		block:  "block", reason: "blockReason", approves: true,
	},
	execEnv: {}, // read by readEnv
	"tool_result_persist": {
		fields:  []field{{name: "message", shape: isObject, payload: true}},
		chained: true,
	},
	"before_message_write": {
		fields:  []field{{name: "message", shape: isObject, payload: true}},
		chained: true, block: "block", reason: "blockReason",
	},
	"message_sending": {
		fields: []field{
			{name: "content", shape: isText, payload: true},
			{name: "metadata", shape: isObject, reply: true},
		},
		block: "cancel", reason: "cancelReason",
	},
	replySending: {
		fields:  []field{{name: "payload", shape: isObject, payload: true}},
		chained: true, block: "cancel", reason: "reason",
	},
	"before_install": {
		fields: []field{{name: "findings", shape: isArray, how: appended}},
		block:  "block", reason: "blockReason",
	},
	"subagent_delivery_target": {fields: []field{{name: "origin", shape: isObject, how: first}}},
	"before_agent_reply": {claims: true, fields: []field{
		{name: "reply", shape: isObject, reply: true},
		{name: "reason", shape: isText, reply: true},
	}},
	"inbound_claim":   {claims: true, fields: []field{{name: "reply", shape: isObject, reply: true}}},
	"before_dispatch": {claims: true, fields: []field{{name: "text", shape: isText, reply: true}}},
	"reply_dispatch": {claims: true, fields: []field{
		{name: "queuedFinal", shape: isFlag, reply: true},
		{name: "counts", shape: isObject, reply: true},
	}},
	evaluate: {fields: []field{ // judged by judge
		{name: "summary", shape: isText},
		{name: "findings", shape: isArray},
		{name: "metrics", shape: isObject},
		{name: "evaluatorVersion", shape: isText},
		{name: "mode", shape: isText},
		{name: "decision", shape: isText},
		{name: "decisionReason", shape: isText},
	}},
}
