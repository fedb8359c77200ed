package instance

import (
	"context"
	"sync"
	"time"

	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
)

// termTime is kept of a stop's grace for SIGTERM, at most a quarter of it: for
// a program whose runner does not hear any more.
const termTime = 2 * time.Second

// exitTime is how long a Stop waits to learn how the container ended.
const exitTime = 2 * time.Second

// Stop ends the container in order: calls under way may end, for half of the
// grace; then the runner stops what it started; then there is SIGTERM; and
// after the grace SIGKILL. A grace of 0 kills at once.
func (in *Instance) Stop(ctx context.Context, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	if grace > 0 {
		in.inFlight.drain(ctx, in.done, grace/2)
		in.askToStop(ctx, deadline.Add(-min(termTime, grace/4)))
	}
	if in.hasEnded() {
		return nil
	}
	if err := in.engine.Stop(ctx, in.id, max(time.Until(deadline), 0)); err != nil {
		return err
	}
	select { // how it ended is told apart from that it has
	case <-in.done:
	case <-time.After(exitTime):
	case <-ctx.Done():
	}
	return nil
}

// askToStop asks the runner to end until a time, and returns when the container
// has ended or the runner does not do it.
func (in *Instance) askToStop(ctx context.Context, until time.Time) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var stopped wire.Stopped
	if err := in.request(ctx, subject.Stop, &wire.Stop{Reason: "asked", GraceMillis: time.Until(until).Milliseconds()}, &stopped); err != nil {
		in.logger.Debug("the runner did not stop by itself", "error", err)
		return
	}
	select {
	case <-in.done:
	case <-ctx.Done():
	}
}

// inFlight counts calls that were sent and not answered. The zero value has
// none.
type inFlight struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n gets 0; nil unless somebody waits
}

// begin counts a call until the returned function is called.
func (f *inFlight) begin() (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.n--; f.n == 0 && f.idle != nil {
			close(f.idle)
			f.idle = nil
		}
	}
}

// drain returns when no call is under way, the container has ended, or the
// time is up.
func (f *inFlight) drain(ctx context.Context, ended <-chan struct{}, within time.Duration) {
	f.mu.Lock()
	if f.n == 0 {
		f.mu.Unlock()
		return
	}
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	idle := f.idle
	f.mu.Unlock()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-idle:
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}
