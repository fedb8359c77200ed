package instance_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/containerd"
	"github.com/ocmt/ocmt/sandbox/docker"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

// onEngines runs a test on every engine and runtime that there is, with a plan
// whose plugin is the program "files" of testdata.
func onEngines(t *testing.T, test func(t *testing.T, f *instance.Factory, e *probing, plan instance.Plan)) {
	for _, c := range []struct{ engine, runtime string }{{"docker", "runc"}, {"containerd", "runc"}, {"docker", "runsc"}} {
		t.Run(c.engine+"-"+c.runtime, func(t *testing.T) {
			engine, info := openEngine(t, c.engine)
			if !slices.Contains(info.Runtimes, c.runtime) {
				missing(t, c.runtime, "the engine has no such runtime")
			}
			f, _, plan := setup(t, nil)
			e := &probing{Engine: engine, program: "/plugin/files"}
			f.Engine, f.Info, f.Image = e, info, loadProbe(t, engine, c.engine)
			f.HomeID = filepath.Base(t.TempDir()) + strings.ReplaceAll(t.Name(), "/", "-")
			f.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
			plan.Payload, plan.Runtime = sealedProgram(t, f.Home, "files"), c.runtime
			test(t, f, e, plan)
		})
	}
}

// missing skips a test for want of what it needs, unless that must be there.
func missing(t *testing.T, name string, why any) {
	t.Helper()
	if strings.Contains(os.Getenv("E2E_REQUIRE"), name) {
		t.Fatalf("E2E_REQUIRE asks for %s: %v", name, why)
	}
	t.Skipf("no %s: %v", name, why)
}

func openEngine(t *testing.T, name string) (sandbox.Engine, sandbox.Info) {
	t.Helper()
	var engine interface {
		sandbox.Engine
		Close() error
	}
	var err error
	if name == "docker" {
		engine, err = docker.New(t.Context(), docker.Options{})
	} else {
		engine, err = containerd.New(t.Context(), containerd.Options{Dir: realTempDir(t)})
	}
	if err != nil {
		missing(t, name, err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	info, err := engine.Info(t.Context())
	if err != nil {
		missing(t, name, err)
	}
	return engine, info
}

func loadProbe(t *testing.T, engine sandbox.Engine, name string) (digest string) {
	t.Helper()
	img := sandboxtest.ProbeImage(t)
	must(t, engine.EnsureImage(t.Context(), img, nil))
	t.Cleanup(func() {
		if name == "docker" {
			removeImage(t, img.Digest)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if out, err := exec.CommandContext(ctx, "ctr", "--namespace", "ocmt", "images", "rm", "--sync", "ocmt/"+img.Digest).CombinedOutput(); err != nil {
			t.Errorf("cannot remove image %s: %v: %s", img.Digest, err, out)
		}
	})
	return img.Digest
}

// do has the plan's plugin do something to files, and returns what came of
// each.
func (e *probing) do(t *testing.T, f *instance.Factory, plan instance.Plan, what ...string) []string {
	t.Helper()
	var got []string
	e.ask(t, f, plan, &got, what...)
	if len(got) != len(what) {
		t.Fatalf("%d answers to %q: %q", len(got), what, got)
	}
	return got
}
