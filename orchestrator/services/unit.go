package services

import "time"

// The states of a service, by the names that users see.
const (
	StateStopped  = "stopped"  // switched off, or its plugin does not run
	StateStarting = "starting" // start() runs, or waits for its turn
	StateRunning  = "running"
	StateBackoff  = "backoff"  // it failed and will be started again
	StateStopping = "stopping" // stop() runs
	StateFailed   = "failed"   // only a restart of the container, or a person, helps
)

// phase is what the runner was last told about a service. It leads from none
// through starting to up, and through stopping back to none: so stop() is
// called at most once per start(), and start() for none that runs.
type phase int

const (
	phaseNone     phase = iota
	phaseStarting       // start() runs
	phaseUp             // start() has returned, or may have
	phaseStopping       // stop() runs
)

// stuck says what a failed service waits for.
type stuck int

const (
	stuckNot       stuck = iota
	stuckContainer       // the container's restart, which was asked for
	stuckPerson          // a person's start
)

// Unit is the services of one plugin as [Step] sees them. The zero value is a
// plugin that never ran.
type Unit struct {
	services []service // in the order of registration

	up          bool // a generation is ready to be told
	closing     bool // everything is to be stopped
	gone        bool // it was, and the unit takes no more events
	attempt     uint64
	escalated   bool        // this generation's end was asked for
	escalations []time.Time // within the window, oldest first
}

// service is one service of a [Unit].
type service struct {
	id       string
	desired  bool // false once a person stopped it
	phase    phase
	attempt  uint64 // names the call under way; results of others are ignored
	tried    bool   // its first start in this generation has had its result
	ending   bool   // this run has to go
	gaveUp   bool   // the running start was told to
	reported bool   // it says of itself that it failed
	unasked  bool   // its last run ended by a failure
	escalate bool   // nextAttempt is that of the container
	stuck    stuck

	failures    int       // in a row
	healthyAt   time.Time // since when it has been well
	nextAttempt time.Time // zero: at once
	restarts    int
	lastError   string

	state string // as it was after the last step,
	since time.Time
}

// stateOf returns what s is doing.
func (u Unit) stateOf(s service) string {
	switch {
	case !u.up:
		return StateStopped
	case s.phase == phaseStopping, s.phase == phaseStarting && s.ends(u.closing), s.phase == phaseUp && s.ending:
		return StateStopping
	case s.phase == phaseStarting:
		return StateStarting
	case !s.desired || u.closing:
		return StateStopped
	case s.stuck != stuckNot:
		return StateFailed
	case !s.nextAttempt.IsZero():
		return StateBackoff
	case s.phase == phaseUp:
		return StateRunning
	}
	return StateStarting
}

// ends reports whether the run of s has to go.
func (s service) ends(closing bool) bool {
	return closing || s.ending || !s.desired || s.stuck == stuckPerson
}

// Wake returns when the unit next wants a [Tick], zero if not at all.
func (u Unit) Wake() time.Time {
	var wake time.Time
	if !u.up || u.closing {
		return wake
	}
	for _, s := range u.services {
		waits := s.desired && s.stuck == stuckNot && (s.phase == phaseNone || s.phase == phaseUp && !s.ending)
		if waits && !s.nextAttempt.IsZero() && (wake.IsZero() || s.nextAttempt.Before(wake)) {
			wake = s.nextAttempt
		}
	}
	return wake
}

// find returns the index of a service, -1 if there is none.
func (u Unit) find(id string) int {
	for i, s := range u.services {
		if s.id == id {
			return i
		}
	}
	return -1
}

// begin is a generation that can be told to start services. What is known of
// a service from the ones before, which have ended, stays.
func (u Unit) begin(ids []string) Unit {
	fresh := make([]service, 0, len(ids))
	known := map[string]bool{}
	for _, id := range ids {
		if known[id] || id == "" {
			continue
		}
		known[id] = true
		s := service{id: id, desired: true}
		if i := u.find(id); i >= 0 {
			s = u.services[i]
		}
		fresh = append(fresh, s)
	}
	u.services, u.up, u.escalated = fresh, true, false
	return u
}

// end is the end of a generation, and with it of all that ran in it.
func (u Unit) end(p Policy, at time.Time) Unit {
	for i, s := range u.services {
		u.services[i] = s.credit(p, at).idle()
	}
	u.up = false
	return u
}

// idle forgets all that concerns one generation.
func (s service) idle() service {
	if s.stuck == stuckContainer {
		s.stuck = stuckNot
	}
	return service{
		id: s.id, desired: s.desired, unasked: s.unasked, stuck: s.stuck, failures: s.failures,
		restarts: s.restarts, lastError: s.lastError, state: s.state, since: s.since,
	}
}

// credit forgets earlier failures after a long healthy run.
func (s service) credit(p Policy, at time.Time) service {
	if s.phase == phaseUp && !s.reported && at.Sub(s.healthyAt) >= p.HealthyRun {
		s.failures = 0
	}
	return s
}
