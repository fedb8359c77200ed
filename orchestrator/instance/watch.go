package instance

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/sandbox"
)

const (
	// The engine is asked again after it failed, with a growing pause.
	waitPauseMin = 100 * time.Millisecond
	waitPauseMax = 2 * time.Second

	// missingTime is how long lists of the engine must not hold a container
	// before that is believed.
	missingTime = 5 * time.Second
)

// watch begins to wait for the container's end, with what is known of it.
func (in *Instance) watch(ctx context.Context, seen sighting) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	in.mu.Lock()
	in.unwatch = cancel
	seen.started = true
	in.seen = seen
	in.mu.Unlock()
	in.watcher.Go(func() { in.wait(ctx) })
}

// stopWatching returns when nobody waits for the container any more.
func (in *Instance) stopWatching() {
	in.mu.Lock()
	cancel := in.unwatch
	in.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	in.watcher.Wait()
}

// wait asks the engine how the container ended until it knows. That an engine
// is away, or hangs, is no end of the container: the bus does not need it.
func (in *Instance) wait(ctx context.Context) {
	pause := waitPauseMin
	for {
		asked := time.Now()
		exit, err := in.engine.Wait(ctx, in.id)
		switch {
		case err == nil:
			in.end(exit)
			return
		case errdefs.IsNotFound(err): // removed, by Close or behind our back
			in.end(unknownExit())
			return
		case ctx.Err() != nil:
			return
		}
		if time.Since(asked) > waitPauseMax { // it was there meanwhile
			pause = waitPauseMin
		}
		if pause == waitPauseMin {
			in.logger.Warn("cannot wait for the end of a container, trying again", "container", in.id, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, waitPauseMax)
	}
}

// end says that the container has ended. Only the first one counts.
func (in *Instance) end(exit sandbox.Exit) {
	in.ending.Do(func() {
		in.exit = exit
		close(in.done)
	})
}

func (in *Instance) hasEnded() bool {
	select {
	case <-in.done:
		return true
	default:
		return false
	}
}

// unknownExit is the end of a container that nobody saw.
func unknownExit() sandbox.Exit { return sandbox.Exit{Code: -1, At: time.Now()} }

// Observe takes what the engine's list said of the instance's container, nil
// when it was not in it. It is the safety net under the engine's Wait: a
// container that has ended, that two lists some time apart do not hold, or that
// somebody has started anew, ends the instance. What a list says of an
// instance that was not started, or has ended, does not matter.
func (in *Instance) Observe(c *sandbox.Container) {
	in.mu.Lock()
	exit, ended := in.seen.note(c, time.Now())
	in.mu.Unlock()
	if ended {
		in.end(exit)
	}
}

// sighting is what is known of a container that was started.
type sighting struct {
	started bool
	// Of its first process; 0 and zero as long as no list has told.
	pid       int
	startedAt time.Time
	// missing is when a list did not hold it, unless a later one did.
	missing time.Time
}

// note takes what a list said at a time, and says whether and how the container
// has ended. A list may be older than the start.
func (s *sighting) note(c *sandbox.Container, now time.Time) (exit sandbox.Exit, ended bool) {
	lost := sandbox.Exit{Code: -1, At: now}
	switch {
	case !s.started:
		return exit, false
	case c == nil && s.missing.IsZero():
		s.missing = now
		return exit, false
	case c == nil && now.Sub(s.missing) < missingTime:
		return exit, false
	case c == nil:
		return lost, true
	}
	s.missing = time.Time{}
	switch c.State {
	case sandbox.StateExited:
		return c.Exit, true
	case sandbox.StateRunning:
		if s.restarted(c) {
			return lost, true
		}
		if s.pid == 0 {
			s.pid = c.PID
		}
		if s.startedAt.IsZero() {
			s.startedAt = c.StartedAt
		}
	}
	return exit, false
}

// restarted says that it is another run than the one that was seen before: all
// that is known of both differs.
func (s *sighting) restarted(c *sandbox.Container) bool {
	pids := s.pid != 0 && c.PID != 0
	times := !s.startedAt.IsZero() && !c.StartedAt.IsZero()
	return (pids || times) && (!pids || s.pid != c.PID) && (!times || !s.startedAt.Equal(c.StartedAt))
}
