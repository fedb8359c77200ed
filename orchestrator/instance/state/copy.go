package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// copier copies a tree that may hold anything: it follows no symlink, and
// leaves out what is neither a directory, nor a file, nor a symlink.
type copier struct {
	from, to *os.Root
	names    map[uint64]string // of files with several names, by inode
	dirs     []dirTime
}

// dirTime is set when nothing is put into the directory any more.
type dirTime struct {
	path string
	time time.Time
}

// copyTree copies what is in a directory into another one, with owners, modes,
// times, links and holes, and without extended attributes.
func copyTree(ctx context.Context, from, to string) (err error) {
	source, err := os.OpenRoot(from)
	if err != nil {
		return fmt.Errorf("cannot copy the state: %w", err)
	}
	defer source.Close()
	target, err := os.OpenRoot(to)
	if err != nil {
		return fmt.Errorf("cannot copy the state: %w", err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	c := &copier{from: source, to: target, names: map[uint64]string{}}
	if err := c.dir(ctx, "."); err != nil {
		return fmt.Errorf("cannot copy the state: %w", err)
	}
	for _, d := range slices.Backward(c.dirs) {
		if err := target.Chtimes(d.path, d.time, d.time); err != nil {
			return fmt.Errorf("cannot copy the state: %w", err)
		}
	}
	return nil
}

// dir copies what is in a directory that exists on both sides.
func (c *copier) dir(ctx context.Context, path string) error {
	d, err := c.from.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(ctx, filepath.Join(path, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) entry(ctx context.Context, path string) error {
	info, err := c.from.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("cannot tell whose %q is", path)
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		if err := c.to.Mkdir(path, 0o700); err != nil {
			return err
		}
		c.dirs = append(c.dirs, dirTime{path, info.ModTime()})
		if err := c.dir(ctx, path); err != nil {
			return err
		}
	case fs.ModeSymlink:
		to, err := c.from.Readlink(path)
		if err != nil {
			return err
		}
		return errors.Join(c.to.Symlink(to, path), c.to.Lchown(path, int(st.Uid), int(st.Gid)))
	case 0:
		if name, ok := c.names[st.Ino]; ok {
			return c.to.Link(name, path)
		}
		if st.Nlink > 1 {
			c.names[st.Ino] = path
		}
		if err := c.file(path, info.Size()); err != nil {
			return err
		}
	default:
		return nil
	}
	// The owner first: a change of it takes bits off the mode.
	return errors.Join(c.to.Lchown(path, int(st.Uid), int(st.Gid)), c.to.Chmod(path, info.Mode()),
		c.to.Chtimes(path, info.ModTime(), info.ModTime()))
}

// file copies what is in a file, and leaves its holes.
func (c *copier) file(path string, size int64) (err error) {
	// Nothing but a file is opened, were it exchanged meanwhile.
	in, err := c.from.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := c.to.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for at := int64(0); at < size; {
		data, err := in.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // a hole to the end
			break
		}
		if err != nil {
			return err
		}
		if at, err = in.Seek(data, unix.SEEK_HOLE); err != nil {
			return err
		}
		_, err = io.Copy(io.NewOffsetWriter(out, data), io.NewSectionReader(in, data, at-data))
		if err != nil {
			return err
		}
	}
	return out.Truncate(size)
}
