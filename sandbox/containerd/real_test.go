package containerd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

// probe loads the probe's image and returns a spec that runs it.
func probe(t testing.TB, e *Engine, args ...string) sandbox.Spec {
	t.Helper()
	img := sandboxtest.ProbeImage(t)
	load(t, e, img)
	spec := validSpec(img.Digest)
	spec.Args = append(spec.Args, args...)
	if e.home != "" {
		spec.Labels[sandbox.LabelHome] = e.home
	}
	return spec
}

func start(t testing.TB, e *Engine, spec sandbox.Spec) {
	t.Helper()
	if err := errors.Join(e.Create(t.Context(), spec), e.Start(t.Context(), spec.ID)); err != nil {
		t.Fatal(err)
	}
}

func wait(t testing.TB, e *Engine, id string) sandbox.Exit {
	t.Helper()
	exit, err := e.Wait(t.Context(), id)
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	return exit
}

func remove(t testing.TB, e *Engine, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := e.Remove(ctx, id); err != nil {
		t.Errorf("Remove: %v", err)
	}
}

func logs(t testing.TB, e *Engine, id string, options sandbox.LogOptions) string {
	t.Helper()
	var out bytes.Buffer
	if err := e.Logs(t.Context(), id, options, &out); err != nil {
		t.Fatalf("Logs: %v", err)
	}
	return out.String()
}

// only is the state of the one container of a home.
func only(t testing.TB, e *Engine, home string) sandbox.Container {
	t.Helper()
	all, err := e.List(t.Context(), map[string]string{sandbox.LabelHome: home})
	if err != nil || len(all) != 1 {
		t.Fatalf("containers %+v, %v, want one", all, err)
	}
	return all[0]
}

// TestTakeOver has a container that outlives the process that started it, by
// a second engine that is given the first one's home and directory.
func TestTakeOver(t *testing.T) {
	look, dir, home := open(t, Options{}), tempDir(t), "takes-over-"+rand.Text()
	first := open(t, Options{Dir: dir, Home: home})
	spec := probe(t, look, "print", "400", "7")
	spec.Labels[sandbox.LabelHome] = home
	t.Cleanup(func() { remove(t, look, spec.ID) })
	start(t, first, spec)
	before := only(t, first, home)
	if err := first.Close(); err != nil { // while it prints, or before
		t.Fatal(err)
	}
	second := open(t, Options{Dir: dir, Home: home})
	after := only(t, second, home)
	if after.State != sandbox.StateRunning || after.PID != before.PID || !after.StartedAt.Equal(before.StartedAt) {
		t.Errorf("it was %+v, and is %+v", before, after)
	}
	followed := make(chan string)
	go func() { followed <- logs(t, second, spec.ID, sandbox.LogOptions{Follow: true}) }()
	awaitOutput(t, second, spec.ID, "sleeping")
	if err := second.Stop(t.Context(), spec.ID, patience); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, second, spec.ID); exit.Code != 7 {
		t.Errorf("exit %+v", exit)
	}
	if got := strings.Count(<-followed, "line "); got != 400 {
		t.Errorf("%d lines, want 400", got)
	}
	if err := second.Start(t.Context(), spec.ID); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Start by the second engine: %v", err)
	}
	want := wait(t, second, spec.ID)
	_ = second.Close()
	third := open(t, Options{Dir: dir, Home: home})
	if got := wait(t, third, spec.ID); got != want {
		t.Errorf("exit %+v, and later %+v", want, got)
	}
	if got := strings.Count(logs(t, third, spec.ID, sandbox.LogOptions{Follow: true}), "line "); got != 400 {
		t.Errorf("%d lines later, want 400", got)
	}
}

func awaitOutput(t testing.TB, e *Engine, id, text string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if strings.Contains(logs(t, e, id, sandbox.LogOptions{}), text) {
			return
		}
		pause(t.Context(), 10*time.Millisecond, nil)
	}
	t.Fatalf("the output never said %q", text)
}

// TestExitWhileNobodyLooks ends a container between two engines.
func TestExitWhileNobodyLooks(t *testing.T) {
	look, dir, home := open(t, Options{}), tempDir(t), "looks-away-"+rand.Text()
	first := open(t, Options{Dir: dir, Home: home})
	spec := probe(t, look, "sleep", "0")
	spec.Labels[sandbox.LabelHome] = home
	t.Cleanup(func() { remove(t, look, spec.ID) })
	start(t, first, spec)
	pid := only(t, first, home).PID
	_ = first.Close()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := open(t, Options{Dir: dir, Home: home})
	if exit := wait(t, second, spec.ID); exit.Code != 137 || exit.OOMKilled {
		t.Errorf("exit %+v", exit)
	}
	remove(t, second, spec.ID)
	wantNothing(t, second, spec.ID)
}

// TestLostShim kills what containerd knows a container by.
func TestLostShim(t *testing.T) {
	e := open(t, Options{})
	spec := probe(t, e, "sleep", "0")
	start(t, e, spec)
	pid := only(t, e, spec.Labels[sandbox.LabelHome]).PID
	exits := make(chan sandbox.Exit)
	go func() { exits <- wait(t, e, spec.ID) }()
	shims := processes(t, spec.ID)
	if len(shims) != 1 {
		t.Fatalf("shims %v", shims)
	}
	if err := unix.Kill(shims[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exit := <-exits
	if exit.Code != 137 {
		t.Errorf("exit %+v", exit)
	}
	if again := wait(t, e, spec.ID); again != exit {
		t.Errorf("then %+v", again)
	}
	remove(t, e, spec.ID)
	wantNothing(t, e, spec.ID)
	// One that has ended, and is not reaped yet, has no command line.
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(line) > 0 {
		t.Errorf("its process is there still: %s", line)
	}
}

// processes are those of the host with the text in their command line.
func processes(t testing.TB, text string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && bytes.Contains(line, []byte(text)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			found = append(found, pid)
		}
	}
	return found
}

// wantNothing looks for whatever could be left of a container.
func wantNothing(t *testing.T, e *Engine, id string) {
	t.Helper()
	ctx := t.Context()
	if _, err := e.client.ContainerService().Get(ctx, id); !errdefs.IsNotFound(err) {
		t.Errorf("its record is there: %v", err)
	}
	if _, err := e.client.SnapshotService(snapshotter).Stat(ctx, id); !errdefs.IsNotFound(err) {
		t.Errorf("its snapshot is there: %v", err)
	}
	if task, err := e.task(ctx, id); task != nil || err != nil {
		t.Errorf("its task is there: %v, %v", task, err)
	}
	// A shim says that it ends before it does, and containerd clears away in
	// its own time what a killed one left.
	for end := time.Now().Add(5 * time.Second); ; pause(ctx, 10*time.Millisecond, nil) {
		left := traces(t, e, id)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("left: %q", left)
			return
		}
	}
}

// traces are what the host shows of a container.
func traces(t *testing.T, e *Engine, id string) []string {
	t.Helper()
	var left []string
	for _, pid := range processes(t, id) {
		left = append(left, fmt.Sprintf("process %d", pid))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, id) {
			left = append(left, "mount "+line)
		}
	}
	for _, path := range []string{
		e.path(id),
		filepath.Join("/run/containerd/io.containerd.runtime.v2.task", namespace, id),
		filepath.Join(cgroupRoot, "memory", cgroupPath(id)),
		filepath.Join(cgroupRoot, "pids", cgroupPath(id)),
		filepath.Join(cgroupRoot, cgroupPath(id)),
	} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			left = append(left, path)
		}
	}
	return left
}

func TestNothingIsLeft(t *testing.T) {
	for _, runtime := range []string{defaultRuntime, gvisor} {
		t.Run(runtime, func(t *testing.T) {
			e := withRuntime(t, runtime)
			spec := probe(t, e, "sleep", "0")
			spec.Runtime = runtime
			for name, act := range map[string]func() error{
				"created": func() error { return e.Create(t.Context(), spec) },
				"running": func() error { return errors.Join(e.Create(t.Context(), spec), e.Start(t.Context(), spec.ID)) },
				"stopped": func() error {
					return errors.Join(e.Create(t.Context(), spec), e.Start(t.Context(), spec.ID), e.Stop(t.Context(), spec.ID, 0))
				},
				"failed": func() error {
					broken := spec
					broken.Args = []string{"/nothing"}
					if err := e.Create(t.Context(), broken); err != nil {
						return err
					}
					if err := e.Start(t.Context(), spec.ID); err == nil {
						return errors.New("a program that does not exist was started")
					}
					return nil
				},
			} {
				if err := act(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				remove(t, e, spec.ID)
				wantNothing(t, e, spec.ID)
			}
			if len(e.outputs) != 0 {
				t.Errorf("%d outputs are read still", len(e.outputs))
			}
		})
	}
}

// TestSweep finds files of a container that is gone.
func TestSweep(t *testing.T) {
	dir := tempDir(t)
	look := open(t, Options{Dir: dir})
	if err := look.makeFiles("gone", record{LogSize: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	kept := probe(t, look, "exit", "0")
	if err := look.Create(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	defer remove(t, look, kept.ID)
	open(t, Options{Dir: dir, Home: "sweeps"})
	if _, err := os.Stat(look.path("gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the files are there: %v", err)
	}
	if _, err := os.Stat(look.path(kept.ID, recordFile)); err != nil {
		t.Errorf("the files of another home's container are not there: %v", err)
	}
}

// TestStrangers leaves containers of another home alone.
func TestStrangers(t *testing.T) {
	dir := tempDir(t)
	e := open(t, Options{Dir: dir, Home: "ours"})
	spec := probe(t, e, "sleep", "0")
	start(t, e, spec)
	defer remove(t, e, spec.ID)
	other := open(t, Options{Dir: dir, Home: "theirs"})
	if err := other.Start(t.Context(), spec.ID); !errdefs.IsNotFound(err) {
		t.Errorf("Start: %v", err)
	}
	if _, err := other.Wait(t.Context(), spec.ID); !errdefs.IsNotFound(err) {
		t.Errorf("Wait: %v", err)
	}
	if err := other.Logs(t.Context(), spec.ID, sandbox.LogOptions{}, io.Discard); !errdefs.IsNotFound(err) {
		t.Errorf("Logs: %v", err)
	}
	if err := errors.Join(other.Stop(t.Context(), spec.ID, 0), other.Remove(t.Context(), spec.ID)); err != nil {
		t.Errorf("Stop and Remove: %v", err)
	}
	if err := other.Create(t.Context(), spec); !errdefs.IsInvalidArgument(err) {
		t.Errorf("Create of a foreign home: %v", err)
	}
	taken := spec
	taken.Labels = map[string]string{
		sandbox.LabelHome: "theirs", sandbox.LabelTenant: "default", sandbox.LabelInstance: "i", sandbox.LabelRole: sandbox.RoleCheck,
	}
	if err := other.Create(t.Context(), taken); !errdefs.IsAlreadyExists(err) {
		t.Errorf("Create with a foreign name: %v", err)
	}
	if c := only(t, e, "ours"); c.State != sandbox.StateRunning {
		t.Errorf("the container is %+v", c)
	}
	if all, err := other.List(t.Context(), map[string]string{sandbox.LabelHome: "theirs"}); err != nil || len(all) != 0 {
		t.Errorf("listed %+v, %v", all, err)
	}
}

// TestLongLabel has one that containerd does not keep.
func TestLongLabel(t *testing.T) {
	e := open(t, Options{})
	spec := probe(t, e, "exit", "0")
	spec.Labels["ocmt.long"] = strings.Repeat("x", 4096)
	if err := e.Create(t.Context(), spec); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error %v", err)
	}
	wantNothing(t, e, spec.ID)
}

// TestRecordedSpec looks at what the probe cannot see from inside.
func TestRecordedSpec(t *testing.T) {
	e := withRuntime(t, defaultRuntime)
	spec := probe(t, e, "exit", "0")
	if err := e.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	defer remove(t, e, spec.ID)
	c, err := e.client.ContainerService().Get(t.Context(), spec.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got specs.Spec
	if err := json.Unmarshal(c.Spec.GetValue(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Hooks != nil || len(got.Annotations) != 0 || len(got.Linux.Devices) != 0 || got.Process.Terminal {
		t.Errorf("hooks %v, annotations %v, devices %v", got.Hooks, got.Annotations, got.Linux.Devices)
	}
	for label := range c.Labels {
		if strings.HasPrefix(label, "containerd.io/restart") {
			t.Errorf("label %s would have the engine restart it", label)
		}
	}
	kinds := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range got.Linux.Namespaces {
		if kinds[ns.Type] = true; ns.Path != "" {
			t.Errorf("name space %s is another one's: %s", ns.Type, ns.Path)
		}
	}
	for _, kind := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace, specs.CgroupNamespace} {
		if !kinds[kind] {
			t.Errorf("no %s name space", kind)
		}
	}
	if d := got.Linux.Resources.Devices; len(d) != 1 || d[0].Allow || d[0].Access != "rwm" {
		t.Errorf("devices %+v", d)
	}
	if got.Linux.CgroupsPath != "/ocmt/"+spec.ID || !got.Root.Readonly || !got.Process.NoNewPrivileges || got.Linux.Seccomp == nil {
		t.Errorf("spec %+v", got)
	}
}

// TestOddHome lists by a label that needs quoting.
func TestOddHome(t *testing.T) {
	e := open(t, Options{})
	spec := probe(t, e, "exit", "0")
	home := "a\"b\\c, d==é/|" + rand.Text()
	spec.Labels[sandbox.LabelHome] = home
	if err := e.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	defer remove(t, e, spec.ID)
	if c := only(t, e, home); c.ID != spec.ID {
		t.Errorf("listed %+v", c)
	}
}

// TestNothingGrows lives through containers and counts what the engine holds.
func TestNothingGrows(t *testing.T) {
	e := withRuntime(t, defaultRuntime)
	spec := probe(t, e, "print", "3")
	lives := func(n int) {
		for range n {
			start(t, e, spec)
			wait(t, e, spec.ID)
			if got := logs(t, e, spec.ID, sandbox.LogOptions{Follow: true}); strings.Count(got, "line ") != 3 {
				t.Errorf("output %q", got)
			}
			remove(t, e, spec.ID)
		}
	}
	lives(2)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	lives(10)
	const slack = 3 // the client's own, and what is just ending
	if now := runtime.NumGoroutine(); now > goroutines+slack {
		t.Errorf("%d goroutines, and before %d", now, goroutines)
	}
	if now := openFiles(t); now > files+slack {
		t.Errorf("%d open files, and before %d", now, files)
	}
	if len(e.outputs) != 0 || len(e.containers.held) != 0 {
		t.Errorf("%d outputs and %d locks are held", len(e.outputs), len(e.containers.held))
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestCancelledStart gives up at every moment of a start. Whatever came of it,
// Remove removes.
func TestCancelledStart(t *testing.T) {
	for _, runtime := range []string{defaultRuntime, gvisor} {
		t.Run(runtime, func(t *testing.T) {
			e := withRuntime(t, runtime)
			spec := probe(t, e, "sleep", "-1")
			spec.Runtime = runtime
			for patience := time.Millisecond; patience < time.Second; patience *= 3 {
				if err := e.Create(t.Context(), spec); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				began := time.Now()
				err := e.Start(ctx, spec.ID)
				cancel()
				if err != nil && !errdefs.IsDeadlineExceeded(err) {
					t.Errorf("after %s: %v", patience, err)
				}
				if took := time.Since(began); took > patience+time.Second {
					t.Errorf("given %s, it took %s", patience, took)
				}
				remove(t, e, spec.ID)
				wantNothing(t, e, spec.ID)
			}
		})
	}
}
