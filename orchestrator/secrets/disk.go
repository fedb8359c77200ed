package secrets

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

const (
	fileSuffix = ".age"
	tempSuffix = ".tmp"
)

// makeDir makes a directory that nobody else may enter, or reports why the one
// that is there cannot be used.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unwritable(dir, err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return unreadable(dir, err)
	}
	if !info.IsDir() {
		return untrusted(dir, "is no directory").WithHint("put a directory of mode 0700 in its place")
	}
	return checkOwner(dir, info)
}

// checkOwner refuses what is another user's, and what others may open.
func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) != os.Geteuid() {
		return untrusted(path, "belongs to another user than the one that runs ocmt").
			WithHint("look at who made it; if it is right, chown %d %s", os.Geteuid(), path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return untrusted(path, fmt.Sprintf("is accessible to others (mode %04o)", info.Mode().Perm())).
			WithHint("chmod go= %s, and replace the secrets if somebody may have read them", path)
	}
	return nil
}

// readOwn returns a file's bytes, or nil if there is none. It refuses a link,
// anything but a regular file, what others may open, and more than limit bytes.
func readOwn(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, syscall.ELOOP):
		return nil, untrusted(path, "is a symbolic link").WithHint("put the file itself in its place")
	case err != nil:
		return nil, unreadable(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, untrusted(path, "is no regular file").WithHint("put the file back from a backup")
	}
	if err := checkOwner(path, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if int64(len(data)) > limit {
		return nil, damaged(path, "is larger than any that ocmt writes")
	}
	return data, nil
}

// replaceFile puts data in the place of the file in one step and makes that
// durable. Only one caller at a time may do so for a path.
func replaceFile(path string, data []byte) error {
	tmp := tempOf(path)
	if err := writeTemp(tmp, data); err != nil {
		return unwritable(path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return unwritable(path, err)
	}
	return syncDir(filepath.Dir(path))
}

func tempOf(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+tempSuffix)
}

func writeTemp(tmp string, data []byte) (err error) {
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// removeFile removes a file, if it is there, and makes that durable.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unwritable(path, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return unwritable(dir, err)
	}
	return nil
}

// tidy removes what writes that a crash interrupted have left.
func (s *Store) tidy() error {
	left := []string{tempOf(s.keyFile), tempOf(s.nextFile())}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return unreadable(s.dir, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(e.Name(), fileSuffix+tempSuffix) {
			left = append(left, filepath.Join(s.dir, e.Name()))
		}
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unwritable(path, err)
		}
	}
	return nil
}

func unwritable(path string, err error) error { return inaccessible("write", path, err) }

func unreadable(path string, err error) error { return inaccessible("read", path, err) }

func inaccessible(do, path string, err error) error {
	var class error = errdefs.ErrInternal
	switch {
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		class = errdefs.ErrPermissionDenied
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		class = errdefs.ErrResourceExhausted
	}
	return fault.New(class, "secrets_inaccessible", "cannot %s %s: %w", do, path, err).
		WithHint("look at the mode of %s and at the space on its disk", filepath.Dir(path))
}

func untrusted(path, why string) *fault.Error {
	return fault.New(errdefs.ErrFailedPrecondition, "secrets_unsafe", "cannot use %s: it %s", path, why)
}

func damaged(path, why string) error {
	return fault.New(errdefs.ErrDataLoss, "secrets_damaged", "cannot read the secrets in %s: it %s", path, why).
		WithHint("put the file back from a backup, or remove it and set the tenant's secrets anew")
}
