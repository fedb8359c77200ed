package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

const (
	maxSocketPath = 107 // bytes that fit into a sockaddr_un with its final 0
	probeTimeout  = 2 * time.Second
)

// ListenUnix listens on a unix socket at path with the given mode. A directory
// that is missing is made with mode 0700. A socket that nobody answers on is
// replaced; one that a daemon answers on is Conflict, and so is a file that is
// no socket.
//
// Two daemons that start in the same moment need a lock of their own around
// this: the check and the listening are two steps.
func ListenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fault.New(errdefs.ErrInvalidArgument, "socket_path_too_long",
			"the socket's path has %d bytes, at most %d are possible: %s", len(path), maxSocketPath, path).
			WithHint("choose a shorter one with --socket or a home with a shorter path")
	}
	if err := checkSocketDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, classed(err))
	}
	if err := os.Chmod(path, mode); err != nil {
		listener.Close()
		return nil, fmt.Errorf("cannot set the mode of %s: %w", path, classed(err))
	}
	return listener, nil
}

// checkSocketDir makes dir, or refuses one where others could replace the
// socket.
func checkSocketDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the socket's directory: %w", classed(err))
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("cannot look at the socket's directory: %w", classed(err))
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fault.New(errdefs.ErrPermissionDenied, "socket_dir_open", "others may write to %s, where the socket is to be", dir).
			WithHint("chmod go-w %s", dir)
	}
	return nil
}

// removeStale removes a socket that nobody answers on.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot look at %s: %w", path, classed(err))
	case info.Mode().Type() != fs.ModeSocket:
		return fault.New(errdefs.ErrConflict, "socket_path_taken", "%s is there and is no socket", path).
			WithHint("move it away, or choose another path with --socket")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		defer conn.Close()
		return taken(path, peerPID(conn))
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the stale socket: %w", classed(err))
		}
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot tell whether a daemon listens on %s: %w", path, classed(err))
	}
	return taken(path, 0) // it does not refuse: somebody holds it
}

func taken(path string, pid int32) error {
	if pid == 0 {
		return fault.New(errdefs.ErrConflict, "daemon_running", "another daemon holds %s", path).
			WithHint("stop it, or start this one with another --home")
	}
	return fault.New(errdefs.ErrConflict, "daemon_running", "another daemon (pid %d) answers on %s", pid, path).
		WithHint("stop it with `kill %d`, or start this one with another --home", pid)
}

// peerPID returns the process that listens at the other end, or 0.
func peerPID(conn net.Conn) int32 {
	if cred := peer(conn); cred != nil {
		return cred.Pid
	}
	return 0
}

// peer returns who is at the other end of a unix socket, or nil.
func peer(conn net.Conn) *unix.Ucred {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil
	}
	var cred *unix.Ucred
	err = raw.Control(func(fd uintptr) {
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			cred = c
		}
	})
	if err != nil {
		return nil
	}
	return cred
}

// classed gives an error of the system its class.
func classed(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fault.New(errdefs.ErrPermissionDenied, "permission_denied", "%w", err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fault.New(errdefs.ErrConflict, "conflict", "%w", err)
	}
	return err
}
