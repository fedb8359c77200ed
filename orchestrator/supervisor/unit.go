package supervisor

import "time"

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
	ClassError        Class = "error"         // any other exit code, or NoCode: the engine lost it
	ClassOOM          Class = "oom"           // killed by its memory limit
	ClassStartFailure Class = "start_failure" // it never became ready
	ClassProbeFailure Class = "probe_failure" // it stopped answering and was killed
	ClassTamper       Class = "tamper"        // its payload was altered
	ClassStopped      Class = "stopped"       // it was asked to
)

// NoCode is the exit code of an instance that left none.
const NoCode = -1

// Exit is how a container ended. With NoCode nobody knows how, or whether.
type Exit struct {
	Code int
	OOM  bool
	At   time.Time // by the engine's account; may be zero
}

// known reports that the engine saw the container end. Anything else is no
// proof that it does not run any more.
func (e Exit) known() bool { return e.Code != NoCode && !e.At.IsZero() }

// lost reports that nobody knows how it ended.
func (e Exit) lost() bool { return e.Code == NoCode && !e.OOM }

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

// phase is where the one instance of a unit is that runs or will run. There is
// never a second one: only phaseNone leads to phasePreparing.
type phase int

const (
	phaseNone      phase = iota
	phasePreparing       // Prepare runs
	phasePrepared        // not started yet
	phaseStarting        // Start runs
	phaseUp              // ready
	phaseStopping        // Stop runs
	phaseDead            // ended, while the remains of the one before are still there
	phaseGone            // the unit has ended and takes no more events
)

// remains are what is left of an instance that has to be closed; the zero
// value is nothing. There is at most one. While its container is not known to
// have ended nothing else is made, so that no two ever run; once it is, the
// next one need not wait for it to be cleared away.
type remains struct {
	attempt  uint64
	ended    bool // its container is known not to run
	closing  bool // Close runs
	failures int
	next     time.Time // when to close it, again
}

func (r remains) exist() bool { return r.attempt != 0 }

// block reports that no other instance may be made.
func (r remains) block() bool { return r.exist() && !r.ended }

// Unit is one supervised plugin as [Step] sees it. The zero value is a plugin
// that is switched off and never ran.
type Unit struct {
	Counters
	Desired  bool // switched on
	removing bool // to be forgotten
	closing  bool // the supervisor shuts down,
	leaving  bool // and leaves instances that run to another one
	left     bool // which it has done with this unit's

	remains    remains
	phase      phase
	attempt    uint64 // names the instance; results of earlier ones are ignored
	Generation uint64 // of the last instance that was prepared or adopted
	Since      time.Time
	LastError  string // cleared when the plugin is ready

	ending    bool // the instance has to go,
	endClass  Class
	endReason string // and this is why
	cancelled bool   // the running Prepare or Start was told to give up
	unasked   bool   // the last instance ended by itself
	again     bool   // the next one that is made is a start that nobody asked for
	urgent    bool   // somebody is likely to wait for the next one
	adopted   bool   // it was started by an earlier process,
	reaching  bool   // and Start of it was asked for
	inert     bool   // it was never started, or it was stopped
	exit      *Exit  // of the instance, once it is known

	readyAt, healthyAt time.Time // ready, and last known to be well
	pinging            bool
	misses             int
	nextPing           time.Time

	hostFailures int // in a row
}

// longestDelay is the longest that the plugin's own failures are ever followed
// by. What a clock that was set makes of it is no longer.
func (c Counters) longestDelay(p Policy) time.Duration {
	if c.CrashLooped {
		return p.TrialEvery
	}
	return p.jitter(p.Delay(c.ShortRuns), 1)
}

// Restore returns the unit of a plugin whose counters were kept from before.
// Times that a changed clock moved into the far future are pulled back.
func Restore(p Policy, c Counters, desired bool, at time.Time) Unit {
	if !c.NextAttempt.IsZero() {
		// Counted from at it stays where it is when the clock is set.
		c.NextAttempt = at.Add(min(c.NextAttempt.Sub(at), c.longestDelay(p)))
	}
	c.Exits = within(c.Exits, at, p.ExitWindow)
	return Unit{Counters: c, Desired: desired, Since: at}
}

// State returns what the unit is doing.
func (u Unit) State() State {
	switch u.phase {
	case phaseGone:
		if u.left {
			return StateRunning
		}
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
	case phaseNone, phaseDead:
		idle := u.idleState()
		if !u.remains.exist() && u.phase == phaseNone || u.unasked && u.wanted() || idle == StateQuarantined {
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
	var wake time.Time
	switch {
	case u.phase == phaseNone && u.wanted() && !u.remains.block():
		wake = u.NextAttempt
	case u.phase == phaseUp && !u.pinging:
		wake = u.nextPing
	}
	if u.remains.exist() && !u.remains.closing && (wake.IsZero() || u.remains.next.Before(wake)) {
		wake = u.remains.next
	}
	return wake
}

// waking returns the unit with the times of Wake at most as far away as they
// can be, whatever the clock was set to in between.
func (u Unit) waking(p Policy, at time.Time) Unit {
	longest := max(u.longestDelay(p), p.jitter(p.HostBackoffMax, 1))
	u.NextAttempt = earlier(u.NextAttempt, at.Add(longest))
	u.nextPing = earlier(u.nextPing, at.Add(p.PingEvery))
	u.remains.next = earlier(u.remains.next, at.Add(p.CloseRetryMax))
	return u
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// wanted reports whether there should be an instance.
func (u Unit) wanted() bool {
	return u.Desired && !u.removing && !u.closing && u.Tampered == ""
}

// leaves reports whether there is an instance that runs and is left to others.
func (u Unit) leaves() bool {
	runs := u.phase == phaseUp || u.phase == phaseStarting && u.adopted
	return u.leaving && runs && u.exit == nil && !u.ending && u.Desired && !u.removing && u.Tampered == ""
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
