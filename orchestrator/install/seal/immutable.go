package seal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// fsImmutable is FS_IMMUTABLE_FL of linux/fs.h.
const fsImmutable = 0x10

// setImmutable sets or clears a file's immutable flag as far as the file
// system and our rights allow. It is one more obstacle and no part of the
// promise, which is why it reports nothing.
func setImmutable(path string, on bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return
	}
	want := flags &^ fsImmutable
	if on {
		want |= fsImmutable
	}
	if want != flags {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, want)
	}
}

// CanFreeze tries whether files in dir can be made immutable: it takes root,
// and a file system that has the flag.
func CanFreeze(dir string) (bool, error) {
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return false, err
	}
	path := f.Name()
	setImmutable(path, true)
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	frozen := err == nil && flags&fsImmutable != 0
	setImmutable(path, false)
	return frozen, errors.Join(f.Close(), os.Remove(path))
}
