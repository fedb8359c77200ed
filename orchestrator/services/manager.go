// Package services keeps the background services of running plugins going: it
// has the runner start them in the order of registration, restarts one that
// fails after a delay, and asks for the container's restart when that does
// not help.
//
// [Step] is the whole policy as a pure function. One goroutine owns the
// [Unit] of each plugin that has services, feeds it events and carries out
// its actions; the results of actions are events as well. A plugin without
// services costs nothing. What a person stopped stays stopped until a person
// starts it, as long as the daemon runs.
package services

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Peer is the runner of one generation.
type Peer interface {
	// CallService returns the runner's answer. An error means that there is
	// none: soon after ctx has ended, or at once when the runner is gone, which
	// is Unavailable and not held against the service. Calls for several
	// services may run at a time, one for each.
	CallService(ctx context.Context, call wire.ServiceCall) (wire.ServiceResult, error)
}

// Status is what is known of one service. It converts to the API's Service.
type Status struct {
	Tenant      string
	Plugin      string
	ID          string
	State       string
	Desired     bool      // false once a person stopped it
	Since       time.Time // of the state
	Restarts    int       // starts after a failure
	LastError   string    // cleared when it is running
	NextAttempt *time.Time
}

// Config says what a [Manager] works with. All but Policy are required.
type Config struct {
	// Escalate restarts the container of an instance, because a service keeps
	// failing. It is called in a goroutine of its own.
	Escalate func(key plugin.Key, instance, reason string)
	// Notify is told every status that changed, those of a plugin in order. It
	// must not block.
	Notify func(Status)
	Logger *slog.Logger
	Policy Policy // the zero value means DefaultPolicy
}

// Manager supervises the services of the plugins it was told of.
type Manager struct {
	cfg     Config
	aborted chan struct{} // closed when Close gives up waiting

	mu     sync.Mutex
	units  map[plugin.Key]*unit
	closed bool
}

// New returns a manager of nothing. End it with [Manager.Close].
func New(cfg Config) *Manager {
	if cfg.Policy == (Policy{}) {
		cfg.Policy = DefaultPolicy()
	}
	return &Manager{cfg: cfg, aborted: make(chan struct{}), units: map[plugin.Key]*unit{}}
}

// Started says that a generation is ready: its services are started one after
// the other in this order, but for those that a person stopped. An earlier
// generation of the same plugin has ended then. Neither this nor Ended,
// Health or Remove blocks.
func (m *Manager) Started(key plugin.Key, instance string, peer Peer, services []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	u := m.units[key]
	switch {
	case u == nil && len(services) == 0:
		return
	case len(services) == 0: // another version of the plugin
		delete(m.units, key)
		u.quit()
		return
	case u == nil:
		u = newUnit(m, key)
		m.units[key] = u
		go u.loop()
	}
	services = slices.Clone(services)
	u.know(services)
	u.post(mail{event: Event{Kind: Up, Services: services}, instance: instance, peer: peer})
}

// Ended says that a generation ended, and so that all of its services are
// stopped. One that is not the newest of its plugin is ignored.
func (m *Manager) Ended(key plugin.Key, instance string) {
	if u := m.unit(key); u != nil {
		u.post(mail{event: Event{Kind: Down}, instance: instance})
	}
}

// Health passes on what a service said of itself. Unknown services and
// generations that have ended are ignored; of a flood the last word counts.
func (m *Manager) Health(key plugin.Key, instance string, h wire.ServiceHealth) {
	u := m.unit(key)
	if u == nil {
		return
	}
	ev := Event{Kind: Clear, Service: h.Service}
	if h.Failed {
		ev.Kind = Report
		ev.Reason = cmp.Or(plugin.Printable(h.Reason, wire.MaxReason), "it reported a failure")
	}
	u.postHealth(mail{event: ev, instance: instance})
}

// Start has a service started, whatever it went through before, and returns
// when it runs. No error if it runs already. NotFound for an unknown service,
// FailedPrecondition while the plugin does not run, fault.ErrPlugin when the
// start failed (it is tried again nevertheless), Conflict when somebody
// stopped it meanwhile. When ctx ends first the start goes on.
func (m *Manager) Start(ctx context.Context, key plugin.Key, id string) (Status, error) {
	return m.ask(ctx, Start, key, id)
}

// Stop has a service stopped, and keeps it so. It returns when that is done;
// errors are those of Start. While the plugin does not run it succeeds: the
// service will not be started.
func (m *Manager) Stop(ctx context.Context, key plugin.Key, id string) (Status, error) {
	return m.ask(ctx, Stop, key, id)
}

// Restart is a Start that stops the service first if it runs.
func (m *Manager) Restart(ctx context.Context, key plugin.Key, id string) (Status, error) {
	return m.ask(ctx, Restart, key, id)
}

// ask sends a person's wish and returns when it has been met or has failed.
func (m *Manager) ask(ctx context.Context, kind Kind, key plugin.Key, id string) (Status, error) {
	u := m.unit(key)
	if u == nil {
		return Status{}, errNoServices(key, id)
	}
	reply := make(chan answer, 1)
	u.post(mail{event: Event{Kind: kind, Service: id}, reply: reply})
	select {
	case a := <-reply:
		return a.status, a.err
	case <-ctx.Done():
	case <-u.done:
		select {
		case a := <-reply:
			return a.status, a.err
		default:
			return Status{}, m.errGone(key, id)
		}
	}
	for _, st := range u.look() {
		if st.ID == id {
			return st, errNotYet(ctx, key, st)
		}
	}
	return Status{}, errNotYet(ctx, key, Status{ID: id, State: "unknown"})
}

// List returns the services of tenant, or of all tenants for "": by plugin,
// and in the order of registration.
func (m *Manager) List(tenant string) []Status {
	m.mu.Lock()
	units := make([]*unit, 0, len(m.units))
	for key, u := range m.units {
		if tenant == "" || key.Tenant == tenant {
			units = append(units, u)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(units, func(a, b *unit) int {
		return cmp.Or(cmp.Compare(a.key.Tenant, b.key.Tenant), cmp.Compare(a.key.ID, b.key.ID))
	})
	list := []Status{}
	for _, u := range units {
		list = append(list, u.look()...)
	}
	return list
}

// Remove forgets a plugin that is uninstalled. It tells the runner nothing.
func (m *Manager) Remove(key plugin.Key) {
	m.mu.Lock()
	u := m.units[key]
	delete(m.units, key)
	m.mu.Unlock()
	if u != nil {
		u.quit()
	}
}

// Close stops all services, those of one plugin in reverse order, and returns
// when that is done. When ctx ends first it abandons the rest and returns an
// error that names their plugins. Afterwards the manager is of no use.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	first := !m.closed
	m.closed = true
	units := make([]*unit, 0, len(m.units))
	for _, u := range m.units {
		units = append(units, u)
	}
	m.mu.Unlock()
	for _, u := range units {
		u.post(mail{event: Event{Kind: Shutdown}})
	}
	var left []string
	for _, u := range units {
		select {
		case <-u.done:
		case <-ctx.Done():
			left = append(left, u.key.String())
		}
	}
	if first {
		close(m.aborted)
	}
	if len(left) == 0 {
		return nil
	}
	slices.Sort(left)
	return fault.New(context.DeadlineExceeded, "shutdown_incomplete", "cannot stop the services of %s in time", strings.Join(left, ", ")).
		WithHint("they end with their containers")
}

func (m *Manager) unit(key plugin.Key) *unit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.units[key]
}
