package daemon

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/services"
)

// serviceAPI implements httpapi.Services.
type serviceAPI struct{ d *Daemon }

func (b serviceAPI) Services(_ context.Context, tenant string) ([]v1.Service, error) {
	list := []v1.Service{}
	for _, s := range b.d.services.List(tenant) {
		list = append(list, v1.Service(s))
	}
	return list, nil
}

func (b serviceAPI) Change(ctx context.Context, tenant, ref, service, op string) (v1.Service, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.Service{}, err
	}
	change, ok := map[string]func(context.Context, plugin.Key, string) (services.Status, error){
		"start": b.d.services.Start, "stop": b.d.services.Stop, "restart": b.d.services.Restart,
	}[op]
	if !ok {
		return v1.Service{}, fault.New(errdefs.ErrInvalidArgument, "invalid_argument", "cannot %s a service", plugin.Printable(op, 50)).
			WithHint("start, stop and restart are possible")
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var status services.Status
	err = b.d.audited(ctx, p.Key, "service."+op, service, func() (err error) {
		status, err = change(ctx, p.Key, service)
		return err
	})
	return v1.Service(status), err
}

// startServices hands a generation that is ready to the services' manager.
func (d *Daemon) startServices(u *unit) {
	allowed := d.authority.Effective(u.installed.Key)
	var names []string
	for _, r := range u.Surface().Registrations {
		if r.Kind == plugin.KindService && registrationAllowed(allowed, r) {
			names = append(names, r.Name)
		}
	}
	d.services.Started(u.installed.Key, u.ID(), u.Instance, names)
}

// onService tells those who watch, and records what went wrong.
func (d *Daemon) onService(s services.Status) {
	d.events.Publish(s.Tenant, s.Plugin, v1.EventService, v1.Service(s))
	if s.LastError == "" {
		return
	}
	rec := audit.Record{
		Tenant: s.Tenant, Plugin: s.Plugin, Actor: theDaemon, Action: "service.state", Target: s.ID, Outcome: s.State,
		Details: map[string]string{"error": s.LastError},
	}
	if err := d.note(context.Background(), rec); err != nil {
		d.logger.Error("cannot record a service's failure", "tenant", s.Tenant, "plugin", s.Plugin, "service", s.ID, "error", err)
	}
}

// escalate restarts a container because one of its services keeps failing.
func (d *Daemon) escalate(key plugin.Key, instance, reason string) {
	if u := d.running(key); u == nil || u.ID() != instance {
		return // it ended by itself
	}
	d.logger.Warn("restarting a plugin for its service", "tenant", key.Tenant, "plugin", key.ID, "reason", reason)
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	err := d.audited(ctx, key, "plugin.restart", reason, func() error { return d.supervisor.Restart(ctx, key) })
	if err != nil {
		d.logger.Error("cannot restart a plugin for its service", "tenant", key.Tenant, "plugin", key.ID, "error", err)
	}
}

func (d *Daemon) onServiceHealth(key plugin.Key, instance string, h wire.ServiceHealth) {
	d.services.Health(key, instance, h)
}
