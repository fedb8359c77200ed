package supervisor

import (
	"time"
)

// State is what a unit is doing, by the name that users see.
type State string

// The states.
const (
	StateStopped     State = "stopped"     // switched off; nothing of it is left
	StatePreparing   State = "preparing"   // its payload is verified and its container made
	StateStarting    State = "starting"    // its container runs and loads the plugin
	StateRunning     State = "running"     // it said that it is ready
	StateBackoff     State = "backoff"     // it ended and will be started again
	StateStopping    State = "stopping"    // it was asked to end
	StateCrashlooped State = "crashlooped" // it ended too often and is tried rarely
	StateQuarantined State = "quarantined" // its payload is not what was installed
)

// Class says why an instance ended.
type Class string

// The classes.
const (
	ClassClean        Class = "clean"         // exit code 0, unasked
	ClassError        Class = "error"         // any other exit code
	ClassOOM          Class = "oom"           // killed by its memory limit
	ClassStartFailure Class = "start_failure" // it never became ready
	ClassProbeFailure Class = "probe_failure" // it stopped answering and was killed
	ClassTamper       Class = "tamper"        // its payload was altered
	ClassStopped      Class = "stopped"       // it was asked to
)

// NoCode is the exit code of an instance that left none.
const NoCode = -1

// Exit is how a container ended.
type Exit struct {
	Code int
	OOM  bool
	At   time.Time // by the engine's account; may be zero
}

// LastExit is how the last instance ended, classified.
type LastExit struct {
	Class   Class     `json:"class"`
	Code    int       `json:"code"` // NoCode if there is none
	At      time.Time `json:"at"`
	Message string    `json:"message,omitempty"`
}

// Counters are what outlives the process: what must not be forgotten when the
// daemon is restarted, by a person or by a plugin that manages to end it.
type Counters struct {
	Restarts    int         `json:"restarts"`            // starts that nobody asked for
	ShortRuns   int         `json:"shortRuns,omitempty"` // since the last reset
	Exits       []time.Time `json:"exits,omitempty"`     // unasked, within the window, oldest first
	CrashLooped bool        `json:"crashLooped,omitempty"`
	NextAttempt time.Time   `json:"nextAttempt,omitzero"` // not before
	Tampered    string      `json:"tampered,omitempty"`   // why it is in quarantine
	LastExit    LastExit    `json:"lastExit,omitzero"`
}

// phase is where the one instance of a unit is. There is never a second one:
// only phaseNone leads to phasePreparing, and only a successful Close leads
// back to phaseNone.
type phase int

const (
	phaseNone      phase = iota
	phasePreparing       // Prepare runs
	phasePrepared        // not started yet
	phaseStarting        // Start runs
	phaseUp              // ready
	phaseStopping        // Stop runs
	phaseDead            // to be closed, or to be closed again
	phaseClosing         // Close runs
	phaseGone            // the unit has ended and takes no more events
)

// Unit is one supervised plugin as [Step] sees it. The zero value is a plugin
// that is switched off and never ran.
type Unit struct {
	Counters
	Desired  bool // switched on
	removing bool // to be forgotten
	closing  bool // the supervisor shuts down

	phase      phase
	attempt    uint64 // names the instance; results of earlier ones are ignored
	Generation uint64 // of the last instance that was prepared
	Since      time.Time
	LastError  string // cleared when the plugin is ready

	ending    bool // the instance has to go,
	endClass  Class
	endReason string // and this is why
	cancelled bool   // the running Prepare or Start was told to give up
	unasked   bool   // the last instance ended by itself
	exit      *Exit  // of the instance, once it is known

	readyAt, healthyAt time.Time // ready, and last known to be well
	pinging            bool
	misses             int
	nextPing           time.Time

	hostFailures  int // in a row
	closeFailures int
	nextClose     time.Time
}

// Restore returns the unit of a plugin whose counters were kept from before.
// Times that a changed clock moved into the far future are pulled back.
func Restore(p Policy, c Counters, desired bool, at time.Time) Unit {
	latest := at.Add(max(p.TrialEvery, p.jitter(p.BackoffMax, 1)))
	if c.NextAttempt.After(latest) {
		c.NextAttempt = latest
	}
	c.Exits = within(c.Exits, at, p.ExitWindow)
	return Unit{Counters: c, Desired: desired, Since: at}
}

// State returns what the unit is doing.
func (u Unit) State() State {
	switch u.phase {
	case phaseNone, phaseGone:
		return u.idleState()
	case phasePreparing, phasePrepared, phaseStarting:
		if u.ending {
			return StateStopping
		}
		if u.phase == phaseStarting {
			return StateStarting
		}
		return StatePreparing
	case phaseUp:
		return StateRunning
	case phaseDead, phaseClosing:
		if idle := u.idleState(); u.unasked && u.wanted() || idle == StateQuarantined {
			return idle
		}
	}
	return StateStopping
}

// idleState is the state of a unit without an instance.
func (u Unit) idleState() State {
	switch {
	case u.Tampered != "":
		return StateQuarantined
	case !u.wanted():
		return StateStopped
	case u.CrashLooped:
		return StateCrashlooped
	}
	return StateBackoff
}

// Wake returns when the unit next wants a [Tick], zero if not at all.
func (u Unit) Wake() time.Time {
	switch u.phase {
	case phaseNone:
		if u.wanted() {
			return u.NextAttempt
		}
	case phaseUp:
		if !u.pinging {
			return u.nextPing
		}
	case phaseDead:
		return u.nextClose
	}
	return time.Time{}
}

// wanted reports whether there should be an instance.
func (u Unit) wanted() bool {
	return u.Desired && !u.removing && !u.closing && u.Tampered == ""
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
