package home

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

func TestCheckFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := CheckFileSystem(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := CheckFileSystem(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing directory is accepted")
	}
}

// What cannot be a home: /proc, which takes no files, and a read-only file
// system.
func TestUnsuitableFileSystems(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	dir := t.TempDir()
	if err := CheckFileSystem("/proc"); err == nil {
		t.Error("/proc is accepted as a home")
	}
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skip("cannot mount: ", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	err := CheckFileSystem(dir)
	if f := fault.Of(err); !errdefs.IsPermissionDenied(err) || f.Hint == "" {
		t.Errorf("a read-only file system: %v", err)
	}
}
