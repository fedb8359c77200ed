package containerd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

const (
	// poll is how often a container is looked at when nothing tells of it: for
	// starts and removals by another process.
	poll = time.Second
	// createTime bounds the creation of a task, which nobody waits for as long:
	// see Start.
	createTime = 3 * time.Minute
	// retry is the pause before an engine is asked again that went away.
	retry = 100 * time.Millisecond
)

// Start runs a created container. What it asks of containerd is not broken off
// when ctx ends: a task whose creation is cancelled while its runtime is slow
// may be forgotten by containerd and run on. Then the next call for the
// container waits for it.
func (e *Engine) Start(ctx context.Context, id string) error {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	release, err := e.containers.hold(ctx, id)
	if err != nil {
		return e.fail(ctx, "start container "+id, err)
	}
	started := make(chan error, 1)
	go func() {
		defer release()
		started <- e.start(ctx, id)
	}()
	select {
	case err := <-started:
		return err
	case <-ctx.Done():
		return e.fail(ctx, "start container "+id, ctx.Err())
	}
}

func (e *Engine) start(ctx context.Context, id string) error {
	if _, err := e.find(ctx, id); err != nil {
		return err
	}
	r := e.readRecord(id)
	if !r.Started.IsZero() {
		return fmt.Errorf("cannot start container %s: it was started before: %w", id, errdefs.ErrFailedPrecondition)
	}
	if err := e.createTask(context.WithoutCancel(ctx), id, r); err != nil {
		return err
	}
	if ctx.Err() != nil { // nobody knows of it
		e.abandon(ctx, id)
		return e.fail(ctx, "start container "+id, ctx.Err())
	}
	err := e.startTask(context.WithoutCancel(ctx), id, r)
	e.changes.tell()
	return err
}

// createTask makes the container's first process, which waits to be started,
// and begins to read its output.
func (e *Engine) createTask(ctx context.Context, id string, r record) error {
	out, err := e.openOutput(id, r.LogSize)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeoutCause(ctx, max(createTime, e.timeout), errSilent)
	defer cancel()
	what := "start container " + id
	mounts, err := e.client.SnapshotService(snapshotter).Mounts(call, id)
	if err = e.fail(call, what, err); err == nil {
		err = e.mountImages(id, r.Images)
	}
	if err != nil {
		out.close()
		return err
	}
	_, err = e.client.TaskService().Create(call, &tasks.CreateTaskRequest{
		ContainerID: id,
		Rootfs:      mount.ToProto(mounts),
		Stdout:      e.path(id, sandbox.Stdout),
		Stderr:      e.path(id, sandbox.Stderr),
	})
	if err == nil {
		e.keepOutput(id, out)
		return nil
	}
	out.close()
	if errdefs.IsAlreadyExists(native(err)) { // of a process that died in between
		return fmt.Errorf("cannot start container %s: it was started before: %w", id, errdefs.ErrFailedPrecondition)
	}
	err = e.fail(call, what, err)
	e.abandon(ctx, id)
	return err
}

// startTask executes the program. When it returns an error, nothing runs.
func (e *Engine) startTask(ctx context.Context, id string, r record) error {
	r.Started = time.Now()
	err := e.writeRecord(id, r)
	if err != nil {
		err = fmt.Errorf("cannot keep the start of container %s: %w: %w", id, err, errdefs.ErrUnavailable)
	} else {
		call, cancel := e.bound(ctx)
		defer cancel()
		_, err = e.client.TaskService().Start(call, &tasks.StartRequest{ContainerID: id})
		err = e.fail(call, "start container "+id, err)
	}
	if err == nil {
		return nil
	}
	e.abandon(ctx, id)
	r.Started = time.Time{}
	if failed := e.writeRecord(id, r); failed != nil {
		e.logger.Warn("cannot write the record of a container", "container", id, "error", failed)
	}
	return err
}

// abandon removes the task of a container that did not start.
func (e *Engine) abandon(ctx context.Context, id string) {
	ctx, cancel := e.cleanUp(ctx)
	defer cancel()
	if err := errors.Join(e.deleteTask(ctx, id), e.unmountImages(id)); err != nil {
		e.logger.Warn("cannot remove what is left of a failed start", "container", id, "error", err)
	}
	e.endOutput(id)
}

// Wait asks again when the engine went away meanwhile, for as long as the
// timeout. What the container printed is read when it returns.
func (e *Engine) Wait(ctx context.Context, id string) (sandbox.Exit, error) {
	exit, err := e.waitExit(ctx, id)
	if err == nil {
		e.drain(ctx, id)
	}
	return exit, err
}

func (e *Engine) waitExit(ctx context.Context, id string) (sandbox.Exit, error) {
	for lost := (time.Time{}); ; {
		exit, ended, err := e.waitOnce(ctx, id)
		switch {
		case ended, err != nil && !errdefs.IsUnavailable(err):
			return exit, err
		case err == nil:
			lost = time.Time{}
			continue
		case lost.IsZero():
			lost = time.Now()
			e.logger.Warn("lost the engine while waiting for a container", "container", id, "error", err)
		case time.Since(lost) > e.timeout:
			return sandbox.Exit{}, err
		}
		pause(ctx, retry, nil)
	}
}

// waitOnce looks at the container, and when it has not ended, waits until
// there may be news, for no longer than the timeout.
func (e *Engine) waitOnce(ctx context.Context, id string) (exit sandbox.Exit, ended bool, err error) {
	changed := e.changes.next()
	c, err := e.look(ctx, id)
	if err != nil {
		return sandbox.Exit{}, false, err
	}
	switch c.State {
	case sandbox.StateExited:
		return c.Exit, true, nil
	case sandbox.StateCreated:
		pause(ctx, poll, changed)
		return sandbox.Exit{}, false, nil
	}
	call, cancel := e.bound(ctx)
	defer cancel()
	_, err = e.client.TaskService().Wait(call, &tasks.WaitRequest{ContainerID: id})
	if err != nil {
		awaitDeadline(call, err)
	}
	silent := ctx.Err() == nil && call.Err() != nil // it runs on, or the next look tells
	if err == nil || silent || errdefs.IsNotFound(native(err)) {
		return sandbox.Exit{}, false, nil
	}
	return sandbox.Exit{}, false, e.fail(call, "wait for container "+id, err)
}

// Stop signals the first process: when that has ended, the kernel ends the
// others of its process name space.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	c, err := e.look(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil || c.State != sandbox.StateRunning {
		return err
	}
	if grace > 0 {
		ended, err := e.signal(ctx, id, unix.SignalNum(sandbox.Hardened().StopSignal), grace)
		if ended || err != nil {
			return err
		}
	}
	ended, err := e.signal(ctx, id, unix.SIGKILL, e.timeout)
	if !ended && err == nil {
		return fmt.Errorf("cannot stop container %s: it did not end within %s of SIGKILL: %w", id, e.timeout, errdefs.ErrUnavailable)
	}
	return err
}

// signal sends a signal and waits for the container's end, but not for longer
// than patience.
func (e *Engine) signal(ctx context.Context, id string, signal unix.Signal, patience time.Duration) (ended bool, err error) {
	if err := e.kill(ctx, id, signal); err != nil {
		return false, err
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err = e.waitExit(wait, id)
	switch {
	case err == nil, errdefs.IsNotFound(err):
		return true, nil
	case ctx.Err() == nil && wait.Err() != nil:
		return false, nil
	}
	return false, err
}

// kill is no error when there is nothing to signal any more, which runtimes
// tell in many ways.
func (e *Engine) kill(ctx context.Context, id string, signal unix.Signal) error {
	call, cancel := e.bound(ctx)
	defer cancel()
	_, err := e.client.TaskService().Kill(call, &tasks.KillRequest{ContainerID: id, Signal: uint32(signal)})
	if err = e.fail(call, "send "+unix.SignalName(signal)+" to container "+id, err); err == nil || ctx.Err() != nil {
		return err
	}
	t, lookErr := e.task(ctx, id)
	if lookErr == nil && (t == nil || t.Status == task.Status_STOPPED) {
		return nil
	}
	return err
}

// Remove ends the container and removes its record, snapshot and files.
func (e *Engine) Remove(ctx context.Context, id string) error {
	turn, end := e.bound(ctx)
	defer end()
	release, err := e.containers.hold(turn, id)
	if err != nil {
		return e.fail(turn, "remove container "+id, err)
	}
	defer release()
	c, err := e.find(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := e.cleanUp(ctx)
	defer cancel()
	if err := e.deleteTask(ctx, id); err != nil {
		return err
	}
	if err := e.endOrphan(ctx, c); err != nil {
		return err
	}
	e.endOutput(id)
	err = e.discard(ctx, id)
	e.changes.tell()
	return err
}

// deleteTask kills what runs and waits for its end; the shim goes, too.
func (e *Engine) deleteTask(ctx context.Context, id string) error {
	t, err := e.task(ctx, id)
	if err != nil || t == nil {
		return err
	}
	// What was not started yet is not a process for every runtime: a failure
	// to kill it does not keep it from being deleted.
	if t.Status != task.Status_STOPPED {
		if err = e.kill(ctx, id, unix.SIGKILL); err == nil {
			_, err = e.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: id})
		}
	}
	if err == nil || t.Status == task.Status_CREATED {
		_, err = e.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	}
	if errdefs.IsNotFound(native(err)) {
		return nil
	}
	return e.fail(ctx, "end container "+id, err)
}
