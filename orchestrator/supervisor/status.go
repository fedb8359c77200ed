package supervisor

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Status is what is known of one plugin.
type Status struct {
	Key         plugin.Key `json:"key"`
	State       State      `json:"state"`
	Since       time.Time  `json:"since"` // of the state
	Desired     bool       `json:"desired"`
	Instance    string     `json:"instance,omitempty"`   // its ID, while there is one
	Generation  uint64     `json:"generation,omitempty"` // of the last instance
	Restarts    int        `json:"restarts"`             // that nobody asked for
	ShortRuns   int        `json:"shortRuns,omitempty"`
	LastExit    LastExit   `json:"lastExit,omitzero"`
	NextAttempt time.Time  `json:"nextAttempt,omitzero"` // in backoff and crashlooped
	LastError   string     `json:"lastError,omitempty"`
	// Removed marks the last status of a plugin that is no longer supervised.
	Removed bool `json:"removed,omitempty"`
}

// Status returns the status of a plugin. NotFound if it is not supervised.
func (s *Supervisor) Status(key plugin.Key) (Status, error) {
	u, err := s.unit(key)
	if err != nil {
		return Status{}, err
	}
	v, _ := u.watch()
	return v.status, nil
}

// Statuses returns the status of every plugin of every tenant, by key.
func (s *Supervisor) Statuses() []Status {
	s.mu.Lock()
	list := make([]Status, 0, len(s.units))
	for _, u := range s.units {
		v, _ := u.watch()
		list = append(list, v.status)
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Key.Tenant, b.Key.Tenant), cmp.Compare(a.Key.ID, b.Key.ID))
	})
	return list
}

// Ready returns the instance of a plugin, and waits for it while the plugin
// is being started or will be started again. It does not wait for what needs
// a person: NotFound if the plugin is not supervised, FailedPrecondition if
// it is switched off or in quarantine, Unavailable if it ends too often or
// the supervisor shuts down. DeadlineExceeded or Canceled if ctx ends first.
func (s *Supervisor) Ready(ctx context.Context, key plugin.Key) (Instance, error) {
	u, err := s.unit(key)
	if err != nil {
		return nil, err
	}
	if v, _ := u.watch(); v.ready != nil && !hasEnded(v.ready) {
		return v.ready, nil
	}
	defer u.await()()
	for {
		v, changed := u.watch()
		if v.ready != nil && !hasEnded(v.ready) {
			return v.ready, nil
		}
		if err := v.hopeless(); err != nil {
			return nil, explain(err, key, v.status)
		}
		select {
		case <-changed:
		case <-s.aborted:
			return nil, errShutdown
		case <-ctx.Done():
			return nil, u.notYet(ctx, "not ready")
		}
	}
}

// hasEnded reports an end that the unit may not have heard of yet.
func hasEnded(inst Instance) bool {
	select {
	case <-inst.Done():
		return true
	default:
		return false
	}
}

// Gone returns when no instance of a plugin is left, which is what follows
// SetDesired off. NotFound if the plugin is not supervised, Conflict if it is
// switched on again meanwhile.
func (s *Supervisor) Gone(ctx context.Context, key plugin.Key) error {
	u, err := s.unit(key)
	if err != nil {
		return err
	}
	for {
		v, changed := u.watch()
		if !v.held {
			return nil
		}
		if v.status.Desired && !v.closing {
			return explain(errEnabled, key, v.status)
		}
		select {
		case <-changed:
		case <-s.aborted:
			return errShutdown
		case <-ctx.Done():
			return u.notYet(ctx, "still running")
		}
	}
}

// hopeless returns why waiting for the plugin is of no use, nil if it is.
func (v view) hopeless() error {
	switch {
	case v.status.Removed:
		return errRemoved
	case v.removing:
		return errRemoving
	case v.closing:
		return errShutdown
	case v.status.State == StateQuarantined:
		return errQuarantined
	case !v.status.Desired:
		return errDisabled
	case v.status.State == StateCrashlooped:
		return errCrashlooped
	}
	return nil
}

// watch returns the view and a channel that is closed when it has changed.
func (u *unit) watch() (view, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.view, u.changed
}

// look makes the view of the unit as it is. The owning goroutine calls it.
func (u *unit) look() view {
	c := u.core
	state := c.State()
	v := view{
		held:     c.phase != phaseNone && c.phase != phaseGone || c.remains.exist() || c.left,
		removing: c.removing,
		closing:  c.closing,
		status: Status{
			Key: u.key, State: state, Since: c.Since, Desired: c.Desired && !c.removing,
			Generation: c.Generation, Restarts: c.Restarts, ShortRuns: c.ShortRuns,
			Removed:  c.removing && c.phase == phaseGone,
			LastExit: c.LastExit, LastError: cmp.Or(c.Tampered, c.LastError),
		},
	}
	if state == StateBackoff || state == StateCrashlooped {
		v.status.NextAttempt = c.NextAttempt
	}
	if inst := u.current(); inst != nil {
		v.status.Instance = inst.ID()
	}
	if state == StateRunning && !c.closing {
		v.ready = u.current()
	}
	return v
}

// publish shows the unit as it is to others. The owning goroutine calls it.
func (u *unit) publish() {
	v := u.look()
	u.mu.Lock()
	news := v.status != u.view.status
	if news || v.held != u.view.held || v.removing != u.view.removing || v.closing != u.view.closing {
		u.view = v
		close(u.changed)
		u.changed = make(chan struct{})
	}
	u.mu.Unlock()
	if news {
		u.sup.notify(v.status)
	}
}
