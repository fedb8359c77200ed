package daemon

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Outcomes of audit records.
const (
	outcomeBegun   = "begun"
	outcomeDone    = "done"
	outcomeFailed  = "failed"
	outcomeAllowed = "allowed"
	outcomeDenied  = "denied"
	outcomePending = "pending" // a person is asked
)

// Actors that are no callers: of what nobody asked for, and of what whoever can
// write config.json asks for.
const (
	theDaemon = "ocmt"
	theFile   = "config.json"
)

func actorOf(ctx context.Context) string {
	if actor := httpapi.CallerOf(ctx).Actor; actor != "" {
		return actor
	}
	return theDaemon
}

// audited carries a privileged action out between two audit records. The
// first one is on the disk before anything happens, or nothing does.
func (d *Daemon) audited(ctx context.Context, key plugin.Key, action, target string, do func() error) error {
	return d.auditedAs(ctx, audit.Record{Tenant: key.Tenant, Plugin: key.ID, Action: action, Target: target}, do)
}

// auditedAs is audited for a record that says more.
func (d *Daemon) auditedAs(ctx context.Context, rec audit.Record, do func() error) error {
	rec.Actor, rec.Outcome = actorOf(ctx), outcomeBegun
	if err := d.audit.WriteSync(ctx, rec); err != nil {
		return errUnrecorded(err)
	}
	started := time.Now()
	err := do()
	rec.Outcome, rec.DurationMicros = outcomeDone, time.Since(started).Microseconds()
	if err != nil {
		rec.Outcome, rec.Code = outcomeFailed, fault.Of(err).Code
	}
	if werr := d.audit.Write(context.WithoutCancel(ctx), rec); werr != nil {
		d.logger.Error("cannot record how an action ended", "action", rec.Action, "tenant", rec.Tenant, "plugin", rec.Plugin, "error", werr)
	}
	return err
}

// note records something that has happened. The error is for those who can
// still undo it.
func (d *Daemon) note(ctx context.Context, rec audit.Record) error {
	if rec.Actor == "" {
		rec.Actor = actorOf(ctx)
	}
	if err := d.audit.Write(context.WithoutCancel(ctx), rec); err != nil {
		return errUnrecorded(err)
	}
	return nil
}

// recordable refuses to act while nothing can be recorded.
func (d *Daemon) recordable() error {
	if err := d.audit.Healthy(); err != nil {
		return errUnrecorded(err)
	}
	return nil
}

func errUnrecorded(err error) error {
	return fault.New(errdefs.ErrUnavailable, "audit_unavailable", "nothing is done that cannot be recorded: %w", err).
		WithHint("make room on the disk that holds the home; ocmt goes on by itself").WithRetry()
}
