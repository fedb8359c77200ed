package containerd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

// List returns the containers that carry all the labels of match.
func (e *Engine) List(ctx context.Context, match map[string]string) ([]sandbox.Container, error) {
	home := match[sandbox.LabelHome]
	if home == "" {
		return nil, fmt.Errorf("cannot list containers without label %s: %w", sandbox.LabelHome, errdefs.ErrInvalidArgument)
	}
	ctx, cancel := e.bound(ctx)
	defer cancel()
	found, err := e.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q==%q", sandbox.LabelHome, home))
	if err != nil {
		return nil, e.fail(ctx, "list containers", err)
	}
	found = slices.DeleteFunc(found, func(c containers.Container) bool { return !hasLabels(c, match) })
	records := make([]record, len(found))
	for i, c := range found {
		records[i] = e.readRecord(c.ID)
	}
	// Only now, so that whoever was started has a task.
	answer, err := e.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, e.fail(ctx, "list containers", err)
	}
	running := map[string]*task.Process{}
	for _, t := range answer.Tasks {
		running[t.ID] = t
	}
	var all []sandbox.Container
	for i, c := range found {
		all = append(all, e.describe(c, records[i], running[c.ID]))
	}
	slices.SortFunc(all, func(a, b sandbox.Container) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

func hasLabels(c containers.Container, match map[string]string) bool {
	for key, value := range match {
		if got, ok := c.Labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// find returns a container of ours.
func (e *Engine) find(ctx context.Context, id string) (containers.Container, error) {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	c, err := e.client.ContainerService().Get(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsInvalidArgument(err) { // that: no id at all
		return c, e.fail(ctx, "find container "+id, err)
	}
	home := c.Labels[sandbox.LabelHome]
	if err != nil || home == "" || e.home != "" && home != e.home {
		return containers.Container{}, fmt.Errorf("cannot find container %s: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

// look finds a container and its state.
func (e *Engine) look(ctx context.Context, id string) (sandbox.Container, error) {
	c, err := e.find(ctx, id)
	if err != nil {
		return sandbox.Container{}, err
	}
	r := e.readRecord(id) // before the task, as in List
	t, err := e.task(ctx, id)
	if err != nil {
		return sandbox.Container{}, err
	}
	return e.describe(c, r, t), nil
}

// task is nil for a container without one.
func (e *Engine) task(ctx context.Context, id string) (*task.Process, error) {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	answer, err := e.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if errdefs.IsNotFound(native(err)) {
		return nil, nil
	}
	return answer.GetProcess(), e.fail(ctx, "look at container "+id, err)
}

// describe puts together what is known of a container. Without a task, t is
// nil.
func (e *Engine) describe(c containers.Container, r record, t *task.Process) sandbox.Container {
	out := sandbox.Container{ID: c.ID, Labels: c.Labels, State: sandbox.StateCreated}
	switch {
	case r.Exit != nil:
		out.State, out.Exit = sandbox.StateExited, *r.Exit
	case t == nil && !r.Started.IsZero(): // its shim was killed, or the host restarted
		out.State = sandbox.StateExited
		out.Exit = e.keepExit(c.ID, r, sandbox.Exit{Code: 128 + int(unix.SIGKILL), At: time.Now()})
	case t == nil, t.Status == task.Status_CREATED:
		return out
	case t.Status == task.Status_STOPPED:
		out.State = sandbox.StateExited
		out.Exit = e.keepExit(c.ID, r, sandbox.Exit{
			Code: int(t.ExitStatus), OOMKilled: e.host.oomKilled(c.ID), At: t.ExitedAt.AsTime(),
		})
	default:
		out.State, out.PID = sandbox.StateRunning, int(t.Pid)
	}
	out.StartedAt = r.Started
	if r.Started.IsZero() { // the files are another directory's
		out.StartedAt = c.CreatedAt
	}
	return out
}

// keepExit remembers how a container ended, for when its shim is gone.
func (e *Engine) keepExit(id string, r record, exit sandbox.Exit) sandbox.Exit {
	if r.Started.IsZero() {
		return exit
	}
	exit.At = exit.At.UTC()
	r.Exit = &exit
	if err := e.writeRecord(id, r); err != nil {
		e.logger.Debug("cannot keep the exit of a container", "container", id, "error", err)
	}
	return exit
}
