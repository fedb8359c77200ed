package pid1

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// listBatch is how many entries of a directory are read at once.
	listBatch = 256
	// maxNamed is how many leftovers are named.
	maxNamed = 20
)

// clean deletes everything below dir, and names what is left.
func clean(dir string) int {
	c, err := newCleaner(dir)
	if err != nil {
		say("cannot clean %s: %v", dir, err)
		return 1
	}
	defer c.top.Close()
	c.empty()
	for _, failure := range c.failures[:min(len(c.failures), maxNamed)] {
		say("cannot delete %s", failure)
	}
	if n := len(c.failures) - maxNamed; n > 0 {
		say("cannot delete %d more", n)
	}
	if len(c.failures) > 0 {
		return 1
	}
	return 0
}

// cleaner empties a directory whose content is hostile: deeper than any path
// or descriptor limit, unreadable, full of symbolic links. It never recurses
// and never resolves a path: files are deleted where they are, and a directory
// is first moved to the top under a new name, so that at most two directories
// are open and no name is longer than one component.
type cleaner struct {
	dir      string
	top      *os.File
	moved    int // directories moved to the top, for their names
	failures []string
	skip     map[string]bool // names at the top that cannot be deleted
}

func newCleaner(dir string) (*cleaner, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if absolute == "/" {
		return nil, errors.New("it is the root directory")
	}
	top, err := openDir(unix.AT_FDCWD, absolute)
	if errors.Is(err, unix.EACCES) {
		if err := unix.Fchmodat(unix.AT_FDCWD, absolute, 0o700, 0); err != nil {
			return nil, err
		}
		top, err = openDir(unix.AT_FDCWD, absolute)
	}
	if err != nil {
		return nil, err
	}
	// It may be another's and writable all the same.
	_ = top.Chmod(0o700)
	return &cleaner{dir: absolute, top: top, skip: map[string]bool{}}, nil
}

// empty goes through the top directory until a pass finds nothing more to
// delete.
func (c *cleaner) empty() {
	for {
		progress, failures, err := c.pass(c.top, c.skip, c.emptyDir)
		for name, err := range failures {
			c.skip[name] = true
			c.fail(name, err)
		}
		if err != nil {
			c.fail("", err)
		}
		if !progress || err != nil {
			return
		}
	}
}

// pass deletes the entries of a directory: files at once, directories by
// onDir. It says whether anything was deleted and what could not be.
func (c *cleaner) pass(dir *os.File, skip map[string]bool, onDir func(name string) error) (progress bool, failures map[string]error, err error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return false, nil, err
	}
	failures = map[string]error{}
	for {
		names, err := dir.Readdirnames(listBatch)
		if errors.Is(err, io.EOF) {
			return progress, failures, nil
		}
		if err != nil {
			return progress, failures, err
		}
		for _, name := range names {
			if skip[name] {
				continue
			}
			if err := remove(dir, name, onDir); err != nil {
				failures[name] = err
				continue
			}
			progress = true
		}
	}
}

// remove deletes one entry. unlinkat deletes a symbolic link itself and
// refuses a directory.
func remove(dir *os.File, name string, onDir func(string) error) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	if err != nil && isDir(dir, name) {
		return onDir(name)
	}
	return err
}

// emptyDir deletes a directory at the top: its files, then itself, after its
// own directories were moved beside it.
func (c *cleaner) emptyDir(name string) error {
	dir, err := openWritable(c.top, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		progress, failures, err := c.pass(dir, nil, func(sub string) error { return c.lift(dir, sub) })
		if err != nil {
			return err
		}
		if progress {
			continue
		}
		for entry, err := range failures {
			c.fail(filepath.Join(name, entry), err)
		}
		return unix.Unlinkat(int(c.top.Fd()), name, unix.AT_REMOVEDIR)
	}
}

// lift moves a directory to the top. To move it, it must be writable itself.
func (c *cleaner) lift(from *os.File, name string) error {
	sub, err := openWritable(from, name)
	if err != nil {
		return err
	}
	sub.Close()
	for {
		c.moved++
		to := ".ocmt-clean-" + strconv.Itoa(c.moved)
		err := unix.Renameat(int(from.Fd()), name, int(c.top.Fd()), to)
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
	}
}

// openWritable opens a directory and makes it readable and writable for its
// owner. Nothing else runs on the tree, so the name stays what it is.
func openWritable(parent *os.File, name string) (*os.File, error) {
	if !isDir(parent, name) {
		return nil, unix.ENOTDIR
	}
	if err := unix.Fchmodat(int(parent.Fd()), name, 0o700, 0); err != nil {
		return nil, err
	}
	return openDir(int(parent.Fd()), name)
}

func isDir(parent *os.File, name string) bool {
	var stat unix.Stat_t
	err := unix.Fstatat(int(parent.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR
}

// openDir opens a directory, never through a symbolic link as its last part.
func openDir(parent int, name string) (*os.File, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (c *cleaner) fail(name string, err error) {
	c.failures = append(c.failures, fmt.Sprintf("%s: %v", filepath.Join(c.dir, name), err))
}
