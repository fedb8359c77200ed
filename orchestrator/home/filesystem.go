package home

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// CheckFileSystem tries in dir, by a directory that it removes again, what a
// home needs of its file system: modes that are kept, locks, and unix sockets.
// FailedPrecondition names what is missing.
func CheckFileSystem(dir string) (err error) {
	temp, err := os.MkdirTemp(dir, ".probe-*")
	if err != nil {
		return notWritable(dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	for _, need := range []struct {
		what string
		try  func(dir string) error
	}{
		{"keeps no file modes, which keep other users away from keys and sockets", tryModes},
		{"has no locks, which keep a second daemon away", tryLock},
		{"has no unix sockets, by which plugins and commands speak with the daemon", trySocket},
	} {
		if err := need.try(temp); err != nil {
			return fault.New(errdefs.ErrFailedPrecondition, "home_unsuitable", "the file system of %s %s: %w", dir, need.what, err).
				WithHint("choose a home on a local Linux file system, for example ext4, xfs or btrfs, with --home or OCMT_HOME")
		}
	}
	return nil
}

func tryModes(dir string) error {
	path := filepath.Join(dir, "mode")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	for _, mode := range []os.FileMode{0o600, 0o640} {
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		if got := st.Mode().Perm(); got != mode {
			return fmt.Errorf("mode %04o became %04o", mode, got)
		}
	}
	return nil
}

func tryLock(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// trySocket binds through the open directory: a path may be longer than a
// socket's address.
func trySocket(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/sock", d.Fd())})
	if err != nil {
		return err
	}
	return l.Close()
}
