package supervisor

import (
	"cmp"
	"fmt"
	"reflect"
	"time"

	"github.com/containerd/errdefs"
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
	Attempt    uint64  // of results: the attempt of the action
	Err        error   // of results
	Exit       Exit    // of Exited
	Generation uint64  // of Prepared
	Reason     string  // of Tamper
	Random     float64 // in [0, 1), for jitter
}

// Do names what is to be done.
type Do string

// The actions. At most one of Prepare, Start, Stop and Close runs at a time;
// each is answered by its result event. Cancel makes the running Prepare or
// Start return early, which is its only effect.
const (
	DoSave    Do = "save" // the counters, before anything that follows
	DoPrepare Do = "prepare"
	DoStart   Do = "start"
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
}

// Step is the whole policy of supervision: what becomes of a unit when
// something happens, and what is to be done now. It is pure: no clock, no
// I/O, no lock; u is not altered.
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
	u = apply(p, u, ev)
	u, actions := advance(p, u, ev)
	if u.State() != before {
		u.Since = ev.At
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
			u.Desired, u.NextAttempt, u.hostFailures = true, ev.At, 0
		}
	case Disable:
		u.Desired = false
	case Restart:
		u.NextAttempt, u.hostFailures, u.unasked = ev.At, 0, false
		u = u.end(ClassStopped, "restarted")
	case Reset:
		u.Counters = Counters{LastExit: u.LastExit}
		u.hostFailures, u.LastError = 0, ""
	case Tamper:
		u.Tampered = cmp.Or(ev.Reason, "its payload was altered")
	case Remove:
		u.removing = true
	case Shutdown:
		u.closing = true
	case Prepared, Started, Exited, Stopped, Closed, Ponged:
		if ev.Attempt == u.attempt {
			u = applyResult(p, u, ev)
		}
	}
	return u
}

func applyResult(p Policy, u Unit, ev Event) Unit {
	switch {
	case ev.Kind == Prepared && u.phase == phasePreparing:
		return u.prepared(p, ev)
	case ev.Kind == Started && u.phase == phaseStarting:
		return u.started(p, ev)
	case ev.Kind == Exited && u.phase >= phasePrepared && u.phase <= phaseStopping:
		return u.exited(p, ev)
	case ev.Kind == Stopped && u.phase == phaseStopping:
		if ev.Err != nil {
			u.LastError = ev.Err.Error()
		}
		return u.ended(p, ev, u.endClass, u.endReason)
	case ev.Kind == Closed && u.phase == phaseClosing:
		return u.closed(p, ev)
	case ev.Kind == Ponged && u.phase == phaseUp && u.pinging:
		return u.ponged(p, ev)
	}
	return u
}

func (u Unit) prepared(p Policy, ev Event) Unit {
	if ev.Generation != 0 {
		u.Generation = ev.Generation
	}
	if ev.Err == nil {
		u.phase = phasePrepared
		return u
	}
	u = u.startFailed(p, ev)
	u.phase = phaseNone // a Prepare that fails leaves nothing
	return u
}

func (u Unit) started(p Policy, ev Event) Unit {
	if ev.Err != nil {
		return u.startFailed(p, ev)
	}
	u.phase, u.LastError, u.hostFailures = phaseUp, "", 0
	u.readyAt, u.healthyAt, u.nextPing = ev.At, ev.At, ev.At.Add(p.PingEvery)
	if u.exit != nil { // it ended between saying so and now
		return u.exited(p, Event{At: ev.At, Exit: *u.exit, Random: ev.Random})
	}
	return u
}

// startFailed is a Prepare or Start that failed, or that was told to give up.
func (u Unit) startFailed(p Policy, ev Event) Unit {
	message := ev.Err.Error()
	switch {
	case errdefs.IsDataLoss(ev.Err):
		u.Tampered, u.LastError = message, message
		return u.ended(p, ev, ClassTamper, message)
	case u.ending:
		return u.ended(p, ev, u.endClass, u.endReason)
	case hostFault(ev.Err):
		return u.hostFailed(p, ev)
	}
	u.LastError = message
	if u.exit != nil && u.exit.OOM {
		return u.ended(p, ev, ClassOOM, message)
	}
	return u.ended(p, ev, ClassStartFailure, message)
}

// hostFault reports an error for which the plugin is not to blame.
func hostFault(err error) bool {
	return errdefs.IsUnavailable(err) || errdefs.IsResourceExhausted(err)
}

// hostFailed waits for the host to mend without counting against the plugin.
func (u Unit) hostFailed(p Policy, ev Event) Unit {
	u.hostFailures++
	u.LastError = ev.Err.Error()
	u.LastExit = LastExit{Class: ClassStartFailure, Code: u.code(), At: ev.At, Message: u.LastError}
	delay := double(p.BackoffFirst, u.hostFailures, p.HostBackoffMax)
	u.NextAttempt = ev.At.Add(p.jitter(delay, ev.Random))
	u.phase, u.nextClose, u.unasked = phaseDead, ev.At, true
	return u
}

// exited is a container that ended. While Start or Stop runs, their results
// decide what it means.
func (u Unit) exited(p Policy, ev Event) Unit {
	u.exit = &ev.Exit
	if u.phase != phaseUp {
		return u
	}
	class := ClassError
	switch {
	case ev.Exit.OOM:
		class = ClassOOM
	case ev.Exit.Code == 0:
		class = ClassClean
	}
	return u.ended(p, ev, class, "")
}

// ended accounts for an instance that is no longer active.
func (u Unit) ended(p Policy, ev Event, class Class, message string) Unit {
	at := ev.At
	if u.exit != nil && u.exit.At.After(u.readyAt) && u.exit.At.Before(at) {
		at = u.exit.At // the news may be older than its arrival
	}
	u.LastExit = LastExit{Class: class, Code: u.code(), At: at, Message: message}
	u.unasked = class != ClassStopped
	if u.unasked && class != ClassTamper {
		u = u.count(p, at, u.run(at), ev.Random)
	}
	u.phase, u.nextClose = phaseDead, ev.At
	return u
}

func (u Unit) code() int {
	if u.exit == nil {
		return NoCode
	}
	return u.exit.Code
}

// run returns how long the instance was healthy.
func (u Unit) run(at time.Time) time.Duration {
	switch {
	case u.readyAt.IsZero():
		return 0
	case u.misses > 0:
		return u.healthyAt.Sub(u.readyAt)
	}
	return at.Sub(u.readyAt)
}

// count decides when an instance that ended unasked is followed by the next.
func (u Unit) count(p Policy, at time.Time, run time.Duration, random float64) Unit {
	u = u.credit(p, run)
	u.Exits = append(within(u.Exits, at, p.ExitWindow), at)
	if extra := len(u.Exits) - p.MaxExits; extra > 0 {
		u.Exits = u.Exits[extra:]
	}
	u.NextAttempt = at
	if run < p.HealthyRun {
		u.ShortRuns++
		u.NextAttempt = at.Add(p.jitter(p.Delay(u.ShortRuns), random))
	}
	failedTrial := u.CrashLooped && run < p.HealthyRun
	u.CrashLooped = failedTrial || u.ShortRuns >= p.MaxShortRuns || len(u.Exits) >= p.MaxExits
	if u.CrashLooped {
		u.NextAttempt = at.Add(p.TrialEvery)
	}
	return u
}

// credit forgets earlier short runs after a long healthy one.
func (u Unit) credit(p Policy, run time.Duration) Unit {
	if run >= p.resetAfter(u.ShortRuns) {
		u.ShortRuns, u.CrashLooped = 0, false
	}
	return u
}

func (u Unit) closed(p Policy, ev Event) Unit {
	if ev.Err != nil {
		u.closeFailures++
		u.LastError = ev.Err.Error()
		u.phase = phaseDead
		u.nextClose = ev.At.Add(double(p.CloseRetry, u.closeFailures, p.CloseRetryMax))
		return u
	}
	u.phase = phaseNone
	return u
}

func (u Unit) ponged(p Policy, ev Event) Unit {
	u.pinging, u.nextPing = false, ev.At.Add(p.PingEvery)
	if ev.Err == nil {
		u.misses, u.healthyAt = 0, ev.At
		return u.credit(p, ev.At.Sub(u.readyAt))
	}
	u.misses++
	if u.misses >= p.PingMisses {
		u.LastError = fmt.Sprintf("%d pings in a row were not answered: %v", u.misses, ev.Err)
		u = u.end(ClassProbeFailure, u.LastError)
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
	} else if !u.wanted() {
		u = u.end(ClassStopped, "")
	}
	switch u.phase {
	case phaseNone:
		return u.advanceIdle(ev.At)
	case phasePreparing, phaseStarting:
		if u.ending && !u.cancelled {
			u.cancelled = true
			return u, u.do(DoCancel)
		}
	case phasePrepared:
		if u.ending {
			return advance(p, u.ended(p, ev, u.endClass, u.endReason), ev)
		}
		u.phase = phaseStarting
		return u, u.do(DoStart)
	case phaseUp:
		return u.advanceUp(p, ev.At)
	case phaseDead:
		if !ev.At.Before(u.nextClose) {
			u.phase = phaseClosing
			return u, u.do(DoClose)
		}
	}
	return u, nil
}

func (u Unit) advanceIdle(at time.Time) (Unit, []Action) {
	switch {
	case u.removing:
		u.phase = phaseGone
		return u, append(u.do(DoForget), Action{Do: DoFinish})
	case u.closing:
		u.phase = phaseGone
		return u, u.do(DoFinish)
	case !u.wanted() || at.Before(u.NextAttempt):
		return u, nil
	}
	if u.unasked {
		u.Restarts++
	}
	u = u.fresh()
	u.phase = phasePreparing
	u.attempt++
	return u, u.do(DoPrepare)
}

// fresh forgets all that concerns one instance.
func (u Unit) fresh() Unit {
	return Unit{
		Counters: u.Counters, Desired: u.Desired, removing: u.removing, closing: u.closing,
		phase: u.phase, attempt: u.attempt, Generation: u.Generation, Since: u.Since, LastError: u.LastError,
		hostFailures: u.hostFailures,
	}
}

func (u Unit) advanceUp(p Policy, at time.Time) (Unit, []Action) {
	if u.ending {
		grace := p.StopGrace
		if u.endClass != ClassStopped {
			grace = 0 // it does not answer, or must not go on
		}
		u.phase = phaseStopping
		return u, []Action{{Do: DoStop, Attempt: u.attempt, Grace: grace}}
	}
	if !u.pinging && !at.Before(u.nextPing) {
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
	case kind != Restart:
		return nil
	case u.Tampered != "":
		return errQuarantined
	case !u.Desired:
		return errDisabled
	}
	return nil
}
