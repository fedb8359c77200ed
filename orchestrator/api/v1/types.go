// Package v1 holds the JSON types of the API's first version. The OpenAPI
// document is generated from them. Within version 1 fields are added, never
// removed or given another meaning; a reader ignores what it does not know.
package v1

import (
	"encoding/json"
	"time"
)

// Bounds of requests, bytes.
const (
	MaxCallBody   = 8 << 20   // of a tool call's request
	MaxUploadBody = 512 << 20 // of an uploaded package
	MaxSmallBody  = 64 << 10  // of every other request with a body
	MaxPage       = 1000      // items of a page of a list; also what a request gets that names no limit
	MaxLogLine    = 64 << 10  // of a line of a log; the rest of it is cut off
)

// Idempotency of calls: a request that carries IdempotencyKey is answered once.
// The same request again within ten minutes gets the first answer, marked by
// IdempotencyReplayed, and waits for it if it has to.
const (
	IdempotencyKey      = "Idempotency-Key"
	IdempotencyReplayed = "Idempotency-Replayed"
)

// Version says what answers.
type Version struct {
	Version string `json:"version" doc:"release of ocmt" example:"0.1.0"`
	API     string `json:"api" doc:"version of the API" example:"v1"`
	Go      string `json:"go" doc:"Go release it was built with" example:"go1.26.0"`
	OS      string `json:"os" example:"linux"`
	Arch    string `json:"arch" example:"amd64"`
}

// Status is the state of the daemon and of the plugins that were asked for.
type Status struct {
	Version   Version   `json:"version"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"startedAt"`
	Home      string    `json:"home" doc:"directory with the configuration and the store"`
	HomeID    string    `json:"homeId" doc:"names the home to the engine: the label ocmt.home of its containers"`
	Engine    Engine    `json:"engine"`
	Image     string    `json:"image" doc:"digest of the base image" example:"sha256:..."`
	Plugins   []Plugin  `json:"plugins" nullable:"false"`
	// Pending are the requests that wait for a person.
	Pending []Approval `json:"pending,omitempty" nullable:"false"`
	Notes   []string   `json:"notes,omitempty" nullable:"false" doc:"what an operator should know, for example what is weaker on this host"`
}

// Engine is what runs the containers.
type Engine struct {
	Name    string `json:"name" example:"docker"`
	Version string `json:"version" example:"20.10.24"`
	Runtime string `json:"runtime" doc:"OCI runtime" example:"runc"`
	State   string `json:"state" doc:"ok, or unreachable: it does not answer; what runs goes on, nothing can be started or stopped" example:"ok"`
	// Since is of the state, Error why the engine is unreachable.
	Since time.Time `json:"since,omitzero" required:"false"`
	Error string    `json:"error,omitempty"`
}

// States of the engine.
const (
	EngineOK          = "ok"
	EngineUnreachable = "unreachable"
)

// Plugin is an installed plugin in short.
type Plugin struct {
	Tenant      string `json:"tenant" example:"default"`
	ID          string `json:"id" example:"kitchen-sink"`
	Name        string `json:"name" doc:"package name" example:"@openclaw/kitchen-sink"`
	Version     string `json:"version" example:"0.3.0"`
	Description string `json:"description,omitempty"`
	Source      string `json:"source" enum:"npm,path,archive"`
	Spec        string `json:"spec" doc:"what was asked for when it was installed"`
	Linked      bool   `json:"linked,omitempty" doc:"the directory in spec is sent again at every restart by command"`
	Enabled     bool   `json:"enabled"`
	State       string `json:"state" doc:"stopped, preparing, starting, running, backoff, stopping, crashlooped or quarantined" example:"running"`
	Reason      string `json:"reason,omitempty" doc:"why it is in that state, where that is not plain"`
	Generation  uint64 `json:"generation" doc:"counts the starts, from 1"`
	Instance    string `json:"instance,omitempty" doc:"name of its container, while there is one"`
	Adopted     bool   `json:"adopted,omitempty" doc:"its container was started by an earlier process of the daemon"`
	Restarts    int    `json:"restarts" doc:"starts after an exit that nobody asked for"`
	ShortRuns   int    `json:"shortRuns,omitempty" doc:"runs that ended soon, since it was last well for long"`
	LastExit    *Exit  `json:"lastExit,omitempty"`
	// NextAttempt is there in the states backoff and crashlooped.
	NextAttempt *time.Time `json:"nextAttempt,omitempty" doc:"when it is started again by itself"`
	Tools       int        `json:"tools" doc:"how many tools it registered"`
}

// Exit is how a generation ended.
type Exit struct {
	At     time.Time `json:"at"`
	Class  string    `json:"class" doc:"clean: exit code 0 that nobody asked for; error: another exit code; oom: its memory limit; start_failure: it never became ready; probe_failure: it stopped answering; tamper: its payload was altered; stopped: it was asked to end" example:"error"`
	Code   int       `json:"code" doc:"exit code, 128+n for signal n, -1 if there is none"`
	Detail string    `json:"detail,omitempty"`
	Output string    `json:"output,omitempty" doc:"the last lines that it printed, without empty ones and frames of the stack, at most 5 and 2048 bytes, of an end that nobody asked for: of a plugin that does not run, or ended in the last 10 minutes; not in events"`
}

// Bounds of Exit.Output.
const (
	MaxOutputLines = 5
	MaxOutputBytes = 2 << 10
)

// PluginDetail is all that is known of an installed plugin.
type PluginDetail struct {
	Plugin
	Digest        string         `json:"digest" doc:"of the sealed payload" example:"sha256:..."`
	Form          string         `json:"form" enum:"erofs,tree" doc:"how the payload is sealed"`
	Size          int64          `json:"size" doc:"of the payload, bytes"`
	Files         int            `json:"files"`
	Integrity     string         `json:"integrity,omitempty" doc:"of the npm tarball, from the registry"`
	InstalledAt   time.Time      `json:"installedAt"`
	ReadySince    *time.Time     `json:"readySince,omitempty"`
	ToolList      []Tool         `json:"toolList" nullable:"false"`
	Registrations []Registration `json:"registrations" nullable:"false" doc:"everything but the tools, in order"`
	Diagnostics   []Diagnostic   `json:"diagnostics,omitempty" nullable:"false"`
	// Trust is one of the Trust* levels, Runtime the OCI runtime that it runs with,
	// Profile what its container is made of.
	Trust    string        `json:"trust,omitempty" doc:"built-in, verified, npm, path or archive" example:"npm"`
	Runtime  string        `json:"runtime,omitempty" doc:"OCI runtime" example:"runc"`
	Profile  []ProfileRow  `json:"profile,omitempty" nullable:"false" doc:"the sandbox in effect"`
	StateDir *StateUse     `json:"stateDir,omitempty"`
	Network  *NetworkStats `json:"network,omitempty" doc:"while it runs"`
}

// Tool is a tool of a plugin.
type Tool struct {
	Tenant      string          `json:"tenant"`
	Plugin      string          `json:"plugin" doc:"id of the plugin"`
	Name        string          `json:"name"`
	Label       string          `json:"label,omitempty"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters" doc:"JSON Schema of the parameters"`
	Optional    bool            `json:"optional,omitempty"`
	// Shadowed names the plugin that was installed first with a tool of the
	// same name: a host that knows bare names uses that one.
	Shadowed string `json:"shadowedBy,omitempty"`
}

// Registration is something else that a plugin registered.
type Registration struct {
	Kind string `json:"kind" example:"hook"`
	Name string `json:"name"`
}

// Diagnostic is something that the author or the operator should know.
type Diagnostic struct {
	Level   string `json:"level" enum:"info,warn,error"`
	Message string `json:"message"`
}

// PluginList answers a list of plugins.
type PluginList struct {
	Plugins []Plugin `json:"plugins" nullable:"false"`
	Next    string   `json:"next,omitempty" doc:"cursor of the next page, if there is one"`
}

// ToolList answers a list of tools.
type ToolList struct {
	Tools []Tool `json:"tools" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"cursor of the next page, if there is one"`
}

// Upload names a package that was uploaded. It is kept until an install uses
// it, or until it expires.
type Upload struct {
	ID        string    `json:"id"`
	Size      int64     `json:"size" doc:"bytes"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// InstallRequest asks for a plugin.
type InstallRequest struct {
	Spec   string `json:"spec" minLength:"1" maxLength:"4096" doc:"npm spec; of an upload, the path as a person knows it, which is recorded and never opened"`
	Source string `json:"source" enum:"npm,path,archive"`
	Upload string `json:"upload,omitempty" maxLength:"64" doc:"the upload's id; required of path and archive"`
	Pin    bool   `json:"pin,omitempty" doc:"record the exact version as the spec"`
	Link   bool   `json:"link,omitempty" doc:"of a path: its caller sends the directory again at every restart"`
	// Replace is required when the same plugin is installed already.
	Replace bool `json:"replace,omitempty" doc:"install over what is there of the same plugin; its state stays"`
	// Confirmed is required of npm and archive.
	Confirmed bool `json:"confirmed,omitempty" doc:"a person saw the security warning and said yes"`
	// Accept answers the permission review beforehand; without it the stream
	// holds an EventReview, and the install waits for its ReviewAnswer.
	Accept string `json:"accept,omitempty" enum:"all,basic,none" doc:"answer to the permission review; absent: ask"`
}

// ReinstallRequest asks for an installed plugin once more. It is answered as
// an install is.
type ReinstallRequest struct {
	Upload string `json:"upload,omitempty" maxLength:"64" doc:"the upload's id; required of a plugin that was installed from a path or an archive"`
	// Confirmed is required of archive: it may be another one by now.
	Confirmed bool   `json:"confirmed,omitempty" doc:"a person saw the security warning and said yes"`
	Accept    string `json:"accept,omitempty" enum:"all,basic,none" doc:"answer to the permission review, which there is if the files are others than before; absent: ask"`
}

// Progress is one step of an install.
type Progress struct {
	Stage   string `json:"stage" doc:"what is being done" example:"fetch"`
	Message string `json:"message,omitempty"`
	Done    int64  `json:"done,omitempty" doc:"of Total, in the stage's unit"`
	Total   int64  `json:"total,omitempty" doc:"0 if it is not known"`
	Unit    string `json:"unit,omitempty" enum:"bytes,files,packages"`
}

// Events of an install's stream of server-sent events: any number of
// EventProgress and at most one EventReview, then EventDone or EventError.
const (
	EventProgress = "progress" // data: Progress
	EventReview   = "review"   // data: Review; at most one
	EventDone     = "done"     // data: PluginDetail
	EventError    = "error"    // data: Error
)

// Verification answers a verify that found the payload as it was sealed.
type Verification struct {
	Digest string  `json:"digest"`
	Form   string  `json:"form" enum:"erofs,tree"`
	Size   int64   `json:"size" doc:"bytes read"`
	Millis float64 `json:"ms" doc:"time it took, ms"`
}

// LogQuery says which lines of a plugin's log to send.
type LogQuery struct {
	Follow   bool
	Previous bool      // of the generation before
	Tail     int       // the last lines only; negative: all
	Since    time.Time // later lines only, if not zero
}

// CallContext is what the tool is told about the call.
type CallContext struct {
	AgentID      string `json:"agentId,omitempty" maxLength:"256"`
	SessionKey   string `json:"sessionKey,omitempty" maxLength:"512"`
	SessionID    string `json:"sessionId,omitempty" maxLength:"256"`
	RunID        string `json:"runId,omitempty" maxLength:"256"`
	ToolCallID   string `json:"toolCallId,omitempty" maxLength:"256"`
	SenderID     string `json:"senderId,omitempty" maxLength:"256"`
	WorkspaceDir string `json:"workspaceDir,omitempty" maxLength:"4096"`
}

// CallRequest calls a tool.
type CallRequest struct {
	Params  json.RawMessage `json:"params,omitempty" doc:"a JSON object that fits the tool's schema; {} if absent"`
	Context CallContext     `json:"context,omitzero" required:"false"`
	// TimeoutMillis bounds the whole call, hooks and approvals included.
	TimeoutMillis int64 `json:"timeoutMs,omitempty" minimum:"0" maximum:"600000" doc:"ms, for all of it; if absent, 30000 for the tool alone, while hooks and approvals have their own times"`
	// SkipHooks leaves out before_tool_call and after_tool_call: for a host
	// that runs them itself, with invoke.
	SkipHooks bool `json:"skipHooks,omitempty"`
}

// Events of a call's stream of server-sent events: any number of
// EventUpdate and EventAsk, then EventDone or EventError.
const (
	EventUpdate = "update" // data: the tool's interim result
	EventAsk    = "ask"    // data: Approval; the call waits until it is resolved
)

// CallResult is what the tool returned.
type CallResult struct {
	Result json.RawMessage `json:"result"`
	// Changes says what hooks changed in the parameters.
	Changes []HookChange `json:"changes,omitempty" nullable:"false"`
}
