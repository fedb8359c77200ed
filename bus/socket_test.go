package bus

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/bus/subject"
)

func TestAttachRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	stopped := newServer(t, Limits{})
	stopped.Shutdown()
	ok := identity("default", "p", 1)
	parent := func(t *testing.T, mode os.FileMode) string {
		dir := socketParent(t)
		if err := os.Mkdir(dir, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	tests := []struct {
		name   string
		server *Server
		id     Identity
		dir    func(t *testing.T) string
		want   func(error) bool
	}{
		{"no tenant", s, identity("", "p", 1), nil, errdefs.IsInvalidArgument},
		{"no plugin", s, identity("t", "", 1), nil, errdefs.IsInvalidArgument},
		{"long name", s, identity("t", strings.Repeat("p", 1024), 1), nil, errdefs.IsInvalidArgument},
		{"after shutdown", stopped, ok, nil, errdefs.IsUnavailable},
		{"parent open to others", s, ok, func(t *testing.T) string {
			return filepath.Join(parent(t, 0o755), "i")
		}, errdefs.IsFailedPrecondition},
		{"directory is a symlink", s, ok, func(t *testing.T) string {
			dir := filepath.Join(parent(t, 0o700), "i")
			if err := os.Symlink("/", dir); err != nil {
				t.Fatal(err)
			}
			return dir
		}, errdefs.IsFailedPrecondition},
		{"a file in the socket's place", s, ok, func(t *testing.T) string {
			dir := filepath.Join(parent(t, 0o700), "i")
			if err := os.Mkdir(dir, 0o711); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, SocketName), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}, errdefs.IsFailedPrecondition},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(socketParent(t), "i")
			if tt.dir != nil {
				dir = tt.dir(t)
			}
			if p, err := tt.server.Attach(t.Context(), tt.id, dir); !tt.want(err) {
				t.Errorf("got %v, %v", p, err)
			}
		})
	}
	t.Run("context is over", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Attach(ctx, identity("default", "over", 1), filepath.Join(socketParent(t), "i")); !errdefs.IsCanceled(err) {
			t.Errorf("got %v, want Canceled", err)
		}
	})
}

func TestSocketDirectory(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	id := identity("default", "p", 1)
	// Longer than the address of a socket may be.
	parent := filepath.Join(socketParent(t), strings.Repeat("d", 120))
	dir := filepath.Join(parent, "i")
	for _, generation := range []uint64{1, 2} { // the second finds the directory
		id.Generation = generation
		p, err := s.Attach(t.Context(), id, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []struct {
			path string
			mode os.FileMode
		}{
			{filepath.Dir(parent), os.ModeDir | 0o700},
			{parent, os.ModeDir | 0o700},
			{dir, os.ModeDir | 0o711},
			{filepath.Join(dir, SocketName), os.ModeSocket | 0o666},
		} {
			info, err := os.Lstat(f.path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != f.mode {
				t.Errorf("mode of %s: got %s, want %s", f.path, info.Mode(), f.mode)
			}
			if got := int(info.Sys().(*syscall.Stat_t).Uid); got != os.Geteuid() {
				t.Errorf("owner of %s: got %d, want %d", f.path, got, os.Geteuid())
			}
		}
		p.Close()
		p.Close()
		if _, err := os.Lstat(filepath.Join(dir, SocketName)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("socket after close: got %v, want none", err)
		}
	}
}

// TestSocketDirectoryWithAnyUmask runs TestSocketDirectory in a process that
// makes files for nobody else.
func TestSocketDirectoryWithAnyUmask(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), "sh", "-c", `umask 077 && exec "$0" -test.v -test.run='^TestSocketDirectory$'`, os.Args[0])
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestSocketDirectory ") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestStaleSocket attaches where a killed daemon left its socket.
func TestStaleSocket(t *testing.T) {
	t.Parallel()
	parent := socketParent(t)
	dir := filepath.Join(parent, "i")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, SocketName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	id := identity("default", "p", 1)
	p, err := newServer(t, Limits{}).Attach(t.Context(), id, dir)
	if err != nil {
		t.Fatal(err)
	}
	nc, _ := runner(t, path, id)
	echo(t, nc, id, subject.Tool)
	request(t, p, subject.Tool, "x")
}

// A full disk is nothing that is wrong with the directory.
func TestAttachOnAFullDisk(t *testing.T) {
	t.Parallel()
	for name, inodes := range map[string]string{"no room for the directory": "1", "no room for the socket": "2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := socketParent(t)
			if err := os.Mkdir(parent, parentMode); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("tmpfs", parent, "tmpfs", 0, "mode=0700,nr_inodes="+inodes); err != nil {
				t.Skip("cannot mount a small file system: ", err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(parent, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			_, err := newServer(t, Limits{}).Attach(t.Context(), identity("default", "p", 1), filepath.Join(parent, "i"))
			if !errdefs.IsUnavailable(err) || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("Attach = %v, want ENOSPC, as Unavailable", err)
			}
		})
	}
}
