package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

const (
	mountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME
	// After an error nothing is written any more; what is removed is given back
	// to the host; and the tables of inodes, which are zero in a sparse file, are
	// not written for the sake of it.
	mountOptions = "errors=remount-ro,discard,noinit_itable"
)

// mount has the volume mounted at its directory with at least its size. unheld
// says that nobody of this process uses it.
func (s *Volumes) mount(ctx context.Context, v Volume, unheld bool) error {
	if err := os.MkdirAll(filepath.Dir(v.Dir), 0o700); err != nil {
		return fmt.Errorf("cannot make a place for the state: %w", err)
	}
	if err := os.Mkdir(v.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make a place for the state: %w", err)
	}
	device, err := s.device(ctx, v, unheld)
	if err != nil {
		return err
	}
	defer device.Close() // the mount keeps it; without one it detaches itself
	mounted, err := isMounted(device, v.Dir)
	if err == nil && !mounted {
		err = mountAt(ctx, device, v.Dir)
	}
	if err == nil {
		err = own(v)
	}
	if err != nil && !mounted {
		err = errors.Join(err, unmount(v.Dir))
	}
	return err
}

// device returns the loop device of a volume: the one that it is on, or one that
// its image was put on after it was made what it has to be.
func (s *Volumes) device(ctx context.Context, v Volume, unheld bool) (*os.File, error) {
	if unheld {
		if err := discardHalves(v); err != nil {
			return nil, err
		}
	}
	for began := time.Now(); ; {
		device, err := findLoop(v.Image)
		switch {
		case err != nil:
			return nil, err
		case device == nil:
			return s.attach(ctx, v)
		case deviceSize(device) == imageSize(v.Size):
			return device, nil
		}
		mounted, err := isMounted(device, v.Dir)
		if err != nil || mounted || time.Since(began) > lingerMax {
			s.logger.Warn("a plugin's state keeps its size until nobody uses it", "image", v.Image, "size", deviceSize(device), "wanted", imageSize(v.Size))
			return device, err
		}
		if err := device.Close(); err != nil {
			return nil, fmt.Errorf("cannot leave a loop device: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lingerPause):
		}
	}
}

// A container that is being started has all mounts of its host for a moment, so
// that one which was taken off here lives on. To change the size of a volume,
// its end is waited for.
const (
	lingerMax   = 3 * time.Second
	lingerPause = 20 * time.Millisecond
)

// attach makes the image what it has to be while nobody uses it, and puts it on
// a loop device.
func (s *Volumes) attach(ctx context.Context, v Volume) (*os.File, error) {
	if err := unmount(v.Dir); err != nil { // of another image
		return nil, err
	}
	info, err := os.Lstat(v.Image)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = replace(ctx, v, v.Dir)
	case err != nil:
		err = fmt.Errorf("cannot look at the state: %w", err)
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is no file: %w", v.Image, errdefs.ErrFailedPrecondition)
	default:
		err = resize(ctx, v, info.Size())
	}
	if err != nil {
		return nil, err
	}
	// What a plain directory held is in the image, or was moved there.
	if err := clearDir(v.Dir); err != nil {
		return nil, err
	}
	// The one that it was filled by may be there still.
	if device, err := findLoop(v.Image); err != nil || device != nil {
		return device, err
	}
	return attachLoop(v.Image)
}

// discardHalves removes what an earlier replacement left half done.
func discardHalves(v Volume) error {
	for _, dir := range []string{newDir(v.Dir), oldDir(v.Dir)} {
		if err := unmount(dir); err != nil {
			return err
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove what is half done: %w", err)
		}
	}
	if err := os.Remove(v.Image + newSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove what is half done: %w", err)
	}
	return nil
}

// replace makes a new image with all that is in a directory, in one step for
// whoever looks.
func replace(ctx context.Context, v Volume, from string) (err error) {
	made := Volume{Image: v.Image + newSuffix, Dir: newDir(v.Dir), Size: v.Size, UID: v.UID}
	defer func() {
		if err != nil {
			err = errors.Join(err, discardHalves(v))
		}
	}()
	if err := format(ctx, made); err != nil {
		return err
	}
	if empty, err := isEmpty(from); err != nil {
		return err
	} else if !empty {
		if err := fill(ctx, made, from); err != nil {
			return err
		}
	}
	if err := syncFile(made.Image); err != nil {
		return fmt.Errorf("cannot write the state: %w", err)
	}
	if err := os.Rename(made.Image, v.Image); err != nil {
		return fmt.Errorf("cannot put the state in place: %w", err)
	}
	return syncFile(filepath.Dir(v.Image))
}

// fill copies what is in a directory into an image that nobody uses.
func fill(ctx context.Context, v Volume, from string) (err error) {
	used, err := Measure(ctx, from, math.MaxInt64, math.MaxInt)
	if err != nil {
		return fmt.Errorf("cannot look at the state: %w", err)
	}
	if used.Bytes > v.Size {
		return tooSmall(used.Bytes, v.Size)
	}
	if err := os.Mkdir(v.Dir, 0o700); err != nil {
		return fmt.Errorf("cannot make a place for the state: %w", err)
	}
	device, err := attachLoop(v.Image)
	if err != nil {
		return err
	}
	defer device.Close() // after its mount is gone it detaches itself
	if err := mountAt(ctx, device, v.Dir); err != nil {
		return err
	}
	err = copyTree(ctx, from, v.Dir)
	if errors.Is(err, unix.ENOSPC) {
		err = tooSmall(used.Bytes, v.Size)
	}
	if err = errors.Join(err, unmount(v.Dir)); err != nil {
		return err
	}
	if err := os.Remove(v.Dir); err != nil {
		return fmt.Errorf("cannot remove a place of the state: %w", err)
	}
	return nil
}

func tooSmall(used, size int64) error {
	return fault.New(errdefs.ErrFailedPrecondition, "state_too_small",
		"the plugin keeps %d MiB in its state, of %d MiB that it is granted", mib(used), mib(size)).
		WithHint("grant it a state of at least %dMiB, or remove what it does not need; nothing was removed", mib(used+used/16)+1)
}

// mib rounds up.
func mib(bytes int64) int64 { return (bytes + 1<<20 - 1) >> 20 }

// resize makes an image that nobody uses, a file of that size, one of its
// volume's size. The file system may be less than the file, by what is too
// little for the kernel to use.
func resize(ctx context.Context, v Volume, size int64) error {
	const tolerance = 1 << 20
	used, err := check(ctx, v.Image)
	switch want := imageSize(v.Size); {
	case err != nil:
		return err
	case size > want:
		return shrink(ctx, v)
	case size < want, used < want-tolerance:
		return grow(ctx, v.Image, want)
	}
	return nil
}

// shrink replaces an image by a smaller one.
func shrink(ctx context.Context, v Volume) error {
	dir := oldDir(v.Dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make a place for the state: %w", err)
	}
	device, err := attachLoop(v.Image)
	if err != nil {
		return err
	}
	defer device.Close()
	if err := mountAt(ctx, device, dir); err != nil {
		return err
	}
	err = replace(ctx, v, dir)
	return errors.Join(err, discardHalves(v))
}

// mountAt mounts a volume's device. What cannot be mounted is checked once, and
// tried again.
func mountAt(ctx context.Context, device *os.File, dir string) error {
	err := unix.Mount(device.Name(), dir, "ext4", mountFlags, mountOptions)
	if err != nil {
		if merr := mend(ctx, device.Name(), "-f"); errdefs.IsDataLoss(merr) {
			return merr
		}
		err = unix.Mount(device.Name(), dir, "ext4", mountFlags, mountOptions)
	}
	if err != nil {
		return fmt.Errorf("cannot mount the state: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("cannot keep the mount of the state private: %w", err), unmount(dir))
	}
	return nil
}

// unmount takes off what is mounted at dir, if anything is. A mount in use is
// detached and ends with its last user.
func unmount(dir string) error {
	err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if errors.Is(err, unix.EPERM) && !onItsOwn(dir) { // who may not unmount is told no more
		return nil
	}
	return fmt.Errorf("cannot unmount the state at %s: %w", dir, err)
}

// onItsOwn says whether dir is on another device than the directory that it is
// in, as a mounted volume is.
func onItsOwn(dir string) bool {
	var at, above unix.Stat_t
	err := errors.Join(unix.Lstat(dir, &at), unix.Lstat(filepath.Dir(dir), &above))
	return err == nil && at.Dev != above.Dev
}

// isMounted says whether what dir shows is on the device.
func isMounted(device *os.File, dir string) (bool, error) {
	var on, at unix.Stat_t
	if err := errors.Join(unix.Fstat(int(device.Fd()), &on), unix.Lstat(dir, &at)); err != nil {
		return false, fmt.Errorf("cannot look at the state: %w", err)
	}
	return on.Rdev == at.Dev, nil
}

// own gives the root directory to the plugin alone, and takes away the one that
// only e2fsck needs, and would make anew.
func own(v Volume) error {
	if err := os.Lchown(v.Dir, int(v.UID), int(v.UID)); err != nil {
		return fmt.Errorf("cannot give the state to uid %d: %w", v.UID, err)
	}
	if err := os.Chmod(v.Dir, 0o700); err != nil {
		return fmt.Errorf("cannot keep others out of the state: %w", err)
	}
	lost := filepath.Join(v.Dir, "lost+found")
	var st unix.Stat_t
	if err := unix.Lstat(lost, &st); err == nil && st.Uid == 0 {
		_ = os.Remove(lost) // which fails where e2fsck found something
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("cannot look at the state: %w", err)
	}
	return len(entries) == 0, nil
}

// clearDir removes what is in a directory that a volume is about to cover.
func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot look at the state: %w", err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("cannot remove what was moved into an image: %w", err)
		}
	}
	return nil
}
