// Package seal turns a file tree into a payload that cannot change unnoticed,
// and opens it again.
//
// A payload is an object of a content-addressed store directory, in one of two
// forms. "erofs": the file <hex>.erofs, an EROFS image named by the sha256 of
// its bytes. [Open] hashes one descriptor, and that same descriptor is
// mounted, so that whatever happens to the path in between is harmless; where
// the file system can, the file is immutable too. "tree": the directory
// <hex>.tree, named by a digest over its entries, for hosts where nothing can
// mount an image. It detects accidents and hand edits, but not an attacker who
// changes the tree after it was opened.
//
// Sealing is reproducible: the same tree gives the same object, whatever its
// times, owners and order on disk. Symlinks are kept as long as they stay in
// the tree; everything but files, directories and symlinks is refused.
//
// An object appears by one rename after its bytes are on disk. What a crash
// leaves are temporary directories, which [Clean] removes.
package seal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

const (
	tempPrefix = ".tmp-"
	bufferSize = 1 << 20 // bytes read at once when hashing and copying
)

var (
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	objectPattern = regexp.MustCompile(`^([0-9a-f]{64})\.(erofs|tree)$`)
)

// Seal writes src as an EROFS image into storeDir, which is made when it is
// missing. An object that is there already is verified and used, or replaced
// when it was damaged. Symlinks need a src that is an fs.ReadLinkFS.
func Seal(ctx context.Context, src fs.FS, storeDir string) (plugin.Payload, error) {
	return seal(ctx, src, storeDir, plugin.FormEROFS, writeImage)
}

// SealTree is [Seal] for the form "tree".
func SealTree(ctx context.Context, src fs.FS, storeDir string) (plugin.Payload, error) {
	return seal(ctx, src, storeDir, plugin.FormTree, writeTree)
}

// writer writes entries of src to a new object at path, durably, and returns
// its digest and its size.
type writer func(ctx context.Context, path string, src fs.FS, entries []entry) (digest string, size int64, err error)

func seal(ctx context.Context, src fs.FS, storeDir, form string, write writer) (plugin.Payload, error) {
	entries, err := scan(ctx, src)
	if err != nil {
		return plugin.Payload{}, err
	}
	if err := os.MkdirAll(storeDir, 0o700); err != nil {
		return plugin.Payload{}, fmt.Errorf("cannot make the store: %w", err)
	}
	temp, err := os.MkdirTemp(storeDir, tempPrefix)
	if err != nil {
		return plugin.Payload{}, fmt.Errorf("cannot write to the store: %w", err)
	}
	defer func() { _ = removeTree(temp) }() // what stays is swept later

	object := filepath.Join(temp, "object")
	digest, size, err := write(ctx, object, src, entries)
	if err != nil {
		return plugin.Payload{}, err
	}
	payload := plugin.Payload{Digest: digest, Form: form, Size: size, Files: countFiles(entries)}
	return payload, publish(ctx, object, storeDir, payload)
}

// publish moves a finished object to its place. What lies there damaged is
// replaced by the one rename; only of a tree, and of a directory in an image's
// place, there is nothing for a moment.
func publish(ctx context.Context, object, storeDir string, payload plugin.Payload) error {
	place, err := objectPath(storeDir, payload)
	if err != nil {
		return err
	}
	switch existing, err := Open(ctx, storeDir, payload); {
	case err == nil:
		return existing.Close()
	case ctx.Err() != nil:
		return err
	}
	makeRoom := func() error { return giveWay(storeDir, place) }
	if payload.Form == plugin.FormTree { // no rename puts a directory in a file's place
		makeRoom = func() error { return Remove(storeDir, payload) }
	}
	if err := makeRoom(); err != nil {
		return fmt.Errorf("cannot replace a damaged payload: %w", err)
	}
	if err := os.Rename(object, place); err != nil {
		return fmt.Errorf("cannot put the payload in the store: %w", err)
	}
	if payload.Form == plugin.FormTree {
		// Only now: who is not root cannot rename a directory without write
		// permission. The digest leaves the root's mode out.
		if err := os.Chmod(place, 0o555); err != nil {
			return fmt.Errorf("cannot protect the payload: %w", err)
		}
	} else {
		setImmutable(place, true)
	}
	return syncDir(storeDir)
}

// Remove deletes an object; one that is not there is no error. Mounts of it
// live on until they are unmounted.
func Remove(storeDir string, payload plugin.Payload) error {
	place, err := objectPath(storeDir, payload)
	if err != nil {
		return err
	}
	err = giveWay(storeDir, place)
	if err == nil {
		err = os.Remove(place)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove a payload: %w", err)
	}
	return nil
}

// giveWay makes what lies in an object's place replaceable by a rename: it is
// no longer immutable, and a directory is gone, by way of a temporary name, so
// that half a tree never has an object's name.
func giveWay(storeDir, place string) error {
	info, err := os.Lstat(place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	setImmutable(place, false)
	if !info.IsDir() {
		return nil
	}
	temp, err := os.MkdirTemp(storeDir, tempPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = removeTree(temp) }() // what stays is swept later
	if err := os.Chmod(place, 0o755); err != nil {
		return err
	}
	return os.Rename(place, filepath.Join(temp, "object"))
}

// List returns the objects of a store, with digest and form alone; a store
// that does not exist is empty.
func List(storeDir string) ([]plugin.Payload, error) {
	names, err := os.ReadDir(storeDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the store: %w", err)
	}
	var objects []plugin.Payload
	for _, n := range names {
		if m := objectPattern.FindStringSubmatch(n.Name()); m != nil {
			objects = append(objects, plugin.Payload{Digest: "sha256:" + m[1], Form: m[2]})
		}
	}
	return objects, nil
}

// Clean removes what crashes left behind. It must not run beside [Seal] or
// [Remove] on the same store.
func Clean(storeDir string) error {
	names, err := os.ReadDir(storeDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the store: %w", err)
	}
	for _, n := range names {
		if !strings.HasPrefix(n.Name(), tempPrefix) {
			continue
		}
		temp := filepath.Join(storeDir, n.Name())
		_ = Unmount(filepath.Join(temp, probeMount)) // what is still mounted fails below
		if err := removeTree(temp); err != nil {
			return fmt.Errorf("cannot clean the store: %w", err)
		}
	}
	return nil
}

// objectPath is where a payload lies; it refuses a payload that was not made
// here, which might name any path.
func objectPath(storeDir string, p plugin.Payload) (string, error) {
	if !digestPattern.MatchString(p.Digest) || (p.Form != plugin.FormEROFS && p.Form != plugin.FormTree) {
		return "", fmt.Errorf("the payload %.80q of form %.20q is none of ours: %w", p.Digest, p.Form, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(storeDir, strings.TrimPrefix(p.Digest, "sha256:")+"."+p.Form), nil
}

// removeTree removes a directory whose directories may be read-only.
func removeTree(dir string) error {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(p, 0o755)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot sync the store: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot sync the store: %w", err)
	}
	return nil
}

// hash returns the sha256 of all that r holds, and its length.
func hash(ctx context.Context, r io.Reader, buffer []byte) (sum string, n int64, err error) {
	h := sha256.New()
	for {
		if err := ctx.Err(); err != nil {
			return "", n, err
		}
		k, err := r.Read(buffer)
		h.Write(buffer[:k])
		n += int64(k)
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), n, nil
		}
		if err != nil {
			return "", n, err
		}
	}
}

func refused(format string, args ...any) error {
	return fault.New(fault.ErrPlugin, "bad_payload", format, args...).
		WithHint("a plugin may hold files, directories, and symlinks that stay inside it")
}
