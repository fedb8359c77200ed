package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sync/errgroup"

	"github.com/ocmt/ocmt/sandbox"
)

// inspections is how many containers List asks about at a time.
const inspections = 8

// Start runs a created container.
func (e *Engine) Start(ctx context.Context, id string) error {
	c, err := e.find(ctx, id)
	if err != nil {
		return err
	}
	if c.State.Status != container.StateCreated {
		return fmt.Errorf("cannot start container %s: it is %s: %w", id, c.State.Status, errdefs.ErrFailedPrecondition)
	}
	ctx, cancel := e.bound(ctx)
	defer cancel()
	err = e.fail(ctx, "start container "+id, e.client.ContainerStart(ctx, c.ID, container.StartOptions{}))
	if isMountFailure(err) {
		return fmt.Errorf("%v; mounting an EROFS image file needs Linux 6.12 or newer and a file that the engine sees by this path: %w", err, errdefs.ErrFailedPrecondition) //nolint:errorlint // takes the place of the engine's class
	}
	return err
}

// Wait asks again when the engine went away meanwhile, for as long as the
// timeout.
func (e *Engine) Wait(ctx context.Context, id string) (sandbox.Exit, error) {
	c, err := e.find(ctx, id)
	if err != nil {
		return sandbox.Exit{}, err
	}
	cid := c.ID // the rest, of 10 kB and more, is not held meanwhile
	const pause = 250 * time.Millisecond
	for lost := (time.Time{}); ; {
		exit, reached, err := e.waitOnce(ctx, id, cid)
		if !errdefs.IsUnavailable(err) {
			return exit, err
		}
		if reached || lost.IsZero() {
			lost = time.Now()
			e.logger.Warn("lost the engine while waiting for a container", "container", id, "error", err)
		}
		if time.Since(lost) > e.timeout {
			return sandbox.Exit{}, err
		}
		select {
		case <-ctx.Done():
			return sandbox.Exit{}, fmt.Errorf("cannot wait for container %s: %w", id, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// waitOnce waits for the container with the engine's id cid, and says whether
// the engine was there at first. It registers for the next exit and only then
// looks whether the container has ended, so that no exit falls in between.
func (e *Engine) waitOnce(ctx context.Context, id, cid string) (exit sandbox.Exit, reached bool, err error) {
	what := "wait for container " + id
	for {
		call, dog := e.watch(ctx, e.timeout)
		results, errs := e.client.ContainerWait(call, cid, container.WaitConditionNextExit)
		dog.dismiss()
		exit, ended, err := e.ended(ctx, id, cid)
		if ended || err != nil {
			dog.close()
			go func() { // the client's goroutine hands over one of them
				select {
				case <-results:
				case <-errs: //nolint:errcheck // the exit is known already
				}
			}()
			return exit, reached, err
		}
		reached = true
		select {
		case <-results:
			dog.close()
		case err := <-errs:
			err = e.fail(call, what, err)
			dog.close()
			return sandbox.Exit{}, reached, err
		}
		if exit, ended, err = e.ended(ctx, id, cid); ended || err != nil {
			return exit, reached, err
		}
	}
}

// ended says whether a container has ended, and how.
func (e *Engine) ended(ctx context.Context, id, cid string) (sandbox.Exit, bool, error) {
	c, err := e.inspect(ctx, id, cid)
	if err != nil {
		return sandbox.Exit{}, false, err
	}
	if stateOf(c.State) != sandbox.StateExited {
		return sandbox.Exit{}, false, nil
	}
	return exitOf(c.State), true, nil
}

// Stop sends the signals itself: the engine's own stop counts whole seconds.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	c, err := e.find(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil || stateOf(c.State) != sandbox.StateRunning {
		return err
	}
	if grace > 0 {
		ended, err := e.signal(ctx, id, c.ID, sandbox.Hardened().StopSignal, grace)
		if ended || err != nil {
			return err
		}
	}
	ended, err := e.signal(ctx, id, c.ID, "SIGKILL", e.timeout)
	if !ended && err == nil {
		return fmt.Errorf("cannot stop container %s: it did not end within %s of SIGKILL: %w", id, e.timeout, errdefs.ErrUnavailable)
	}
	return err
}

// signal sends a signal and waits for the container's end, but not for longer
// than patience.
func (e *Engine) signal(ctx context.Context, id, cid, signal string, patience time.Duration) (ended bool, err error) {
	call, cancel := e.bound(ctx)
	defer cancel()
	err = e.fail(call, "send "+signal+" to container "+id, e.client.ContainerKill(call, cid, signal))
	if err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) { // those: it has ended
		return false, err
	}
	wait, cancelWait := context.WithTimeout(ctx, patience)
	defer cancelWait()
	_, _, err = e.waitOnce(wait, id, cid)
	switch {
	case err == nil, errdefs.IsNotFound(err):
		return true, nil
	case ctx.Err() == nil && wait.Err() != nil:
		return false, nil
	}
	return false, err
}

// Remove removes the container with its logs and volumes.
func (e *Engine) Remove(ctx context.Context, id string) error {
	c, err := e.find(ctx, id)
	if err == nil {
		err = e.removeContainer(ctx, id, c.ID)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	ctx, cancel := e.bound(ctx)
	defer cancel()
	match := filters.NewArgs(filters.Arg("label", labelContainer+"="+id))
	if e.home != "" {
		match.Add("label", sandbox.LabelHome+"="+e.home)
	}
	volumes, err := e.client.VolumeList(ctx, volume.ListOptions{Filters: match})
	if err != nil {
		return e.fail(ctx, "list the volumes of container "+id, err)
	}
	for _, v := range volumes.Volumes {
		if err := e.removeVolume(ctx, v.Name); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) removeContainer(ctx context.Context, id, cid string) error {
	ctx, cancel := e.bound(context.WithoutCancel(ctx))
	defer cancel()
	err := e.client.ContainerRemove(ctx, cid, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if !errdefs.IsConflict(err) {
		return e.fail(ctx, "remove container "+id, err)
	}
	// Somebody else is removing it: wait until they have.
	results, errs := e.client.ContainerWait(ctx, cid, container.WaitConditionRemoved)
	select {
	case <-results:
		return nil
	case err := <-errs:
		return e.fail(ctx, "remove container "+id, err)
	}
}

// List asks for the containers and then about each of them.
func (e *Engine) List(ctx context.Context, match map[string]string) ([]sandbox.Container, error) {
	if match[sandbox.LabelHome] == "" {
		return nil, fmt.Errorf("cannot list containers without label %s: %w", sandbox.LabelHome, errdefs.ErrInvalidArgument)
	}
	labels := filters.NewArgs()
	for key, value := range match {
		labels.Add("label", key+"="+value)
	}
	call, cancel := e.bound(ctx)
	defer cancel()
	summaries, err := e.client.ContainerList(call, container.ListOptions{All: true, Filters: labels})
	if err != nil {
		return nil, e.fail(call, "list containers", err)
	}
	found := make([]*sandbox.Container, len(summaries))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(inspections)
	for i, summary := range summaries {
		group.Go(func() error {
			c, err := e.inspect(groupCtx, summary.ID, summary.ID)
			if errdefs.IsNotFound(err) {
				return nil // gone meanwhile
			}
			if err == nil {
				found[i] = translate(c)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return collect(found), nil
}

func collect(found []*sandbox.Container) []sandbox.Container {
	var all []sandbox.Container
	for _, c := range found {
		if c != nil {
			all = append(all, *c)
		}
	}
	slices.SortFunc(all, func(a, b sandbox.Container) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// find returns a container of ours by its name. The engine also takes the
// beginning of its own ids, and knows the containers of others.
func (e *Engine) find(ctx context.Context, id string) (container.InspectResponse, error) {
	c, err := e.inspect(ctx, id, id)
	if err != nil {
		return c, err
	}
	home := c.Config.Labels[sandbox.LabelHome]
	if c.Name != "/"+id || home == "" || (e.home != "" && home != e.home) {
		return container.InspectResponse{}, fmt.Errorf("cannot find container %s: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

func (e *Engine) inspect(ctx context.Context, id, cid string) (container.InspectResponse, error) {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	c, err := e.client.ContainerInspect(ctx, cid)
	if err == nil && (c.ContainerJSONBase == nil || c.State == nil || c.Config == nil) {
		err = fmt.Errorf("the engine's answer lacks the container's state: %w", errdefs.ErrInternal)
	}
	return c, e.fail(ctx, "find container "+id, err)
}

func translate(c container.InspectResponse) *sandbox.Container {
	out := &sandbox.Container{
		ID:        strings.TrimPrefix(c.Name, "/"),
		Labels:    c.Config.Labels,
		State:     stateOf(c.State),
		StartedAt: timeOf(c.State.StartedAt),
		PID:       c.State.Pid,
	}
	if out.State == sandbox.StateExited {
		out.Exit = exitOf(c.State)
	}
	return out
}

func stateOf(state *container.State) sandbox.State {
	switch {
	case state.Running, state.Paused, state.Restarting:
		return sandbox.StateRunning
	case timeOf(state.StartedAt).IsZero():
		return sandbox.StateCreated
	}
	return sandbox.StateExited
}

func exitOf(state *container.State) sandbox.Exit {
	return sandbox.Exit{Code: state.ExitCode, OOMKilled: state.OOMKilled, At: timeOf(state.FinishedAt)}
}

// timeOf reads the engine's times; what is not set is year 1, Go's zero time.
func timeOf(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}
