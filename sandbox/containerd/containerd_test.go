package containerd

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

// patience bounds what a test waits for.
const patience = time.Minute

// open returns the real engine, or skips the test when none answers.
func open(t testing.TB, options Options) *Engine {
	t.Helper()
	if options.Dir == "" {
		options.Dir = tempDir(t)
	}
	e, err := New(t.Context(), options)
	if err != nil {
		if strings.Contains(os.Getenv("E2E_REQUIRE"), "containerd") {
			t.Fatalf("E2E_REQUIRE asks for containerd: %v", err)
		}
		t.Skipf("no containerd: %v", err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// withRuntime is open for an engine that has a runtime.
func withRuntime(t testing.TB, name string) *Engine {
	t.Helper()
	e := open(t, Options{})
	if _, err := e.findRuntime(t.Context(), name); err != nil {
		if strings.Contains(os.Getenv("E2E_REQUIRE"), name) {
			t.Fatalf("E2E_REQUIRE asks for %s: %v", name, err)
		}
		t.Skipf("no %s: %v", name, err)
	}
	return e
}

func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestConformance(t *testing.T) {
	e := withRuntime(t, defaultRuntime)
	probe := sandboxtest.ProbeImage(t)
	t.Cleanup(func() { removeImage(t, e, probe.Digest) })
	sandboxtest.Run(t, func(*testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Engine: e, Image: probe, Kernel: true, Seccomp: true}
	})
}

func TestConformanceOnGVisor(t *testing.T) {
	e := withRuntime(t, gvisor)
	probe := sandboxtest.ProbeImage(t)
	t.Cleanup(func() { removeImage(t, e, probe.Digest) })
	sandboxtest.Run(t, func(*testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Engine: e, Image: probe, Kernel: true, Runtime: gvisor}
	})
}

// removeImage removes what EnsureImage made, which the engine never does.
func removeImage(t testing.TB, e *Engine, digest string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := e.client.ImageService().Delete(ctx, imageName(digest), images.SynchronousDelete())
	if err != nil && !errdefs.IsNotFound(err) {
		t.Errorf("cannot remove image %s: %v", digest, err)
	}
	e.images.Delete(digest)
}

// load makes an image usable for the length of the test.
func load(t testing.TB, e *Engine, img sandbox.Image) {
	t.Helper()
	if err := e.EnsureImage(t.Context(), img, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeImage(t, e, img.Digest) })
}
