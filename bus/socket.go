package bus

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// SocketName is the socket's name in an instance's directory.
const SocketName = "bus.sock"

const (
	parentMode = 0o700 // keeps the host's other users out
	dirMode    = 0o711 // the container's user may pass, not look or alter
	socketMode = 0o666 // the container's user, whoever that is, may connect
)

// listen makes the directory and the socket in it.
func listen(dir string) (*net.UnixListener, error) {
	if err := makeParent(filepath.Dir(filepath.Clean(dir))); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("cannot make the socket directory: %w: %w", err, classOf(err))
	}
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the socket directory: %w: %w", err, classOf(err))
	}
	defer d.Close()
	if err := checkOwner(d); err != nil {
		return nil, err
	}
	if err := d.Chmod(dirMode); err != nil {
		return nil, fmt.Errorf("cannot set the mode of the socket directory: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	l, err := listenIn(int(d.Fd()))
	if err != nil {
		return nil, fmt.Errorf("cannot listen in %s: %w: %w", dir, err, classOf(err))
	}
	return l, nil
}

// classOf tells what the host lacks for the moment from what is wrong with the
// directory.
func classOf(err error) error {
	for _, lack := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, lack) {
			return errdefs.ErrUnavailable
		}
	}
	return errdefs.ErrFailedPrecondition
}

func makeParent(parent string) error {
	if err := os.MkdirAll(parent, parentMode); err != nil {
		return fmt.Errorf("cannot make the directory of the socket directories: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	d, err := os.OpenFile(parent, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("cannot open the directory of the socket directories: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	defer d.Close()
	if err := checkOwner(d); err != nil {
		return err
	}
	info, err := d.Stat()
	if err != nil {
		return fmt.Errorf("cannot look at %s: %w: %w", parent, err, errdefs.ErrFailedPrecondition)
	}
	if mode := info.Mode().Perm(); mode != parentMode {
		return fmt.Errorf("cannot put a socket directory into %s: its mode is %04o, must be %04o: %w",
			parent, mode, parentMode, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func checkOwner(d *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return fmt.Errorf("cannot look at %s: %w: %w", d.Name(), err, errdefs.ErrFailedPrecondition)
	}
	if uid := os.Geteuid(); int(st.Uid) != uid {
		return fmt.Errorf("cannot use %s for sockets: its owner is uid %d, must be %d: %w",
			d.Name(), st.Uid, uid, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// listenIn binds through the open directory: the address of a socket holds at
// most 107 bytes, and a path may have more.
func listenIn(dir int) (*net.UnixListener, error) {
	if err := removeStale(dir); err != nil {
		return nil, err
	}
	addr := &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, SocketName)}
	l, err := net.ListenUnix("unix", addr)
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the descriptor in the address will be another's
	if err := unix.Fchmodat(dir, SocketName, socketMode, 0); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// removeStale removes a socket that an earlier run left behind.
func removeStale(dir int) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, SocketName, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("%s exists and is no socket", SocketName)
	}
	return unix.Unlinkat(dir, SocketName, 0)
}
