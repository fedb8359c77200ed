package egress

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// maxSocketPath is what fits into sockaddr_un with its final zero, in bytes.
const maxSocketPath = 107

// Listen makes the unix socket of one container, open to every user: its
// directory, which must exist, says who reaches it. A socket that nobody
// answers any more is replaced; a living one is AlreadyExists.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("cannot listen on %s: the path is longer than %d bytes: %w", path, maxSocketPath, errdefs.ErrInvalidArgument)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	ln, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, classed(err))
	}
	if err := os.Chmod(path, 0o666); err != nil {
		ln.Close()
		return nil, fmt.Errorf("cannot open %s to the container: %w", path, classed(err))
	}
	return ln, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look at %s: %w", path, classed(err))
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("cannot listen on %s: it is no socket: %w", path, errdefs.ErrAlreadyExists)
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(context.Background(), "unix", path)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("cannot listen on %s: it is in use: %w", path, errdefs.ErrAlreadyExists)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot remove the old socket %s: %w", path, classed(err))
	}
	return nil
}

// classed gives an error of the file system its errdefs class.
func classed(err error) error {
	var class error = errdefs.ErrUnknown
	switch {
	case errors.Is(err, fs.ErrNotExist):
		class = errdefs.ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		class = errdefs.ErrPermissionDenied
	case errors.Is(err, syscall.EADDRINUSE):
		class = errdefs.ErrAlreadyExists
	}
	return fmt.Errorf("%w (%w)", err, class)
}
