package supervisor

import (
	"cmp"
	"reflect"
	"time"
)

// Kind names what happened.
type Kind string

// The kinds of events. The first group are requests, the second the passing
// of time, the third the results of actions.
const (
	Enable   Kind = "enable"
	Disable  Kind = "disable"
	Restart  Kind = "restart"  // by a person: at once
	Reset    Kind = "reset"    // by a person: forget what went wrong
	Tamper   Kind = "tamper"   // the payload was found altered: Reason
	Remove   Kind = "remove"   // end and forget the plugin
	Shutdown Kind = "shutdown" // end it, keep its counters
	Adopt    Kind = "adopt"    // an instance of it runs already: Generation, ReadyAt; for a unit without one
	Leave    Kind = "leave"    // as Shutdown, but an instance that runs is left running

	Tick Kind = "tick" // the time of Wake has come

	Prepared Kind = "prepared" // Err, Generation
	Started  Kind = "started"  // Err
	Exited   Kind = "exited"   // Exit
	Stopped  Kind = "stopped"  // Err
	Closed   Kind = "closed"   // Err
	Ponged   Kind = "ponged"   // Err
)

// Event is something that happened to a unit.
type Event struct {
	Kind       Kind
	At         time.Time
	Attempt    uint64    // of results: the attempt of the action
	Err        error     // of results
	Exit       Exit      // of Exited
	Generation uint64    // of Prepared and Adopt
	ReadyAt    time.Time // of Adopt
	Reason     string    // of Tamper
	Random     float64   // in [0, 1), for jitter
}

// Do names what is to be done.
type Do string

// The actions. Of one instance at most one of Prepare, Start, Stop and Close
// runs at a time; each is answered by its result event. Cancel makes the
// running Prepare or Start return early, which is its only effect. Close may
// be about the instance before the one that the others are about.
const (
	DoSave    Do = "save" // the counters, before anything that follows
	DoPrepare Do = "prepare"
	DoStart   Do = "start"
	DoAdopt   Do = "adopt" // Start of an instance that runs already; a Started answers
	DoCancel  Do = "cancel"
	DoStop    Do = "stop"
	DoClose   Do = "close"
	DoPing    Do = "ping"
	DoForget  Do = "forget" // delete the counters
	DoFinish  Do = "finish" // the unit has ended
)

// Action is something that [Step] wants done.
type Action struct {
	Do      Do
	Attempt uint64
	Grace   time.Duration // of Stop
	Urgent  bool          // of Prepare: before others of the same tenant
}

// Step is the whole policy of supervision: what becomes of a unit when
// something happens, and what is to be done now. It is pure: no clock, no
// I/O, no lock; u is not altered. In outline, the whole of it being drawn in
// docs/supervision.md:
//
//	           enabled, due          ok             ready
//	 stopped ──────────────▶ preparing ──▶ starting ──────▶ running
//	   ▲  ▲                    ▲ │ failed     │ failed        │ ended, or no
//	   │  │ disabled           │ ▼            ▼               ▼ answer: killed
//	   │  └──────────────── backoff ◀──────────────── (instance closed)
//	   │                       │ 6 short runs, or 20 exits in 10 min
//	   │ disabled              ▼
//	   ├──────────────── crashlooped ──every 10 min, or by a person──▶ preparing
//	   │
//	stopping ◀── disabled, restarted or removed, from preparing to running
//
//	quarantined ◀── payload altered, from anywhere; left by a reset alone
func Step(p Policy, u Unit, ev Event) (Unit, []Action) {
	if u.phase == phaseGone {
		return u, nil
	}
	before, counters := u.State(), u.Counters
	u = apply(p, u.waking(p, ev.At), ev)
	u, actions := advance(p, u, ev)
	if u.State() != before {
		u.Since = ev.At
		if u.adopted && u.phase == phaseUp {
			u.Since = u.readyAt
		}
	}
	if !u.removing && !reflect.DeepEqual(u.Counters, counters) {
		actions = append([]Action{{Do: DoSave}}, actions...)
	}
	return u, actions
}

// apply records what happened.
func apply(p Policy, u Unit, ev Event) Unit {
	switch ev.Kind {
	case Enable:
		if !u.Desired {
			u.Desired, u.NextAttempt, u.hostFailures, u.again = true, ev.At, 0, false
		}
	case Disable:
		u.Desired = false
	case Restart:
		u.NextAttempt, u.hostFailures, u.unasked, u.again, u.urgent = ev.At, 0, false, false, true
		u = u.end(ClassStopped, "restarted")
	case Reset:
		u.Counters = Counters{LastExit: u.LastExit}
		u.hostFailures, u.LastError, u.unasked, u.again = 0, "", false, false
	case Tamper:
		u.Tampered = cmp.Or(ev.Reason, "its payload was altered")
	case Remove:
		u.removing = true
	case Shutdown:
		u.closing, u.leaving = true, false
	case Leave:
		if !u.closing {
			u.closing, u.leaving = true, true
		}
	case Adopt:
		u = u.adopt(ev)
	default:
		u = applyResult(p, u, ev)
	}
	return u
}

// adopt takes up an instance that runs, unless there is one or should be none.
func (u Unit) adopt(ev Event) Unit {
	if u.phase != phaseNone || u.remains.exist() || !u.wanted() {
		return u
	}
	u = u.fresh()
	u.attempt++
	u.phase, u.adopted, u.Generation = phaseStarting, true, ev.Generation
	u.readyAt = ev.At
	if !ev.ReadyAt.IsZero() && ev.ReadyAt.Before(ev.At) {
		u.readyAt = ev.At.Add(ev.ReadyAt.Sub(ev.At)) // the same time, counted from At whatever the clock is set to
	}
	return u
}

// applyResult leaves alone what is the result of another attempt, or of an
// action that is not under way.
func applyResult(p Policy, u Unit, ev Event) Unit {
	if u.remains.exist() && ev.Attempt == u.remains.attempt {
		return u.buried(p, ev)
	}
	if ev.Attempt != u.attempt {
		return u
	}
	switch {
	case ev.Kind == Prepared && u.phase == phasePreparing:
		return u.prepared(p, ev)
	case ev.Kind == Started && u.phase == phaseStarting:
		return u.started(p, ev)
	case ev.Kind == Exited && u.phase >= phasePrepared && u.phase <= phaseDead:
		return u.exited(p, ev)
	case ev.Kind == Stopped && u.phase == phaseStopping:
		return u.stopped(p, ev)
	case ev.Kind == Ponged && u.phase == phaseUp && u.pinging:
		return u.ponged(p, ev)
	}
	return u
}

// end marks the instance, if there is one, as having to go. The first reason
// stands, but for tampering.
func (u Unit) end(class Class, reason string) Unit {
	active := u.phase >= phasePreparing && u.phase <= phaseStopping
	if active && (!u.ending || class == ClassTamper) {
		u.ending, u.endClass, u.endReason = true, class, reason
	}
	return u
}

// advance decides what is to be done next.
func advance(p Policy, u Unit, ev Event) (Unit, []Action) {
	if u.Tampered != "" {
		u = u.end(ClassTamper, u.Tampered)
	} else if !u.wanted() && !u.leaves() {
		u = u.end(ClassStopped, "")
	}
	if u.phase == phasePrepared && u.ending {
		u.inert = true
		u = u.ended(p, ev, u.endClass, u.endReason)
	}
	u, closing := u.bury(ev.At).advanceRemains(ev.At)
	u, more := u.advanceInstance(p, ev.At)
	return u, append(closing, more...)
}

func (u Unit) advanceRemains(at time.Time) (Unit, []Action) {
	if !u.remains.exist() || u.remains.closing || at.Before(u.remains.next) {
		return u, nil
	}
	u.remains.closing = true
	return u, []Action{{Do: DoClose, Attempt: u.remains.attempt}}
}

func (u Unit) advanceInstance(p Policy, at time.Time) (Unit, []Action) {
	switch u.phase {
	case phaseNone:
		return u.advanceIdle(at)
	case phasePreparing:
		return u.giveUp(u.ending)
	case phasePrepared:
		u.phase = phaseStarting
		return u, u.do(DoStart)
	case phaseStarting:
		if u.adopted && !u.reaching {
			u.reaching = true
			return u, u.do(DoAdopt)
		}
		return u.giveUp(u.ending || u.leaves())
	case phaseUp:
		return u.advanceUp(p, at)
	}
	return u, nil
}

// giveUp cancels the running Prepare or Start, once.
func (u Unit) giveUp(why bool) (Unit, []Action) {
	if !why || u.cancelled {
		return u, nil
	}
	u.cancelled = true
	return u, u.do(DoCancel)
}

func (u Unit) advanceIdle(at time.Time) (Unit, []Action) {
	switch {
	case u.removing || u.closing:
		return u.finish()
	case !u.wanted() || at.Before(u.NextAttempt) || u.remains.block():
		return u, nil
	}
	urgent := u.urgent
	u = u.fresh()
	u.phase = phasePreparing
	u.attempt++
	return u, []Action{{Do: DoPrepare, Attempt: u.attempt, Urgent: urgent}}
}

// finish ends the unit when nothing of its earlier instances is left.
func (u Unit) finish() (Unit, []Action) {
	if u.remains.exist() {
		return u, nil
	}
	u.phase = phaseGone
	if u.removing {
		return u, append(u.do(DoForget), Action{Do: DoFinish})
	}
	return u, u.do(DoFinish)
}

// fresh forgets all that concerns one instance.
func (u Unit) fresh() Unit {
	return Unit{
		Counters: u.Counters, Desired: u.Desired, removing: u.removing, closing: u.closing, leaving: u.leaving,
		remains: u.remains, phase: u.phase, attempt: u.attempt, Generation: u.Generation, Since: u.Since,
		LastError: u.LastError, hostFailures: u.hostFailures, again: u.again,
	}
}

func (u Unit) advanceUp(p Policy, at time.Time) (Unit, []Action) {
	switch {
	case u.ending:
		grace := p.StopGrace
		if u.endClass != ClassStopped {
			grace = 0 // it does not answer, or must not go on
		}
		u.phase = phaseStopping
		return u, []Action{{Do: DoStop, Attempt: u.attempt, Grace: grace}}
	case u.leaves() && !u.remains.exist():
		u.left = true
		return u.finish()
	case !u.pinging && !at.Before(u.nextPing):
		u.pinging = true
		return u, u.do(DoPing)
	}
	return u, nil
}

func (u Unit) do(what Do) []Action { return []Action{{Do: what, Attempt: u.attempt}} }

// refuse returns why a request makes no sense in the unit's state, nil if it
// does.
func (u Unit) refuse(kind Kind) error {
	switch {
	case u.removing && kind != Remove && kind != Shutdown:
		return errRemoving
	case kind != Restart && kind != Adopt:
		return nil
	case u.Tampered != "":
		return errQuarantined
	case !u.Desired:
		return errDisabled
	}
	return nil
}
