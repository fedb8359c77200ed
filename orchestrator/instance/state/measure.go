package state

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// Usage is how much a directory holds.
type Usage struct {
	Bytes   int64 // on the disk, with what its directories and symlinks take
	Entries int
	// Hidden counts directories that this process cannot look into.
	Hidden int
}

// Over says that it is more than that many bytes or entries.
func (u Usage) Over(bytes int64, entries int) bool { return u.Bytes > bytes || u.Entries > entries }

// Measure says how much a directory holds. It stops when that is over the
// limits. What disappears meanwhile does not count.
func Measure(ctx context.Context, dir string, bytes int64, entries int) (Usage, error) {
	var u Usage
	seen := map[uint64]bool{} // files with several names
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case path != dir && errors.Is(err, fs.ErrNotExist):
			return nil
		case path != dir && errors.Is(err, fs.ErrPermission):
			u.Hidden++
			return fs.SkipDir
		case errors.Join(err, ctx.Err()) != nil:
			return errors.Join(err, ctx.Err())
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		u.Entries++
		if st, ok := info.Sys().(*syscall.Stat_t); ok && (d.IsDir() || st.Nlink == 1 || !seen[st.Ino]) {
			u.Bytes += st.Blocks * 512
			if st.Nlink > 1 && !d.IsDir() {
				seen[st.Ino] = true
			}
		}
		if u.Over(bytes, entries) {
			return fs.SkipAll
		}
		return nil
	})
	return u, err
}
