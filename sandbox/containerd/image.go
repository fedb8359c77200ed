package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocmt/ocmt/sandbox"
)

const (
	// loadTime bounds how long the engine may take to load an image, whose
	// layers it unpacks without a word; ours has 150 MB.
	loadTime = 5 * time.Minute
	// labelSnapshot is on images: the name of the snapshot that they are
	// unpacked in.
	labelSnapshot = "ocmt.snapshot"
)

// imageName names an image by the digest of its configuration.
func imageName(digest string) string { return "ocmt/" + digest }

// EnsureImage loads an image unless the engine has it. The image's record is
// the last that is made: it keeps the rest from being collected as garbage,
// and says that all is there.
func (e *Engine) EnsureImage(ctx context.Context, img sandbox.Image, progress func(sent int64)) error {
	_, err := e.findImage(ctx, img.Digest)
	if !errdefs.IsNotFound(err) || img.Open == nil {
		return err
	}
	e.loading.Lock()
	defer e.loading.Unlock()
	if _, err := e.findImage(ctx, img.Digest); !errdefs.IsNotFound(err) {
		return err // somebody else has loaded it meanwhile
	}
	if err := checkArchive(img); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, max(loadTime, e.timeout), errSilent)
	defer cancel()
	return e.load(ctx, img, progress)
}

func checkArchive(img sandbox.Image) error {
	archive, err := openArchive(img)
	if err != nil {
		return err
	}
	defer archive.Close()
	return sandbox.CheckArchive(archive, img.Digest)
}

func openArchive(img sandbox.Image) (io.ReadCloser, error) {
	archive, err := img.Open()
	if err != nil {
		return nil, fmt.Errorf("cannot open the archive of image %s: %v: %w", img.Digest, err, errdefs.ErrFailedPrecondition) //nolint:errorlint // the archive's own class says nothing about the engine
	}
	return archive, nil
}

// findImage returns the name of the snapshot that an image is unpacked in.
func (e *Engine) findImage(ctx context.Context, digest string) (snapshot string, err error) {
	call, cancel := e.bound(ctx)
	defer cancel()
	img, err := e.client.ImageService().Get(call, imageName(digest))
	if err == nil {
		snapshot = img.Labels[labelSnapshot]
		_, err = e.client.SnapshotService(snapshotter).Stat(call, snapshot)
	}
	if errdefs.IsNotFound(err) {
		e.images.Delete(digest)
		return "", fmt.Errorf("cannot find image %s: %w", digest, errdefs.ErrNotFound)
	}
	if err != nil {
		return "", e.fail(call, "find image "+digest, err)
	}
	e.images.Store(digest, snapshot)
	return snapshot, nil
}

// load imports and unpacks an image. A lease keeps what is not used yet; all
// of it goes with the lease when the image is not what it should be.
func (e *Engine) load(ctx context.Context, img sandbox.Image, progress func(int64)) (err error) {
	lease, err := e.client.LeasesService().Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err != nil {
		return e.fail(ctx, "load image "+img.Digest, err)
	}
	defer func() {
		end, cancel := e.cleanUp(ctx)
		defer cancel()
		gone := e.client.LeasesService().Delete(end, lease, leases.SynchronousDelete)
		err = errors.Join(err, e.fail(end, "end the lease for image "+img.Digest, gone))
	}()
	leased := leases.WithLease(ctx, lease.ID)
	manifest, err := e.importArchive(leased, img, progress)
	if err != nil {
		return err
	}
	record := images.Image{Name: imageName(img.Digest), Target: manifest}
	unpacked := client.NewImageWithPlatform(e.client, record, platforms.All)
	if err := unpacked.Unpack(leased, snapshotter); err != nil {
		return e.fail(ctx, "unpack image "+img.Digest, err)
	}
	diffs, err := unpacked.RootFS(leased)
	if err != nil {
		return e.fail(ctx, "read image "+img.Digest, err)
	}
	record.Labels = map[string]string{labelSnapshot: identity.ChainID(diffs).String()}
	_, err = e.client.ImageService().Create(leased, record)
	if errdefs.IsAlreadyExists(err) { // of another process, or without its snapshot
		_, err = e.client.ImageService().Update(leased, record)
	}
	return e.fail(ctx, "keep image "+img.Digest, err)
}

// importArchive copies the archive to the engine and returns its manifest,
// whose references are labelled so that what they lead to is kept, but for the
// layers: their snapshots are all that is needed.
func (e *Engine) importArchive(ctx context.Context, img sandbox.Image, progress func(int64)) (ocispec.Descriptor, error) {
	what := "load image " + img.Digest
	file, err := openArchive(img)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer file.Close()
	store := e.client.ContentStore()
	index, err := archive.ImportIndex(ctx, store, &counter{r: file, tell: progress})
	if err != nil {
		return ocispec.Descriptor{}, e.fail(ctx, what, err)
	}
	data, err := content.ReadBlob(ctx, store, index)
	if err != nil {
		return ocispec.Descriptor{}, e.fail(ctx, what, err)
	}
	var list ocispec.Index
	if err := json.Unmarshal(data, &list); err != nil || len(list.Manifests) != 1 {
		return ocispec.Descriptor{}, fmt.Errorf("cannot %s: the archive must hold one image: %w", what, errdefs.ErrFailedPrecondition)
	}
	manifest := list.Manifests[0]
	manifest.Annotations = nil
	config, err := images.Config(ctx, store, manifest, platforms.All)
	if err != nil {
		return ocispec.Descriptor{}, e.fail(ctx, what, err)
	}
	if config.Digest.String() != img.Digest {
		return ocispec.Descriptor{}, fmt.Errorf("cannot %s: the archive holds image %s: %w", what, config.Digest, errdefs.ErrFailedPrecondition)
	}
	label := images.SetChildrenMappedLabels(store, images.ChildrenHandler(store), images.ChildGCLabelsFilterLayers)
	return manifest, e.fail(ctx, what, images.Walk(ctx, label, manifest))
}

// counter tells how much was read.
type counter struct {
	r    io.Reader
	n    int64
	tell func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.tell != nil && n > 0 {
		c.tell(c.n)
	}
	return n, err
}
