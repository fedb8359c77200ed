package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
)

// ask has a person decide what a handler asked for, and tells the plugin how
// that ended. Anything but a decision to allow, of those that were offered,
// blocks the event.
func (r *run) ask(ctx context.Context) error {
	a := *r.state.Approval
	a.Tenant, a.Context = r.req.Tenant, r.req.Context
	a.Tool, a.Owner = r.tool, text(r.state.Payload["plugin"])
	decision, why, err := r.decide(ctx, a)
	a.Decision = decision
	r.res.Approval = &a
	if r.p.cfg.Resolved != nil {
		r.p.cfg.Resolved(context.WithoutCancel(ctx), a.Key, wire.Resolved{ID: a.HookID, Decision: decision})
	}
	if err != nil {
		return err
	}
	entries := []Entry{{Kind: EntryApproval, Detail: decision}}
	if why != "" {
		r.state = r.state.blocked(r.event, why, nil)
		r.res.BlockedBy = &Block{Key: a.Key, Handler: a.Handler, Reason: why}
		entries = append(entries, Entry{Kind: EntryBlock, Detail: why})
	}
	for _, e := range entries {
		e.Tenant, e.Event, e.Key, e.Handler, e.Context = a.Tenant, r.event.Name, a.Key, a.Handler, a.Context
		if err := r.p.cfg.Record(e); err != nil {
			r.fail(Handler{Key: a.Key, Index: a.Handler}, "cannot record what was approved")
			r.p.cfg.Log.Error("cannot record a hook", "tenant", a.Tenant, "plugin", a.Key.ID, "event", r.event.Name, "error", err)
			break
		}
	}
	return nil
}

// aMoment is how much earlier than the event's end a question may have ended
// that had no more time than the event.
const aMoment = 50 * time.Millisecond

// decide returns the decision and, if it is not to allow, what the caller is
// told. The error says that ctx ended.
func (r *run) decide(ctx context.Context, a Approval) (decision, why string, err error) {
	if r.p.cfg.Ask == nil {
		return Cancelled, "there is nobody who could approve it", nil
	}
	mine, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	decision, err = r.p.cfg.Ask(mine, a)
	if deadline, ok := ctx.Deadline(); ok && decision == TimedOut && time.Until(deadline) < aMoment {
		<-ctx.Done() // it was the event's time that was over, not the person's
	}
	switch {
	case ctx.Err() != nil:
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return TimedOut, "", r.ended(ctx)
		}
		return Cancelled, "", r.ended(ctx)
	case mine.Err() != nil || decision == TimedOut || errors.Is(err, context.DeadlineExceeded):
		return TimedOut, orElse(a.TimeoutReason, fmt.Sprintf("nobody approved it within %s: %s", a.Timeout, a.Title)), nil
	case err != nil:
		r.p.cfg.Log.Warn("cannot ask for an approval", "tenant", a.Tenant, "plugin", a.Key.ID, "error", err)
		return Cancelled, "nobody could be asked to approve it: " + a.Title, nil
	case decision == Deny:
		return Deny, "it was denied: " + a.Title, nil
	case (decision == AllowOnce || decision == AllowAlways) && slices.Contains(a.Allowed, decision):
		return decision, "", nil
	}
	return Cancelled, "it was not approved: " + a.Title, nil
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
