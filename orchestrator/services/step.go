package services

import (
	"slices"
	"time"

	"github.com/containerd/errdefs"
)

// Kind names what happened.
type Kind string

// The kinds of events. The first group concerns the plugin, the second one
// service; the last are the results of actions.
const (
	Up       Kind = "up"       // a generation is ready: Services
	Down     Kind = "down"     // it ended
	Shutdown Kind = "shutdown" // stop everything, for good
	Tick     Kind = "tick"     // the time of Wake has come

	Start   Kind = "start" // these three by a person
	Stop    Kind = "stop"
	Restart Kind = "restart"
	Report  Kind = "report" // the service says of itself that it failed: Reason
	Clear   Kind = "clear"  // and takes it back

	Started Kind = "started" // Err
	Stopped Kind = "stopped" // Err
)

// Event is something that happened to a unit.
type Event struct {
	Kind     Kind
	At       time.Time
	Services []string // of Up, in the order of registration
	Service  string   // of events of the second group
	Reason   string   // of Report
	Attempt  uint64   // of results: the attempt of the action
	Err      error    // of results
	Random   float64  // in [0, 1), for jitter
}

// Do names what is to be done.
type Do string

// The actions. Start and Stop are each answered by their result event, at
// most one of them per service is under way. Cancel makes the running Start
// return early, which is its only effect.
const (
	DoStart    Do = "start"
	DoStop     Do = "stop"
	DoCancel   Do = "cancel"
	DoEscalate Do = "escalate" // restart the container
	DoFinish   Do = "finish"   // the unit has ended
)

// Action is something that [Step] wants done.
type Action struct {
	Do      Do
	Service string
	Attempt uint64
	Reason  string // of Escalate
}

// Step is the whole policy of services: what becomes of the services of a
// plugin when something happens, and what is to be done now. It is pure: no
// clock, no I/O, no lock; u is not altered.
//
//	         the plugin runs, its turn         ok
//	stopped ───────────────────────▶ starting ────▶ running ──▶ stopping ──▶ stopped
//	                                  ▲ │ failed      │ reported    ▲ by a person
//	                       its time   │ ▼             ▼  failure    │
//	                     (stopped) ◀─ backoff ◀───────┘             │
//	                                  │ 3rd failure                 │
//	                                  ▼                             │
//	                       failed: the container is restarted ─▶ stopped
//	                       failed for good, after 2 of these in 10 min,
//	                       until a person starts it
//
// A service is first started when all that were registered before it have
// been tried once; after that the services do not wait for one another. In a
// [Shutdown] each is stopped once all that were registered after it are.
// While a service that reported a failure is in backoff it still runs, and is
// running again if it takes the report back in time.
func Step(p Policy, u Unit, ev Event) (Unit, []Action) {
	if u.gone {
		return u, nil
	}
	u.services = slices.Clone(u.services)
	u = apply(p, u, ev)
	var actions []Action
	switch {
	case u.closing:
		u, actions = u.advanceClosing()
	case u.up:
		u, actions = u.advance(p, ev.At)
	}
	for i, s := range u.services {
		if state := u.stateOf(s); state != s.state {
			u.services[i].state, u.services[i].since = state, ev.At
		}
	}
	return u, actions
}

// apply records what happened.
func apply(p Policy, u Unit, ev Event) Unit {
	switch ev.Kind {
	case Up:
		if u.up {
			u = u.end(p, ev.At)
		}
		return u.begin(ev.Services)
	case Down:
		return u.end(p, ev.At)
	case Shutdown:
		u.closing = true
		return u
	}
	i := u.find(ev.Service)
	if i < 0 {
		return u
	}
	s := u.services[i]
	switch ev.Kind {
	case Start, Stop, Restart:
		if ev.Kind != Stop {
			u.escalations, u.escalated = nil, false // a person vouches for another try
		}
		s = s.asked(ev.Kind)
	case Report:
		s = u.reported(p, s, ev)
	case Clear:
		s = s.cleared(ev.At)
	case Started:
		if s.phase == phaseStarting && s.attempt == ev.Attempt {
			s = u.started(p, s, ev)
		}
	case Stopped:
		if s.phase == phaseStopping && s.attempt == ev.Attempt {
			s = s.stopped(ev)
		}
	}
	u.services[i] = s
	return u
}

// asked is what a person wants.
func (s service) asked(kind Kind) service {
	if kind == Stop {
		s.desired, s.reported, s.escalate, s.nextAttempt, s.lastError = false, false, false, time.Time{}, ""
		return s
	}
	running := s.phase == phaseUp && s.nextAttempt.IsZero() && s.stuck == stuckNot
	if kind == Start && s.desired && (running || s.phase == phaseStarting) && !s.ending {
		return s
	}
	s.ending = s.ending || s.phase == phaseStarting || s.phase == phaseUp
	s.desired, s.stuck, s.reported, s.escalate, s.unasked = true, stuckNot, false, false, false
	s.failures, s.nextAttempt, s.lastError = 0, time.Time{}, ""
	return s
}

// reported is a service that says that it failed: nobody restarts it before
// it had the time of the backoff to take that back.
func (u Unit) reported(p Policy, s service, ev Event) service {
	active := s.phase == phaseStarting || s.phase == phaseUp
	if !active || s.ends(u.closing) || s.stuck != stuckNot {
		return s
	}
	s.lastError = ev.Reason
	if s.phase == phaseUp && !s.reported {
		s = u.failed(p, s, ev, ev.Reason)
	}
	s.reported = true // while it is starting this counts once it is up
	return s
}

func (s service) cleared(at time.Time) service {
	if !s.reported || s.ending || s.stuck != stuckNot {
		return s
	}
	s.reported, s.lastError = false, ""
	if s.phase == phaseUp {
		s.failures--
		s.unasked, s.escalate, s.nextAttempt, s.healthyAt = false, false, time.Time{}, at
	}
	return s
}

// started is the result of a start.
func (u Unit) started(p Policy, s service, ev Event) service {
	s.tried = true
	gaveUp := s.gaveUp
	s.gaveUp = false
	switch {
	case ev.Err == nil && s.reported:
		s.phase, s.healthyAt = phaseUp, ev.At
		return u.failed(p, s, ev, s.lastError)
	case ev.Err == nil:
		s.phase, s.healthyAt, s.lastError = phaseUp, ev.At, ""
		return s
	case errdefs.IsUnavailable(ev.Err):
		s.phase, s.ending, s.reported = phaseNone, false, false
		if !gaveUp {
			s.lastError, s.nextAttempt = ev.Err.Error(), ev.At.Add(p.jitter(p.UnreachableRetry, ev.Random))
		}
		return s
	}
	// Only the plugin's own word that start() failed means that nothing runs;
	// after anything else it is stopped before it is started again.
	said := errdefs.IsAborted(ev.Err)
	if !gaveUp {
		s = u.failed(p, s, ev, ev.Err.Error())
	}
	s.phase, s.ending, s.reported = phaseUp, true, false
	if said {
		s.phase, s.ending = phaseNone, false
	}
	return s
}

// failed counts a failure and decides what follows it.
func (u Unit) failed(p Policy, s service, ev Event, reason string) service {
	s = s.credit(p, ev.At)
	s.failures++
	s.lastError, s.unasked = reason, true
	s.escalate = s.failures%p.MaxFailures == 0
	if s.escalate && len(within(u.escalations, ev.At, p.EscalationWindow)) >= p.MaxEscalations {
		s.escalate, s.stuck = false, stuckPerson
		return s
	}
	s.nextAttempt = ev.At.Add(p.jitter(p.Delay(s.failures), ev.Random))
	return s
}

// stopped is the result of a stop. One that failed is over as well: a second
// stop() is never called.
func (s service) stopped(ev Event) service {
	s.phase, s.ending, s.reported = phaseNone, false, false
	if ev.Err != nil && s.lastError == "" {
		s.lastError = ev.Err.Error()
	}
	return s
}

// advance decides what is to be done next in a running plugin.
func (u Unit) advance(p Policy, at time.Time) (Unit, []Action) {
	var actions []Action
	turn := true // all services before this one were tried
	for i, s := range u.services {
		next, do := s.next(at, turn)
		switch do {
		case DoStart, DoStop:
			u.attempt++
			next.attempt = u.attempt
		case DoEscalate:
			if u.escalated { // another service has asked for the same
				do = ""
				break
			}
			u.escalated = true
			u.escalations = append(within(u.escalations, at, p.EscalationWindow), at)
		}
		if do != "" {
			actions = append(actions, Action{Do: do, Service: s.id, Attempt: next.attempt, Reason: reasonOf(do, s)})
		}
		turn = turn && (next.tried || !next.desired || next.stuck != stuckNot)
		u.services[i] = next
	}
	return u, actions
}

func reasonOf(do Do, s service) string {
	if do == DoEscalate {
		return s.lastError
	}
	return ""
}

// next decides what is to be done with s.
func (s service) next(at time.Time, turn bool) (service, Do) {
	due := !s.nextAttempt.IsZero() && !at.Before(s.nextAttempt)
	switch s.phase {
	case phaseNone:
		if !s.desired || s.stuck != stuckNot || !s.nextAttempt.IsZero() && !due {
			return s, ""
		}
		s.nextAttempt = time.Time{}
		if s.escalate {
			return s.giveTo(stuckContainer)
		}
		if !s.tried && !turn {
			return s, ""
		}
		if s.unasked {
			s.restarts++
		}
		s.phase, s.unasked = phaseStarting, false
		return s, DoStart
	case phaseStarting:
		if s.ends(false) && !s.gaveUp {
			s.gaveUp = true
			return s, DoCancel
		}
	case phaseUp:
		if s.ends(false) {
			s.phase = phaseStopping
			return s, DoStop
		}
		if !due {
			return s, ""
		}
		s.nextAttempt = time.Time{}
		if s.escalate {
			return s.giveTo(stuckContainer)
		}
		s.phase, s.ending = phaseStopping, true
		return s, DoStop
	}
	return s, ""
}

func (s service) giveTo(who stuck) (service, Do) {
	s.escalate, s.stuck = false, who
	return s, DoEscalate
}

// advanceClosing stops one service after the other, the last one first.
func (u Unit) advanceClosing() (Unit, []Action) {
	var actions []Action
	turn := true // all services after this one are stopped
	for i, s := range slices.Backward(u.services) {
		switch {
		case s.phase == phaseStarting && !s.gaveUp:
			s.gaveUp = true
			actions = append(actions, Action{Do: DoCancel, Service: s.id, Attempt: s.attempt})
		case s.phase == phaseUp && turn:
			u.attempt++
			s.phase, s.attempt = phaseStopping, u.attempt
			actions = append(actions, Action{Do: DoStop, Service: s.id, Attempt: s.attempt})
		}
		turn = turn && s.phase == phaseNone
		u.services[i] = s
	}
	if turn {
		u.gone = true
		actions = append(actions, Action{Do: DoFinish})
	}
	return u, actions
}

// within returns the times that are not after at and not older than window.
func within(times []time.Time, at time.Time, window time.Duration) []time.Time {
	var kept []time.Time
	for _, t := range times {
		if age := at.Sub(t); age >= 0 && age < window {
			kept = append(kept, t)
		}
	}
	return kept
}
