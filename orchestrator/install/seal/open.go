package seal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Sealed is a payload that was verified and is held open: a file descriptor
// of exactly the bytes that were hashed. Close it when it was mounted or is no
// longer needed; its mounts live on.
type Sealed struct {
	file    *os.File
	path    string
	payload plugin.Payload
}

// Open verifies a payload of a store. NotFound when there is none, DataLoss
// when it is not what was sealed.
func Open(ctx context.Context, storeDir string, payload plugin.Payload) (*Sealed, error) {
	place, err := objectPath(storeDir, payload)
	if err != nil {
		return nil, err
	}
	flags := os.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	if payload.Form == plugin.FormTree {
		flags |= unix.O_DIRECTORY
	}
	f, err := os.OpenFile(place, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(errdefs.ErrNotFound, "payload_missing", "the sealed payload %s is not in the store", payload.Digest).
			WithHint("get it again: ocmt plugins reinstall ID")
	}
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return nil, changed(payload, "something else in its place")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open a payload: %w", err)
	}
	s := &Sealed{file: f, path: place, payload: payload}
	if err := s.verify(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sealed) verify(ctx context.Context) error {
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("cannot open a payload: %w", err)
	}
	var found string
	switch {
	case s.payload.Form == plugin.FormTree:
		found, err = s.treeDigest(ctx)
	case !info.Mode().IsRegular():
		return changed(s.payload, "something else in its place")
	default:
		found, _, err = hash(ctx, s.file, make([]byte, bufferSize))
		found = "sha256:" + found
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("cannot verify a payload: %w", err)
	case err != nil:
		return fault.New(errdefs.ErrDataLoss, "payload_unreadable", "cannot read the sealed payload %s: %w", s.payload.Digest, err).
			WithHint("get it again: ocmt plugins reinstall ID")
	case found != s.payload.Digest:
		return changed(s.payload, found)
	}
	return nil
}

func (s *Sealed) treeDigest(ctx context.Context) (string, error) {
	root, err := os.OpenRoot(procPath("self", s.file))
	if err != nil {
		return "", err
	}
	defer root.Close()
	digest, _, err := treeDigest(ctx, root.FS())
	return digest, err
}

// Path names the payload for an engine that mounts it by itself: of an image,
// the very descriptor that was verified, reachable by root as long as this
// process holds it; of a tree, its directory.
func (s *Sealed) Path() string {
	if s.payload.Form == plugin.FormTree {
		return s.path
	}
	return procPath(strconv.Itoa(os.Getpid()), s.file)
}

// Close gives the descriptor up. It does not unmount.
func (s *Sealed) Close() error { return s.file.Close() }

func procPath(pid string, f *os.File) string {
	return "/proc/" + pid + "/fd/" + strconv.Itoa(int(f.Fd()))
}

func changed(p plugin.Payload, found string) error {
	return fault.New(errdefs.ErrDataLoss, "payload_changed",
		"the sealed payload was changed after it was installed: expected %s, found %s", p.Digest, found).
		WithHint("find out who wrote to the store, then get it again: ocmt plugins reinstall ID")
}
