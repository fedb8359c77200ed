package docker

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"

	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

// engine returns the real one, or skips the test when none answers.
func engine(t *testing.T) *Engine {
	t.Helper()
	e, err := New(t.Context(), Options{})
	if err != nil {
		if strings.Contains(os.Getenv("E2E_REQUIRE"), "docker") {
			t.Fatalf("E2E_REQUIRE asks for docker: %v", err)
		}
		t.Skipf("no docker engine: %v", err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestConformance(t *testing.T) {
	e := engine(t)
	probe := sandboxtest.ProbeImage(t)
	t.Cleanup(func() { removeImage(t, e, probe.Digest) })
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Engine: e, Image: probe, Kernel: true, Seccomp: true}
	})
}

// gVisor is the name that its runtime is given.
const gVisor = "runsc"

// withGVisor returns an engine that has gVisor's runtime, or skips the test.
func withGVisor(t *testing.T) *Engine {
	t.Helper()
	e := engine(t)
	info, err := e.systemInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, known := info.Runtimes[gVisor]; !known {
		if strings.Contains(os.Getenv("E2E_REQUIRE"), gVisor) {
			t.Fatalf("E2E_REQUIRE asks for %s, and docker does not know that runtime", gVisor)
		}
		t.Skipf("docker does not know the runtime %s", gVisor)
	}
	return e
}

func TestConformanceRunsc(t *testing.T) {
	e := withGVisor(t)
	probe := sandboxtest.ProbeImage(t)
	t.Cleanup(func() { removeImage(t, e, probe.Digest) })
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Engine: e, Image: probe, Kernel: true, Runtime: gVisor}
	})
}

// TestConformanceWithAnyUmask runs the rows about files in a process that makes
// files for nobody else.
func TestConformanceWithAnyUmask(t *testing.T) {
	engine(t)
	child := exec.CommandContext(t.Context(), "sh", "-c",
		`umask 077 && exec "$0" -test.v -test.run='^TestConformance$/^(image|process|mounts)$'`, os.Args[0])
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestConformance/mounts/sealed_image") &&
		!strings.Contains(string(out), "--- SKIP: TestConformance/mounts/sealed_image") {
		t.Errorf("%v\n%s", err, out)
	}
}

func removeImage(t *testing.T, e *Engine, digest string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := e.client.ImageRemove(ctx, digest, image.RemoveOptions{Force: true}); err != nil {
		t.Errorf("cannot remove image %s: %v", digest, err)
	}
}
