package instance

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Flags of bind mounts, which a further bind mount by the engine keeps.
const (
	ownFlags    = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	sealedFlags = ownFlags | unix.MS_RDONLY
)

// bind bind-mounts source, without what is mounted below it, at target with
// the flags.
func bind(source, target string, flags uintptr) error {
	if err := os.MkdirAll(target, 0o700); err != nil {
		return fmt.Errorf("cannot make %s: %w", target, err)
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind %s: %w", source, err)
	}
	for _, change := range []uintptr{unix.MS_BIND | unix.MS_REMOUNT | flags, unix.MS_PRIVATE} {
		if err := unix.Mount("", target, "", change, ""); err != nil {
			return errors.Join(fmt.Errorf("cannot set the flags of %s: %w", target, err), unix.Unmount(target, unix.MNT_DETACH))
		}
	}
	return nil
}

// openReal opens a directory to be mounted and fails with ELOOP if a part of
// its path is a symlink by now.
func openReal(path string) (*os.File, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openBelow opens a directory below another one to be read, and fails with ELOOP
// if a part of the path is a symlink, and with EXDEV if it is mounted there.
func openBelow(root *os.File, path string) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// bindMapped mounts an open directory at target with the flags and with its
// owner's ids mapped to uid: whoever has that uid (as its group too) has the
// owner's rights below target, and what it makes there is the owner's. Files
// of others stay theirs.
func bindMapped(dir *os.File, target string, flags uintptr, uid uint32) error {
	owner, err := ownerMapping(dir, uid)
	if err != nil {
		return err
	}
	defer owner.Close()
	tree, err := unix.OpenTree(int(dir.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("cannot take the mount: %w", err)
	}
	defer unix.Close(tree) //nolint:errcheck // nothing was written through it
	attr := unix.MountAttr{Attr_set: mountAttributes(flags) | unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(owner.Fd())}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("cannot map the owner: %w", err)
	}
	if err := os.MkdirAll(target, 0o700); err != nil {
		return fmt.Errorf("cannot make %s: %w", target, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("cannot mount at %s: %w", target, err)
	}
	if err := unix.Mount("", target, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("cannot set the flags of %s: %w", target, err), unix.Unmount(target, unix.MNT_DETACH))
	}
	return nil
}

// mountAttributes are the flags of mount(2) as mount_setattr(2) has them.
func mountAttributes(flags uintptr) uint64 {
	var attributes uint64
	for flag, attribute := range map[uintptr]uint64{
		unix.MS_RDONLY: unix.MOUNT_ATTR_RDONLY, unix.MS_NOSUID: unix.MOUNT_ATTR_NOSUID,
		unix.MS_NODEV: unix.MOUNT_ATTR_NODEV, unix.MS_NOEXEC: unix.MOUNT_ATTR_NOEXEC,
	} {
		if flags&flag != 0 {
			attributes |= attribute
		}
	}
	return attributes
}

// mapTo maps the owner's id of files to id. Root gets an id that no file has:
// gVisor makes files as root, who has to be somebody, and gives them to the
// container's user before anybody sees them.
func mapTo(owner, id uint32) []syscall.SysProcIDMap {
	nobody := 65534
	if int(owner) == nobody {
		nobody--
	}
	return []syscall.SysProcIDMap{
		{ContainerID: int(owner), HostID: int(id), Size: 1},
		{ContainerID: nobody, HostID: 0, Size: 1},
	}
}

// ownerMapping returns a user name space that maps the ids of dir's owner to
// uid. A name space comes into being with a process only: this program itself,
// traced, so that it stops before its first instruction and is killed there.
func ownerMapping(dir *os.File, uid uint32) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, fmt.Errorf("cannot look at the owner: %w", err)
	}
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	child, err := os.StartProcess("/proc/self/exe", []string{"ocmt"}, &os.ProcAttr{
		Env: []string{},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: mapTo(st.Uid, uid),
			GidMappings: mapTo(st.Gid, uid),
			Ptrace:      true,
			Pdeathsig:   syscall.SIGKILL,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot make a user name space: %w", err)
	}
	space, err := os.Open("/proc/" + strconv.Itoa(child.Pid) + "/ns/user")
	if killErr := child.Kill(); killErr != nil {
		err = errors.Join(err, killErr)
	}
	if _, waitErr := child.Wait(); waitErr != nil {
		err = errors.Join(err, waitErr)
	}
	if err != nil {
		if space != nil {
			space.Close()
		}
		return nil, fmt.Errorf("cannot make a user name space: %w", err)
	}
	return space, nil
}
