package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/instance/state"
	"github.com/ocmt/ocmt/sandbox"
)

// DefaultState bounds the /state of a plugin whose plan says nothing, bytes.
const DefaultState = 256 << 20

// How the size of /state is bounded.
const (
	// StateImage is a file system of its own: the plugin gets ENOSPC.
	StateImage = "ext4 image"
	// StateWatched is a plain directory, which is measured before a start and
	// every 10 s: a plugin that wrote too much is ended, and has filled the
	// host's disk until then. What it writes into directories that only it can
	// read is not seen unless the daemon runs as root.
	StateWatched = "watched directory"
)

// StateQuota says how the size of /state is bounded on this host, and why it is
// not by an image. It tries in dir, a directory in the home.
func StateQuota(dir string) (kind, reason string) {
	if ok, why := state.CanMount(dir); !ok {
		return StateWatched, why
	}
	return StateImage, ""
}

func (f *Factory) stateKind() string {
	if f.quota {
		return StateImage
	}
	return StateWatched
}

const (
	stateInterval = 10 * time.Second // between two looks
	stateEntries  = 100_000          // files and directories, of which a look at once is bounded
)

// stateSize is the plan's bound of /state, bytes.
func (p *Plan) stateSize() int64 {
	if p.State == 0 {
		return DefaultState
	}
	return p.State
}

// checkState says why a size is none that /state can have.
func checkState(plan *Plan) error {
	if size := plan.stateSize(); size < state.MinSize || size > state.MaxSize {
		return fault.New(errdefs.ErrInvalidArgument, "limits_invalid", "plugin %s is granted a state of %d bytes, it must be %d to %d", plan.Key, size, int64(state.MinSize), int64(state.MaxSize)).
			WithHint("see `ocmt plugins permissions %s` and grant it another size", plan.Key.ID)
	}
	return nil
}

// mountState makes the plugin's own directory, which outlives its instances.
func (f *Factory) mountState(ctx context.Context, in *Instance, uid uint32) (sandbox.Mount, error) {
	mount := sandbox.Mount{Source: f.Home.State(in.plan.Key), Target: stateDir, NoExec: true}
	if err := f.keepState(ctx, in, uid); err != nil {
		return mount, fmt.Errorf("cannot give plugin %s its state: %w", in.plan.Key, err)
	}
	if !f.quota && f.mounts && !f.Info.MountFlags {
		dir := mount.Source
		mount.Source = filepath.Join(f.Home.Instance(in.id), "state")
		return mount, bind(dir, mount.Source, ownFlags)
	}
	return mount, nil
}

// keepState has the plugin's directory there, and bounded, until the instance
// is closed.
func (f *Factory) keepState(ctx context.Context, in *Instance, uid uint32) error {
	dir, size := f.Home.State(in.plan.Key), in.plan.stateSize()
	if f.quota {
		if err := f.volumes.Hold(ctx, state.Volume{Image: f.Home.StateImage(in.plan.Key), Dir: dir, Size: size, UID: uid}); err != nil {
			return err
		}
		in.addUndo(undo{
			do:    func(context.Context) error { return f.volumes.Release(dir) },
			leave: func(context.Context) error { f.volumes.Forget(dir); return nil },
		})
		return nil
	}
	if _, err := os.Lstat(f.Home.StateImage(in.plan.Key)); !errors.Is(err, fs.ErrNotExist) {
		return fault.New(errdefs.ErrFailedPrecondition, "state_in_image", "it is in the file system %s, which cannot be mounted", f.Home.StateImage(in.plan.Key)).
			WithHint("run the daemon as it ran before; `ocmt doctor` says what keeps it from mounting")
	}
	if err := makeState(dir, uid); err != nil {
		return err
	}
	in.watched = dir
	used, err := state.Measure(ctx, dir, size, stateEntries)
	if err != nil || in.adopted { // which is ended in order
		return err
	}
	return in.full(used)
}

// StateUse says how the size of the instance's /state is bounded, see
// [StateQuota], how many bytes may be written, and how many are. A load check
// has none.
func (f *Factory) StateUse(ctx context.Context, in *Instance) (kind string, size, used int64, err error) {
	dir, size := f.Home.State(in.plan.Key), in.plan.stateSize()
	if !f.quota {
		usage, err := state.Measure(ctx, dir, size, stateEntries)
		return StateWatched, size, usage.Bytes, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return StateImage, size, 0, fmt.Errorf("cannot measure the state of plugin %s: %w", in.plan.Key, err)
	}
	return StateImage, size, int64(fs.Blocks-fs.Bfree) * fs.Bsize, nil //nolint:gosec // of a file system of at most state.MaxSize
}

// full says that a watched state holds too much.
func (in *Instance) full(used state.Usage) error {
	if !used.Over(in.plan.stateSize(), stateEntries) {
		return nil
	}
	return fault.New(errdefs.ErrFailedPrecondition, "state_full", "plugin %s keeps more than %d MiB or %d files in its state",
		in.plan.Key, in.plan.stateSize()>>20, stateEntries).
		WithHint("grant it a larger state, or remove what it does not need from %s", in.watched)
}

// watchState ends a container whose plugin wrote more than it may. Whoever
// starts the plugin next is told by keepState.
func (in *Instance) watchState(ctx context.Context) {
	ticker := time.NewTicker(stateInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-in.done:
			return
		case <-ctx.Done():
			return
		}
		used, err := state.Measure(ctx, in.watched, in.plan.stateSize(), stateEntries)
		if err != nil && ctx.Err() == nil {
			in.logger.Warn("cannot measure the state of a plugin", "error", err)
		}
		if err := in.full(used); err != nil {
			in.logger.Error("ending a plugin that wrote too much", "error", err, "bytes", used.Bytes, "files", used.Entries)
			if err := in.engine.Stop(ctx, in.id, 0); err != nil && ctx.Err() == nil {
				in.logger.Error("cannot end a plugin that wrote too much, trying again", "error", err)
			}
		}
	}
}
