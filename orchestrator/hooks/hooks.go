// Package hooks is the hook pipeline: it gives an event to the handlers that
// plugins registered for it, in one order over all plugins, and merges what
// they return.
//
// It promises that a handler gets no more time than its own, that nothing a
// handler returns does more than was granted to it, that a gate which cannot
// answer (late, down, broken, cut off) stops the event where the event fails
// closed, that the same results always merge into the same event, whoever
// answered first, and that every block, change, drop and failure is recorded
// before the caller learns of it.
package hooks

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Plugins is what the pipeline needs to know of the installed plugins.
type Plugins interface {
	// Handlers returns the handlers of the event that the tenant's enabled
	// plugins registered, in any order, those without any right too.
	Handlers(tenant, event string) []Handler
	// CallHook gives the event to one handler and waits for its result, no
	// longer than ctx, at whose end it has the runner give the call up. It may
	// wait for a plugin that is being started; if ctx ends before the plugin
	// got the call, the error is Unavailable. A plugin that will not serve soon
	// is Unavailable or FailedPrecondition at once.
	CallHook(ctx context.Context, key plugin.Key, call wire.HookCall) (wire.HookResult, error)
}

// Config is what a [Pipeline] is made of.
type Config struct {
	Plugins Plugins
	// Ask asks a person and waits for the decision, one of a.Allowed, no
	// longer than ctx, which ends when the approval's time does. Nil denies.
	Ask func(ctx context.Context, a Approval) (decision string, err error)
	// Resolved tells the plugin that asked how that ended; it must not wait
	// for the plugin. May be nil.
	Resolved func(ctx context.Context, key plugin.Key, m wire.Resolved)
	// Record writes what has to be recorded. Where it fails, an event that can
	// be stopped is. May be nil. It is called from several goroutines.
	Record func(Entry) error
	Log    *slog.Logger // nil for none
}

// Pipeline runs hooks. It is safe for concurrent use.
type Pipeline struct {
	cfg     Config
	breaker breaker
	posts   posts
}

// New returns a pipeline over the plugins of cfg.
func New(cfg Config) *Pipeline {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Record == nil {
		cfg.Record = func(Entry) error { return nil }
	}
	return &Pipeline{cfg: cfg}
}

// Request is one event.
type Request struct {
	Tenant string
	Event  string
	// Payload is a JSON object; empty and null mean {}. It must not change
	// until the event is through.
	Payload json.RawMessage
	Context wire.Context
	// Skip, if set, says which handlers are left out.
	Skip func(Handler) bool
	// Timeout replaces the handlers' own; 0 leaves them.
	Timeout time.Duration
}

// Outcomes of an event, as in the API.
const (
	OutcomePass  = "pass"
	OutcomeBlock = "block"
	OutcomeClaim = "claim"
)

// Statuses of handlers, as in the API.
const (
	StatusOK         = "ok"
	StatusBlock      = "block"
	StatusClaim      = "claim"
	StatusTimeout    = "timeout"
	StatusFailed     = "failed"
	StatusDown       = "down"        // its plugin does not run
	StatusCutOff     = "cut_off"     // it was late too often
	StatusNotGranted = "not_granted" // it may not see the event
	StatusDropped    = "dropped"     // something of its result was not taken
	StatusSkipped    = "skipped"     // it was not its turn
)

// Result is what became of an event.
type Result struct {
	Event   string
	Outcome string
	// Payload is the event as it is now.
	Payload json.RawMessage
	// Result is the handlers' results, merged; nil if they returned nothing.
	Result    json.RawMessage
	BlockedBy *Block
	ClaimedBy *plugin.Key
	// Approval is what a person was asked, with the decision.
	Approval *Approval
	Changes  []Change // in order
	Handlers []Report // every handler, in the order of the pipeline
}

// Block says who stopped an event.
type Block struct {
	Key     plugin.Key
	Handler int
	Reason  string
	// Failed says that nobody decided so.
	Failed bool
}

// Report is what one handler did.
type Report struct {
	Key    plugin.Key
	Index  int
	Status string
	Took   time.Duration
	Detail string // why, where it is not ok
	// Outcome is the handler's own, of events that are evaluated.
	Outcome json.RawMessage
}

// Kinds of an [Entry].
const (
	EntryBlock    = "block"
	EntryClaim    = "claim"
	EntryChange   = "change"
	EntryDrop     = "drop"
	EntryFailure  = "failure" // it threw, was late, or returned what is no result
	EntryCutOff   = "cut_off"
	EntryApproval = "approval" // a person was asked
)

// Entry is something that a handler did and that has to be recorded. What a
// plugin says is in Detail and in the values of Changes, and in nothing else.
type Entry struct {
	Kind    string
	Tenant  string
	Event   string
	Key     plugin.Key
	Handler int
	Failed  bool // of a block: nobody decided so
	Detail  string
	Changes []Change
	Context wire.Context
}

// Emit gives an event to all of its handlers and returns what became of it.
// An error means that nobody knows, so the event must not go on: the event is
// not one (NotFound, InvalidArgument), or ctx ended (Canceled,
// DeadlineExceeded).
func (p *Pipeline) Emit(ctx context.Context, req Request) (Result, error) {
	r, err := p.newRun(req)
	if err != nil {
		return Result{}, err
	}
	return r.through(ctx, Sort(p.cfg.Plugins.Handlers(req.Tenant, req.Event)))
}

// Invoke gives an event to one handler, for hosts that have a pipeline of
// their own: the result is what it would be if there were no other. Its
// errors are those of Emit; an unknown handler is NotFound.
func (p *Pipeline) Invoke(ctx context.Context, key plugin.Key, index int, req Request) (Result, error) {
	req.Tenant = key.Tenant
	r, err := p.newRun(req)
	if err != nil {
		return Result{}, err
	}
	for _, h := range p.cfg.Plugins.Handlers(req.Tenant, req.Event) {
		if h.Key == key && h.Index == index {
			return r.through(ctx, []Handler{h})
		}
	}
	return Result{}, fault.New(errdefs.ErrNotFound, "unknown_handler", "plugin %q has no handler %d of %s", key.ID, index, req.Event).
		WithHint("see which there are: ocmt hooks list")
}

// CutOff reports whether the handler was late so often that it is not called
// any more.
func (p *Pipeline) CutOff(key plugin.Key, index int) bool { return p.breaker.open(key, index) }

// Reset lets the handlers of a plugin be called again that were cut off. It
// is for when a person enables, restarts or resets it, or installs it anew,
// and for when it is gone.
func (p *Pipeline) Reset(key plugin.Key) { p.breaker.reset(key) }
