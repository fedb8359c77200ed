package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// loopAttempts bounds how often a loop device that someone else was quicker to
// take is replaced by the next.
const loopAttempts = 64

// attachLoop puts an image on a loop device, which detaches itself when it is
// closed and nothing of it is mounted.
func attachLoop(image string) (*os.File, error) {
	backing, err := os.OpenFile(image, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the state: %w", err)
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot get a loop device: %w", err)
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(backing.Fd())}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	for range loopAttempts {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("cannot find a free loop device: %w", err)
		}
		device, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot open a loop device: %w", err)
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

// findLoop returns the loop device that an image is on, nil when it is on none.
// It stays there at least until the device is closed. A mount that this process
// does not see keeps it there too, as one of a container that still ends.
func findLoop(image string) (*os.File, error) {
	var file unix.Stat_t
	if err := unix.Lstat(image, &file); errors.Is(err, unix.ENOENT) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("cannot look at the state: %w", err)
	}
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		// The name saves opening every device; it may have moved with its home.
		if name, err := os.ReadFile(path); err != nil || filepath.Base(strings.TrimSpace(string(name))) != filepath.Base(image) {
			continue
		}
		device, err := os.OpenFile("/dev/"+strings.Split(path, "/")[3], os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot look at a loop device: %w", err)
		}
		// Once it is open it detaches itself no more.
		info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
		if err == nil && info.Device == file.Dev && info.Inode == file.Ino {
			return device, nil
		}
		device.Close()
	}
	return nil, nil
}

// deviceSize is how large a loop device is, bytes, 0 when it cannot be told.
func deviceSize(device *os.File) int64 {
	size, err := device.Seek(0, 2)
	if err != nil {
		return 0
	}
	return size
}
