package instance_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/fake"
)

// TestEngineOutage has the engine away, and then hanging, while a plugin serves.
func TestEngineOutage(t *testing.T) {
	var asked atomic.Int32
	back := make(chan struct{})
	f, h, plan := setupWith(t, fake.Options{Run: faithful, Fail: func(ctx context.Context, method, _ string) error {
		if method != "wait" {
			return nil
		}
		switch asked.Add(1) {
		case 1:
			return errdefs.ErrUnavailable
		case 2:
			return context.DeadlineExceeded
		case 3:
			return errors.New("an error without a class")
		}
		select {
		case <-back:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	in, err := start(t, f, plan)
	must(t, err)
	for deadline := time.Now().Add(patience); asked.Load() < 4; {
		called(t, in)
		if time.Now().After(deadline) {
			t.Fatalf("the engine was asked %d times", asked.Load())
		}
	}
	if isDone(in) {
		t.Fatal("an outage of the engine ended the instance")
	}
	must(t, exit(f, in.ID(), sandbox.Exit{Code: 5}))
	if isDone(in) {
		t.Error("the instance knows of an end that nobody told")
	}
	close(back)
	<-in.Done()
	if in.Exit().Code != 5 {
		t.Errorf("exit %+v, want code 5", in.Exit())
	}
	in.Observe(&sandbox.Container{State: sandbox.StateExited, Exit: sandbox.Exit{Code: 6}}) // late
	in.Observe(nil)
	if in.Exit().Code != 5 {
		t.Errorf("exit %+v after a late event", in.Exit())
	}
	must(t, in.Close(t.Context()))
	expectNothing(t, h)
}

// TestObserve ends an instance of which the engine's Wait tells nothing.
func TestObserve(t *testing.T) {
	running := &sandbox.Container{} // stands for what it is
	for name, tc := range map[string]struct {
		seen *sandbox.Container
		want int
	}{
		"an exit":       {&sandbox.Container{State: sandbox.StateExited, Exit: sandbox.Exit{Code: 137, OOMKilled: true}}, 137},
		"a new start":   {&sandbox.Container{State: sandbox.StateRunning, PID: 4_000_000, StartedAt: time.Now()}, -1},
		"it runs":       {running, 0},
		"it is missing": {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, h, plan := setupWith(t, fake.Options{Run: faithful, Fail: func(ctx context.Context, method, _ string) error {
				if method == "wait" {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}})
			in, err := start(t, f, plan)
			must(t, err)
			now := container(t, f, in.ID())
			in.Observe(now)
			if tc.seen == running {
				tc.seen = now
			}
			in.Observe(tc.seen)
			if isDone(in) != (tc.want != 0) || tc.want != 0 && in.Exit().Code != tc.want {
				t.Errorf("done %v with %+v, want code %d", isDone(in), in.Exit(), tc.want)
			}
			must(t, in.Close(t.Context()))
			expectNothing(t, h)
		})
	}
}

// lossy is an engine whose answers to Start are lost.
type lossy struct {
	sandbox.Engine
	err   error
	first func(ctx context.Context, id string) error // what Start does before
}

func (e lossy) Start(ctx context.Context, id string) error {
	if err := e.first(ctx, id); err != nil {
		return err
	}
	return e.err
}

func TestStartWithoutAnAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		err     error
		effect  bool
		decided bool
	}{
		"unavailable, and it runs":     {errdefs.ErrUnavailable, true, false},
		"unavailable, and it does not": {errdefs.ErrUnavailable, false, false},
		"out of time, and it runs":     {context.DeadlineExceeded, true, false},
		"cancelled, and it runs":       {context.Canceled, true, false},
		"refused":                      {errdefs.ErrFailedPrecondition, false, true},
		"missing":                      {errdefs.ErrNotFound, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			f, h, plan := setup(t, faithful)
			engine := f.Engine
			f.Engine = lossy{engine, tc.err, func(ctx context.Context, id string) error {
				if tc.effect {
					return engine.Start(ctx, id)
				}
				return nil
			}}
			in, err := f.Prepare(t.Context(), plan)
			must(t, err)
			if err := in.Start(t.Context()); !errors.Is(err, tc.err) {
				t.Fatalf("Start() = %v, want %v", err, tc.err)
			}
			if isDone(in) != tc.decided {
				t.Errorf("done %v, want %v", isDone(in), tc.decided)
			}
			if tc.decided && in.Exit().Code != -1 {
				t.Errorf("exit %+v of what never ran", in.Exit())
			}
			must(t, in.Close(t.Context()))
			if !isDone(in) || container(t, f, in.ID()) != nil {
				t.Errorf("after Close: done %v, container %+v", isDone(in), container(t, f, in.ID()))
			}
			expectNothing(t, h)
		})
	}
}

// TestCloseWithoutAnEngine must be tried again, and not claim an end before.
func TestCloseWithoutAnEngine(t *testing.T) {
	var away atomic.Bool
	f, h, plan := setupWith(t, fake.Options{Run: faithful, Fail: func(_ context.Context, _, _ string) error {
		if away.Load() {
			return errdefs.ErrUnavailable
		}
		return nil
	}})
	in, err := start(t, f, plan)
	must(t, err)
	away.Store(true)
	for range 2 {
		if err := in.Close(t.Context()); !errdefs.IsUnavailable(err) {
			t.Errorf("Close() = %v, want Unavailable", err)
		}
	}
	if isDone(in) {
		t.Error("a container that runs is claimed to have ended")
	}
	if _, err := in.CallTool(t.Context(), wire.ToolCall{ID: "c1", Tool: "echo"}, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("CallTool() = %v of a closed instance, want Unavailable", err)
	}
	away.Store(false)
	must(t, in.Close(t.Context()))
	if !isDone(in) || container(t, f, in.ID()) != nil {
		t.Error("the container outlived Close")
	}
	expectNothing(t, h)
}

// TestKilledDuringACall: who waits for an answer hears at once that there will
// be none, also while the engine hangs.
func TestKilledDuringACall(t *testing.T) {
	for name, call := range map[string]func(context.Context, *instance.Instance) error{
		"a tool": func(ctx context.Context, in *instance.Instance) error {
			_, err := in.CallTool(ctx, wire.ToolCall{ID: "c1", Tool: "echo"}, nil)
			return err
		},
		"a hook": func(ctx context.Context, in *instance.Instance) error {
			_, err := in.CallHook(ctx, wire.HookCall{ID: "c1"})
			return err
		},
		"a service": func(ctx context.Context, in *instance.Instance) error {
			_, err := in.CallService(ctx, wire.ServiceCall{ID: "c1", Service: "s", Op: "start"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan struct{})
			silent := func([]byte) any { close(got); return nil }
			f, _, plan := setupWith(t, fake.Options{
				Run: func(ctx context.Context, spec sandbox.Spec, _ io.Writer) int {
					r, err := dial(spec, map[string]func([]byte) any{subject.Tool: silent, subject.Hook: silent, subject.Service: silent})
					if err != nil {
						return 1
					}
					defer r.conn.Close()
					r.request(ctx, subject.Hello, hello())
					r.request(ctx, subject.Ready, readyWith("echo"))
					<-ctx.Done()
					return 137
				},
				Fail: func(ctx context.Context, method, _ string) error {
					if method == "wait" {
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				},
			})
			in, err := start(t, f, plan)
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- call(ctx, in) }()
			select {
			case <-got:
			case err := <-ended:
				t.Fatalf("the call = %v before the end", err)
			}
			killed := time.Now()
			must(t, exit(f, in.ID(), sandbox.Exit{Code: 137}))
			err = <-ended
			if fail := fault.Of(err); !errdefs.IsUnavailable(err) || !fail.Retryable || fail.Code != "plugin_gone" || fail.Hint == "" {
				t.Errorf("the call = %+v, want plugin_gone, retryable", fail)
			}
			if errors.Is(err, bus.ErrNoRunner) {
				t.Error("the call is said not to have reached the plugin")
			}
			if took := time.Since(killed); took > patience/2 {
				t.Errorf("the call ended %s after the plugin", took)
			}
			err = call(ctx, in)
			if fail := fault.Of(err); !errors.Is(err, bus.ErrNoRunner) || !fail.Retryable {
				t.Errorf("a call afterwards = %+v, want it not delivered and retryable", fail)
			}
		})
	}
}

// TestLeavesNothing compares the host before and after.
func TestLeavesNothing(t *testing.T) {
	f, h, plan := setup(t, faithful)
	workspace := mkdir(t, realTempDir(t)+"/project")
	plan.Workspaces = []instance.Workspace{{Path: workspace}}
	round := func(i int) {
		plan.Generation++
		in, err := f.Prepare(t.Context(), plan)
		must(t, err)
		if i%4 != 0 {
			must(t, in.Start(t.Context()))
		}
		switch c := container(t, f, in.ID()); i % 4 {
		case 2: // by another one
			must(t, in.Detach(t.Context()))
			in, err = f.Adopt(t.Context(), plan, *c)
			must(t, err)
			must(t, in.Start(t.Context()))
		case 3:
			must(t, in.Detach(t.Context()))
			must(t, f.Discard(t.Context(), in.ID()))
			return
		}
		must(t, in.Close(t.Context()))
	}
	for i := range 8 {
		round(i)
	}
	before := look(t, h)
	for i := range 200 {
		round(i)
	}
	const slack = 5
	var after host
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		after = look(t, h)
		if after.goroutines <= before.goroutines+slack && after.descriptors <= before.descriptors+slack || time.Now().After(deadline) {
			break
		}
	}
	if after.goroutines > before.goroutines+slack || after.descriptors > before.descriptors+slack {
		t.Errorf("%d goroutines and %d descriptors before, %d and %d after", before.goroutines, before.descriptors, after.goroutines, after.descriptors)
	}
	if !slices.Equal(before.mounts, after.mounts) || !slices.Equal(before.files, after.files) {
		t.Errorf("mounts and files\n%q %q\nbefore,\n%q %q\nafter", before.mounts, before.files, after.mounts, after.files)
	}
	expectNothing(t, h)
}

// host is what an instance might leave of itself.
type host struct {
	goroutines, descriptors int
	mounts, files           []string
}

func look(t *testing.T, h home.Home) host {
	t.Helper()
	descriptors, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	now := host{goroutines: runtime.NumGoroutine(), descriptors: len(descriptors)}
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, h.Dir()) {
			now.mounts = append(now.mounts, line)
		}
	}
	must(t, filepath.WalkDir(h.Dir(), func(path string, _ fs.DirEntry, err error) error {
		now.files = append(now.files, path)
		return err
	}))
	return now
}
