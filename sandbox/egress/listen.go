package egress

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	dirMode    = 0o711 // the container's user may pass, not look or alter
	socketMode = 0o666 // the container's user, whoever that is, may connect
)

// Listen makes the unix socket of one container, open to every user, in a
// directory that every user may pass, made if it is missing: who reaches it is
// up to the directories above. Neither the umask nor the length of the path
// matters. A socket that nobody answers any more is replaced; a living one is
// AlreadyExists. Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	ln, err := listenIn(dir, filepath.Base(path))
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("cannot listen on %s: %w", path, classed(err))
	}
	return ln, nil
}

func openDir(path string) (*os.File, error) {
	if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("cannot make the socket directory: %w", classed(err))
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the socket directory: %w", classed(err))
	}
	if err := dir.Chmod(dirMode); err != nil {
		dir.Close()
		return nil, fmt.Errorf("cannot open the socket directory to the container: %w", classed(err))
	}
	return dir, nil
}

// listener is a socket in an open directory.
type listener struct {
	*net.UnixListener
	dir   *os.File
	name  string
	close func() error
}

// listenIn takes over dir when it succeeds.
func listenIn(dir *os.File, name string) (net.Listener, error) {
	if err := removeStale(dir, name); err != nil {
		return nil, err
	}
	unixListener, err := net.ListenUnix("unix", address(dir, name))
	if err != nil {
		return nil, err
	}
	unixListener.SetUnlinkOnClose(false) // listener does, while it has the directory
	ln := &listener{UnixListener: unixListener, dir: dir, name: name}
	ln.close = sync.OnceValue(ln.remove)
	if err := unix.Fchmodat(int(dir.Fd()), name, socketMode, 0); err != nil {
		return nil, errors.Join(err, unixListener.Close())
	}
	return ln, nil
}

// address is a short one: that of a socket holds 107 bytes, and a path may
// have more.
func address(dir *os.File, name string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)}
}

// Close ends the listener and removes the socket.
func (l *listener) Close() error { return l.close() }

func (l *listener) remove() error {
	err := unix.Unlinkat(int(l.dir.Fd()), l.name, 0)
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return errors.Join(err, l.UnixListener.Close(), l.dir.Close())
}

// removeStale removes a socket that an earlier run left behind.
func removeStale(dir *os.File, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("it is no socket: %w", errdefs.ErrAlreadyExists)
	}
	conn, err := net.DialUnix("unix", nil, address(dir, name))
	if err == nil {
		_ = conn.Close() // whether somebody answers is all
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("it is in use: %w", errdefs.ErrAlreadyExists)
	}
	return unix.Unlinkat(int(dir.Fd()), name, 0)
}

// classed gives an error of the file system its errdefs class.
func classed(err error) error {
	var class error = errdefs.ErrUnknown
	switch {
	case errors.Is(err, fs.ErrNotExist):
		class = errdefs.ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		class = errdefs.ErrPermissionDenied
	case errors.Is(err, unix.EADDRINUSE), errdefs.IsAlreadyExists(err):
		class = errdefs.ErrAlreadyExists
	}
	return fmt.Errorf("%w (%w)", err, class)
}
