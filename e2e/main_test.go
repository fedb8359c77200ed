// Package e2e tests the built program as its users run it, on real engines and
// with real npm packages.
package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// TestMain lets more tests run at a time than there are processors: most of a
// test is waiting for an engine.
func TestMain(m *testing.M) {
	flag.Parse()
	const atATime = 4
	if set := flag.Lookup("test.parallel"); set.Value.String() == set.DefValue && runtime.GOMAXPROCS(0) < atATime {
		_ = set.Value.Set(strconv.Itoa(atATime))
	}
	m.Run()
}

// need lets the test run beside others, and skips it, with a reason, where the
// engine or the built program is missing; if E2E_REQUIRE names the engine, that
// is a failure.
func need(t *testing.T) harness.Engine {
	t.Helper()
	t.Parallel()
	engine, err := harness.Chosen()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = harness.Binary(); err == nil {
		err = engine.Answers(t.Context())
	}
	if err == nil {
		return engine
	}
	if required(engine.Name()) {
		t.Fatal(err)
	}
	t.Skip(err)
	return nil
}

// required says whether tests fail, rather than being skipped, without an
// engine.
func required(engine string) bool {
	return slices.Contains(strings.Split(os.Getenv("E2E_REQUIRE"), ","), engine)
}

// start runs a daemon over a home of the test's own. When the test ends it
// stops the daemon and fails the test if anything is left of it.
func start(t *testing.T, args ...string) *harness.Daemon {
	t.Helper()
	need(t)
	d := serve(t, newHome(t), args...)
	t.Cleanup(func() { stop(t, d) })
	return d
}

// newHome returns a home that is removed with whatever is immutable in it.
func newHome(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ocmt-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if os.Geteuid() == 0 {
			_ = exec.Command("chattr", "-R", "-f", "-i", dir).Run() // a file system may have no flags
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "home")
}

func serve(t *testing.T, home string, args ...string) *harness.Daemon {
	t.Helper()
	return serveWith(t, harness.Options{Home: home, Args: args})
}

func serveWith(t *testing.T, opts harness.Options) *harness.Daemon {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := harness.StartWith(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func stop(t *testing.T, d *harness.Daemon) {
	t.Helper()
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	expectNothingLeft(t, d)
	if t.Failed() {
		t.Logf("daemon log:\n%s", d.Log())
	}
}

// expectNothingLeft fails the test if anything is left of a daemon that has
// stopped. The kernel may take a moment to take a container's mounts apart.
func expectNothingLeft(t *testing.T, d *harness.Daemon) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		left, err := d.Leftovers(context.WithoutCancel(t.Context()))
		if err != nil {
			t.Error(err)
		}
		if len(left) == 0 || err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left behind: %s", strings.Join(left, ", "))
			return
		}
	}
}

// run runs a command and fails the test unless it ends with the code and its
// output, both streams, holds every one of the words.
func run(t *testing.T, d *harness.Daemon, code int, words []string, args ...string) string {
	t.Helper()
	return check(t, d.Run(t.Context(), args...), code, words, args...)
}

// check is run for what was run already.
func check(t *testing.T, res harness.Result, code int, words []string, args ...string) string {
	t.Helper()
	text := string(res.Stdout) + string(res.Stderr)
	if res.Code != code {
		t.Fatalf("ocmt %s: exit code %d, want %d:\n%s", strings.Join(args, " "), res.Code, code, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("ocmt %s does not say %q:\n%s", strings.Join(args, " "), w, text)
		}
	}
	return text
}

// fixture returns the directory of one of our plugins.
func fixture(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", "plugins", name))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func install(t *testing.T, d *harness.Daemon, name string, args ...string) {
	t.Helper()
	run(t, d, 0, nil, append([]string{"plugins", "install", fixture(t, name)}, args...)...)
}

// call calls a tool and decodes its result.
func call(t *testing.T, d *harness.Daemon, into any, plugin, tool, params string, args ...string) {
	t.Helper()
	res := d.Run(t.Context(), append([]string{"tools", "call", plugin, tool, "--params", params, "--json"}, args...)...)
	if res.Code != 0 {
		t.Fatalf("calling %s: exit code %d: %s", tool, res.Code, res.Stderr)
	}
	if err := json.Unmarshal(res.Stdout, into); err != nil {
		t.Fatalf("calling %s: %v: %s", tool, err, res.Stdout)
	}
}

// info is what the tests look at of `plugins info --json`.
type info struct {
	ID            string `json:"id"`
	State         string `json:"state"`
	Enabled       bool   `json:"enabled"`
	Generation    uint64 `json:"generation"`
	Restarts      int    `json:"restarts"`
	Digest        string `json:"digest"`
	Spec          string `json:"spec"`
	Registrations []struct{ Kind, Name string }
	LastExit      struct {
		Class string
		Code  int
	} `json:"lastExit"`
}

func getInfo(t *testing.T, d *harness.Daemon, id string, args ...string) info {
	t.Helper()
	var i info
	if err := d.JSON(t.Context(), &i, append([]string{"plugins", "info", id}, args...)...); err != nil {
		t.Fatal(err)
	}
	return i
}

// eventually asks again until ok or until the time is up.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(within)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
