package hooks

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// run is one event on its way through the pipeline. One goroutine owns it.
type run struct {
	p     *Pipeline
	event plugin.HookEvent
	req   Request
	tool  string // of events about a tool's call
	state State
	res   Result
	// changed says that the payload is not the emitter's any more.
	changed bool
}

func (p *Pipeline) newRun(req Request) (*run, error) {
	event, ok := plugin.HookEventOf(req.Event)
	if !ok {
		return nil, fault.New(errdefs.ErrNotFound, "unknown_event", "there is no event %.100q", req.Event).
			WithHint(`OpenClaw's events are written like "before_tool_call", others like "agent:message:before"`)
	}
	if isNull(req.Payload) {
		req.Payload = json.RawMessage("{}")
	}
	state, err := NewState(req.Payload)
	if err != nil {
		return nil, fault.New(errdefs.ErrInvalidArgument, "bad_payload", "cannot emit %s with this payload: %w", req.Event, err).
			WithHint("the payload must be a JSON object")
	}
	r := &run{p: p, event: event, req: req, state: state, tool: text(state.Payload["toolName"])}
	r.res = Result{Event: req.Event, Outcome: OutcomePass, Changes: []Change{}, Handlers: []Report{}}
	return r, nil
}

// through gives the event to the handlers, in their order, and sums up.
func (r *run) through(ctx context.Context, handlers []Handler) (Result, error) {
	for i := range handlers {
		handlers[i].Event = r.event
	}
	var err error
	switch r.event.Kind {
	case plugin.HookObserve:
		err = r.observe(ctx, handlers)
	case plugin.HookEvaluate:
		err = r.evaluate(ctx, handlers)
	case plugin.HookModify, plugin.HookGate, plugin.HookClaim:
		err = r.sequence(ctx, handlers)
	}
	if err != nil {
		return Result{}, err
	}
	return r.sum(), nil
}

// sum returns the result, whose payload is the emitter's own text as long as
// nobody changed it.
func (r *run) sum() Result {
	r.res.Payload = r.payload()
	if len(r.state.Result) > 0 {
		r.res.Result = r.state.Result.Encode()
	}
	switch {
	case r.res.BlockedBy != nil:
		r.res.Outcome = OutcomeBlock
	case r.state.Claimed:
		r.res.Outcome = OutcomeClaim
	}
	return r.res
}

// payload encodes the event as it is now.
func (r *run) payload() json.RawMessage {
	if !r.changed {
		return r.req.Payload
	}
	return r.state.Payload.Encode()
}

// sequence runs the handlers one after the other, and asks a person in the
// end if one of them wants that.
func (r *run) sequence(ctx context.Context, handlers []Handler) error {
	for _, h := range handlers {
		if r.res.BlockedBy != nil || r.state.Claimed {
			r.report(h, answer{status: StatusSkipped, detail: "it was decided before"})
			continue
		}
		a, err := r.p.call(ctx, r, h, r.next())
		if err != nil {
			return err
		}
		r.take(h, a)
	}
	if r.res.BlockedBy == nil && r.state.Approval != nil {
		return r.ask(ctx)
	}
	return nil
}

// next is the event as the next handler gets it.
func (r *run) next() json.RawMessage {
	if ruleOf(r.event).chained {
		return r.payload()
	}
	return r.req.Payload
}

// take merges a handler's answer into the event, or, if it has none, stops the
// event where the handler guards it.
func (r *run) take(h Handler, a answer) {
	var e Effect
	if a.status == StatusOK {
		next, effect, err := Merge(r.event, r.state, h, a.result)
		if err != nil {
			a.status, a.detail = StatusFailed, clean(err.Error(), maxDetail)
		} else {
			r.state, e = next, effect
			r.changed = r.changed || effect.payload
			a.status, a.detail = e.Status, e.Dropped
		}
	}
	if a.status == StatusBlock {
		r.res.BlockedBy = &Block{Key: h.Key, Handler: h.Index, Reason: r.state.Reason}
	}
	if a.status == StatusClaim {
		r.res.ClaimedBy = &h.Key
	}
	if a.failure() && h.guards() {
		r.fail(h, guardReason(h, a))
	}
	r.res.Changes = append(r.res.Changes, e.Changes...)
	r.report(h, a)
	for _, entry := range r.entries(h, a, e) {
		if err := r.p.cfg.Record(entry); err != nil {
			r.fail(h, "cannot record what plugin "+h.Key.ID+" did")
			r.p.cfg.Log.Error("cannot record a hook", "tenant", h.Key.Tenant, "plugin", h.Key.ID, "event", r.event.Name, "error", err)
			return
		}
	}
}

// fail blocks the event though no handler decided so.
func (r *run) fail(h Handler, reason string) {
	if r.res.BlockedBy != nil {
		return
	}
	if r.state.Claimed {
		r.state.Claimed, r.state.Result, r.res.ClaimedBy = false, nil, nil
	}
	r.state = r.state.blocked(r.event, reason, nil)
	r.res.BlockedBy = &Block{Key: h.Key, Handler: h.Index, Reason: reason, Failed: true}
}

func (r *run) report(h Handler, a answer) {
	r.res.Handlers = append(r.res.Handlers, Report{
		Key: h.Key, Index: h.Index, Status: a.status, Took: a.took, Detail: a.detail, Outcome: a.outcome,
	})
}

// entries are what has to be recorded of a handler.
func (r *run) entries(h Handler, a answer, e Effect) []Entry {
	var list []Entry
	add := func(kind, detail string) {
		list = append(list, Entry{
			Kind: kind, Tenant: h.Key.Tenant, Event: r.event.Name, Key: h.Key, Handler: h.Index,
			Detail: detail, Context: r.req.Context,
		})
	}
	if a.cutOff {
		add(EntryCutOff, a.detail)
	}
	switch a.status {
	case StatusTimeout, StatusFailed:
		add(EntryFailure, a.detail)
	case StatusClaim:
		add(EntryClaim, "")
	}
	if e.Dropped != "" {
		add(EntryDrop, e.Dropped)
	}
	if len(e.Changes) > 0 {
		add(EntryChange, "")
		list[len(list)-1].Changes = e.Changes
	}
	if b := r.res.BlockedBy; b != nil && b.Key == h.Key && b.Handler == h.Index {
		add(EntryBlock, b.Reason)
		list[len(list)-1].Failed = b.Failed
	}
	return list
}

// observe runs all handlers at once; what they return does not matter.
func (r *run) observe(ctx context.Context, handlers []Handler) error {
	answers, err := r.all(ctx, handlers)
	for i, h := range handlers {
		if err == nil {
			r.note(h, answers[i], "")
		}
	}
	return err
}

// evaluate runs all handlers at once and keeps their outcomes apart. The
// first one that blocks, in the order of the pipeline, is who blocked.
func (r *run) evaluate(ctx context.Context, handlers []Handler) error {
	answers, err := r.all(ctx, handlers)
	if err != nil {
		return err
	}
	for i, h := range handlers {
		a := answers[i]
		dropped := ""
		if a.status == StatusOK {
			if a.outcome, dropped, err = judge(h, a.result); err != nil {
				a.status, a.detail = StatusFailed, clean(err.Error(), maxDetail)
			}
		}
		if dropped != "" {
			a.status, a.detail = StatusDropped, dropped
		}
		if reason, blocks := verdict(a.outcome); blocks {
			a.status = StatusBlock
			if r.res.BlockedBy == nil {
				r.res.BlockedBy = &Block{Key: h.Key, Handler: h.Index, Reason: reason}
			}
		}
		r.note(h, a, dropped)
	}
	return nil
}

// note reports and records a handler of an event that nothing can stop.
func (r *run) note(h Handler, a answer, dropped string) {
	r.report(h, a)
	for _, entry := range r.entries(h, a, Effect{Dropped: dropped}) {
		if err := r.p.cfg.Record(entry); err != nil {
			r.p.cfg.Log.Error("cannot record a hook", "tenant", h.Key.Tenant, "plugin", h.Key.ID, "event", r.event.Name, "error", err)
		}
	}
}

func (r *run) all(ctx context.Context, handlers []Handler) ([]answer, error) {
	answers := make([]answer, len(handlers))
	errs := make([]error, len(handlers))
	var group sync.WaitGroup
	for i, h := range handlers {
		group.Go(func() { answers[i], errs[i] = r.p.call(ctx, r, h, r.req.Payload) })
	}
	group.Wait()
	return answers, cmp.Or(errs...)
}

// guardReason says why an event stops that a handler guards and did not judge.
// What a plugin threw stays in the report.
func guardReason(h Handler, a answer) string {
	why := a.detail
	if a.status == StatusFailed {
		why = "it failed"
	}
	return fmt.Sprintf("plugin %s guards this and gave no answer: %s", h.Key.ID, why)
}
