// Package instance makes one generation of one plugin real: it verifies and
// mounts the sealed payload and the granted directories, opens the socket
// directory with the bus and the egress broker behind it, creates the hardened
// container, and speaks with the runner in it. What it made, it takes down
// again, whatever happened in between; nothing that was not granted by its
// [Plan] gets in.
//
// The same package runs the load check (the same container in discovery mode)
// and the throw-away container that npm installs in, so that there is one
// place where a sandbox is put together.
package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/egress"
)

// closeTimeout bounds each clean-up step, which runs also when its caller's
// context is gone.
const closeTimeout = 30 * time.Second

// Plan says what to make an instance of.
type Plan struct {
	Key        plugin.Key
	Generation uint64
	Descriptor plugin.Descriptor
	Payload    plugin.Payload
	// Config is the host's configuration as the plugin may see it,
	// PluginConfig its own entry's; both strict JSON.
	Config       json.RawMessage
	PluginConfig json.RawMessage
	// Discovery registers only: the load check. It has no state directory, and
	// gets nothing of what follows.
	Discovery bool

	// Env are the granted environment variables. They go to the runner over
	// the bus, never through the engine, which would write them to its disk.
	Env map[string]string
	// Host lists the host.* methods that the plugin may call.
	Host []string
	// Network is what it may reach at first; see [Instance.SetNetwork].
	Network egress.Policy
	// Workspaces are directories of the host, mounted at their own paths;
	// WorkspaceDir is the one that calls without a directory mean.
	Workspaces   []Workspace
	WorkspaceDir string
	// Limits of the container. A zero field is the role's default, lowered to
	// what the host has; the load check has the default ones.
	Limits sandbox.Limits
	// State bounds /state, bytes; 0 is DefaultState.
	State int64
	// Runtime names the OCI runtime that it runs with; empty is Config.Runtime.
	Runtime string
	// Learn has the runner report what the plugin wishes for, see wire.Load.
	Learn bool

	// Recipe is a digest of all that the instance is made of that the caller
	// knows, and says nothing of what that is: it is kept on the disk, for
	// whoever adopts the instance.
	Recipe string
}

// Instance is one container of a plugin. Its methods may be called from
// several goroutines.
type Instance struct {
	id     string
	plan   Plan
	engine sandbox.Engine
	logger *slog.Logger
	spec   sandbox.Spec
	peer   *bus.Peer
	broker *egress.Broker // nil in a load check

	onServiceHealth func(plugin.Key, string, wire.ServiceHealth)
	onHostCall      func(context.Context, plugin.Key, wire.HostCall) wire.HostResult
	hostCalls       chan struct{} // holds an element per host call under way

	ready  chan struct{} // closed by the first Ready or Failed
	settle sync.Once
	loaded wire.Ready
	failed error

	authority *egress.Authority // its own; nil in a load check
	watched   string            // the directory of its state, where that has no other bound

	adopted bool // it runs already; see [Factory.Adopt]
	done    chan struct{}
	ending  sync.Once // closes done
	exit    sandbox.Exit
	watcher sync.WaitGroup // waits for the container's end

	loadMessage []byte // the encoded wire.Load

	inFlight inFlight

	progressMu sync.Mutex
	progress   map[string]func(wire.Progress)

	closing sync.Mutex // one Close or Detach at a time

	mu      sync.Mutex
	undo    []undo             // run backwards by Close
	unwatch context.CancelFunc // ends the watcher
	seen    sighting           // once it was started
}

// undo is a step of taking an instance down.
type undo struct {
	do func(context.Context) error // may run more than once
	// leave gives up what this process holds of it, and nothing that would be
	// missed by a process which adopts the instance. Optional.
	leave func(context.Context) error
}

// ID names the instance and its container.
func (in *Instance) ID() string { return in.id }

// Spec is what the container was made of.
func (in *Instance) Spec() sandbox.Spec { return in.spec }

// Done is closed when the container has ended, or was never started and never
// will be.
func (in *Instance) Done() <-chan struct{} { return in.done }

// Exit says how the container ended; it is valid once Done is closed. The code
// is -1 where nobody knows.
func (in *Instance) Exit() sandbox.Exit { return in.exit }

// Start starts the container and waits until the plugin is loaded; of an
// adopted instance it waits until the plugin, which runs, has reported again.
// It fails with the class fault.ErrPlugin when the plugin cannot be loaded or
// ends first, and with DeadlineExceeded when it does not get ready in time.
// After an error of the engine's the container may run all the same, unless
// Done is closed: Close removes it.
func (in *Instance) Start(ctx context.Context) error {
	if !in.adopted {
		if err := in.startContainer(ctx); err != nil {
			return fmt.Errorf("cannot start the container of plugin %s: %w", in.plan.Key, err)
		}
	}
	select {
	case <-in.ready:
		return in.failed
	case <-in.done:
		select { // both may be true: the runner's own words say more
		case <-in.ready:
			if in.failed != nil {
				return in.failed
			}
		default:
		}
		return in.endedEarly(ctx)
	case <-ctx.Done():
		return fault.New(context.DeadlineExceeded, "start_timeout", "plugin %s was not ready in time", in.plan.Key).
			WithHint("look at `ocmt plugins logs %s`", in.plan.Key.ID)
	}
}

func (in *Instance) startContainer(ctx context.Context) error {
	err := in.engine.Start(ctx, in.id)
	if err != nil && !undecided(err) {
		in.end(unknownExit())
		return err
	}
	in.watch(ctx, sighting{})
	return err
}

// undecided says that a call of the engine which ended with err may have had
// its effect; see sandbox.Engine.
func undecided(err error) bool {
	return errdefs.IsUnavailable(err) || errdefs.IsDeadlineExceeded(err) || errdefs.IsCanceled(err)
}

// endedEarly describes an exit before the handshake, with the last lines that
// the plugin printed.
func (in *Instance) endedEarly(ctx context.Context) error {
	err := fault.New(fault.ErrPlugin, "plugin_exited", "plugin %s ended before it was ready: %s", in.plan.Key, describeExit(in.exit))
	if tail := in.lastLines(ctx, 8); tail != "" {
		return err.WithDetails(Output{tail}).WithHint("its own last output may say why")
	}
	return err.WithHint("it printed nothing; report it to its author")
}

// Output is the Details of errors that quote what a plugin printed. It is the
// plugin's word and no advice of ours.
type Output struct {
	Output string `json:"output"`
}

func describeExit(e sandbox.Exit) string {
	switch {
	case e.OOMKilled:
		return "out of memory"
	case e.Code < 0:
		return "its container is gone"
	case e.Code > 128:
		return fmt.Sprintf("signal %d", e.Code-128)
	default:
		return fmt.Sprintf("exit code %d", e.Code)
	}
}

// Surface returns what the plugin registered; valid after Start.
func (in *Instance) Surface() plugin.Surface {
	s := plugin.Surface{Registrations: make([]plugin.Registration, 0, len(in.loaded.Registrations))}
	for _, r := range in.loaded.Registrations {
		s.Registrations = append(s.Registrations, plugin.Registration(r))
	}
	for _, d := range in.loaded.Diagnostics {
		s.Diagnostics = append(s.Diagnostics, plugin.Diagnostic(d))
	}
	return s
}

// Close removes every trace of the instance but the plugin's state. It may be
// called again after it failed.
func (in *Instance) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	in.closing.Lock()
	defer in.closing.Unlock()
	steps := in.takeUndo()
	var errs []error
	var left []undo
	for _, step := range slices.Backward(steps) {
		if err := step.do(ctx); err != nil {
			errs = append(errs, err)
			left = append(left, step)
		}
	}
	slices.Reverse(left)
	in.mu.Lock()
	in.undo = left
	in.mu.Unlock()
	if len(left) == 0 {
		in.stopWatching()
	}
	return errors.Join(errs...)
}

// Detach gives up the instance for a process that adopts it: what this one
// holds is closed, the container runs on, and its mounts and files stay. What
// is in flight fails. Done is not closed, and Close does nothing any more.
func (in *Instance) Detach(ctx context.Context) error {
	in.closing.Lock()
	defer in.closing.Unlock()
	in.stopWatching()
	var errs []error
	for _, step := range slices.Backward(in.takeUndo()) {
		if step.leave != nil {
			errs = append(errs, step.leave(ctx))
		}
	}
	return errors.Join(errs...)
}

// onClose registers a step of Close.
func (in *Instance) onClose(f func(context.Context) error) { in.addUndo(undo{do: f}) }

// onLeave registers a step of Close and of Detach.
func (in *Instance) onLeave(f func(context.Context) error) { in.addUndo(undo{f, f}) }

func (in *Instance) addUndo(step undo) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.undo = append(in.undo, step)
}

func (in *Instance) takeUndo() []undo {
	in.mu.Lock()
	defer in.mu.Unlock()
	steps := in.undo
	in.undo = nil
	return steps
}
