package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

const (
	lockTimeout = 5 * time.Second
	lockPoll    = 10 * time.Millisecond
	// maxTries bounds how often Update begins anew because somebody else
	// wrote the file in the meantime.
	maxTries = 20
)

// Update changes the file at path by change, which may be called several
// times, each time on a fresh Edit. The file is replaced in one step: readers
// see the old or the new one, and so does whoever comes after a crash.
//
// Updates exclude each other by a lock on the directory, in this process and
// among processes. An editor does not take that lock: if the file was written
// while change ran, Update begins anew with what is there now. Only a write
// in the instant between that comparison and the rename can be lost.
//
// Its errors are those of Load and of change; in each case the file is as it
// was. PermissionDenied if it cannot be written, Unavailable if the lock is
// held for 5 s, ctx's if that ends before.
func Update(ctx context.Context, path string, change func(*Edit) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unwritable(path, err)
	}
	unlock, err := lock(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	for range maxTries {
		before, err := read(path)
		if err != nil {
			return err
		}
		after, err := edited(path, before, change)
		if err != nil || after == nil {
			return err
		}
		done, err := replace(path, before, after)
		if done || err != nil {
			return err
		}
	}
	return fault.New(errdefs.ErrUnavailable, "config_busy", "cannot change %s: another program keeps writing it", path).
		WithHint("close the program that has it open and try again").WithRetry()
}

// edited returns the text after change, nil if it is the same.
func edited(path string, before []byte, change func(*Edit) error) ([]byte, error) {
	doc, err := parse(before)
	if err != nil {
		return nil, at(path, err)
	}
	if err := change(newEdit(&doc.tree)); err != nil {
		return nil, err
	}
	after := doc.bytes()
	if bytes.Equal(after, before) || before == nil && isEmptyObject(after) {
		return nil, nil
	}
	if len(after) > MaxSize {
		return nil, invalid("%s would become larger than %d MiB", path, MaxSize>>20)
	}
	if _, err := parse(after); err != nil {
		return nil, fault.New(errdefs.ErrInternal, "internal", "cannot change %s: the result would be broken: %w", path, err)
	}
	return after, nil
}

func isEmptyObject(text []byte) bool { return string(bytes.TrimSpace(text)) == "{}" }

// replace puts after in the place of the file and makes it durable, unless
// the file no longer holds before, which it reports as not done.
func replace(path string, before, after []byte) (done bool, err error) {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp") // ours alone: the lock is held
	if err := writeTemp(tmp, path, after); err != nil {
		return false, unwritable(path, err)
	}
	defer os.Remove(tmp) // not there any more after the rename
	now, err := read(path)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(now, before) || (now == nil) != (before == nil) {
		return false, nil
	}
	if err := os.Rename(tmp, path); err != nil {
		return false, unwritable(path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return false, unwritable(path, err)
	}
	return true, nil
}

// writeTemp makes the file tmp with the owner and mode of the one at path.
func writeTemp(tmp, path string, data []byte) (err error) {
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(tmp)
		}
	}()
	if err := takeAfter(f, path); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// takeAfter gives f the owner and mode of the file at path, if there is one:
// a person who can edit the file now must be able to afterwards.
func takeAfter(f *os.File, path string) error {
	want, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	have, err := f.Stat()
	if err != nil {
		return err
	}
	w, h := want.Sys().(*syscall.Stat_t), have.Sys().(*syscall.Stat_t)
	if w.Uid != h.Uid || w.Gid != h.Gid {
		if err := f.Chown(int(w.Uid), int(w.Gid)); err != nil {
			return fmt.Errorf("its owner cannot be kept: %w", err)
		}
	}
	return f.Chmod(want.Mode().Perm())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lock takes the lock of a directory. Each call opens it anew, so that calls
// within one process exclude each other as well.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	deadline := time.Now().Add(lockTimeout)
	for {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = d.Close() }, nil // closing unlocks
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			_ = d.Close()
			return nil, fault.New(errdefs.ErrUnavailable, "config_busy", "cannot lock %s: %w", dir, err).
				WithHint("another ocmt is changing the configuration: try again").WithRetry()
		}
		select {
		case <-ctx.Done():
			_ = d.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", dir, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

func unwritable(path string, err error) error {
	var class error = errdefs.ErrInternal
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		class = errdefs.ErrPermissionDenied
	}
	return fault.New(class, "config_unwritable", "cannot write %s: %w", path, err).
		WithHint("make %s writable for the user that runs ocmt", filepath.Dir(path))
}
