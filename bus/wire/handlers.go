package wire

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Names of the messages of hooks, services and host calls.
const (
	TypeHookCall      = "hook.call"
	TypeHookResult    = "hook.result"
	TypeServiceCall   = "service.call"
	TypeServiceResult = "service.result"
	TypeServiceHealth = "service.health"
	TypeResolved      = "approval.resolved"
	TypeHostCall      = "host.call"
	TypeHostResult    = "host.result"
)

// HookCall gives an event to one handler; the answer is a [HookResult]. A
// handler gets a copy of its own.
type HookCall struct {
	Type string `json:"type"` // "hook.call"
	ID   string `json:"id"`
	// Handler is the index of the hook in the Ready's Registrations.
	Handler int             `json:"handler"`
	Event   string          `json:"event"`
	Payload json.RawMessage `json:"payload"`
	Context Context         `json:"context"`
	// Sync says that the handler must not return a promise: the result of one
	// that does is dropped with a diagnostic.
	Sync bool `json:"sync,omitempty"`
	// TimeoutMillis is when the runner gives the call up by itself, ms.
	TimeoutMillis int64 `json:"timeoutMs"`
}

// HookResult answers a HookCall. With Error set, nothing else is.
type HookResult struct {
	Type string `json:"type"` // "hook.result"
	ID   string `json:"id"`
	// Result is what the handler returned; null when it returned nothing. Of a
	// handler of registerHook that returned nothing it is {"messages": [...]}
	// when it pushed some onto its event.
	Result json.RawMessage `json:"result,omitempty"`
	// Payload is the payload after a handler of the export form or of
	// registerHook, if it changed it; absent otherwise.
	Payload json.RawMessage `json:"payload,omitempty"`
	// Block is set by a handler of the export form that threw a BlockError or
	// returned {block}.
	Block *Block `json:"block,omitempty"`
	Error *Error `json:"error,omitempty"`
}

// Block is a handler's refusal.
type Block struct {
	Reason string `json:"reason,omitempty"` // at most [MaxReason] bytes
}

// MaxReason bounds the reasons that people are shown, bytes.
const MaxReason = 4 << 10

// maxHealthSize bounds a [ServiceHealth], bytes: JSON may take six for one of
// the reason.
const maxHealthSize = 6*MaxReason + MaxSmallSize

// Operations of a [ServiceCall].
const (
	ServiceStart = "start"
	ServiceStop  = "stop"
)

// ServiceCall starts or stops one service; the answer is a [ServiceResult].
// The runner calls stop() at most once per start, and a start for a service
// that runs, or a stop for one that does not, does nothing.
//
// A start() that has not returned in time is answered with [CodeTimedOut] and
// goes on. When it returns after all, stop() is called, unless another start
// came meanwhile, which waits for the same start(). A service whose start() is
// its loop, and never returns, is thus reported as timed out, and runs until
// it is told to stop.
type ServiceCall struct {
	Type    string `json:"type"` // "service.call"
	ID      string `json:"id"`
	Service string `json:"service"` // its id
	Op      string `json:"op"`
	// TimeoutMillis bounds the handler, ms.
	TimeoutMillis int64 `json:"timeoutMs"`
}

// ServiceResult answers a ServiceCall; Error is nil when it was done.
type ServiceResult struct {
	Type  string `json:"type"` // "service.result"
	ID    string `json:"id"`
	Error *Error `json:"error,omitempty"`
}

// ServiceHealth reports what a running service says of itself (reportFailure
// and clearFailure), published.
type ServiceHealth struct {
	Type    string `json:"type"` // "service.health"
	Service string `json:"service"`
	Failed  bool   `json:"failed"`
	Reason  string `json:"reason,omitempty"` // at most [MaxReason] bytes
}

// Resolved tells the runner how an approval ended that one of its hooks asked
// for, published: the handler's onResolution is called.
type Resolved struct {
	Type string `json:"type"` // "approval.resolved"
	// ID is the HookCall's.
	ID string `json:"id"`
	// Decision is one of the Decision constants.
	Decision string `json:"decision"`
}

// Decisions on an approval, OpenClaw's.
const (
	DecisionAllowOnce   = "allow-once"
	DecisionAllowAlways = "allow-always"
	DecisionDeny        = "deny"
	DecisionTimeout     = "timeout"
	DecisionCancelled   = "cancelled"
)

// Methods of a [HostCall].
const (
	HostLog  = "host.log"  // params: {"level","message"}; always allowed
	HostEmit = "host.emit" // params: {"event","payload","scope"}: gatewayEvents.emit; scope may be absent
	HostWish = "host.wish" // params: a [Wish]; always allowed when [Load.Learn] is set, and never else
)

// Values of [Wish.Kind].
const (
	WishNetwork = "network" // "host:port" that was connected to
	WishEnv     = "env"     // an environment variable that was read and is not set
	WishSecret  = "secret"  // one whose name says that it is a secret
	WishConfig  = "config"  // a dot path into config.json that was read and is not there
)

// Wish is what a plugin reached for and was not given, as the runner saw it.
type Wish struct {
	Kind   string `json:"kind"`
	Target string `json:"target"`
}

// HostCall asks the host for something, a request; the answer is a
// [HostResult].
type HostCall struct {
	Type   string          `json:"type"` // "host.call"
	ID     string          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// HostResult answers a HostCall. Exactly one of Result and Error is set.
type HostResult struct {
	Type   string          `json:"type"` // "host.result"
	ID     string          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// Error codes of hooks, services and host calls.
const (
	CodeUnknownHandler = "unknown_handler" // no hook of that index
	CodeUnknownService = "unknown_service"
	CodeTimedOut       = "timed_out"   // the handler's time was over
	CodeNotGranted     = "not_granted" // the host call's method
	CodeNoHost         = "no_host"     // no host is attached
)

func (m *HookCall) meta() meta      { return meta{&m.Type, TypeHookCall, MaxSize} }
func (m *HookResult) meta() meta    { return meta{&m.Type, TypeHookResult, MaxSize} }
func (m *ServiceCall) meta() meta   { return meta{&m.Type, TypeServiceCall, MaxSmallSize} }
func (m *ServiceResult) meta() meta { return meta{&m.Type, TypeServiceResult, MaxFailSize} }
func (m *ServiceHealth) meta() meta { return meta{&m.Type, TypeServiceHealth, maxHealthSize} }
func (m *Resolved) meta() meta      { return meta{&m.Type, TypeResolved, MaxSmallSize} }
func (m *HostCall) meta() meta      { return meta{&m.Type, TypeHostCall, MaxFailSize} }
func (m *HostResult) meta() meta    { return meta{&m.Type, TypeHostResult, MaxFailSize} }

func (m *HookCall) check() error {
	if m.Handler < 0 || m.Handler >= MaxItems {
		return fmt.Errorf("handler is %d", m.Handler)
	}
	return checkID(m.ID)
}

func (m *HookResult) check() error {
	if m.Error != nil && (m.Result != nil || m.Payload != nil || m.Block != nil) {
		return errors.New("it holds an error and a result")
	}
	if m.Block != nil {
		if err := checkReason(m.Block.Reason); err != nil {
			return err
		}
	}
	return checkOutcome(m.ID, m.Error)
}

func (m *ServiceCall) check() error {
	if m.Op != ServiceStart && m.Op != ServiceStop {
		return fmt.Errorf("op is %.64q", m.Op)
	}
	if m.Service == "" {
		return errors.New("it names no service")
	}
	return checkID(m.ID)
}

func (m *ServiceResult) check() error { return checkOutcome(m.ID, m.Error) }

func (m *ServiceHealth) check() error {
	if m.Service == "" {
		return errors.New("it names no service")
	}
	return checkReason(m.Reason)
}

func (m *Resolved) check() error {
	switch m.Decision {
	case DecisionAllowOnce, DecisionAllowAlways, DecisionDeny, DecisionTimeout, DecisionCancelled:
		return checkID(m.ID)
	default:
		return fmt.Errorf("decision is %.64q", m.Decision)
	}
}

func (m *HostCall) check() error {
	if m.Method == "" {
		return errors.New("it names no method")
	}
	return checkID(m.ID)
}

func (m *HostResult) check() error {
	if (m.Result == nil) == (m.Error == nil) {
		return errors.New("exactly one of result and error must be set")
	}
	return checkOutcome(m.ID, m.Error)
}

func checkOutcome(id string, e *Error) error {
	if e != nil && e.Code == "" {
		return errors.New("error has no code")
	}
	return checkID(id)
}

func checkReason(reason string) error {
	if len(reason) > MaxReason {
		return fmt.Errorf("the reason has %d bytes, at most %d are allowed", len(reason), MaxReason)
	}
	return nil
}
