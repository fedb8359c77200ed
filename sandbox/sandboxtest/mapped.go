package sandboxtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

// Ids on the disk: of the one whose directory is granted, and of nobody.
const owner, nobody = 20011, 65534

// mappedToTheOwner grants a directory that is its owner's alone, by a mount
// that shows the owner as the container's user, as workspaces are granted. Root
// is mapped to nobody: the file server of gVisor makes files as root and gives
// them away then, and could make none if the mount did not know root.
func mappedToTheOwner(t *testing.T, s *suite) {
	dir := directory(t)
	data := writeFile(t, filepath.Join(dir, "data"), "the owner's")
	if err := errors.Join(os.Chmod(data, 0o600), os.Chmod(dir, 0o700), os.Chown(data, owner, owner), os.Chown(dir, owner, owner)); err != nil {
		t.Skipf("only root may give files away: %v", err)
	}
	target := mountMapped(t, dir)
	mount := sandbox.Mount{Source: target, Target: "/granted"}
	if got := s.attempt(t, s.with(mount, "read", "/granted/data")); got.Text != "the owner's" {
		t.Errorf("%+v", got)
	}
	s.wantAttempt(t, "", s.with(mount, "create", "/granted/data"))
	s.wantAttempt(t, "", s.with(mount, "create", "/granted/new"))
	want := "EACCES"
	if !s.Seccomp {
		want = refused // gVisor's kernel begins the program, which the host lets it map nowhere
	}
	s.wantAttempt(t, want, s.with(mount, "exec", "/granted/program"))
	for _, name := range []string{"data", "new", "program"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("on the host: %v", err)
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != owner || st.Gid != owner {
			t.Errorf("on the host %s belongs to %d:%d, want the owner", name, st.Uid, st.Gid)
		}
	}
	other := s.with(mount, "read", "/granted/data")
	other.UID = uid + 1
	s.wantAttempt(t, "EACCES", other)
}

// mountMapped mounts dir elsewhere, mapped and with flags.
func mountMapped(t *testing.T, dir string) string {
	t.Helper()
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Skipf("the kernel or this user cannot: %v", err)
	}
	defer unix.Close(tree) //nolint:errcheck // nothing was written through it
	attr := unix.MountAttr{
		Attr_set:  unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
		Userns_fd: uint64(userSpace(t).Fd()),
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		t.Skipf("the kernel or the file system cannot map owners: %v", err)
	}
	target := directory(t)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount: %v", err)
		}
	})
	return target
}

// userSpace returns a user name space with the mapping, which comes into being
// with a process.
func userSpace(t *testing.T) *os.File {
	t.Helper()
	ids := func(to int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: owner, HostID: to, Size: 1}, {ContainerID: nobody, HostID: 0, Size: 1}}
	}
	child := exec.CommandContext(t.Context(), "sleep", "60")
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids(uid), GidMappings: ids(gid), Pdeathsig: syscall.SIGKILL,
	}
	if err := child.Start(); err != nil {
		t.Skipf("cannot make a user name space: %v", err)
	}
	space, err := os.Open("/proc/" + strconv.Itoa(child.Process.Pid) + "/ns/user")
	if killErr := child.Process.Kill(); killErr != nil {
		t.Error(killErr)
	}
	_ = child.Wait() // it was killed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { space.Close() })
	return space
}
