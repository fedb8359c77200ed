package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"

	"github.com/ocmt/ocmt/sandbox"
)

// loadSilence is how long the engine may unpack a layer without a word.
const loadSilence = 2 * time.Minute

// EnsureImage loads an image unless the engine has it.
func (e *Engine) EnsureImage(ctx context.Context, img sandbox.Image, progress func(sent int64)) error {
	have, err := e.inspectImage(ctx, img.Digest)
	if !errdefs.IsNotFound(err) {
		return errors.Join(err, refuseVolumes(have))
	}
	if img.Open == nil {
		return err
	}
	if err := checkArchive(img); err != nil {
		return err
	}
	loaded, err := e.load(ctx, img, progress)
	if err != nil {
		return err
	}
	if err := e.nameImage(ctx, img.Digest, loaded); err != nil {
		return err
	}
	have, err = e.inspectImage(ctx, img.Digest)
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("cannot find image %s after loading it, the engine reported %q: %w", img.Digest, loaded, errdefs.ErrFailedPrecondition)
	}
	return errors.Join(err, refuseVolumes(have))
}

// refuseVolumes refuses images that declare volumes: each would be a writable
// place without a limit in every container.
func refuseVolumes(img image.InspectResponse) error {
	if img.Config == nil || len(img.Config.Volumes) == 0 {
		return nil
	}
	return fmt.Errorf("cannot use image %s: it declares volumes: %w", img.ID, errdefs.ErrFailedPrecondition)
}

func checkArchive(img sandbox.Image) error {
	archive, err := img.Open()
	if err != nil {
		return fmt.Errorf("cannot open the archive of image %s: %v: %w", img.Digest, err, errdefs.ErrFailedPrecondition) //nolint:errorlint // the archive's own class says nothing about the engine
	}
	defer archive.Close()
	return sandbox.CheckArchive(archive, img.Digest)
}

// inspectImage finds an image by its configuration digest. That is its ID
// where the engine keeps images itself. Where containerd keeps them, the ID is
// the manifest's digest, which [Engine.manifestID] finds.
func (e *Engine) inspectImage(ctx context.Context, digest string) (image.InspectResponse, error) {
	id := digest
	if known, ok := e.manifests.Load(digest); ok {
		id = known.(string)
	}
	img, err := e.inspectID(ctx, id)
	if !errdefs.IsNotFound(err) {
		return img, err
	}
	id, err = e.manifestID(ctx, digest)
	if err != nil {
		return image.InspectResponse{}, err
	}
	return e.inspectID(ctx, id)
}

// inspectID looks up an image by its ID alone, never by a name that looks like
// one.
func (e *Engine) inspectID(ctx context.Context, id string) (image.InspectResponse, error) {
	img, err := e.inspectName(ctx, id)
	if err == nil && img.ID != id {
		return image.InspectResponse{}, fmt.Errorf("cannot find image %s: the engine knows another one by that name, %s: %w", id, img.ID, errdefs.ErrNotFound)
	}
	return img, err
}

func (e *Engine) inspectName(ctx context.Context, name string) (image.InspectResponse, error) {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	img, err := e.client.ImageInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return image.InspectResponse{}, fmt.Errorf("cannot find image %s: %w", name, errdefs.ErrNotFound)
	}
	return img, e.fail(ctx, "inspect image "+name, err)
}

// manifestID finds the ID of an image in containerd's store by the name that
// [Engine.nameImage] gave it. Names are anybody's to give, so the image's
// configuration is looked at, once for each ID.
func (e *Engine) manifestID(ctx context.Context, digest string) (string, error) {
	host, err := e.systemInfo(ctx)
	if err != nil {
		return "", err
	}
	if !slices.Contains(host.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"}) {
		return "", fmt.Errorf("cannot find image %s: %w", digest, errdefs.ErrNotFound)
	}
	img, err := e.inspectName(ctx, imageName(digest))
	if err != nil {
		return "", err
	}
	if err := e.checkConfiguration(ctx, img.ID, digest); err != nil {
		return "", err
	}
	e.manifests.Store(digest, img.ID)
	return img.ID, nil
}

// checkConfiguration is NotFound when the image with the ID has another
// configuration. Only the whole image, as an archive, tells.
func (e *Engine) checkConfiguration(ctx context.Context, id, digest string) error {
	ctx, dog := e.watch(ctx, e.timeout)
	defer dog.close()
	archive, err := e.client.ImageSave(ctx, []string{id})
	if err != nil {
		return e.fail(ctx, "read image "+id, err)
	}
	defer archive.Close()
	var broken error
	err = sandbox.CheckArchive(readerFunc(func(p []byte) (int, error) {
		n, err := archive.Read(p)
		dog.feed()
		if err != nil && !errors.Is(err, io.EOF) {
			broken = err
		}
		return n, err
	}), digest)
	switch {
	case broken != nil:
		return e.fail(ctx, "read image "+id, broken)
	case err != nil:
		return fmt.Errorf("cannot find image %s: %s is another one: %v: %w", digest, imageName(digest), err, errdefs.ErrNotFound) //nolint:errorlint // for the caller it is not there
	}
	return nil
}

func imageName(digest string) string {
	return "ocmt-image:" + strings.TrimPrefix(digest, "sha256:")
}

// nameImage names an image that its configuration digest does not find.
func (e *Engine) nameImage(ctx context.Context, digest, loaded string) error {
	_, err := e.inspectID(ctx, digest)
	if !errdefs.IsNotFound(err) {
		return err
	}
	if loaded == "" {
		return nil
	}
	ctx, cancel := e.bound(ctx)
	defer cancel()
	return e.fail(ctx, "name image "+digest, e.client.ImageTag(ctx, loaded, imageName(digest)))
}

// load sends the archive and returns the name or ID that the engine reports.
func (e *Engine) load(ctx context.Context, img sandbox.Image, progress func(int64)) (string, error) {
	archive, err := img.Open()
	if err != nil {
		return "", fmt.Errorf("cannot open the archive of image %s: %v: %w", img.Digest, err, errdefs.ErrFailedPrecondition) //nolint:errorlint // the archive's own class says nothing about the engine
	}
	defer archive.Close()
	ctx, dog := e.watch(ctx, max(loadSilence, e.timeout))
	defer dog.close()
	var sent int64
	body := readerFunc(func(p []byte) (int, error) {
		n, err := archive.Read(p)
		sent += int64(n)
		dog.feed()
		if progress != nil && n > 0 {
			progress(sent)
		}
		return n, err
	})
	response, err := e.client.ImageLoad(ctx, body)
	if err != nil {
		return "", e.fail(ctx, "load image "+img.Digest, err)
	}
	defer response.Body.Close()
	loaded, err := readLoad(response.Body, dog.feed)
	return loaded, e.fail(ctx, "load image "+img.Digest, err)
}

// readLoad reads the engine's report of a load.
func readLoad(report io.Reader, feed func()) (loaded string, err error) {
	for decoder := json.NewDecoder(report); ; {
		var message struct{ Stream, Error string }
		if err := decoder.Decode(&message); errors.Is(err, io.EOF) {
			return loaded, nil
		} else if err != nil {
			return "", err
		}
		feed()
		if message.Error != "" {
			return "", fmt.Errorf("%s: %w", message.Error, errdefs.ErrInternal)
		}
		if _, name, ok := strings.Cut(message.Stream, "Loaded image"); ok {
			loaded = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(name, " ID"), ":"))
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
