// Package wire holds the messages between the host and a plugin's runner:
// JSON objects whose "type" names the message, version 1. The golden files in
// testdata are read by this package's tests and by the runner's, so that the
// two sides cannot drift apart.
//
// Nothing a runner says is authority: a message only tells what the untrusted
// side wishes or reports.
package wire

import "encoding/json"

// Version is the wire version, also the "v1" in every subject.
const Version = 1

// Modes of a [Load].
const (
	ModeFull      = "full"      // load and serve
	ModeDiscovery = "discovery" // the load check: register only, start nothing
)

// Hello is the first thing a runner sends, as a request; the host answers
// with [Load].
type Hello struct {
	Type   string `json:"type"` // "hello"
	Wire   []int  `json:"wire"` // versions the runner speaks
	Runner string `json:"runner"`
	Node   string `json:"node"`
	PID    int    `json:"pid"` // in the container
}

// Load tells the runner what to load. The runner answers with a [Ready] or a
// [Failed] on its own account (a request, which the host acknowledges).
type Load struct {
	Type       string `json:"type"` // "load"
	Tenant     string `json:"tenant"`
	Plugin     string `json:"plugin"` // the plugin id
	Generation uint64 `json:"generation"`
	// Mode is [ModeFull] or [ModeDiscovery].
	Mode string `json:"mode"`
	// Root is the package's directory in the container; Entries are its entry
	// modules, relative to Root, in order.
	Root    string   `json:"root"`
	Entries []string `json:"entries"`
	Name    string   `json:"name"` // package name
	Version string   `json:"version"`
	// Manifest is openclaw.plugin.json as strict JSON, or null.
	Manifest json.RawMessage `json:"manifest"`
	// Config is what the plugin may see of the host's configuration;
	// PluginConfig is plugins.entries.<id>.config.
	Config       json.RawMessage `json:"config"`
	PluginConfig json.RawMessage `json:"pluginConfig"`
	StateDir     string          `json:"stateDir"`
	WorkspaceDir string          `json:"workspaceDir,omitempty"`
	AgentID      string          `json:"agentId"` // default for calls without one
	// Env holds granted environment variables. They come here and not by the
	// engine, which would write them to its disk.
	Env map[string]string `json:"env,omitempty"`
	// Host lists the host.* methods that the plugin may call, with or without
	// the prefix.
	Host []string `json:"host,omitempty"`
	// Learn has the runner report by [HostWish] what the plugin wishes for and
	// was not given. It changes nothing else.
	Learn bool `json:"learn,omitempty"`
}

// Ready reports that every entry was loaded, and what was registered.
type Ready struct {
	Type          string         `json:"type"` // "ready"
	Registrations []Registration `json:"registrations"`
	Diagnostics   []Diagnostic   `json:"diagnostics"`
	// LoadMillis is the time from Load to Ready in the runner, ms.
	LoadMillis float64 `json:"loadMs"`
}

// Failed reports that the plugin could not be loaded.
type Failed struct {
	Type        string       `json:"type"` // "failed"
	Error       Error        `json:"error"`
	Diagnostics []Diagnostic `json:"diagnostics"`
}

// Registration is one thing that the plugin registered, in order.
type Registration struct {
	// Kind is "tool", "hook", "service", "gatewayMethod", "httpRoute",
	// "command", "cli", "channel", "provider", ..., the registrar's name
	// without "register".
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Entry is the index in Load.Entries that registered it.
	Entry int `json:"entry"`
	// Form is "export" for the document's exports, "register" for
	// register(api).
	Form string `json:"form"`
	// Spec holds the serialisable rest, of tools a [ToolSpec], of hooks a
	// [HookSpec].
	Spec json.RawMessage `json:"spec"`
}

// ToolSpec is Registration.Spec of kind "tool".
type ToolSpec struct {
	Label       string          `json:"label,omitempty"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters"`
	Optional    bool            `json:"optional,omitempty"`
}

// Values of [HookSpec.Registrar].
const (
	RegistrarOn     = "on"           // api.on
	RegistrarHook   = "registerHook" // api.registerHook
	RegistrarExport = "export"       // the document's export const hooks
)

// HookSpec is Registration.Spec of kind "hook". The spec may hold what else
// the hook was registered with: name, description, registrationId.
type HookSpec struct {
	Event string `json:"event"`
	// Priority is 0 if the plugin gave none; higher runs first.
	Priority float64 `json:"priority"`
	// TimeoutMillis is what the plugin asks for, ms; absent without a wish.
	TimeoutMillis float64 `json:"timeoutMs,omitempty"`
	Registrar     string  `json:"registrar"`
	// Matcher lists the tools, in lower case, for which a handler of
	// before_tool_call or after_tool_call is called; empty means every tool.
	// The runner keeps to it; a host that does too saves the message.
	Matcher []string `json:"matcher,omitempty"`
	// EligibleTriggers and EligibleDispatchKinds restrict before_agent_reply
	// and reply_dispatch to events that carry such a trigger or dispatchKind,
	// or none. The runner keeps to them.
	EligibleTriggers      []string `json:"eligibleTriggers,omitempty"`
	EligibleDispatchKinds []string `json:"eligibleDispatchKinds,omitempty"`
}

// Diagnostic is something the author or the operator should know.
type Diagnostic struct {
	Level   string `json:"level"` // "info", "warn" or "error"
	Message string `json:"message"`
}

// Context is what a handler is told about the call.
type Context struct {
	AgentID      string `json:"agentId"`
	SessionKey   string `json:"sessionKey,omitempty"`
	SessionID    string `json:"sessionId,omitempty"`
	RunID        string `json:"runId,omitempty"`
	ToolCallID   string `json:"toolCallId,omitempty"`
	SenderID     string `json:"senderId,omitempty"`
	WorkspaceDir string `json:"workspaceDir,omitempty"`
}

// ToolCall invokes a tool; the answer is a [ToolResult].
type ToolCall struct {
	Type   string          `json:"type"` // "tool.call"
	ID     string          `json:"id"`
	Tool   string          `json:"tool"`
	Params json.RawMessage `json:"params"`
	// Context is the caller's.
	Context Context `json:"context"`
	// TimeoutMillis is when the runner gives the call up by itself, ms: a
	// little after the caller's deadline, at which the host stops to wait
	// and sends a Cancel.
	TimeoutMillis int64 `json:"timeoutMs"`
}

// ToolResult answers a ToolCall. Exactly one of Result and Error is set; the
// result of a tool that returns nothing is null.
type ToolResult struct {
	Type   string          `json:"type"` // "tool.result"
	ID     string          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// Progress is an interim result of a running call (onUpdate), published.
type Progress struct {
	Type   string          `json:"type"` // "progress"
	ID     string          `json:"id"`
	Update json.RawMessage `json:"update"`
}

// Cancel asks the runner to abort the signal of a running call, published.
type Cancel struct {
	Type string `json:"type"` // "cancel"
	ID   string `json:"id"`
}

// Ping asks whether the event loop turns; the answer is a [Pong].
type Ping struct {
	Type string `json:"type"` // "ping"
}

// Pong answers a Ping.
type Pong struct {
	Type string `json:"type"` // "pong"
	// RSS of the runner, bytes, as it reports it.
	RSS int64 `json:"rss"`
}

// Stop asks the runner to end in order: stop services, then exit with code 0
// after answering [Stopped].
type Stop struct {
	Type   string `json:"type"` // "stop"
	Reason string `json:"reason"`
	// GraceMillis is how long the host waits before it ends the container,
	// ms. The runner keeps its clean-up within it; absent is 10 s.
	GraceMillis int64 `json:"graceMs,omitempty"`
}

// Stopped answers a Stop, just before the runner exits.
type Stopped struct {
	Type string `json:"type"` // "stopped"
}

// Ack answers a runner's Ready or Failed.
type Ack struct {
	Type string `json:"type"` // "ack"
}

// Error codes that a runner may report. The host adds its own.
const (
	CodeUnknownTool  = "unknown_tool"   // no such tool registered
	CodeThrew        = "threw"          // the handler threw or rejected
	CodeCancelled    = "cancelled"      // the call's signal was aborted
	CodeUnserialised = "unserialised"   // the result is no JSON (cycle, BigInt)
	CodeLoad         = "load"           // an entry could not be imported
	CodeNoEntry      = "no_entry"       // no export that is a plugin
	CodeAsync        = "async_register" // register returned a promise
	CodeRegister     = "register"       // register threw
	CodeDuplicate    = "duplicate"      // a name was registered twice
	CodeIDMismatch   = "id_mismatch"    // export id and manifest id differ
	CodeWire         = "wire_version"   // no common wire version
)

// Error is a failure as the runner reports it.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Name and Stack are the thrown error's, cut to 4 KiB.
	Name  string `json:"name,omitempty"`
	Stack string `json:"stack,omitempty"`
}
