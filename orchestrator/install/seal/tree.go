package seal

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// writeTree is the [writer] of the form "tree": files 0444 or 0555,
// directories 0555.
func writeTree(ctx context.Context, object string, src fs.FS, entries []entry) (string, int64, error) {
	if err := os.Mkdir(object, 0o755); err != nil {
		return "", 0, fmt.Errorf("cannot write the tree: %w", err)
	}
	root, err := os.OpenRoot(object)
	if err != nil {
		return "", 0, fmt.Errorf("cannot write the tree: %w", err)
	}
	defer root.Close()
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return "", 0, err
		}
		if err := copyEntry(root, src, e); err != nil {
			return "", 0, fmt.Errorf("cannot write the tree: %w", err)
		}
	}
	for _, e := range slices.Backward(entries) {
		if e.mode.IsDir() {
			if err := root.Chmod(e.path, 0o555); err != nil {
				return "", 0, fmt.Errorf("cannot write the tree: %w", err)
			}
		}
	}
	if err := syncFileSystem(object); err != nil {
		return "", 0, err
	}
	// What is on disk is what is hashed, not what was read.
	return treeDigest(ctx, root.FS())
}

func copyEntry(root *os.Root, src fs.FS, e entry) error {
	switch e.mode.Type() {
	case fs.ModeDir:
		return root.Mkdir(e.path, 0o755)
	case fs.ModeSymlink:
		return root.Symlink(e.target, e.path)
	}
	in, err := src.Open(e.path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := root.OpenFile(e.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Chmod(e.perm() &^ 0o222); err != nil {
		return err
	}
	return out.Close()
}

// treeDigest hashes every entry of a tree: its path, type, mode, content or
// target, each ended by a NUL, which none of them can hold. The size is that
// of all files.
func treeDigest(ctx context.Context, tree fs.FS) (digest string, size int64, err error) {
	entries, err := scan(ctx, tree)
	if err != nil {
		return "", 0, err
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	h := sha256.New()
	buffer := make([]byte, bufferSize)
	for _, e := range entries {
		kind, sum, mode := "l", "", fs.FileMode(0)
		switch e.mode.Type() {
		case fs.ModeDir:
			kind, mode = "d", e.mode.Perm()
		case 0:
			kind, mode = "f", e.mode.Perm()
			n, err := int64(0), error(nil)
			if sum, n, err = hashFile(ctx, tree, e.path, buffer); err != nil {
				return "", 0, err
			}
			size += n
		}
		fmt.Fprintf(h, "%s\x00%s\x00%o\x00%s\x00%s\x00", e.path, kind, mode, sum, e.target)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), size, nil
}

func hashFile(ctx context.Context, tree fs.FS, name string, buffer []byte) (string, int64, error) {
	f, err := tree.Open(name)
	if err != nil {
		return "", 0, fmt.Errorf("cannot read a payload: %w", err)
	}
	defer f.Close()
	sum, n, err := hash(ctx, f, buffer)
	if err != nil {
		return "", 0, fmt.Errorf("cannot read a payload: %w", err)
	}
	return sum, n, nil
}

// syncFileSystem makes a whole tree durable at once: thousands of fsyncs cost
// seconds.
func syncFileSystem(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return fmt.Errorf("cannot sync the store: %w", err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("cannot sync the store: %w", err)
	}
	return nil
}
