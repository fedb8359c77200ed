package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ocmt/ocmt/images"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/engine"
	"github.com/ocmt/ocmt/orchestrator/install"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
)

// realEngines are those that tests of this package compare.
var realEngines = []string{engine.Docker, engine.Containerd}

// chosenEngine is the one that benchmarks of the rest of the program run on.
func chosenEngine() string { return cmp.Or(os.Getenv("E2E_ENGINE"), engine.Docker) }

// useImages makes the images that `make build` wrote those of this process.
func useImages(t testing.TB) error {
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		return err
	}
	index, err := images.ReadIndex(bin)
	if err != nil {
		return errors.Join(errors.New("no images, run `make build`"), err)
	}
	base, install := images.BaseDigest, images.InstallDigest
	t.Cleanup(func() { images.BaseDigest, images.InstallDigest = base, install })
	t.Setenv("OCMT_IMAGES", bin)
	built := index[runtime.GOARCH]
	images.BaseDigest, images.InstallDigest = built[images.Base].Digest, built[images.Install].Digest
	return nil
}

// real is a daemon over a home of the test's own, on an engine of this host,
// that can end and begin again.
type real struct {
	*Daemon
	opts Options
}

// openReal opens one that does not end before the test.
func openReal(t testing.TB, name string) *Daemon {
	t.Helper()
	return newReal(t, name).Daemon
}

// newReal opens one, or skips the test where there is no such engine, unless
// E2E_REQUIRE names it. The policy restarts at once, however often, so that a
// crash costs what a start costs. The end of the test is its end, with all
// that is installed.
func newReal(t testing.TB, name string) *real {
	t.Helper()
	err := useImages(t)
	if err == nil {
		err = answers(t, name)
	}
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("E2E_REQUIRE"), ","), name) {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "ocmt-real-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	r := &real{opts: Options{Home: dir, Engine: name, Runtime: os.Getenv("E2E_RUNTIME"), Stderr: io.Discard}}
	if err := r.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.clear(t) })
	return r
}

func (r *real) begin(ctx context.Context) (err error) {
	r.Daemon, err = open(ctx, r.opts, restless())
	return err
}

// end ends the daemon, and what the end of the process ends otherwise.
func (r *real) end() error { return errors.Join(r.Close(), closeEngine(r.engine)) }

// clear uninstalls everything and ends the daemon.
func (r *real) clear(t testing.TB) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, p := range r.catalog.list("") {
		if err := (pluginAPI{r.Daemon}).Uninstall(ctx, p.Key.Tenant, p.Key.ID, false); err != nil {
			t.Error(err)
		}
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	objects, err := seal.List(r.home.Store())
	for _, o := range objects { // which are immutable
		err = errors.Join(err, seal.Remove(r.home.Store(), o))
	}
	if err != nil {
		t.Error(err)
	}
}

// answers fails when the engine cannot be used.
func answers(t testing.TB, name string) error {
	e, _, err := engine.Open(t.Context(), engine.Options{Name: name, Dir: t.TempDir()})
	if err != nil {
		return err
	}
	return closeEngine(e)
}

func closeEngine(e sandbox.Engine) error {
	if closer, ok := e.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// restless is a policy that restarts at once, however often.
func restless() supervisor.Policy {
	policy := supervisor.DefaultPolicy()
	policy.HealthyRun = 0
	policy.MaxExits = 1 << 30
	return policy
}

// small is a plugin that has one tool and does nothing by itself.
const small = `exports.tools = [{ name: "add", description: "", parameters: { type: "object" }, execute: async ({ a, b }) => a + b }];`

// installSmall installs it under a name.
func installSmall(t testing.TB, d *Daemon, name string) plugin.Key {
	t.Helper()
	installSource(t, d, name, small)
	return plugin.Key{Tenant: plugin.DefaultTenant, ID: name}
}

// installSource installs a plugin of one file, with all that it asks for.
func installSource(t testing.TB, d *Daemon, name, source string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	writeSource(t, dir, name, source)
	installDir(t, d, dir)
}

// writeSource writes a plugin of one file into a new directory.
func writeSource(t testing.TB, dir, name, source string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	manifest := fmt.Sprintf(`{"name":%q,"version":"1.0.0","main":"index.js"}`, name)
	for file, text := range map[string]string{"package.json": manifest, "index.js": source} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// installDir installs a directory, with all that it asks for.
func installDir(t testing.TB, d *Daemon, dir string) {
	t.Helper()
	r, w := io.Pipe()
	tar := exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", "-", ".")
	tar.Stdout = w
	go func() { w.CloseWithError(tar.Run()) }()
	p, err := d.installer.Install(t.Context(), install.Request{
		Tenant: plugin.DefaultTenant, Source: plugin.SourcePath, Spec: dir, Upload: r,
		Review: d.reviewer(httpapi.Install{Accept: v1.AcceptAll}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := (pluginAPI{d}).startInstalled(t.Context(), p.Key, false); err != nil {
		t.Fatal(err)
	}
}
