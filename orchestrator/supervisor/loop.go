package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// saveTimeout bounds one write of counters.
const saveTimeout = 10 * time.Second

// message is an event on its way to the goroutine that owns the unit.
type message struct {
	event    Event
	instance Instance     // of Prepared
	reply    chan<- error // of requests; has room for the answer
}

// unit runs one Unit. Its first group of fields does not change, the second
// belongs to the goroutine in loop, the third is what others may see.
type unit struct {
	sup   *Supervisor
	key   plugin.Key
	log   *slog.Logger
	inbox chan message
	done  chan struct{} // closed when loop has returned

	core      Unit
	bodies    map[uint64]*body   // by attempt: at most one that may run and one that ended
	cancelOp  context.CancelFunc // makes the running Prepare or Start give up
	slotEnd   *time.Timer        // gives the place of the running Start back; may be nil
	finished  bool
	saveErr   error
	forgetErr error // read by others once done is closed

	mu      sync.Mutex
	view    view
	changed chan struct{} // closed and replaced when view changes
	callers int           // of Ready, that wait
	ticket  *ticket       // of the start under way, nil if none is
}

// body is an instance that exists.
type body struct {
	Instance
	unwatch    context.CancelFunc // ends the wait for its end
	cancelPing context.CancelFunc
}

// view is a unit as others see it.
type view struct {
	status   Status
	held     bool     // there is an instance, in whatever shape
	ready    Instance // nil unless it may be used
	removing bool
	closing  bool // the supervisor shuts down
}

func newUnit(s *Supervisor, key plugin.Key, core Unit) *unit {
	u := &unit{
		sup: s, key: key, core: core,
		log:      s.logger.With("tenant", key.Tenant, "plugin", key.ID),
		inbox:    make(chan message),
		done:     make(chan struct{}),
		changed:  make(chan struct{}),
		bodies:   map[uint64]*body{},
		cancelOp: func() {},
	}
	u.view = u.look()
	return u
}

// loop owns u.core until the unit has ended.
func (u *unit) loop() {
	timer := time.NewTimer(u.untilWake())
	defer u.finish(timer)
	for !u.finished {
		timer.Reset(u.untilWake())
		select {
		case m := <-u.inbox:
			u.receive(m)
		case <-timer.C:
			u.step(Event{Kind: Tick})
		case <-u.sup.aborted:
			return
		}
	}
}

// untilWake returns the time to the next Tick. One too many does no harm.
func (u *unit) untilWake() time.Duration {
	if wake := u.core.Wake(); !wake.IsZero() {
		return time.Until(wake)
	}
	return time.Hour
}

func (u *unit) finish(timer *time.Timer) {
	timer.Stop()
	u.cancelOp()
	u.endStart()
	u.publish()
	for attempt := range u.bodies {
		u.letGo(attempt)
	}
	u.sup.forget(u)
	close(u.done)
}

func (u *unit) receive(m message) {
	if m.reply != nil {
		if err := u.core.refuse(m.event.Kind); err != nil {
			m.reply <- explain(err, u.key, u.view.status)
			return
		}
	}
	if m.instance != nil {
		u.hold(m.instance, m.event.Attempt)
	}
	u.saveErr = nil
	u.step(m.event)
	if m.reply != nil {
		m.reply <- u.saveErr
	}
}

// hold makes the instance the unit's own and waits for its end.
func (u *unit) hold(inst Instance, attempt uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	u.bodies[attempt] = &body{Instance: inst, unwatch: cancel, cancelPing: func() {}}
	go func() {
		select {
		case <-inst.Done():
			u.post(message{event: Event{Kind: Exited, Attempt: attempt, Exit: inst.Exit()}})
		case <-ctx.Done():
		}
	}()
}

// letGo is the opposite of hold.
func (u *unit) letGo(attempt uint64) {
	if b := u.bodies[attempt]; b != nil {
		b.unwatch()
		b.cancelPing()
		delete(u.bodies, attempt)
	}
}

// current returns the instance that the unit has, the one that may run if
// there are two; nil if there is none.
func (u *unit) current() Instance {
	for _, attempt := range []uint64{u.core.attempt, u.core.remains.attempt} {
		if b := u.bodies[attempt]; b != nil {
			return b.Instance
		}
	}
	return nil
}

// step lets the policy decide and carries out what it wants.
func (u *unit) step(ev Event) {
	ev.At, ev.Random = time.Now(), rand.Float64()
	before := u.core
	var actions []Action
	u.core, actions = Step(u.sup.policy, before, ev)
	u.report(before, ev)
	if ev.Kind == Closed && ev.Err == nil {
		u.letGo(ev.Attempt)
	}
	if u.core.phase < phasePreparing || u.core.phase > phaseStarting {
		u.endStart()
	}
	u.publish()
	for _, a := range actions {
		u.perform(a)
	}
}

func (u *unit) perform(a Action) {
	p := u.sup.policy
	switch a.Do {
	case DoSave:
		u.save()
	case DoPrepare:
		ctx, cancel := context.WithCancel(context.Background())
		u.cancelOp = cancel
		go u.prepare(ctx, cancel, a.Attempt, u.beginStart(a.Urgent))
	case DoStart:
		u.slotEnd = time.AfterFunc(p.StartSlot, u.ticket.release)
		u.start("start", a.Attempt, p.StartTimeout)
	case DoAdopt:
		u.start("reach", a.Attempt, p.AdoptTimeout)
	case DoCancel:
		u.cancelOp()
	case DoStop:
		go u.stop(u.bodies[a.Attempt].Instance, a)
	case DoClose:
		ctx, cancel := context.WithTimeout(context.Background(), p.CloseTimeout)
		go u.run(ctx, cancel, "remove", Event{Kind: Closed, Attempt: a.Attempt}, u.bodies[a.Attempt].Close)
	case DoPing:
		ctx, cancel := context.WithTimeout(context.Background(), p.PingTimeout)
		u.bodies[a.Attempt].cancelPing = cancel
		go u.run(ctx, cancel, "ping", Event{Kind: Ponged, Attempt: a.Attempt}, u.bodies[a.Attempt].Ping)
	case DoForget:
		u.forgetUnit()
	case DoFinish:
		u.finished = true
	}
}

// start starts an instance, or reaches one that runs.
func (u *unit) start(verb string, attempt uint64, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	u.cancelOp = cancel
	inst := u.bodies[attempt].Instance
	go u.run(ctx, cancel, verb, Event{Kind: Started, Attempt: attempt}, func(ctx context.Context) error {
		defer u.postExit(inst, attempt)
		return inst.Start(ctx)
	})
}

// run does f, which the verb names, and reports its result.
func (u *unit) run(ctx context.Context, cancel context.CancelFunc, verb string, result Event, f func(context.Context) error) {
	defer cancel()
	err := f(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("cannot %s it in time: %w", verb, err)
	}
	result.Err = err
	u.post(message{event: result})
}

// postExit tells of an end before the result that it explains. That it is told
// of twice does not matter.
func (u *unit) postExit(inst Instance, attempt uint64) {
	if hasEnded(inst) {
		u.post(message{event: Event{Kind: Exited, Attempt: attempt, Exit: inst.Exit()}})
	}
}

// beginStart joins those that want to start.
func (u *unit) beginStart(urgent bool) *ticket {
	u.endStart() // of an attempt that this one follows at once
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ticket = u.sup.starts.join(u.key.Tenant, urgent || u.callers > 0)
	return u.ticket
}

// endStart leaves them.
func (u *unit) endStart() {
	if u.slotEnd != nil {
		u.slotEnd.Stop()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ticket != nil {
		u.ticket.release()
		u.ticket = nil
	}
}

// await counts a caller who waits for the instance, and hurries its start.
func (u *unit) await() (leave func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.callers++
	if u.ticket != nil {
		u.ticket.hurry()
	}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.callers--
	}
}

// prepare waits for its turn and makes an instance.
func (u *unit) prepare(ctx context.Context, cancel context.CancelFunc, attempt uint64, turn *ticket) {
	defer cancel()
	ev := Event{Kind: Prepared, Attempt: attempt}
	inst, err := u.makeInstance(ctx, turn, &ev)
	ev.Err = err
	if err != nil {
		inst = nil
	}
	u.post(message{event: ev, instance: inst})
}

func (u *unit) makeInstance(ctx context.Context, turn *ticket, ev *Event) (Instance, error) {
	if err := turn.wait(ctx); err != nil {
		return nil, err
	}
	defer time.AfterFunc(u.sup.policy.PrepareSlot, turn.release).Stop()
	ctx, cancel := context.WithTimeout(ctx, u.sup.policy.PrepareTimeout)
	defer cancel()
	generation, err := u.sup.store.NextGeneration(ctx, u.key)
	if err != nil {
		// %v: whatever is wrong with the store is not wrong with the plugin.
		return nil, fault.New(errdefs.ErrUnavailable, "state_unavailable", "cannot count the generation: %v", err)
	}
	ev.Generation = generation
	inst, err := u.sup.launcher.Prepare(ctx, u.key, generation)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && !errdefs.IsDataLoss(err) {
		// No code of the plugin runs here: it is the host that is too slow.
		return nil, fault.New(errdefs.ErrUnavailable, "prepare_timeout", "cannot prepare it in time: %w", err)
	}
	return inst, err
}

// stop waits for its turn and ends the instance.
func (u *unit) stop(inst Instance, a Action) {
	select {
	case u.sup.stopping <- struct{}{}:
		defer func() { <-u.sup.stopping }()
	case <-u.done:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.Grace+u.sup.policy.KillTimeout)
	defer cancel()
	err := inst.Stop(ctx, a.Grace)
	u.postExit(inst, a.Attempt)
	u.post(message{event: Event{Kind: Stopped, Attempt: a.Attempt, Err: err}})
}

// save writes the counters before anything that follows is done, so that
// they hold even if what follows ends the daemon.
func (u *unit) save() {
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	doc, err := json.Marshal(u.core.Counters)
	if err == nil {
		err = u.sup.store.SaveUnit(ctx, u.key, doc)
	}
	if u.saveErr = err; err != nil {
		u.log.Error("cannot save the counters of a plugin", "error", err)
	}
}

func (u *unit) forgetUnit() {
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	u.forgetErr = u.sup.store.DeleteUnit(ctx, u.key)
}

// request sends an event and returns when it has taken effect.
func (u *unit) request(ctx context.Context, ev Event) error {
	reply := make(chan error, 1)
	select {
	case u.inbox <- message{event: ev, reply: reply}:
	case <-u.done:
		return errUnknown(u.key)
	case <-ctx.Done():
		return u.notYet(ctx, "busy")
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return u.notYet(ctx, "busy")
	}
}

// post delivers a result unless the unit has ended.
func (u *unit) post(m message) {
	select {
	case u.inbox <- m:
	case <-u.done:
	}
}

func (u *unit) hasEnded() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// report logs what an operator should look at.
func (u *unit) report(before Unit, ev Event) {
	now := u.core
	if ev.Kind == Closed && ev.Err != nil {
		u.log.Warn("cannot remove an instance", "instance", u.bodies[ev.Attempt].ID(), "error", ev.Err)
	}
	if now.LastExit != before.LastExit && now.LastExit.Class != ClassStopped {
		u.log.Warn("plugin ended", "generation", now.Generation, "class", now.LastExit.Class, "code", now.LastExit.Code,
			"error", now.LastExit.Message, "short_runs", now.ShortRuns, "next_attempt", now.NextAttempt)
	}
	if state := now.State(); state != before.State() {
		switch state {
		case StateCrashlooped:
			u.log.Error("plugin ends too often", "short_runs", now.ShortRuns, "next_attempt", now.NextAttempt)
		case StateQuarantined:
			u.log.Error("plugin is in quarantine", "reason", now.Tampered)
		}
	}
}
