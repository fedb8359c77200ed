package seal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// mountFlags are on every mount of a payload. Not noexec: a plugin may load
// native addons and start programs of its own payload.
const mountFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV

// loopAttempts bounds how often a loop device that someone else was quicker to
// take is replaced by the next.
const loopAttempts = 16

// Mount mounts the verified payload read-only, nosuid and nodev on target, an
// existing directory. It needs root. An image is mounted from the descriptor
// itself where the kernel can (6.12), and else through a loop device that
// vanishes with its last mount.
func (s *Sealed) Mount(target string) error {
	if s.payload.Form == plugin.FormTree {
		return s.bind(target)
	}
	direct := unix.Mount(procPath("self", s.file), target, "erofs", mountFlags, "")
	if direct == nil {
		return nil
	}
	if err := s.mountLoop(target); err != nil {
		return fmt.Errorf("cannot mount a payload (%w; without a loop device: %w): %w", err, direct, classOf(direct))
	}
	return nil
}

func (s *Sealed) bind(target string) error {
	if err := unix.Mount(procPath("self", s.file), target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot mount a payload (%w): %w", err, classOf(err))
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|mountFlags, ""); err != nil {
		return errors.Join(fmt.Errorf("cannot mount a payload (%w): %w", err, classOf(err)), Unmount(target))
	}
	return nil
}

// mountLoop mounts the image through a loop device.
func (s *Sealed) mountLoop(target string) error {
	device, err := s.attachLoop()
	if err != nil {
		return err
	}
	defer device.Close() // the mount keeps it; without one it detaches itself
	return unix.Mount(device.Name(), target, "erofs", mountFlags, "")
}

func (s *Sealed) attachLoop() (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(s.file.Fd())}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	for range loopAttempts {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("cannot find a free loop device: %w", err)
		}
		device, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("cannot configure %s: %w", device.Name(), err)
		}
	}
	return nil, fmt.Errorf("cannot get a loop device: others took %d in a row", loopAttempts)
}

// Unmount takes a payload's mount off target; where there is none, or no
// target, it does nothing. A mount in use is detached and ends with its last
// user.
func Unmount(target string) error {
	err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("cannot unmount a payload (%w): %w", err, classOf(err))
}

// probeMount is where CanMount mounts, below a temporary directory.
const probeMount = "mount"

// CanMount tries whether this process can mount images of storeDir, which is
// made when it is missing, and says why it cannot.
func CanMount(storeDir string) (ok bool, why string) {
	if os.Geteuid() != 0 {
		return false, "only root can mount"
	}
	if err := tryMount(storeDir); err != nil {
		return false, err.Error()
	}
	return true, ""
}

func tryMount(storeDir string) error {
	if err := os.MkdirAll(storeDir, 0o700); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(storeDir, tempPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = removeTree(temp) }() // what stays is swept later
	target, object := filepath.Join(temp, probeMount), filepath.Join(temp, "object")
	if err := os.Mkdir(target, 0o700); err != nil {
		return err
	}
	if _, _, err := writeImage(context.Background(), object, os.DirFS(target), nil); err != nil {
		return err
	}
	f, err := os.Open(object)
	if err != nil {
		return err
	}
	defer f.Close()
	probe := &Sealed{file: f, payload: plugin.Payload{Form: plugin.FormEROFS}}
	if err := probe.Mount(target); err != nil {
		return err
	}
	return Unmount(target)
}

func classOf(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return errdefs.ErrPermissionDenied
	}
	return errdefs.ErrFailedPrecondition
}
