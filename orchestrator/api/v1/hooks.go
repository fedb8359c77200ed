package v1

import (
	"encoding/json"
	"time"
)

// Hook is a hook that a plugin registered, as the pipeline runs it.
type Hook struct {
	Tenant   string   `json:"tenant"`
	Plugin   string   `json:"plugin"`
	Handler  int      `json:"handler" doc:"index of the registration; names the handler within the plugin"`
	Event    string   `json:"event" example:"before_tool_call"`
	Kind     string   `json:"kind" enum:"modify,gate,claim,observe,evaluate,unknown" doc:"how its event is run; no host emits an unknown one"`
	Priority float64  `json:"priority" doc:"higher runs first"`
	Rights   []string `json:"rights" nullable:"false" doc:"what was granted of observe, modify, block and claim; a hook without any is not called"`
	Asks     []string `json:"asks" nullable:"false" doc:"what it would have to be granted to be used fully"`
	Form     string   `json:"form" enum:"export,register"`
	CutOff   bool     `json:"cutOff,omitempty" doc:"it missed its deadline too often and is not called; of a gate that denies the event"`
	Timeout  int64    `json:"timeoutMs" doc:"ms"`
}

// HookList answers a list of hooks, in the order in which they run.
type HookList struct {
	Hooks []Hook `json:"hooks" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"cursor of the next page, if there is one"`
}

// EmitRequest gives an event to the hooks of a tenant.
type EmitRequest struct {
	Payload json.RawMessage `json:"payload,omitempty" doc:"a JSON object, the event; {} if absent"`
	Context CallContext     `json:"context,omitzero" required:"false"`
	// TimeoutMillis bounds the whole pipeline, approvals included.
	TimeoutMillis int64 `json:"timeoutMs,omitempty" minimum:"0" maximum:"600000" doc:"ms; 120000 if absent"`
}

// Outcomes of an event.
const (
	OutcomePass  = "pass"
	OutcomeBlock = "block"
	OutcomeClaim = "claim"
)

// EmitResult is what became of an event.
type EmitResult struct {
	Event   string          `json:"event"`
	Outcome string          `json:"outcome" enum:"pass,block,claim"`
	Payload json.RawMessage `json:"payload" doc:"the event as it is now"`
	Result  json.RawMessage `json:"result,omitempty" doc:"the handlers' results, merged by the rules of the event"`
	// BlockedBy says who blocked it, and why.
	BlockedBy *HookBlock `json:"blockedBy,omitempty"`
	ClaimedBy string     `json:"claimedBy,omitempty" doc:"plugin"`
	// Approval is what a handler asked a person for; the emit waited for it.
	Approval *Approval       `json:"approval,omitempty"`
	Changes  []HookChange    `json:"changes" nullable:"false" doc:"who changed what, in order"`
	Handlers []HandlerReport `json:"handlers" nullable:"false" doc:"every handler, in the order of the pipeline"`
}

// HookBlock is a refusal.
type HookBlock struct {
	Plugin string `json:"plugin"`
	Reason string `json:"reason,omitempty"`
	// Failed says that nobody decided so: the gate was down, late or broken.
	Failed bool `json:"failed,omitempty"`
}

// HookChange is a field that a handler changed.
type HookChange struct {
	Plugin  string          `json:"plugin"`
	Handler int             `json:"handler"`
	Path    string          `json:"path" doc:"JSON pointer into payload, or into result if it begins with /result" example:"/params/query"`
	Before  json.RawMessage `json:"before,omitempty"`
	After   json.RawMessage `json:"after,omitempty"`
}

// HandlerReport is what one handler did.
type HandlerReport struct {
	Plugin  string  `json:"plugin"`
	Handler int     `json:"handler"`
	Status  string  `json:"status" enum:"ok,block,claim,timeout,failed,down,cut_off,not_granted,dropped,skipped"`
	Millis  float64 `json:"ms"`
	Detail  string  `json:"detail,omitempty" doc:"why, where it is not ok"`
	// Outcome is the handler's own, of kind evaluate.
	Outcome json.RawMessage `json:"outcome,omitempty"`
}

// InvokeRequest gives an event to one handler: a host with a pipeline of its
// own interleaves ours.
type InvokeRequest struct {
	Event         string          `json:"event,omitempty" doc:"must be the handler's own if it is given"`
	Payload       json.RawMessage `json:"payload,omitempty" doc:"a JSON object, the event; {} if absent"`
	Context       CallContext     `json:"context,omitzero" required:"false"`
	TimeoutMillis int64           `json:"timeoutMs,omitempty" minimum:"0" maximum:"600000" doc:"ms; the handler's own if absent"`
}

// Service is a background service of a plugin.
type Service struct {
	Tenant      string     `json:"tenant"`
	Plugin      string     `json:"plugin"`
	ID          string     `json:"id"`
	State       string     `json:"state" enum:"stopped,starting,running,failed,backoff,stopping" doc:"stopped also while the plugin does not run"`
	Desired     bool       `json:"desired" doc:"false once a person stopped it"`
	Since       time.Time  `json:"since"`
	Restarts    int        `json:"restarts" doc:"starts after a failure"`
	LastError   string     `json:"lastError,omitempty"`
	NextAttempt *time.Time `json:"nextAttempt,omitempty"`
}

// ServiceList answers a list of services, in the order in which they start.
type ServiceList struct {
	Services []Service `json:"services" nullable:"false"`
	Next     string    `json:"next,omitempty" doc:"cursor of the next page, if there is one"`
}

// Snapshot is everything that the tenant's plugins registered and that was
// granted, in the global order in which a host would register it.
type Snapshot struct {
	Digest        string         `json:"digest" doc:"of the list; changes whenever anything in it does" example:"sha256:..."`
	Registrations []SnapshotItem `json:"registrations" nullable:"false"`
}

// SnapshotItem is one registration.
type SnapshotItem struct {
	Plugin  string          `json:"plugin"`
	Handler int             `json:"handler" doc:"index of the registration within the plugin"`
	Kind    string          `json:"kind" example:"tool"`
	Name    string          `json:"name"`
	Form    string          `json:"form" enum:"export,register"`
	Spec    json.RawMessage `json:"spec,omitempty"`
	// Shadowed names the plugin whose registration of the same kind and name
	// comes first: a host that knows bare names uses that one.
	Shadowed string `json:"shadowedBy,omitempty"`
}
