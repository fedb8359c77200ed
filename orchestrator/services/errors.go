package services

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Codes of the errors of this package, each with its errdefs class.
const (
	CodeServiceNotFound  = "service_not_found"  // NotFound
	CodeServiceFailed    = "service_failed"     // fault.ErrPlugin
	CodePluginNotRunning = "plugin_not_running" // FailedPrecondition; Unavailable if it ended meanwhile
	CodeSuperseded       = "superseded"         // Conflict: somebody else asked for the opposite
	CodeServiceBusy      = "service_busy"       // DeadlineExceeded: it goes on
	CodeCancelled        = "cancelled"          // Canceled: it goes on
	CodeShuttingDown     = "shutting_down"      // Unavailable
)

// maxNames bounds how many names a hint lists.
const maxNames = 10

var errShutdown = fault.New(errdefs.ErrUnavailable, CodeShuttingDown, "ocmt is shutting down").WithRetry()

func errNoServices(key plugin.Key, id string) error {
	return fault.New(errdefs.ErrNotFound, CodeServiceNotFound, "cannot find service %.200q: plugin %q has no services", id, key.ID).
		WithHint("`ocmt services list` shows all; a plugin's are known once it runs")
}

func errUnknown(key plugin.Key, id string, known []Status) error {
	err := fault.New(errdefs.ErrNotFound, CodeServiceNotFound, "plugin %q has no service %.200q", key.ID, id)
	return err.WithHint("did you mean %s? `ocmt services list` shows all", strings.Join(nearest(id, known), " or "))
}

// nearest returns the names of services, those first that share the longest
// beginning with what was typed, or hold it.
func nearest(typed string, known []Status) []string {
	typed = strings.ToLower(typed)
	likeness := func(st Status) int {
		name, n := strings.ToLower(st.ID), 0
		for n < min(len(name), len(typed)) && name[n] == typed[n] {
			n++
		}
		if typed != "" && strings.Contains(name, typed) {
			n += len(typed)
		}
		return n
	}
	sorted := slices.Clone(known)
	slices.SortStableFunc(sorted, func(a, b Status) int { return likeness(b) - likeness(a) })
	names := make([]string, 0, maxNames)
	for _, st := range sorted[:min(maxNames, len(sorted))] {
		names = append(names, plugin.Printable(st.ID, plugin.MaxToolLen))
	}
	return names
}

func errNotRunning(key plugin.Key) error {
	return fault.New(errdefs.ErrFailedPrecondition, CodePluginNotRunning, "plugin %q is not running", key.ID).
		WithHint("its services start with it; `ocmt plugins info %s` shows how it is", key.ID)
}

func errEnded(key plugin.Key, id string) error {
	return fault.New(errdefs.ErrUnavailable, CodePluginNotRunning, "plugin %q ended before service %q was started", key.ID, id).
		WithHint("its services start with it; `ocmt plugins logs %s --previous` shows its last words", key.ID).WithRetry()
}

func errSuperseded(id, what string) error {
	return fault.New(errdefs.ErrConflict, CodeSuperseded, "service %q was %s meanwhile", id, what)
}

func errFailed(key plugin.Key, kind Kind, st Status) error {
	what := "start"
	if kind == Stop {
		what = "stop"
	}
	err := fault.New(fault.ErrPlugin, CodeServiceFailed, "cannot %s service %q of plugin %q: %s", what, st.ID, key.ID, st.LastError)
	return err.WithHint("see what it said: ocmt plugins logs %s", key.ID)
}

// errNotYet is the error of a wait that ctx ended.
func errNotYet(ctx context.Context, key plugin.Key, st Status) error {
	class, code := context.DeadlineExceeded, CodeServiceBusy
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		class, code = context.Canceled, CodeCancelled
	}
	return fault.New(class, code, "service %q of plugin %q is still %s", st.ID, key.ID, st.State).
		WithHint("it goes on; `ocmt services list` shows how it is").WithRetry()
}

// errGone is the error of a wait for a unit that is no more.
func (m *Manager) errGone(key plugin.Key, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errShutdown
	}
	return errNoServices(key, id)
}

// outcome is the error of a call to the runner, nil when it was done. Its
// class says what is known: Aborted is the word of start() or stop() itself,
// Unavailable a call that found no plugin, anything else leaves open whether
// the service runs. All that the runner says is the plugin's word.
func outcome(ctx context.Context, call wire.ServiceCall, result wire.ServiceResult, err error) error {
	late := err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) ||
		err == nil && result.Error != nil && result.Error.Code == wire.CodeTimedOut
	switch {
	case late:
		allowed := time.Duration(call.TimeoutMillis) * time.Millisecond
		return fault.New(context.DeadlineExceeded, CodeServiceFailed, "%s() did not return within %s", call.Op, allowed)
	case err != nil && ctx.Err() != nil:
		return fault.New(context.Canceled, CodeCancelled, "%s() was given up", call.Op)
	case err != nil && errdefs.IsUnavailable(err):
		return fault.New(errdefs.ErrUnavailable, CodePluginNotRunning, "cannot reach the plugin: %w", err)
	case err != nil:
		return fault.New(errdefs.ErrUnknown, CodeServiceFailed, "%s() has no usable answer: %v", call.Op, err)
	case result.Error == nil:
		return nil
	case result.Error.Code == wire.CodeCancelled: // the plugin is being stopped
		return fault.New(errdefs.ErrUnavailable, CodePluginNotRunning, "the plugin was stopped before %s() returned", call.Op)
	}
	said := plugin.Printable(result.Error.Message, wire.MaxReason)
	if name := plugin.Printable(result.Error.Name, 100); name != "" {
		said = name + ": " + said
	}
	return fault.New(fault.ErrPlugin, CodeServiceFailed, "%s() failed: %s", call.Op, said)
}
