package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/wire"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/approval"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/hooks"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// defaultEmitTimeout bounds a pipeline whose caller says nothing; a person may
// have to be asked in it.
const defaultEmitTimeout = 2 * time.Minute

// drainTimeout bounds how long the events that nobody waits for hold up the
// end of the daemon.
const drainTimeout = 5 * time.Second

func (d *Daemon) drainHooks() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := d.hooks.Drain(ctx); err != nil {
		d.logger.Warn("events were not through when the daemon stopped", "error", err)
	}
	return nil
}

// hooked is the pipeline's view of the plugins.
type hooked struct{ d *Daemon }

// Handlers implements hooks.Plugins.
func (h hooked) Handlers(tenant, event string) []hooks.Handler { return h.d.handlers.of(tenant, event) }

// CallHook implements hooks.Plugins. A generation that is being ended takes no
// event any more, and gives up those that it has: they go to the next one.
func (h hooked) CallHook(ctx context.Context, key plugin.Key, call wire.HookCall) (wire.HookResult, error) {
	for {
		u, err := h.ready(ctx, key)
		if err != nil {
			return wire.HookResult{}, err
		}
		result, err := u.CallHook(ctx, call)
		if ctx.Err() != nil || !givenUp(result, err) {
			return result, err
		}
		select {
		case <-u.Done():
		case <-ctx.Done():
			return result, errors.Join(err, ctx.Err())
		}
	}
}

func (h hooked) ready(ctx context.Context, key plugin.Key) (*unit, error) {
	in, err := h.d.ready(ctx, key)
	if err != nil && ctx.Err() != nil { // it never got the call
		err = fault.New(errdefs.ErrUnavailable, "not_ready", "plugin %s was not ready in time", key.ID)
	}
	if err != nil {
		return nil, err
	}
	u, ok := in.(*unit)
	if !ok {
		return nil, errStrange(key)
	}
	return u, nil
}

// givenUp says that the runner did not take the event, or gave it up because
// it is being stopped.
func givenUp(result wire.HookResult, err error) bool {
	if err != nil {
		return errors.Is(err, bus.ErrNoRunner)
	}
	return result.Error != nil && result.Error.Code == wire.CodeCancelled
}

// resolveHook tells the plugin that asked a person how that ended.
func (d *Daemon) resolveHook(_ context.Context, key plugin.Key, m wire.Resolved) {
	if u := d.running(key); u != nil {
		if err := u.Resolved(m); err != nil {
			d.logger.Debug("cannot tell a plugin how an approval ended", "tenant", key.Tenant, "plugin", key.ID, "error", err)
		}
	}
}

// recordHook records what a handler did, and tells those who watch.
func (d *Daemon) recordHook(e hooks.Entry) error {
	detail := hookDetail{Handler: e.Handler, Detail: plugin.Printable(e.Detail, 500), Changes: d.changesForAudit(e)}
	rec := audit.Record{
		Tenant: e.Tenant, Plugin: e.Key.ID, Actor: "plugin:" + e.Key.ID, Action: "hook." + e.Kind, Target: e.Event,
		Request: e.Context.RunID, Outcome: outcomeDone,
	}
	if e.Kind == hooks.EntryFailure || e.Failed {
		rec.Outcome = outcomeFailed
	}
	if e.Kind == hooks.EntryFailure { // what it threw may quote what it was given
		detail.Detail, rec.Params = "", d.audit.HMAC(e.Tenant, []byte(e.Detail))
	}
	rec.Details = detail
	if err := d.note(context.Background(), rec); err != nil {
		return err
	}
	d.events.Publish(e.Tenant, e.Key.ID, v1.EventHook, v1.HookEvent{
		Event: e.Event, Status: e.Kind, Detail: plugin.Printable(e.Detail, 500),
	})
	return nil
}

// hookDetail is what the audit log keeps of a handler's deed: where something
// was changed, and keyed digests of what it was and is.
type hookDetail struct {
	Handler int           `json:"handler"`
	Detail  string        `json:"detail,omitempty"`
	Changes []auditChange `json:"changes,omitempty"`
}

type auditChange struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

func (d *Daemon) changesForAudit(e hooks.Entry) []auditChange {
	out := make([]auditChange, 0, len(e.Changes))
	for _, c := range e.Changes {
		change := auditChange{Path: plugin.Printable(c.Path, 200)}
		if c.Before != nil {
			change.Before = d.audit.HMAC(e.Tenant, c.Before)
		}
		if c.After != nil {
			change.After = d.audit.HMAC(e.Tenant, c.After)
		}
		out = append(out, change)
	}
	return out
}

// hookAPI implements httpapi.Hooks.
type hookAPI struct{ d *Daemon }

func (b hookAPI) Hooks(_ context.Context, tenant string) ([]v1.Hook, error) {
	list := []v1.Hook{}
	for _, h := range hooks.Sort(b.d.handlers.all(tenant)) {
		list = append(list, v1.Hook{
			Tenant: h.Key.Tenant, Plugin: h.Key.ID, Handler: h.Index, Event: h.Event.Name, Kind: kindOfHook(h),
			Priority: h.Priority, Rights: texts(h.Rights), Asks: texts(h.Event.Rights), Form: h.Form,
			CutOff: b.d.hooks.CutOff(h.Key, h.Index), Timeout: h.Timeout.Milliseconds(),
		})
	}
	return list, nil
}

func kindOfHook(h hooks.Handler) string {
	if h.Event.Kind == "" {
		return "unknown"
	}
	return string(h.Event.Kind)
}

func texts(rights []plugin.HookRight) []string {
	out := make([]string, len(rights))
	for i, r := range rights {
		out[i] = string(r)
	}
	return out
}

func (b hookAPI) Emit(ctx context.Context, tenant, event string, req v1.EmitRequest, watch httpapi.CallWatch) (v1.EmitResult, error) {
	if err := errors.Join(b.d.catalog.understood(tenant), b.d.recordable()); err != nil {
		return v1.EmitResult{}, err
	}
	timeout := defaultEmitTimeout
	if req.TimeoutMillis > 0 {
		timeout = time.Duration(req.TimeoutMillis) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(approval.WithWatch(ctx, watch.Ask), timeout)
	defer cancel()
	started := time.Now()
	result, err := b.d.hooks.Emit(ctx, hooks.Request{Tenant: tenant, Event: event, Payload: req.Payload, Context: callContext(req.Context)})
	if rerr := b.d.recordEmit(ctx, tenant, event, req.Payload, result, started, err); rerr != nil {
		return v1.EmitResult{}, rerr
	}
	if err != nil {
		return v1.EmitResult{}, err
	}
	return b.d.emitResult(result), nil
}

func (d *Daemon) recordEmit(ctx context.Context, tenant, event string, payload json.RawMessage, result hooks.Result, started time.Time, err error) error {
	if err == nil && len(result.Handlers) == 0 {
		return nil // nobody saw it
	}
	rec := audit.Record{
		Tenant: tenant, Action: "hook.emit", Target: event, Outcome: result.Outcome, Params: d.audit.HMAC(tenant, payload),
		DurationMicros: time.Since(started).Microseconds(),
	}
	if err != nil {
		rec.Outcome, rec.Code = outcomeFailed, fault.Of(err).Code
	}
	return d.note(ctx, rec)
}

func (b hookAPI) Invoke(ctx context.Context, tenant, ref string, handler int, req v1.InvokeRequest) (v1.EmitResult, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.EmitResult{}, err
	}
	if err := errors.Join(b.d.catalog.understood(tenant), b.d.recordable()); err != nil {
		return v1.EmitResult{}, err
	}
	event, err := b.eventOf(p, handler, req.Event)
	if err != nil {
		return v1.EmitResult{}, err
	}
	started := time.Now()
	result, err := b.d.hooks.Invoke(ctx, p.Key, handler, hooks.Request{
		Event: event, Payload: req.Payload, Context: callContext(req.Context),
		Timeout: time.Duration(req.TimeoutMillis) * time.Millisecond,
	})
	if rerr := b.d.recordEmit(ctx, tenant, event, req.Payload, result, started, err); rerr != nil {
		return v1.EmitResult{}, rerr
	}
	if err != nil {
		return v1.EmitResult{}, err
	}
	return b.d.emitResult(result), nil
}

// eventOf returns the event of a handler, which must be the one that was named
// if one was.
func (b hookAPI) eventOf(p plugin.Installed, handler int, named string) (string, error) {
	for _, h := range b.d.handlers.all(p.Key.Tenant) {
		switch {
		case h.Key != p.Key || h.Index != handler:
		case named != "" && named != h.Event.Name:
			return "", fault.New(errdefs.ErrInvalidArgument, "other_event", "handler %d of plugin %s is for %s, not for %s", handler, p.Key.ID, h.Event.Name, plugin.Printable(named, 100))
		default:
			return h.Event.Name, nil
		}
	}
	return "", fault.New(errdefs.ErrNotFound, "unknown_handler", "plugin %s has no hook %d", p.Key.ID, handler).
		WithHint("see which there are: ocmt hooks list")
}

func (d *Daemon) emitResult(r hooks.Result) v1.EmitResult {
	out := v1.EmitResult{
		Event: r.Event, Outcome: r.Outcome, Payload: r.Payload, Result: r.Result,
		Changes: changesOf(r.Changes), Handlers: make([]v1.HandlerReport, 0, len(r.Handlers)),
	}
	if r.BlockedBy != nil {
		out.BlockedBy = &v1.HookBlock{Plugin: r.BlockedBy.Key.ID, Reason: r.BlockedBy.Reason, Failed: r.BlockedBy.Failed}
	}
	if r.ClaimedBy != nil {
		out.ClaimedBy = r.ClaimedBy.ID
	}
	if r.Approval != nil {
		a := approvalOf(*r.Approval)
		a.Decision = r.Approval.Decision
		out.Approval = &a
	}
	for _, h := range r.Handlers {
		out.Handlers = append(out.Handlers, v1.HandlerReport{
			Plugin: h.Key.ID, Handler: h.Index, Status: h.Status, Millis: float64(h.Took.Microseconds()) / 1000,
			Detail: h.Detail, Outcome: h.Outcome,
		})
	}
	return out
}

func changesOf(changes []hooks.Change) []v1.HookChange {
	out := make([]v1.HookChange, 0, len(changes))
	for _, c := range changes {
		out = append(out, v1.HookChange{Plugin: c.Key.ID, Handler: c.Handler, Path: c.Path, Before: c.Before, After: c.After})
	}
	return out
}

func (b hookAPI) Snapshot(_ context.Context, tenant string) (v1.Snapshot, error) {
	if err := b.d.catalog.understood(tenant); err != nil {
		return v1.Snapshot{}, err
	}
	snapshot := v1.Snapshot{Registrations: []v1.SnapshotItem{}}
	type name struct{ kind, name string }
	first := map[name]string{}
	for _, p := range b.d.catalog.inOrder(tenant) {
		if !b.d.catalog.enabled(p.Key) {
			continue
		}
		allowed := b.d.authority.Effective(p.Key)
		for i, r := range p.Surface.Registrations {
			if !registrationAllowed(allowed, r) {
				continue
			}
			item := v1.SnapshotItem{Plugin: p.Key.ID, Handler: i, Kind: r.Kind, Name: r.Name, Form: r.Form, Spec: r.Spec}
			if r.Kind != plugin.KindHook {
				n := name{r.Kind, r.Name}
				item.Shadowed = first[n]
				if item.Shadowed == "" {
					first[n] = p.Key.ID
				}
			}
			snapshot.Registrations = append(snapshot.Registrations, item)
		}
	}
	text, err := json.Marshal(snapshot.Registrations)
	if err != nil {
		return v1.Snapshot{}, fmt.Errorf("cannot write what is registered: %w", err)
	}
	sum := sha256.Sum256(text)
	snapshot.Digest = "sha256:" + hex.EncodeToString(sum[:])
	return snapshot, nil
}
