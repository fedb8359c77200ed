package daemon

import (
	"context"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
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
	restarts := map[string]int{}
	for st := range d.supervisor.Subscribe(ctx) {
		p, err := d.catalog.get(st.Key.Tenant, st.Key.ID)
		if errdefs.IsNotFound(err) {
			continue // it was uninstalled meanwhile
		}
		d.events.Publish(st.Key.Tenant, st.Key.ID, v1.EventState, d.describe(p))
		if key := st.Key.String(); st.Restarts > restarts[key] || st.State == supervisor.StateCrashlooped || st.State == supervisor.StateQuarantined {
			restarts[key] = st.Restarts
			d.recordState(st)
		}
	}
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
