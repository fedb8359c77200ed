package containerd

import (
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

// kept names all that containerd holds of images in our name space, without
// what a test beside this one may make.
func kept(t *testing.T, e *Engine, digests ...string) []string {
	t.Helper()
	var all []string
	for _, digest := range digests {
		if _, err := e.client.ImageService().Get(t.Context(), imageName(digest)); err == nil {
			all = append(all, "image "+digest)
		}
	}
	err := e.client.ContentStore().Walk(t.Context(), func(info content.Info) error {
		if slices.Contains(digests, info.Digest.String()) {
			all = append(all, "content "+info.Digest.String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestArchiveOfAnotherImage(t *testing.T) {
	e := open(t, Options{})
	wanted, other := sandboxtest.TinyImage(t), sandboxtest.TinyImage(t)
	forged := sandbox.Image{Digest: wanted.Digest, Open: other.Open}
	if err := e.EnsureImage(t.Context(), forged, nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("EnsureImage: %v", err)
	}
	// One that changes between two readings.
	opened := 0
	forged.Open = func() (io.ReadCloser, error) {
		if opened++; opened == 1 {
			return wanted.Open()
		}
		return other.Open()
	}
	if err := e.EnsureImage(t.Context(), forged, nil); !errdefs.IsFailedPrecondition(err) || opened != 2 {
		t.Errorf("EnsureImage of a changing archive, opened %d times: %v", opened, err)
	}
	if left := kept(t, e, wanted.Digest, other.Digest); len(left) > 0 {
		t.Errorf("left %q", left)
	}
	if err := e.EnsureImage(t.Context(), sandbox.Image{Digest: wanted.Digest}, nil); !errdefs.IsNotFound(err) {
		t.Errorf("EnsureImage afterwards: %v", err)
	}
}

// TestEnsureImageAtOnce loads one image by two engines, several times each.
func TestEnsureImageAtOnce(t *testing.T) {
	one, two := open(t, Options{}), open(t, Options{})
	img := sandboxtest.TinyImage(t)
	t.Cleanup(func() { removeImage(t, one, img.Digest) })
	var group sync.WaitGroup
	for _, e := range []*Engine{one, two, one, two, one} {
		group.Go(func() {
			if err := e.EnsureImage(t.Context(), img, nil); err != nil {
				t.Errorf("EnsureImage: %v", err)
			}
		})
	}
	group.Wait()
	if _, err := two.findImage(t.Context(), img.Digest); err != nil {
		t.Error(err)
	}
}

// TestImageStays asks containerd to collect garbage, and then for the image.
func TestImageStays(t *testing.T) {
	e := open(t, Options{})
	img := sandboxtest.TinyImage(t)
	var sent int64
	if err := e.EnsureImage(t.Context(), img, func(n int64) { sent = n }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeImage(t, e, img.Digest) })
	if sent == 0 || sent > img.Size {
		t.Errorf("progress told of %d bytes, the archive has %d", sent, img.Size)
	}
	if diff := cmp.Diff([]string{"image " + img.Digest, "content " + img.Digest}, kept(t, e, img.Digest)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	lease, err := e.client.LeasesService().Create(t.Context(), leases.WithRandomID())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.client.LeasesService().Delete(t.Context(), lease, leases.SynchronousDelete); err != nil {
		t.Fatal(err)
	}
	if _, err := e.findImage(t.Context(), img.Digest); err != nil {
		t.Errorf("collected as garbage: %v", err)
	}
	// It goes away behind our back.
	removeImage(t, e, img.Digest)
	e.images.Store(img.Digest, "sha256:gone")
	spec := validSpec(img.Digest)
	if err := e.Create(t.Context(), spec); !errdefs.IsNotFound(err) {
		t.Errorf("Create: %v", err)
	}
	wantNothing(t, e, spec.ID)
	if err := e.EnsureImage(t.Context(), img, nil); err != nil {
		t.Errorf("EnsureImage again: %v", err)
	}
}
