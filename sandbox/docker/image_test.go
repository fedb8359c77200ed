package docker

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

// TestForeignImage gives an image the name that ours have in containerd's
// store, under the digest of another one.
func TestForeignImage(t *testing.T) {
	e := engine(t)
	foreign := probe(t, e, "exit", "0").Image
	wanted := sandboxtest.TinyImage(t)
	if err := e.client.ImageTag(t.Context(), foreign, imageName(wanted.Digest)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeImage(t, e, imageName(wanted.Digest)) })
	err := e.EnsureImage(t.Context(), sandbox.Image{Digest: wanted.Digest}, nil)
	if !errdefs.IsNotFound(err) {
		t.Errorf("EnsureImage: %v", err)
	}
	spec := validSpec(wanted.Digest)
	if err := e.Create(t.Context(), spec); !errdefs.IsNotFound(err) {
		t.Errorf("Create: %v", err)
		remove(t, e, spec.ID)
	}
	// The name is no obstacle to the image itself.
	if err := e.EnsureImage(t.Context(), wanted, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeImage(t, e, wanted.Digest) })
	if found, err := e.inspectImage(t.Context(), wanted.Digest); err != nil || found.ID == foreign {
		t.Errorf("found %s, %v", found.ID, err)
	}
}

// store speaks as an engine that keeps images in containerd: it knows them by
// their manifest's digest, and by name.
type store struct {
	mu     sync.Mutex
	images map[string]sandbox.Image // by manifest digest
	names  map[string]string        // to manifest digests
	loads  int
	saves  int
}

// manifestOf stands for the digest of the image's manifest.
func manifestOf(img sandbox.Image) string { return digestOf([]byte("manifest of " + img.Digest)) }

func newStore(t *testing.T, driver string, images ...sandbox.Image) (*store, *Engine) {
	t.Helper()
	s := &store{images: map[string]sandbox.Image{}, names: map[string]string{}}
	routes := map[string]http.HandlerFunc{
		"GET /info": replies(http.StatusOK, map[string]any{
			"NCPU": 4, "MemTotal": 8 << 30, "DriverStatus": [][2]string{{"driver-type", driver}},
		}),
		"GET /images/get": s.save,
	}
	for _, img := range images {
		routes["POST /images/load"] = func(w http.ResponseWriter, r *http.Request) { s.load(w, r, img) }
		routes["POST /images/"+manifestOf(img)+"/tag"] = func(w http.ResponseWriter, r *http.Request) {
			repo := strings.TrimPrefix(r.URL.Query().Get("repo"), "docker.io/library/")
			s.name(repo+":"+r.URL.Query().Get("tag"), img)
			w.WriteHeader(http.StatusCreated)
		}
		for _, name := range []string{manifestOf(img), imageName(img.Digest)} {
			routes["GET /images/"+name+"/json"] = func(w http.ResponseWriter, _ *http.Request) { s.inspect(w, name) }
		}
	}
	e, err := New(t.Context(), Options{Host: serve(t, "1.41", routes)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return s, e
}

func (s *store) name(name string, img sandbox.Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[manifestOf(img)] = img
	s.names[name] = manifestOf(img)
}

func (s *store) load(w http.ResponseWriter, r *http.Request, img sandbox.Image) {
	_, _ = io.Copy(io.Discard, r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	s.images[manifestOf(img)] = img
	reply(w, http.StatusOK, map[string]string{"stream": "Loaded image ID: " + manifestOf(img) + "\n"})
}

func (s *store) inspect(w http.ResponseWriter, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := name
	if named, ok := s.names[name]; ok {
		id = named
	}
	if _, ok := s.images[id]; !ok {
		reply(w, http.StatusNotFound, map[string]string{"message": "no such image"})
		return
	}
	reply(w, http.StatusOK, image.InspectResponse{ID: id})
}

func (s *store) save(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves++
	img, ok := s.images[r.URL.Query().Get("names")]
	if !ok {
		reply(w, http.StatusNotFound, map[string]string{"message": "no such image"})
		return
	}
	archive, err := img.Open()
	if err != nil {
		reply(w, http.StatusInternalServerError, map[string]string{"message": err.Error()})
		return
	}
	defer archive.Close()
	_, _ = io.Copy(w, archive)
}

const containerdDriver = "io.containerd.snapshotter.v1"

func TestContainerdImageStore(t *testing.T) {
	img := sandboxtest.TinyImage(t)
	s, e := newStore(t, containerdDriver, img)
	var sent int64
	for range 2 {
		if err := e.EnsureImage(t.Context(), img, func(n int64) { sent = n }); err != nil {
			t.Fatal(err)
		}
	}
	if s.loads != 1 || s.saves != 1 || sent != img.Size {
		t.Errorf("loaded %d times, %d of %d bytes, looked into %d times", s.loads, sent, img.Size, s.saves)
	}
	if found, err := e.inspectImage(t.Context(), img.Digest); err != nil || found.ID != manifestOf(img) {
		t.Errorf("found %q, %v", found.ID, err)
	}
	// What was checked is the image, not its name.
	other := sandboxtest.TinyImage(t)
	s.name(imageName(img.Digest), other)
	if found, err := e.inspectImage(t.Context(), img.Digest); err != nil || found.ID != manifestOf(img) {
		t.Errorf("after its name was given away: found %q, %v", found.ID, err)
	}
	delete(s.images, manifestOf(img))
	if _, err := e.inspectImage(t.Context(), img.Digest); !errdefs.IsNotFound(err) {
		t.Errorf("after its removal: %v", err)
	}
}

func TestForeignImageInContainerdStore(t *testing.T) {
	img, foreign := sandboxtest.TinyImage(t), sandboxtest.TinyImage(t)
	s, e := newStore(t, containerdDriver, foreign, img)
	s.name(imageName(img.Digest), foreign)
	err := e.EnsureImage(t.Context(), sandbox.Image{Digest: img.Digest}, nil)
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "is another one") {
		t.Errorf("EnsureImage: %v", err)
	}
	if err := e.Create(t.Context(), validSpec(img.Digest)); !errdefs.IsNotFound(err) {
		t.Errorf("Create: %v", err)
	}
	if err := e.EnsureImage(t.Context(), img, nil); err != nil {
		t.Errorf("EnsureImage with the archive: %v", err)
	}
	if found, err := e.inspectImage(t.Context(), img.Digest); err != nil || found.ID != manifestOf(img) {
		t.Errorf("found %q, %v", found.ID, err)
	}
}

// TestNameWithoutContainerd has an engine that keeps images itself: a name says
// nothing there, not even of the right image.
func TestNameWithoutContainerd(t *testing.T) {
	img := sandboxtest.TinyImage(t)
	s, e := newStore(t, "overlay2", img)
	s.name(imageName(img.Digest), img)
	if err := e.EnsureImage(t.Context(), sandbox.Image{Digest: img.Digest}, nil); !errdefs.IsNotFound(err) {
		t.Errorf("EnsureImage: %v", err)
	}
	if err := e.Create(t.Context(), validSpec(img.Digest)); !errdefs.IsNotFound(err) {
		t.Errorf("Create: %v", err)
	}
	if s.saves != 0 {
		t.Errorf("looked into %d images", s.saves)
	}
}

// TestDigestThatIsAName has an engine that takes a digest for a name.
func TestDigestThatIsAName(t *testing.T) {
	img := sandboxtest.TinyImage(t)
	host := serve(t, "1.41", map[string]http.HandlerFunc{
		"GET /info":                           replies(http.StatusOK, map[string]any{"NCPU": 4, "MemTotal": 8 << 30}),
		"GET /images/" + img.Digest + "/json": replies(http.StatusOK, map[string]any{"Id": manifestOf(img)}),
	})
	e, err := New(t.Context(), Options{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Create(t.Context(), validSpec(img.Digest)); !errdefs.IsNotFound(err) {
		t.Errorf("Create: %v", err)
	}
}

// TestUnreadableImage breaks off while the image is looked into.
func TestUnreadableImage(t *testing.T) {
	img := sandboxtest.TinyImage(t)
	host := serve(t, "1.41", map[string]http.HandlerFunc{
		"GET /info": replies(http.StatusOK, map[string]any{"DriverStatus": [][2]string{{"driver-type", containerdDriver}}}),
		"GET /images/" + imageName(img.Digest) + "/json": replies(http.StatusOK, map[string]any{"Id": manifestOf(img)}),
		"GET /images/get": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(make([]byte, 512))
		},
	})
	e, err := New(t.Context(), Options{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.EnsureImage(t.Context(), img, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("EnsureImage: %v", err)
	}
}
