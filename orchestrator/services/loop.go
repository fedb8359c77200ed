package services

import (
	"context"
	"crypto/rand"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// mail is an event on its way to the goroutine that owns the unit.
type mail struct {
	event    Event
	instance string        // of Up, Down and health
	peer     Peer          // of Up
	reply    chan<- answer // of a person's wish; has room for it
}

type answer struct {
	status Status
	err    error
}

// waiter is a person's wish that has not been met yet.
type waiter struct {
	kind    Kind
	service string
	reply   chan<- answer
}

// unit runs one Unit. Its first group of fields does not change, the second
// belongs to the goroutine in loop, the third is shared.
type unit struct {
	m      *Manager
	key    plugin.Key
	log    *slog.Logger
	wake   chan struct{} // has room for one
	ending chan struct{} // closed by quit
	done   chan struct{} // closed when loop has returned

	core     Unit
	instance string
	peer     Peer
	calls    map[uint64]context.CancelFunc // under way, by attempt
	waiters  []waiter
	finished bool

	mu    sync.Mutex
	box   []mail
	names map[string]bool // of services that may report their health
	view  []Status
}

func newUnit(m *Manager, key plugin.Key) *unit {
	return &unit{
		m: m, key: key,
		log:    m.cfg.Logger.With("tenant", key.Tenant, "plugin", key.ID),
		wake:   make(chan struct{}, 1),
		ending: make(chan struct{}),
		done:   make(chan struct{}),
		calls:  map[uint64]context.CancelFunc{},
	}
}

// post delivers an event. It does not block: the owner of the unit may be
// waiting for whoever posts.
func (u *unit) post(m mail) {
	u.mu.Lock()
	u.box = append(u.box, m)
	u.mu.Unlock()
	u.ring()
}

// postHealth delivers what a service said, in place of what it said before if
// nobody has read that yet: a flood takes no memory.
func (u *unit) postHealth(m mail) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.names[m.event.Service] {
		return
	}
	for i, old := range u.box {
		health := old.event.Kind == Report || old.event.Kind == Clear
		if health && old.instance == m.instance && old.event.Service == m.event.Service {
			u.box[i] = m
			return
		}
	}
	u.box = append(u.box, m)
	u.ring()
}

func (u *unit) ring() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// know sets the names of the services.
func (u *unit) know(services []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.names = map[string]bool{}
	for _, id := range services {
		u.names[id] = true
	}
}

// quit ends the unit without a word to the runner. It is called once.
func (u *unit) quit() { close(u.ending) }

func (u *unit) look() []Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.view)
}

// loop owns u.core until the unit has ended.
func (u *unit) loop() {
	timer := time.NewTimer(time.Hour)
	defer u.finish(timer)
	for !u.finished {
		var due <-chan time.Time
		if wake := u.core.Wake(); !wake.IsZero() {
			timer.Reset(time.Until(wake))
			due = timer.C
		}
		select {
		case <-u.wake:
			u.read()
		case <-due:
			u.step(Event{Kind: Tick})
		case <-u.ending:
			return
		case <-u.m.aborted:
			return
		}
	}
}

func (u *unit) finish(timer *time.Timer) {
	timer.Stop()
	u.cancelCalls()
	for _, w := range u.waiters {
		w.reply <- answer{err: u.m.errGone(u.key, w.service)}
	}
	close(u.done)
}

func (u *unit) read() {
	u.mu.Lock()
	box := u.box
	u.box = nil
	u.mu.Unlock()
	for _, m := range box {
		if !u.finished {
			u.receive(m)
		}
	}
}

func (u *unit) receive(m mail) {
	switch m.event.Kind {
	case Up:
		u.cancelCalls()
		u.instance, u.peer = m.instance, m.peer
	case Down, Report, Clear:
		if m.instance != u.instance || !u.core.up {
			return
		}
		if m.event.Kind == Down {
			u.cancelCalls()
		}
	case Start, Stop, Restart:
		if err := u.refuse(m.event); err != nil {
			m.reply <- answer{err: err}
			return
		}
		u.waiters = append(u.waiters, waiter{kind: m.event.Kind, service: m.event.Service, reply: m.reply})
	case Started, Stopped:
		if cancel := u.calls[m.event.Attempt]; cancel != nil {
			cancel()
			delete(u.calls, m.event.Attempt)
		}
	}
	u.step(m.event)
}

// refuse returns why a person's wish makes no sense, nil if it does.
func (u *unit) refuse(ev Event) error {
	switch {
	case u.core.find(ev.Service) < 0:
		return errUnknown(u.key, ev.Service, u.look())
	case u.core.closing:
		return errShutdown
	case !u.core.up && ev.Kind != Stop:
		return errNotRunning(u.key)
	}
	return nil
}

// step lets the policy decide and carries out what it wants.
func (u *unit) step(ev Event) {
	ev.At, ev.Random = time.Now(), mathrand.Float64()
	var actions []Action
	u.core, actions = Step(u.m.cfg.Policy, u.core, ev)
	u.publish()
	u.settle()
	for _, a := range actions {
		u.perform(a)
	}
}

func (u *unit) perform(a Action) {
	p := u.m.cfg.Policy
	switch a.Do {
	case DoStart:
		u.call(Started, wire.ServiceStart, a, p.StartTimeout)
	case DoStop:
		u.call(Stopped, wire.ServiceStop, a, p.StopTimeout)
	case DoCancel:
		u.calls[a.Attempt]()
	case DoEscalate:
		u.log.Warn("service keeps failing and its container is restarted", "service", a.Service, "error", a.Reason)
		go u.m.cfg.Escalate(u.key, u.instance, "service "+plugin.Printable(a.Service, plugin.MaxToolLen)+" keeps failing: "+a.Reason)
	case DoFinish:
		u.finished = true
	}
}

// call tells the runner and reports its answer.
func (u *unit) call(kind Kind, op string, a Action, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	u.calls[a.Attempt] = cancel
	peer := u.peer
	msg := wire.ServiceCall{ID: rand.Text(), Service: a.Service, Op: op, TimeoutMillis: timeout.Milliseconds()}
	go func() {
		defer cancel()
		result, err := peer.CallService(ctx, msg)
		err = outcome(ctx, msg, result, err)
		u.post(mail{event: Event{Kind: kind, Service: a.Service, Attempt: a.Attempt, Err: err}})
	}()
}

func (u *unit) cancelCalls() {
	for _, cancel := range u.calls {
		cancel()
	}
	clear(u.calls)
}

// publish shows the services as they are to others.
func (u *unit) publish() {
	view := make([]Status, 0, len(u.core.services))
	for _, s := range u.core.services {
		view = append(view, u.status(s))
	}
	u.mu.Lock()
	before := u.view
	u.view = view
	u.mu.Unlock()
	for i, st := range view {
		if i < len(before) && before[i].equal(st) {
			continue
		}
		if st.State == StateBackoff || st.State == StateFailed {
			u.log.Warn("service failed", "service", st.ID, "state", st.State, "error", st.LastError)
		}
		u.m.cfg.Notify(st)
	}
}

func (u *unit) status(s service) Status {
	st := Status{
		Tenant: u.key.Tenant, Plugin: u.key.ID, ID: s.id, State: s.state, Desired: s.desired, Since: s.since,
		Restarts: s.restarts, LastError: s.lastError,
	}
	if st.State == StateBackoff {
		next := s.nextAttempt
		st.NextAttempt = &next
	}
	return st
}

func (st Status) equal(other Status) bool {
	a, b := st, other
	if a.NextAttempt != nil && b.NextAttempt != nil && a.NextAttempt.Equal(*b.NextAttempt) {
		a.NextAttempt, b.NextAttempt = nil, nil
	}
	return a == b
}

// settle answers the wishes that were met or failed.
func (u *unit) settle() {
	u.waiters = slices.DeleteFunc(u.waiters, func(w waiter) bool {
		st := Status{ID: w.service, State: StateStopped} // of another version of the plugin
		if i := u.core.find(w.service); i >= 0 {
			st = u.status(u.core.services[i])
		}
		done, err := u.settled(w, st)
		if done {
			w.reply <- answer{st, err}
		}
		return done
	})
}

func (u *unit) settled(w waiter, st Status) (done bool, err error) {
	waiting := st.State == StateStarting || st.State == StateStopping
	switch {
	case w.kind == Stop && st.Desired:
		return true, errSuperseded(w.service, "started")
	case w.kind != Stop && u.core.closing:
		return true, errShutdown
	case w.kind != Stop && !u.core.up:
		return true, errEnded(u.key, w.service)
	case w.kind != Stop && !st.Desired:
		return true, errSuperseded(w.service, "stopped")
	case waiting:
		return false, nil
	case st.LastError != "":
		return true, errFailed(u.key, w.kind, st)
	}
	return true, nil
}
