package containerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/ocmt/ocmt/sandbox"
)

// Create makes a container from a spec and the hardened profile.
func (e *Engine) Create(ctx context.Context, spec sandbox.Spec) error {
	if err := errors.Join(spec.Validate(), spec.CheckSources()); err != nil {
		return err
	}
	if e.home != "" && spec.Labels[sandbox.LabelHome] != e.home {
		return fmt.Errorf("cannot create container %s: its home is %q and not %q: %w", spec.ID, spec.Labels[sandbox.LabelHome], e.home, errdefs.ErrInvalidArgument)
	}
	if err := e.host.check(spec.Limits); err != nil {
		return err
	}
	c, made, err := e.plan(ctx, &spec)
	if err != nil {
		return err
	}
	image, err := e.imageSnapshot(ctx, spec.Image)
	if err != nil {
		return err
	}
	turn, end := e.bound(ctx)
	defer end()
	release, err := e.containers.hold(turn, spec.ID)
	if err != nil {
		return e.fail(turn, "create container "+spec.ID, err)
	}
	defer release()
	return e.create(ctx, made, image, c)
}

// plan is what containerd and we are to keep of a container.
func (e *Engine) plan(ctx context.Context, spec *sandbox.Spec) (c containers.Container, made record, err error) {
	runtime, err := e.runtimeOf(ctx, spec.Runtime)
	if err != nil {
		return c, made, err
	}
	oci, err := ociSpec(spec, &e.host)
	if err != nil {
		return c, made, err
	}
	made.LogSize = spec.Limits.LogSize
	if runtime.gvisor {
		*oci.Linux.Resources.Pids.Limit = spec.GVisorPIDs()
		made.Images = e.mountByUs(spec.ID, oci)
	}
	described, err := typeurl.MarshalAny(oci)
	if err != nil {
		return c, made, fmt.Errorf("cannot describe container %s: %w: %w", spec.ID, err, errdefs.ErrInternal)
	}
	c = containers.Container{
		ID: spec.ID, Labels: spec.Labels, Image: imageName(spec.Image), Spec: described,
		Snapshotter: snapshotter, SnapshotKey: spec.ID,
	}
	c.Runtime, err = runtime.info()
	return c, made, err
}

// imageSnapshot is findImage without asking again.
func (e *Engine) imageSnapshot(ctx context.Context, digest string) (string, error) {
	if known, ok := e.images.Load(digest); ok {
		return known.(string), nil
	}
	return e.findImage(ctx, digest)
}

// create makes the container's record first, which claims the name and keeps
// the snapshot from being collected as garbage. The engine makes what it was
// asked for when the one who asked has hung up, so its answers are waited for,
// and what nobody waits for any more is taken back.
func (e *Engine) create(ctx context.Context, made record, image string, c containers.Container) error {
	what := "create container " + c.ID
	if ctx.Err() != nil {
		return e.fail(ctx, what, ctx.Err())
	}
	call, cancel := e.cleanUp(ctx)
	defer cancel()
	if _, err := e.client.ContainerService().Create(call, c); errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("cannot %s: the name is taken: %w", what, errdefs.ErrAlreadyExists)
	} else if err != nil {
		return e.fail(call, what, err)
	}
	err := e.makeFiles(c.ID, made)
	if err == nil {
		// Not a view of the image: the runtime makes the targets of mounts.
		_, err = e.client.SnapshotService(snapshotter).Prepare(call, c.ID, image)
		err = e.fail(call, what, err)
	}
	if err == nil {
		err = e.fail(ctx, what, ctx.Err())
	}
	if err == nil {
		return nil
	}
	if errdefs.IsNotFound(err) { // the image went away
		e.images.Clear()
		err = fmt.Errorf("cannot find image %s: %w", c.Image, errdefs.ErrNotFound)
	}
	end, cancelEnd := e.cleanUp(ctx)
	defer cancelEnd()
	return errors.Join(err, e.discard(end, c.ID))
}

// discard removes what a container has that has no task.
func (e *Engine) discard(ctx context.Context, id string) error {
	ignore := func(err error) error {
		if errdefs.IsNotFound(err) {
			return nil
		}
		return e.fail(ctx, "remove container "+id, err)
	}
	if err := ignore(e.client.ContainerService().Delete(ctx, id)); err != nil {
		return err
	}
	return errors.Join(ignore(e.client.SnapshotService(snapshotter).Remove(ctx, id)), e.removeFiles(id))
}
