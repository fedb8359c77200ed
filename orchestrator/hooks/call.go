package hooks

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// runnerGrace is how much later than the host the runner gives a call up by
// itself, so that it is the host which says that time was up.
const runnerGrace = 250 * time.Millisecond

// maxDetail bounds what is told of a handler's failure, bytes.
const maxDetail = 1 << 10

// answer is what came of a handler's turn.
type answer struct {
	status  string
	detail  string
	took    time.Duration
	result  wire.HookResult
	outcome json.RawMessage // of events that are evaluated
	cutOff  bool            // this answer cut the handler off
}

// failure reports whether the handler should have answered and did not.
func (a answer) failure() bool {
	switch a.status {
	case StatusTimeout, StatusFailed, StatusDown, StatusCutOff:
		return true
	}
	return false
}

// call gives the event to a handler, if it is its turn. An error says that ctx
// ended.
func (p *Pipeline) call(ctx context.Context, r *run, h Handler, payload json.RawMessage) (answer, error) {
	if ctx.Err() != nil {
		return answer{}, r.ended(ctx)
	}
	if a, out := p.passOver(r, h); out {
		return a, nil
	}
	limit := h.Timeout
	if r.req.Timeout > 0 {
		limit = min(r.req.Timeout, plugin.MaxHookTimeout)
	}
	started := time.Now()
	a, err := p.deliver(ctx, r, h, payload, limit)
	a.took = time.Since(started)
	if err != nil {
		return a, err
	}
	switch a.status {
	case StatusOK, StatusFailed:
		p.breaker.answered(h.Key, h.Index)
	case StatusTimeout:
		// With less than its own time, nobody can say that it is too slow.
		if limit >= h.Timeout && p.breaker.missed(h.Key, h.Index) {
			a.cutOff = true
			p.cfg.Log.Warn("hook cut off", "tenant", h.Key.Tenant, "plugin", h.Key.ID, "event", r.event.Name, "handler", h.Index)
		}
	}
	return a, nil
}

// passOver says why a handler is not called.
func (p *Pipeline) passOver(r *run, h Handler) (answer, bool) {
	switch {
	case len(h.Rights) == 0:
		return answer{status: StatusNotGranted, detail: "it was not granted to see the event"}, true
	case r.req.Skip != nil && r.req.Skip(h):
		return answer{status: StatusSkipped, detail: "it was left out by the caller"}, true
	case h.Lacks != "":
		return answer{status: StatusSkipped, detail: h.Lacks}, true
	case !h.wants(r.tool):
		return answer{status: StatusSkipped, detail: "it is for other tools"}, true
	case p.breaker.open(h.Key, h.Index):
		return answer{status: StatusCutOff, detail: fmt.Sprintf(
			"it was late %d times in a row and is not called any more until somebody runs: ocmt plugins restart %s", MaxLate, h.Key.ID)}, true
	}
	return answer{}, false
}

// deliver calls the handler and reads its answer. What comes after its time
// counts for nothing.
func (p *Pipeline) deliver(ctx context.Context, r *run, h Handler, payload json.RawMessage, limit time.Duration) (answer, error) {
	mine, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	deadline, _ := mine.Deadline() // the caller's may be earlier
	call := wire.HookCall{
		ID: rand.Text(), Handler: h.Index, Event: r.event.Name, Payload: payload, Context: r.req.Context,
		Sync: r.event.Sync, TimeoutMillis: (time.Until(deadline) + runnerGrace).Milliseconds(),
	}
	result, err := p.cfg.Plugins.CallHook(mine, h.Key, call)
	switch {
	case ctx.Err() != nil:
		return answer{}, r.ended(ctx)
	case isDown(err):
		return answer{status: StatusDown, detail: clean(fault.Of(err).Message, maxDetail)}, nil
	case mine.Err() != nil || errdefs.IsDeadlineExceeded(err) || isLate(result):
		return answer{status: StatusTimeout, detail: fmt.Sprintf("it did not answer within %s", limit)}, nil
	case err != nil:
		return answer{status: StatusFailed, detail: clean(err.Error(), maxDetail)}, nil
	case result.Error != nil:
		return answer{status: StatusFailed, detail: thrown(result.Error)}, nil
	case result.ID != "" && result.ID != call.ID:
		return answer{status: StatusFailed, detail: "it answered another call"}, nil
	}
	result.ID = call.ID
	return answer{status: StatusOK, result: result}, nil
}

// ended says why nobody knows what becomes of the event.
func (r *run) ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.New(context.DeadlineExceeded, "timeout", "the hooks of %s were not through in time", r.event.Name).
			WithHint("give it more time, or see which hook is slow: ocmt hooks emit %s --json", r.event.Name)
	}
	return fault.New(context.Canceled, "cancelled", "%s was cancelled while its hooks ran", r.event.Name)
}

func isDown(err error) bool {
	return errdefs.IsUnavailable(err) || errdefs.IsFailedPrecondition(err) || errdefs.IsNotFound(err)
}

func isLate(result wire.HookResult) bool {
	return result.Error != nil && result.Error.Code == wire.CodeTimedOut
}

// thrown is what the plugin says of its failure.
func thrown(e *wire.Error) string {
	said := e.Message
	if e.Name != "" {
		said = e.Name + ": " + said
	}
	return clean(e.Code+": "+said, maxDetail)
}
