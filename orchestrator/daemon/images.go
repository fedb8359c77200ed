package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/images"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/sandbox"
)

// imageDigests returns the digests of the images to use: what this binary was
// built with, unless the operator named another base image.
func imageDigests(baseImage string) (base, install string, err error) {
	if baseImage != "" {
		if err := images.ValidateDigest(baseImage); err != nil {
			return "", "", err
		}
		base = baseImage
	} else if base, err = images.Digest(images.Base); err != nil {
		return "", "", err
	}
	install, err = images.Digest(images.Install)
	return base, install, err
}

// ensureImage loads an image into the engine unless it is there. One that the
// operator named by digest has to be there. progress is told how many bytes of
// how many are loaded.
func ensureImage(ctx context.Context, engine sandbox.Engine, name images.Name, digest string, progress func(done, total int64)) error {
	img := sandbox.Image{Digest: digest}
	if own, err := images.Digest(name); err == nil && own == digest {
		path, size, err := images.Locate(name)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		if err == nil {
			img.Size = size
			img.Open = func() (io.ReadCloser, error) { return os.Open(path) }
		}
	}
	if err := engine.EnsureImage(ctx, img, func(sent int64) { progress(sent, img.Size) }); err != nil {
		return fault.New(errdefs.Resolve(err), "image_missing", "cannot use the %s image %s: %w", name, digest, err).
			WithHint("run `make build`, or set OCMT_IMAGES to the directory with the images; one named by --base-image must be in the engine already")
	}
	return nil
}

// logLoading says now and then in the log how far loading an image is.
func logLoading(logger *slog.Logger, name images.Name) func(done, total int64) {
	var last time.Time
	return func(done, total int64) {
		if now := time.Now(); now.Sub(last) > 2*time.Second || done == total {
			last = now
			logger.Info("loading image", "image", string(name), "progress", fmt.Sprintf("%d/%d MiB", done>>20, total>>20))
		}
	}
}
