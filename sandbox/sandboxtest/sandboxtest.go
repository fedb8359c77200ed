// Package sandboxtest is the proof of a sandbox engine: one call of [Run]
// tests an implementation against what the contract in package sandbox
// promises. It owns the probe, the program that looks at a sandbox from
// inside, and promises to leave no container behind.
package sandboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/sandbox"
)

// patience bounds every wait of the suite; nothing takes that long unless it
// hangs.
const patience = 60 * time.Second

// Harness is an engine under test.
type Harness struct {
	Engine sandbox.Engine
	// Image is the probe's, from [ProbeImage], and is not loaded yet or
	// already. For an engine without processes it is [TinyImage], and the
	// workload is [Play].
	Image sandbox.Image
	// Kernel says that containers are processes of a Linux kernel: rows that
	// only a kernel can prove are run.
	Kernel bool
	// Seccomp says that the kernel applies Spec.Seccomp to them; gVisor has
	// system calls of its own.
	Seccomp bool
	// Runtime is for Spec.Runtime.
	Runtime string
}

type row struct {
	name   string
	kernel bool // needs Harness.Kernel
	test   func(t *testing.T, s *suite)
}

type rowGroup struct {
	name string
	rows []row
}

func groups() []rowGroup {
	return []rowGroup{
		{"image", imageRows}, {"life", lifeRows}, {"list", listRows}, {"logs", logRows},
		{"process", processRows}, {"hardening", hardeningRows}, {"limits", limitRows}, {"mounts", mountRows},
	}
}

// Run tests the engine that newHarness returns, which is called for every row;
// the rows run in parallel.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	for _, group := range groups() {
		t.Run(group.name, func(t *testing.T) {
			for _, row := range group.rows {
				t.Run(row.name, func(t *testing.T) {
					t.Parallel()
					h := newHarness(t)
					if row.kernel && !h.Kernel {
						t.Skip("only a kernel can prove this")
					}
					row.test(t, newSuite(t, h))
				})
			}
		})
	}
}

// suite is one row's view of an engine: a home of its own.
type suite struct {
	Harness
	home string
	next int
}

func newSuite(t *testing.T, h Harness) *suite {
	t.Helper()
	s := &suite{Harness: h, home: randomName("home")}
	t.Cleanup(func() { s.cleanUp(t) })
	if err := h.Engine.EnsureImage(s.ctx(t), h.Image, nil); err != nil {
		t.Fatalf("EnsureImage: %v", err)
	}
	return s
}

// cleanUp removes what the row left, and fails if something stays.
func (s *suite) cleanUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range s.list(t, ctx) {
		if err := s.Engine.Remove(ctx, c.ID); err != nil {
			t.Errorf("Remove(%s): %v", c.ID, err)
		}
	}
	if left := s.list(t, ctx); len(left) > 0 {
		t.Errorf("left behind: %+v", left)
	}
}

func (s *suite) list(t *testing.T, ctx context.Context) []sandbox.Container {
	t.Helper()
	all, err := s.Engine.List(ctx, map[string]string{sandbox.LabelHome: s.home})
	if err != nil {
		t.Errorf("List: %v", err)
	}
	return all
}

func (s *suite) ctx(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// spec is a valid one that runs the probe with args.
func (s *suite) spec(args ...string) sandbox.Spec {
	id := randomName("ocmt-Test_x")
	s.next++
	return sandbox.Harden(sandbox.Spec{
		ID: id, Image: s.Image.Digest, Args: append([]string{"/probe"}, args...),
		Env: []string{"HOME=/nowhere", "EMPTY=", "EQUALS=a=b c"},
		UID: uid, GID: gid, Runtime: s.Runtime,
		Labels: map[string]string{
			sandbox.LabelHome: s.home, sandbox.LabelTenant: "default", sandbox.LabelPlugin: "@scope/probe",
			sandbox.LabelInstance: id, sandbox.LabelGeneration: "1", sandbox.LabelRole: sandbox.RolePlugin,
		},
		Limits: sandbox.Limits{Memory: 64 << 20, CPUs: 0.5, PIDs: 32, OpenFiles: 256, LogSize: 64 << 10},
	})
}

func (s *suite) create(t *testing.T, spec sandbox.Spec) string {
	t.Helper()
	if err := s.Engine.Create(s.ctx(t), spec); err != nil {
		t.Fatalf("Create: %v", err)
	}
	return spec.ID
}

func (s *suite) start(t *testing.T, spec sandbox.Spec) string {
	t.Helper()
	id := s.create(t, spec)
	if err := s.Engine.Start(s.ctx(t), id); err != nil {
		t.Fatalf("Start: %v", err)
	}
	return id
}

// startSleeping starts a container and returns when its process has said that
// it sleeps, its signal handler being in place.
func (s *suite) startSleeping(t *testing.T, args ...string) string {
	t.Helper()
	id := s.start(t, s.spec(args...))
	s.awaitOutput(t, id, "sleeping\n")
	return id
}

// awaitOutput follows the output until it holds text.
func (s *suite) awaitOutput(t *testing.T, id, text string) {
	t.Helper()
	ctx, cancel := context.WithCancel(s.ctx(t))
	defer cancel()
	seen := &watcher{text: text, found: cancel}
	err := s.Engine.Logs(ctx, id, sandbox.LogOptions{Follow: true}, seen)
	if !strings.Contains(seen.String(), text) {
		t.Fatalf("the output never said %q: %v, output %q", text, err, seen.String())
	}
}

type watcher struct {
	bytes.Buffer
	text  string
	found func()
}

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if strings.Contains(w.String(), w.text) {
		w.found()
	}
	return n, err
}

func (s *suite) wait(t *testing.T, id string) sandbox.Exit {
	t.Helper()
	exit, err := s.Engine.Wait(s.ctx(t), id)
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	return exit
}

func (s *suite) output(t *testing.T, id string, options sandbox.LogOptions) string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Engine.Logs(s.ctx(t), id, options, &out); err != nil {
		t.Fatalf("Logs: %v", err)
	}
	return out.String()
}

// run runs a container to its end.
func (s *suite) run(t *testing.T, spec sandbox.Spec) (sandbox.Exit, string) {
	t.Helper()
	id := s.start(t, spec)
	exit := s.wait(t, id)
	return exit, s.output(t, id, sandbox.LogOptions{})
}

// ask runs a probe command that answers with JSON, for into.
func (s *suite) ask(t *testing.T, spec sandbox.Spec, into any) {
	t.Helper()
	exit, out := s.run(t, spec)
	if exit.Code != 0 {
		t.Fatalf("exit %+v, output %s", exit, out)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("cannot read the probe's answer %q: %v", out, err)
	}
}

// directory is one on the host that the container's user may write to.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	// The mode again, whatever the umask is: another user reads it.
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantClass asserts the class of an error by one of errdefs' functions.
func wantClass(t *testing.T, what string, err error, is func(error) bool) {
	t.Helper()
	if !is(err) {
		t.Errorf("%s: error %v has class %v, which is not the wanted one", what, err, errdefs.Resolve(err))
	}
}
