package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/erofs/go-erofs"

	"github.com/ocmt/ocmt/sandbox"
)

// canMountImages tries, once, whether the engine mounts an EROFS image file.
// Nothing else tells: it takes the engine's rights, a kernel that mounts
// files, and an engine that sees our files by the same path.
func (e *Engine) canMountImages(ctx context.Context) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.imageMounts != nil {
		return *e.imageMounts, nil
	}
	can, err := e.tryImageMount(ctx)
	if err != nil {
		return false, err
	}
	e.imageMounts = &can
	return can, nil
}

// tryImageMount starts a container with an EROFS image and a program that does
// not exist. The engine mounts first: which of the two it complains about is
// the answer.
func (e *Engine) tryImageMount(ctx context.Context) (can bool, err error) {
	dir, err := os.MkdirTemp(e.dir, "ocmt-erofs-")
	if err != nil {
		return false, fmt.Errorf("cannot make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return false, fmt.Errorf("cannot resolve a directory: %w", err)
	}
	source := filepath.Join(dir, "empty.erofs")
	if err := writeEmptyImage(source); err != nil {
		return false, err
	}
	img, err := emptyImage()
	if err != nil {
		return false, err
	}
	spec := trialSpec(img.Digest, source, e.home)
	defer func() { err = errors.Join(err, e.forget(ctx, spec)) }()
	if err := e.EnsureImage(ctx, img, nil); err != nil {
		return false, err
	}
	if err := e.Create(ctx, spec); err != nil {
		return false, err
	}
	err = e.Start(ctx, spec.ID)
	switch {
	case err == nil:
		return false, fmt.Errorf("cannot tell: a program that does not exist was started: %w", errdefs.ErrInternal)
	case errdefs.IsFailedPrecondition(err):
		return false, nil
	case errdefs.IsUnavailable(err), ctx.Err() != nil:
		return false, err
	}
	return true, nil
}

// forget removes what a trial has left.
func (e *Engine) forget(ctx context.Context, spec sandbox.Spec) error {
	ctx, cancel := e.bound(context.WithoutCancel(ctx))
	defer cancel()
	err := e.Remove(ctx, spec.ID)
	img, inspectErr := e.inspectImage(ctx, spec.Image)
	if inspectErr != nil {
		return err
	}
	_, removeErr := e.client.ImageRemove(ctx, img.ID, image.RemoveOptions{Force: true})
	if errdefs.IsNotFound(removeErr) {
		removeErr = nil
	}
	return errors.Join(err, e.fail(ctx, "remove image "+spec.Image, removeErr))
}

// isMountFailure recognises what Docker says when its local volume driver
// cannot mount.
func isMountFailure(err error) bool {
	return err != nil && strings.Contains(err.Error(), "failed to mount local volume")
}

func trialSpec(digest, source, home string) sandbox.Spec {
	id := "ocmt-trial-" + strings.ToLower(rand.Text())
	if home == "" {
		home = id
	}
	return sandbox.Harden(sandbox.Spec{
		ID: id, Image: digest, Args: []string{"/nothing"}, Env: []string{"HOME=/"},
		UID: 65534, GID: 65534,
		Labels: map[string]string{
			sandbox.LabelHome: home, sandbox.LabelTenant: "default",
			sandbox.LabelInstance: id, sandbox.LabelRole: sandbox.RoleCheck,
		},
		Mounts: []sandbox.Mount{{Source: source, Target: "/image", ReadOnly: true, Image: true}},
		Limits: sandbox.LimitsFor(sandbox.RoleClean),
	})
}

func writeEmptyImage(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("cannot make an EROFS image: %w", err)
	}
	defer file.Close()
	fsys := erofs.Create(file)
	if err := errors.Join(fsys.Mkdir("/", 0o755), fsys.Close(), file.Close()); err != nil {
		return fmt.Errorf("cannot make an EROFS image: %w", err)
	}
	return nil
}

// emptyImage is a container image with nothing in it, and a digest of its own,
// so that two trials at a time do not remove one another's.
func emptyImage() (sandbox.Image, error) {
	layer, err := tarOf(map[string][]byte{})
	if err != nil {
		return sandbox.Image{}, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Labels": map[string]string{"ocmt.trial": rand.Text()}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digestOf(layer)}},
	})
	if err != nil {
		return sandbox.Image{}, fmt.Errorf("cannot make an image: %w", err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "Layers": []string{"layer.tar"}}})
	if err != nil {
		return sandbox.Image{}, fmt.Errorf("cannot make an image: %w", err)
	}
	archive, err := tarOf(map[string][]byte{"config.json": config, "layer.tar": layer, "manifest.json": manifest})
	if err != nil {
		return sandbox.Image{}, err
	}
	return sandbox.Image{
		Digest: digestOf(config),
		Size:   int64(len(archive)),
		Open:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil },
	}, nil
}

func tarOf(files map[string][]byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return nil, fmt.Errorf("cannot make an archive: %w", err)
		}
		if _, err := w.Write(data); err != nil {
			return nil, fmt.Errorf("cannot make an archive: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("cannot make an archive: %w", err)
	}
	return buf.Bytes(), nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
