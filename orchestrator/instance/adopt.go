package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
)

// containerID is the form of a container's id, see sandbox.Spec.
var containerID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{1,62}$`)

// Adopt takes over a container that an earlier process of this home prepared,
// and that runs: it listens in the same socket directory again, where the
// runner finds it, and waits for the container's end. Start then waits for the
// runner. FailedPrecondition when the container does not run, or is not what is
// on record of the plan's key, generation and payload. Whether it was made of
// all that the plan says is the caller's to compare: see Record.Recipe. After
// an error the container is as it was: Discard removes it.
func (f *Factory) Adopt(ctx context.Context, plan Plan, c sandbox.Container) (_ *Instance, err error) {
	in := f.newInstance(plan)
	uid, err := f.UID(ctx, plan.Key)
	if err != nil {
		return nil, err
	}
	if err := f.adoptable(in, uid, c); err != nil {
		return nil, fmt.Errorf("cannot adopt container %s of plugin %s: %w", c.ID, plan.Key, err)
	}
	in.adopted = true
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Detach(ctx))
		}
	}()
	dir := f.Home.Instance(in.id)
	in.onClose(func(context.Context) error { return removeTree(dir) })
	if err := f.keepState(ctx, in, uid); err != nil {
		return nil, err
	}
	in.watch(ctx, sighting{pid: c.PID, startedAt: c.StartedAt})
	if err := f.attachSockets(ctx, in); err != nil {
		return nil, err
	}
	in.onClose(in.removeContainer(f.Home.PreviousLog(plan.Key)))
	return in, nil
}

// adoptable says why a container cannot be adopted as the instance, and reads
// what is kept of it.
func (f *Factory) adoptable(in *Instance, uid uint32, c sandbox.Container) error {
	switch {
	case in.plan.Discovery:
		return fmt.Errorf("a load check is never adopted: %w", errdefs.ErrFailedPrecondition)
	case c.State != sandbox.StateRunning:
		return fmt.Errorf("it does not run, it is %q: %w", c.State, errdefs.ErrFailedPrecondition)
	}
	rec, err := f.readRecord(in.id)
	if err != nil {
		return fmt.Errorf("cannot use its record: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	want := f.recordOf(in, uid)
	want.Image, want.Recipe = rec.Image, rec.Recipe // of which any may run on for a while
	if rec != want {
		return fmt.Errorf("it was made of something else: %w", errdefs.ErrFailedPrecondition)
	}
	if err := rec.fits(f.HomeID, c); err != nil {
		return err
	}
	// Another directory in its place would not be the one that is mounted.
	if info, err := os.Lstat(f.Home.SocketDir(in.id)); err != nil || !info.IsDir() {
		return fmt.Errorf("its socket directory is gone: %w", errdefs.ErrFailedPrecondition)
	}
	if in.spec, err = f.readSpec(in.id); err != nil {
		return err
	}
	return f.readAuthority(in)
}

// Discard removes what is left of one instance or throw-away container that
// nobody adopts, in whatever state that is: the container, mounts, files and
// sockets. The end of what a plugin printed is kept. What is not there is no
// error. id is a container's, or one of Leftovers.
func (f *Factory) Discard(ctx context.Context, id string) error {
	if id == "" || id != filepath.Base(id) || id == "." || id == ".." {
		return fmt.Errorf("%q is no instance's id: %w", id, errdefs.ErrInvalidArgument)
	}
	var errs []error
	if containerID.MatchString(id) { // else no container can have it
		f.keepLastLog(ctx, id)
		errs = append(errs, f.Engine.Remove(ctx, id))
	}
	errs = append(errs, os.RemoveAll(f.Home.SocketDir(id)), os.RemoveAll(filepath.Join(f.Home.Sockets(), id)), removeTree(f.Home.Instance(id)))
	errs = append(errs, f.volumes.Sweep(f.Home.Tenants()))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot remove what is left of instance %s: %w", id, err)
	}
	return nil
}

// Leftovers returns, for Discard, the names of all that is in the directories
// of the instances and of their sockets: ids of instances, and of socket
// directories that belong to none of them.
func (f *Factory) Leftovers() ([]string, error) {
	var names []string
	known := map[string]bool{}
	for _, dir := range []string{f.Home.Instances(), f.Home.Sockets()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("cannot look for what an earlier run left: %w", err)
		}
		for _, entry := range entries {
			if name := entry.Name(); !known[filepath.Join(dir, name)] {
				names = append(names, name)
				known[f.Home.SocketDir(name)] = true
			}
		}
	}
	return names, nil
}

// keepLastLog keeps what a plugin printed while nobody watched it.
func (f *Factory) keepLastLog(ctx context.Context, id string) {
	rec, err := f.readRecord(id)
	if err != nil || rec.Discovery || errors.Join(plugin.CheckTenant(rec.Key.Tenant), plugin.CheckID(rec.Key.ID)) != nil {
		return
	}
	f.newInstance(Plan{Key: rec.Key, Generation: rec.Generation}).keepLog(ctx, f.Home.PreviousLog(rec.Key))
}
