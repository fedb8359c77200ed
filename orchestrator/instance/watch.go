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
)

// watch begins to wait for the container's end, with what is known of it.
func (in *Instance) watch(ctx context.Context, seen sighting) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	in.mu.Lock()
	in.unwatch, seen.askAgain = cancel, func() {}
	seen.started = true
	in.seen = seen
	in.mu.Unlock()
	in.watcher.Go(func() { in.wait(ctx) })
	if in.watched != "" {
		in.watcher.Go(func() { in.watchState(ctx) })
	}
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
		exit, again, err := in.waitOnce(ctx)
		switch {
		case err == nil:
			in.end(exit)
			return
		case errdefs.IsNotFound(err): // removed, by Close or behind our back
			in.end(unknownExit())
			return
		case ctx.Err() != nil:
			return
		case again:
			continue
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

// waitOnce is the engine's Wait, unless Observe wants it to be asked again.
func (in *Instance) waitOnce(ctx context.Context) (exit sandbox.Exit, again bool, err error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	in.mu.Lock()
	in.seen.askAgain = cancel
	in.mu.Unlock()
	exit, err = in.engine.Wait(call, in.id)
	return exit, call.Err() != nil, err
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
// container that has ended, or that somebody has started anew, ends the
// instance. For one that is missing the engine is asked about that container
// alone: a list that lacks some would else end many instances at once. What a
// list says of an instance that was not started, or has ended, does not matter.
func (in *Instance) Observe(c *sandbox.Container) {
	in.mu.Lock()
	exit, ended := in.seen.note(c, time.Now())
	if in.seen.started && c == nil {
		in.seen.askAgain()
	}
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
	askAgain  context.CancelFunc // has the watcher ask the engine anew
}

// note takes what a list said at a time, and says whether and how the container
// has ended. A list may be older than the start.
func (s *sighting) note(c *sandbox.Container, now time.Time) (exit sandbox.Exit, ended bool) {
	if !s.started || c == nil {
		return exit, false
	}
	switch c.State {
	case sandbox.StateExited:
		return c.Exit, true
	case sandbox.StateRunning:
		if s.restarted(c) {
			return sandbox.Exit{Code: -1, At: now}, true
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
