package supervisor

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

func (u Unit) prepared(p Policy, ev Event) Unit {
	if ev.Generation != 0 {
		u.Generation = ev.Generation
	}
	if ev.Err == nil {
		if u.again {
			u.Restarts++
		}
		u.phase, u.again = phasePrepared, false
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
	u.phase, u.LastError = phaseUp, ""
	u.healthyAt, u.nextPing = ev.At, ev.At.Add(p.PingEvery)
	if !u.adopted {
		u.readyAt = ev.At
	}
	if u.exit != nil { // it ended between saying so and now
		return u.died(p, ev)
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
	case u.adopted && u.cancelled && u.exit == nil:
		u.phase = phaseUp // it runs: to be stopped in order, or to be left
		return u
	case u.ending:
		return u.ended(p, ev, u.endClass, u.endReason)
	case u.adopted:
		return u.notAdopted(p, ev)
	case hostFault(ev.Err) || u.exit != nil && u.exit.lost():
		return u.hostFailed(p, ev, ClassStartFailure, message)
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

// notAdopted is an instance that an earlier process started and that could
// not be reached. If it ended meanwhile that counts as it always does, with
// the whole of its run. If not, nobody knows whether it or the change of
// processes is to blame, so it is replaced at once and nothing is held
// against the plugin: if it is ill, the next instance will show it.
func (u Unit) notAdopted(p Policy, ev Event) Unit {
	if u.exit != nil {
		return u.died(p, ev)
	}
	u.LastError = "it could not be reached after a restart of ocmt: " + ev.Err.Error()
	u.LastExit = LastExit{Class: ClassStartFailure, Code: NoCode, At: ev.At, Message: u.LastError}
	u.again = true
	u.phase, u.unasked, u.urgent, u.NextAttempt = phaseDead, true, true, ev.At
	return u
}

// hostFailed waits for the host to mend without counting against the plugin.
func (u Unit) hostFailed(p Policy, ev Event, class Class, message string) Unit {
	run := u.run(ev.At)
	u = u.credit(p, run)
	u.LastError = message
	u.LastExit = LastExit{Class: class, Code: u.code(), At: ev.At, Message: message}
	u.again = u.again || u.phase != phasePreparing
	u.phase, u.unasked, u.urgent, u.NextAttempt = phaseDead, true, true, ev.At
	if run < p.HealthyRun {
		u.hostFailures++
		u.urgent = false
		u.NextAttempt = ev.At.Add(p.jitter(double(p.BackoffFirst, u.hostFailures, p.HostBackoffMax), ev.Random))
	}
	return u
}

// exited is a container that ended. While Start or Stop runs, their results
// decide what it means. The first account of it stands, but for one that says
// nothing.
func (u Unit) exited(p Policy, ev Event) Unit {
	if u.exit == nil || !u.exit.known() && ev.Exit.known() {
		u.exit = &ev.Exit
	}
	if u.phase == phaseUp {
		return u.died(p, ev)
	}
	return u
}

// died accounts for an instance that ended by itself.
func (u Unit) died(p Policy, ev Event) Unit {
	switch {
	case u.exit.OOM:
		return u.ended(p, ev, ClassOOM, "")
	case u.exit.lost():
		return u.hostFailed(p, ev, ClassError, "the engine lost it and does not know how it ended")
	case u.exit.Code == 0:
		return u.ended(p, ev, ClassClean, "")
	}
	return u.ended(p, ev, ClassError, "")
}

// stopped is the end of a Stop. One that failed is no end of the instance:
// its container is not believed to have ended until it is removed.
func (u Unit) stopped(p Policy, ev Event) Unit {
	if u.inert = ev.Err == nil; !u.inert {
		u.LastError = ev.Err.Error()
	}
	return u.ended(p, ev, u.endClass, u.endReason)
}

// ended accounts for an instance that is to be closed.
func (u Unit) ended(p Policy, ev Event, class Class, message string) Unit {
	at := ev.At
	if u.exit != nil && u.exit.At.After(u.readyAt) && u.exit.At.Before(at) {
		at = at.Add(u.exit.At.Sub(at)) // the news may be older than its arrival
	}
	u.LastExit = LastExit{Class: class, Code: u.code(), At: at, Message: message}
	u.unasked = class != ClassStopped
	u.again = u.unasked && (u.again || u.phase != phasePreparing)
	if u.unasked && class != ClassTamper {
		u = u.count(p, at, u.run(at), ev.Random)
	}
	u.phase = phaseDead
	return u
}

// over reports that the container of the instance does not run. An exit that
// nobody saw says more than a Stop that found nothing to stop.
func (u Unit) over() bool {
	if u.exit != nil {
		return u.exit.known()
	}
	return u.inert
}

// bury makes an instance that ended the one that is to be closed, as soon as
// the one before it is gone.
func (u Unit) bury(at time.Time) Unit {
	if u.phase == phaseDead && !u.remains.exist() {
		u.remains = remains{attempt: u.attempt, ended: u.over(), next: at}
		u.phase = phaseNone
	}
	return u
}

// buried is news of an instance that is to be closed.
func (u Unit) buried(p Policy, ev Event) Unit {
	switch {
	case ev.Kind == Exited:
		u.remains.ended = u.remains.ended || ev.Exit.known()
	case ev.Kind != Closed || !u.remains.closing: // of no interest any more
	case ev.Err == nil:
		u.remains = remains{}
	default:
		u.remains.closing = false
		u.remains.failures++
		u.remains.next = ev.At.Add(double(p.CloseRetry, u.remains.failures, p.CloseRetryMax))
		if u.phase != phaseUp { // a plugin that serves has no error
			u.LastError = ev.Err.Error()
		}
	}
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
	u.NextAttempt, u.urgent = at, true
	if run < p.HealthyRun {
		u.ShortRuns++
		u.urgent = false
		u.NextAttempt = at.Add(p.jitter(p.Delay(u.ShortRuns), random))
	}
	failedTrial := u.CrashLooped && run < p.HealthyRun
	u.CrashLooped = failedTrial || u.ShortRuns >= p.MaxShortRuns || len(u.Exits) >= p.MaxExits
	if u.CrashLooped {
		u.NextAttempt, u.urgent = at.Add(p.TrialEvery), false
	}
	return u
}

// credit forgets earlier short runs after a long healthy one, and failures of
// the host after one that is long enough for a restart at once.
func (u Unit) credit(p Policy, run time.Duration) Unit {
	if run >= p.HealthyRun {
		u.hostFailures = 0
	}
	if run >= p.resetAfter(u.ShortRuns) {
		u.ShortRuns, u.CrashLooped = 0, false
	}
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
