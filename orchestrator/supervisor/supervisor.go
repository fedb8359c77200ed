// Package supervisor keeps installed plugins running: it starts, watches,
// restarts and stops one instance per plugin, and never has two that run. What
// is left of one that is known to have ended may be cleared away while the
// next is made.
//
// [Step] is the whole policy as a pure function. One goroutine owns each
// plugin's [Unit], feeds it events and carries out its actions; requests and
// the results of actions are events as well. What an instance is, and how it
// is made, is behind [Launcher].
package supervisor

import (
	"context"
	"encoding/json"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Launcher makes instances.
type Launcher interface {
	// Prepare verifies the payload, makes sockets and the container, and
	// starts nothing. When it fails it leaves nothing behind. It returns soon
	// after ctx has ended. The class of its error decides what follows:
	// DataLoss means that the payload was altered (quarantine); Unavailable
	// and ResourceExhausted that the host is at fault (repeated, not held
	// against the plugin); anything else counts as a failed start.
	Prepare(ctx context.Context, key plugin.Key, generation uint64) (Instance, error)
}

// Instance is one prepared run of a plugin. Its methods are called one at a
// time, but for Done, Exit and Ping, and return soon after ctx has ended.
type Instance interface {
	// ID names the instance for people and logs.
	ID() string
	// Start starts the container and returns when the plugin is ready, or an
	// error soon after the container has ended. Errors are classed as those
	// of Prepare are. It is called at most once.
	Start(ctx context.Context) error
	// Done is closed when the container has ended. It need not be closed if
	// the container was never started.
	Done() <-chan struct{}
	// Exit says how the container ended, once Done is closed.
	Exit() Exit
	// Ping asks the plugin's event loop for a sign of life.
	Ping(ctx context.Context) error
	// Stop asks the plugin to end and kills it after the grace, at once if
	// that is 0. No error if it has ended already.
	Stop(ctx context.Context, grace time.Duration) error
	// Close ends what still runs and removes every trace. It may be called
	// again, whether it failed or not.
	Close(ctx context.Context) error
}

// Store keeps what must outlive the process.
type Store interface {
	// NextGeneration returns a number that it never returned for key before.
	NextGeneration(ctx context.Context, key plugin.Key) (uint64, error)
	SaveUnit(ctx context.Context, key plugin.Key, doc json.RawMessage) error
	// LoadUnit returns what SaveUnit saved last, nil if nothing.
	LoadUnit(ctx context.Context, key plugin.Key) (json.RawMessage, error)
	DeleteUnit(ctx context.Context, key plugin.Key) error
}

// Config says what a [Supervisor] works with. Launcher, Store and Logger are
// required.
type Config struct {
	Launcher Launcher
	Store    Store
	Logger   *slog.Logger
	Policy   Policy // the zero value means DefaultPolicy
	// MaxStarts bounds how many starts are under way at a time on this host, so
	// that a start of all plugins does not starve the ones that run; 0 means
	// one per CPU, at least two. A start is a Prepare and the Start after it, of
	// which only the first Policy.PrepareSlot and StartSlot count: a few that
	// hang, which may be up to the plugin, must not keep others from starting.
	// MaxTenantStarts is the same for each tenant; 0 means as many as the host.
	// Tenants that wait take turns. Within a tenant those go first for which a
	// caller of Ready waits, or that follow a healthy run.
	MaxStarts, MaxTenantStarts int
	// MaxStopping bounds how many Stops run at a time; 0 means 16.
	MaxStopping int
}

// Supervisor supervises the plugins it was given by [Supervisor.Add].
type Supervisor struct {
	launcher Launcher
	store    Store
	logger   *slog.Logger
	policy   Policy
	starts   *limiter
	stopping chan struct{} // a token per running Stop
	aborted  chan struct{} // closed when Shutdown or Leave gives up waiting

	mu          sync.Mutex
	units       map[plugin.Key]*unit
	shutdown    bool
	subscribers map[*subscriber]struct{}
}

// New returns a supervisor of nothing. End it with [Supervisor.Shutdown].
func New(cfg Config) *Supervisor {
	if cfg.Policy == (Policy{}) {
		cfg.Policy = DefaultPolicy()
	}
	return &Supervisor{
		starts:      newLimiter(positive(cfg.MaxStarts, max(2, runtime.NumCPU())), cfg.MaxTenantStarts),
		launcher:    cfg.Launcher,
		store:       cfg.Store,
		logger:      cfg.Logger,
		policy:      cfg.Policy,
		stopping:    make(chan struct{}, positive(cfg.MaxStopping, 16)),
		aborted:     make(chan struct{}),
		units:       map[plugin.Key]*unit{},
		subscribers: map[*subscriber]struct{}{},
	}
}

// positive returns n, or other if n is no use as a bound.
func positive(n, other int) int {
	if n > 0 {
		return n
	}
	return other
}

// Add begins to supervise a plugin, with the counters that were kept of it,
// and starts it if on. For a plugin that is supervised already it is
// SetDesired.
func (s *Supervisor) Add(ctx context.Context, key plugin.Key, on bool) error {
	counters, err := s.load(ctx, key)
	if err != nil {
		return err
	}
	u := newUnit(s, key, Restore(s.policy, counters, on, time.Now()))
	if known, err := s.enter(u); err != nil {
		return err
	} else if known {
		return s.SetDesired(ctx, key, on)
	}
	u.step(Event{Kind: Tick}) // starts it, if it is switched on and due
	go u.loop()
	return nil
}

// enter takes a unit in, unless there is one of the same plugin.
func (s *Supervisor) enter(u *unit) (known bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shutdown {
		return false, errShutdown
	}
	if s.units[u.key] != nil {
		return true, nil
	}
	s.units[u.key] = u
	return false, nil
}

func (s *Supervisor) load(ctx context.Context, key plugin.Key) (Counters, error) {
	var c Counters
	doc, err := s.store.LoadUnit(ctx, key)
	if err != nil || doc == nil {
		return c, err
	}
	if err := json.Unmarshal(doc, &c); err != nil {
		return c, fault.New(errdefs.ErrDataLoss, "state_corrupt", "cannot decode the counters of %s: %w", key, err).
			WithHint("uninstall the plugin and install it again")
	}
	return c, nil
}

// SetDesired switches a plugin on or off and does not wait for the effect:
// see Ready and Gone. Once it has returned for off, Ready no longer returns
// the instance. NotFound if the plugin is not supervised.
func (s *Supervisor) SetDesired(ctx context.Context, key plugin.Key, on bool) error {
	if on {
		return s.request(ctx, key, Event{Kind: Enable})
	}
	return s.request(ctx, key, Event{Kind: Disable})
}

// Restart replaces the instance by a new one at once, whatever delay is
// pending, and returns when it is ready. FailedPrecondition if the plugin is
// switched off or in quarantine; else as Ready.
func (s *Supervisor) Restart(ctx context.Context, key plugin.Key) error {
	if err := s.Replace(ctx, key); err != nil {
		return err
	}
	_, err := s.Ready(ctx, key)
	return err
}

// Replace is Restart without the wait for the new instance.
func (s *Supervisor) Replace(ctx context.Context, key plugin.Key) error {
	return s.request(ctx, key, Event{Kind: Restart})
}

// Reset forgets what went wrong with a plugin, quarantine included, and
// starts it if it is switched on and not running.
func (s *Supervisor) Reset(ctx context.Context, key plugin.Key) error {
	return s.request(ctx, key, Event{Kind: Reset})
}

// Quarantine ends a plugin whose payload was found altered. Only a Reset or
// a new installation brings it back. When it returns without an error this
// is on record.
func (s *Supervisor) Quarantine(ctx context.Context, key plugin.Key, reason string) error {
	return s.request(ctx, key, Event{Kind: Tamper, Reason: reason})
}

// Remove ends a plugin, forgets its counters, and returns when nothing of it
// is left. A plugin that is not supervised is no error. When ctx ends first
// the removal goes on.
func (s *Supervisor) Remove(ctx context.Context, key plugin.Key) error {
	u, err := s.unit(key)
	if err != nil {
		return nil //nolint:nilerr // not there is what was asked for
	}
	if err := u.request(ctx, Event{Kind: Remove}); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	select {
	case <-u.done:
		if v, _ := u.watch(); v.held { // abandoned by a Shutdown that ran out of time
			return errShutdown
		}
		return u.forgetErr
	case <-ctx.Done():
		return u.notYet(ctx, "still being removed")
	}
}

// Shutdown ends all plugins in parallel, keeps their counters, and returns
// when nothing of them is left. When ctx ends first it abandons the rest and
// returns an error that names them. Afterwards the supervisor is of no use.
func (s *Supervisor) Shutdown(ctx context.Context) error { return s.end(ctx, Shutdown) }

// end tells all units to end, in one way or the other, and waits for it.
func (s *Supervisor) end(ctx context.Context, how Kind) error {
	s.mu.Lock()
	s.shutdown = true
	units := make([]*unit, 0, len(s.units))
	for _, u := range s.units {
		units = append(units, u)
	}
	s.mu.Unlock()

	for _, u := range units {
		go func() { _ = u.request(ctx, Event{Kind: how}) }() // its end is awaited below
	}
	var left []string
	for _, u := range units {
		select {
		case <-u.done:
		case <-ctx.Done():
			if !u.hasEnded() {
				left = append(left, u.key.String())
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.aborted: // by an earlier one
	default:
		close(s.aborted)
	}
	if len(left) == 0 {
		return nil
	}
	slices.Sort(left)
	return fault.New(context.DeadlineExceeded, "shutdown_incomplete",
		"%d plugins could not be stopped in time: %s", len(left), strings.Join(left, ", ")).
		WithHint("what is left of them is removed at the next start")
}

func (s *Supervisor) unit(key plugin.Key) (*unit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.units[key]; u != nil {
		return u, nil
	}
	if s.shutdown {
		return nil, errShutdown
	}
	return nil, errUnknown(key)
}

func (s *Supervisor) request(ctx context.Context, key plugin.Key, ev Event) error {
	u, err := s.unit(key)
	if err != nil {
		return err
	}
	return u.request(ctx, ev)
}

// forget takes an ended unit out.
func (s *Supervisor) forget(u *unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.units[u.key] == u {
		delete(s.units, u.key)
	}
}
