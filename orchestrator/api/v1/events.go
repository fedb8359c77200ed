package v1

import (
	"encoding/json"
	"time"
)

// Event is something that happened, for whoever watches. The audit log, not
// this, is the record.
type Event struct {
	// Seq grows by one with every event of the daemon; a gap means that events
	// of other tenants lie between, or that a reader was too slow.
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
	Tenant string    `json:"tenant,omitempty"`
	Plugin string    `json:"plugin,omitempty"`
	// Type is one of the Event* names.
	Type string          `json:"type" example:"plugin.state"`
	Data json.RawMessage `json:"data,omitempty" doc:"depends on the type"`
}

// Types of events.
const (
	EventState      = "plugin.state"        // data: Plugin
	EventService    = "service.state"       // data: Service
	EventApproval   = "approval"            // data: Approval, when made and when resolved
	EventGrant      = "permissions.changed" // data: PermissionChange
	EventConnection = "network.connection"  // data: Connection
	EventWish       = "plugin.wish"         // data: Permission: what a plugin in learn mode tried and was not granted
	EventConfig     = "config.changed"      // data: none
	EventInstalled  = "plugin.installed"    // data: Plugin
	EventRemoved    = "plugin.removed"      // data: none
	EventPlugin     = "plugin.event"        // data: PluginEvent, a plugin's own
	EventHook       = "hook"                // data: HookEvent: a block, a change, a failure
	EventGap        = "gap"                 // events were lost for this reader; data: none
)

// PermissionChange is the data of EventGrant.
type PermissionChange struct {
	Change     string     `json:"change" enum:"granted,revoked,expired,requested,denied"`
	Permission Permission `json:"permission"`
}

// PluginEvent is the data of EventPlugin: what a plugin emitted.
type PluginEvent struct {
	Event   string          `json:"event" doc:"plugin.<id>.<event>"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// HookEvent is the data of EventHook.
type HookEvent struct {
	Event  string `json:"event"`
	Status string `json:"status" doc:"a HandlerReport's, or changed"`
	Detail string `json:"detail,omitempty"`
}

// EventQuery says which events to send.
type EventQuery struct {
	Tenant string // "" for all
	Since  uint64 // events with a larger seq only
	Follow bool   // go on with those to come
}

// LogLine is one line that a plugin printed.
type LogLine struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream" enum:"stdout,stderr"`
	Line   string    `json:"line" doc:"without its end"`
	Cut    bool      `json:"cut,omitempty" doc:"the line was longer than 65536 bytes; this is its beginning"`
}

// Messages on the WebSocket by which a host attaches. The first one is the
// host's HostAttachType, within HostAttachSeconds, the answer is
// HostAttachedType; then HostCallType goes to the host, which answers each with
// a HostAnswerType of the same id, and HostNoticeType needs no answer. A
// message is one JSON text of at most MaxHostMessage bytes.
const (
	MaxHostMessage    = 1 << 20
	HostAttachSeconds = 10
)

// Types of messages of hosts.
const (
	HostAttachType   = "attach"
	HostAttachedType = "attached"
	HostCallType     = "call"
	HostAnswerType   = "answer"
	HostNoticeType   = "notice"
)

// HostMessage is any message on that WebSocket; Type says which fields count.
type HostMessage struct {
	Type string `json:"type" enum:"attach,attached,call,answer,notice"`
	// Name and Methods are the attaching host's: what it calls itself, and the
	// host.* methods that it answers.
	Name    string   `json:"name,omitempty"`
	Methods []string `json:"methods,omitempty"`
	// ID, Plugin, Method and Params are a call's; a notice has no ID.
	ID     string          `json:"id,omitempty"`
	Plugin string          `json:"plugin,omitempty"`
	Method string          `json:"method,omitempty" example:"host.emit"`
	Params json.RawMessage `json:"params,omitempty"`
	// Result and Error are an answer's.
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// Methods of the host.
const (
	HostLog           = "host.log"            // params: {"level","message"}; a notice
	HostEmit          = "host.emit"           // params: {"event","payload"}; a call
	HostConfigChanged = "host.config.changed" // params: {}; a notice
)
