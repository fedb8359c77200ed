package seal

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	erofs "github.com/erofs/go-erofs"
)

// writeImage is the [writer] of EROFS images: sorted, every time zero, every
// owner root.
func writeImage(ctx context.Context, object string, src fs.FS, entries []entry) (string, int64, error) {
	f, err := os.OpenFile(object, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", 0, fmt.Errorf("cannot write the image: %w", err)
	}
	defer f.Close()
	if err := fillImage(ctx, f, src, entries); err != nil {
		return "", 0, fmt.Errorf("cannot write the image: %w", err)
	}
	if err := f.Chmod(0o444); err != nil {
		return "", 0, fmt.Errorf("cannot write the image: %w", err)
	}
	if err := f.Sync(); err != nil {
		return "", 0, fmt.Errorf("cannot write the image: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, fmt.Errorf("cannot read the image back: %w", err)
	}
	sum, size, err := hash(ctx, f, make([]byte, bufferSize))
	if err != nil {
		return "", 0, fmt.Errorf("cannot read the image back: %w", err)
	}
	return "sha256:" + sum, size, nil
}

func fillImage(ctx context.Context, f *os.File, src fs.FS, entries []entry) (err error) {
	w := erofs.Create(f, erofs.WithBuildTime(0, 0), erofs.WithTempDir(filepath.Dir(f.Name())))
	defer func() {
		if closeErr := w.Close(); err == nil { // also gives up the writer's spool file
			err = closeErr
		}
	}()
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := addEntry(w, src, e); err != nil {
			return err
		}
	}
	return nil
}

func addEntry(w *erofs.Writer, src fs.FS, e entry) error {
	switch e.mode.Type() {
	case fs.ModeDir:
		return w.Mkdir(e.path, e.perm())
	case fs.ModeSymlink:
		return w.Symlink(e.target, e.path)
	}
	in, err := src.Open(e.path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := w.Create(e.path)
	if err != nil {
		return err
	}
	if _, err := out.ReadFrom(in); err != nil {
		return err
	}
	if err := out.Chmod(e.perm()); err != nil {
		return err
	}
	return out.Close()
}
