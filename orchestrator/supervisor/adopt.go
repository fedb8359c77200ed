package supervisor

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Found is an instance that an earlier process of ours started and that still
// runs.
type Found struct {
	// Instance is the same to the supervisor as one that a Launcher made, but
	// for its Start, which starts nothing: it returns when the plugin is
	// reached again.
	Instance   Instance
	Generation uint64
	ReadyAt    time.Time // since when it runs, by the engine's account
}

// Adopt is Add, switched on, for a plugin of which an instance still runs. No
// start is counted, no delay is waited for, and the whole of its run counts.
// Adopt does not wait until the plugin is reached: see Ready. One that is not
// within Policy.AdoptTimeout is ended, and another is started at once; that
// does not count as a short run unless the instance ended by itself.
//
// FailedPrecondition if the plugin is in quarantine, AlreadyExists if it is
// supervised, Unavailable after Shutdown. After an error the instance is still
// the caller's, to be removed.
func (s *Supervisor) Adopt(ctx context.Context, key plugin.Key, found Found) error {
	counters, err := s.load(ctx, key)
	if err != nil {
		return err
	}
	u := newUnit(s, key, Restore(s.policy, counters, true, time.Now()))
	if err := u.core.refuse(Adopt); err != nil {
		return explain(err, key, u.view.status)
	}
	if known, err := s.enter(u); err != nil {
		return err
	} else if known {
		return fault.New(errdefs.ErrAlreadyExists, "plugin_supervised", "cannot adopt an instance of plugin %q: it has one of its own", key.ID)
	}
	u.hold(found.Instance, u.core.attempt+1)
	u.step(Event{Kind: Adopt, Generation: found.Generation, ReadyAt: found.ReadyAt})
	go u.loop()
	return nil
}

// Leave ends the supervision of all plugins without ending their instances:
// for an orchestrator that is replaced by another one, which adopts them. What
// does not run (is prepared, started, stopped or cleared away) is ended as
// Shutdown does. It returns as Shutdown does, and afterwards the supervisor is
// of no use.
func (s *Supervisor) Leave(ctx context.Context) error { return s.end(ctx, Leave) }
