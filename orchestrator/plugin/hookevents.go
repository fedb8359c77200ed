package plugin

import (
	"strings"
	"time"
)

// KindHook and KindService are Registration.Kind of hooks and services.
const (
	KindHook    = "hook"
	KindService = "service"
)

// HookKind says how the handlers of an event are run and merged.
type HookKind string

// The kinds of hooks, as in OpenClaw's table.
const (
	HookModify   HookKind = "modify"   // one after the other, results merged
	HookGate     HookKind = "gate"     // one after the other, a block stops; may modify too
	HookClaim    HookKind = "claim"    // one after the other, the first {handled:true} wins
	HookObserve  HookKind = "observe"  // all at once, results ignored
	HookEvaluate HookKind = "evaluate" // all at once, separate outcomes
)

// HookRight is something that a handler may do with an event. Each right
// implies HookSee.
type HookRight string

// The rights, as manifests and grants spell them.
const (
	RightObserve HookRight = "observe" // get the event
	RightModify  HookRight = "modify"  // change it
	RightBlock   HookRight = "block"   // stop it, or ask a person first
	RightClaim   HookRight = "claim"   // answer it instead of the agent
)

// Times that a handler may take where the event has none of its own.
const (
	DefaultHookTimeout = 15 * time.Second
	MaxHookTimeout     = 10 * time.Minute // OpenClaw's
)

// HookEvent is what is known of an event that plugins can hook.
type HookEvent struct {
	Name string
	Kind HookKind
	// Rights are what handlers of the event can be granted, RightObserve
	// first.
	Rights []HookRight
	// Sync handlers must not return a promise, and see the latest message.
	Sync bool
	// Timeout bounds each handler.
	Timeout time.Duration
	// FailClosed stops the event when a handler that may block it fails.
	FailClosed bool
	// Conversation marks events that carry conversations and Prompt those that
	// change prompts: OpenClaw's allowConversationAccess and
	// allowPromptInjection.
	Conversation bool
	Prompt       bool
}

// Sensitive reports whether a person must agree before a handler gets the
// event: it reads conversations, changes something, or blocks.
func (e HookEvent) Sensitive() bool {
	return e.Conversation || e.Prompt || len(e.Rights) > 1
}

// claimTimeout is for handlers that answer instead of the agent, which may
// ask a model. OpenClaw sets them no time at all.
const claimTimeout = 2 * time.Minute

// eventTable is OpenClaw 2026.9.6's hook table (src/plugins/hook-types.ts and
// docs/plugins/hooks), with before_agent_start of OCMT's time and those of
// OpenClaw's internal events (docs/automation/hooks) that the rule of
// [HookEventOf] would get wrong. A zero timeout is DefaultHookTimeout; where
// OpenClaw has none, it is that too, and of claims claimTimeout.
var eventTable = map[string]HookEvent{
	"before_model_resolve":          {Kind: HookModify, Conversation: true},
	"agent_turn_prepare":            {Kind: HookModify, Conversation: true, Prompt: true},
	"before_prompt_build":           {Kind: HookModify, Conversation: true, Prompt: true},
	"before_agent_start":            {Kind: HookModify, Conversation: true, Prompt: true},
	"heartbeat_prompt_contribution": {Kind: HookModify, Prompt: true},
	"before_agent_run":              {Kind: HookGate, FailClosed: true, Conversation: true},
	"before_agent_reply":            {Kind: HookClaim, Timeout: claimTimeout, Conversation: true},
	"before_agent_finalize":         {Kind: HookModify, Conversation: true},
	"agent_end":                     {Kind: HookObserve, Timeout: 30 * time.Second, Conversation: true},
	"model_call_started":            {Kind: HookObserve},
	"model_call_ended":              {Kind: HookObserve},
	"llm_input":                     {Kind: HookObserve, Conversation: true},
	"llm_output":                    {Kind: HookObserve, Conversation: true},
	"before_tool_call":              {Kind: HookGate, FailClosed: true},
	"after_tool_call":               {Kind: HookObserve},
	"resolve_exec_env":              {Kind: HookModify},
	"tool_result_persist":           {Kind: HookModify, Sync: true},
	"before_message_write":          {Kind: HookGate, Sync: true},
	"inbound_claim":                 {Kind: HookClaim, Timeout: claimTimeout},
	"channel_pairing_requested":     {Kind: HookObserve, Timeout: 2 * time.Second},
	"message_received":              {Kind: HookObserve},
	"message_sending":               {Kind: HookGate},
	"reply_payload_sending":         {Kind: HookGate},
	"message_sent":                  {Kind: HookObserve},
	"before_dispatch":               {Kind: HookClaim, Timeout: claimTimeout},
	"reply_dispatch":                {Kind: HookClaim, Timeout: MaxHookTimeout}, // a whole agent's turn
	"session_start":                 {Kind: HookObserve},
	"session_end":                   {Kind: HookObserve}, // at a shutdown its emitter gives all of them 2 s
	"before_compaction":             {Kind: HookObserve, Timeout: 30 * time.Second},
	"after_compaction":              {Kind: HookObserve, Timeout: 30 * time.Second},
	"before_reset":                  {Kind: HookObserve},
	"subagent_spawned":              {Kind: HookObserve},
	"subagent_progress":             {Kind: HookObserve},
	"subagent_ended":                {Kind: HookObserve},
	"subagent_delivery_target":      {Kind: HookModify},
	"gateway_start":                 {Kind: HookObserve},
	"gateway_stop":                  {Kind: HookObserve, Timeout: 5 * time.Second},
	"cron_reconciled":               {Kind: HookObserve},
	"cron_changed":                  {Kind: HookObserve},
	"before_install":                {Kind: HookGate, FailClosed: true},
	"skill_proposal_evaluate":       {Kind: HookEvaluate, Timeout: 120 * time.Second},
	"skill_proposal_changed":        {Kind: HookObserve, Timeout: 30 * time.Second},
	"skill_changed":                 {Kind: HookObserve, Timeout: 30 * time.Second},

	"session:compact:before": {Kind: HookObserve},
	"agent:bootstrap":        {Kind: HookModify, Conversation: true, Prompt: true},
}

// HookEventOf returns what is known of an event. Names with a colon are the
// document's own and OpenClaw's internal ones: what is not in the table may
// modify and block and fails closed if it is "x:before", and else observes.
// False means that no host emits an event of that name; such a hook is never
// called.
func HookEventOf(name string) (HookEvent, bool) {
	e, ok := eventTable[name]
	switch {
	case ok:
	case strings.HasSuffix(name, ":before"):
		e = HookEvent{Kind: HookGate, FailClosed: true, Conversation: true}
	case strings.Contains(name, ":"):
		e = HookEvent{Kind: HookObserve, Conversation: strings.HasPrefix(name, "message:") || strings.HasPrefix(name, "agent:message:")}
	default:
		return HookEvent{}, false
	}
	e.Name = name
	if e.Timeout == 0 {
		e.Timeout = DefaultHookTimeout
	}
	e.Rights = rightsOf[e.Kind]
	return e, true
}

var rightsOf = map[HookKind][]HookRight{
	HookModify:   {RightObserve, RightModify},
	HookGate:     {RightObserve, RightModify, RightBlock},
	HookClaim:    {RightObserve, RightClaim},
	HookObserve:  {RightObserve},
	HookEvaluate: {RightObserve, RightBlock},
}
