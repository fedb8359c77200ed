package daemon

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
)

// eventAPI implements httpapi.Events.
type eventAPI struct{ d *Daemon }

func (b eventAPI) Events(ctx context.Context, q v1.EventQuery, send func(v1.Event) error) error {
	return b.d.events.Subscribe(ctx, q, send)
}

// tellStates tells those who watch of every state that a plugin comes to, and
// records every end that nobody asked for.
func (d *Daemon) tellStates(ctx context.Context) {
	before := map[plugin.Key]supervisor.Status{}
	for st := range d.supervisor.Subscribe(ctx) {
		p, err := d.catalog.get(st.Key.Tenant, st.Key.ID)
		if errdefs.IsNotFound(err) { // it was uninstalled meanwhile
			delete(before, st.Key)
			continue
		}
		d.events.Publish(st.Key.Tenant, st.Key.ID, v1.EventState, d.describe(p))
		if isFailure(before[st.Key], st, d.started) {
			d.recordState(st)
		}
		before[st.Key] = st
	}
}

// isFailure reports whether the plugin has ended unasked since the status
// before, or is given up. The ends that earlier daemons saw, they recorded.
func isFailure(before, now supervisor.Status, started time.Time) bool {
	exit := now.LastExit
	ended := exit.At.After(started) && !exit.At.Equal(before.LastExit.At) && exit.Class != supervisor.ClassStopped
	givenUp := now.State == supervisor.StateCrashlooped || now.State == supervisor.StateQuarantined
	return ended || givenUp && now.State != before.State
}

func (d *Daemon) recordState(st supervisor.Status) {
	rec := audit.Record{
		Tenant: st.Key.Tenant, Plugin: st.Key.ID, Actor: theDaemon, Action: "plugin.state", Target: string(st.State), Outcome: outcomeFailed,
		Details: map[string]any{"restarts": st.Restarts, "exit": string(st.LastExit.Class), "code": st.LastExit.Code, "error": st.LastError},
	}
	if err := d.note(context.Background(), rec); err != nil {
		d.logger.Error("cannot record a plugin's state", "tenant", st.Key.Tenant, "plugin", st.Key.ID, "error", err)
	}
}
