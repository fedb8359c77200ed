package instance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/docker"
	"github.com/ocmt/ocmt/sandbox/egress"
)

// lifeEnv tells a process of this test, as JSON, which life to lead.
const lifeEnv = "OCMT_TEST_LIFE"

// life is what a process that prepares an instance has to know.
type life struct {
	Home, HomeID, Image string
	Plan                instance.Plan
}

// factory returns the factory of this process over the real engine, whose
// plugins bring their own runner.
func (l life) factory(ctx context.Context, engine sandbox.Engine, logger *slog.Logger) (*instance.Factory, *bus.Server, error) {
	h, err := home.Open(l.Home)
	if err != nil {
		return nil, nil, err
	}
	info, err := engine.Info(ctx)
	if err != nil {
		return nil, nil, err
	}
	server, err := bus.New(bus.Options{Logger: logger})
	if err != nil {
		return nil, nil, err
	}
	return instance.NewFactory(instance.Config{
		Home: h, HomeID: l.HomeID, Engine: &probing{Engine: engine, program: "/plugin/runner"}, Info: info, Bus: server, Image: l.Image, InstallImage: l.Image,
		EnsureInstallImage: func(context.Context, func(sent, total int64)) error { return nil },
		UID:                func(context.Context, plugin.Key) (uint32, error) { return 1 << 20, nil },
		TenantUID:          func(context.Context, string) (uint32, error) { return 1<<20 + 1, nil },
		OnConnection:       func(plugin.Key, egress.Connection) error { return nil },
		Logger:             logger,
	}), server, nil
}

// TestLife1 is the process that is killed; see realLife.
func TestLife1(t *testing.T) {
	text := os.Getenv(lifeEnv)
	if text == "" {
		t.Skip("this is a part of other tests")
	}
	var l life
	must(t, json.Unmarshal([]byte(text), &l))
	engine, err := docker.New(t.Context(), docker.Options{})
	must(t, err)
	f, _, err := l.factory(t.Context(), engine, slog.New(slog.DiscardHandler))
	must(t, err)
	in, err := f.Prepare(t.Context(), l.Plan)
	must(t, err)
	must(t, in.Start(t.Context()))
	fmt.Println("ready") // tells the test that started this process
	select {}
}

// realLife has another process start an instance in a real container, kills
// that process, and returns a factory of this one.
func realLife(t *testing.T) (*instance.Factory, life, string) {
	t.Helper()
	f, e, plan := real(t)
	plan.Payload = sealedProgram(t, f.Home, "runner")
	l := life{Home: f.Home.Dir(), HomeID: f.HomeID, Image: f.Image, Plan: plan}
	text, err := json.Marshal(l)
	must(t, err)
	first := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLife1$", "-test.timeout=2m")
	first.Env = append(os.Environ(), lifeEnv+"="+string(text))
	first.Stderr = t.Output()
	out, err := first.StdoutPipe()
	must(t, err)
	must(t, first.Start())
	said := make([]byte, len("ready\n"))
	if _, err := out.Read(said); err != nil || string(said) != "ready\n" {
		rest := make([]byte, 4096)
		n, _ := out.Read(rest)
		_ = first.Wait()
		t.Fatalf("the first process said %q, %v", string(said)+string(rest[:n]), err)
	}
	must(t, first.Process.Signal(syscall.SIGKILL))
	_ = first.Wait() // says that it was killed
	second, server, err := l.factory(t.Context(), e.Engine, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, err)
	list, err := second.Engine.List(t.Context(), map[string]string{sandbox.LabelHome: l.HomeID})
	if err != nil || len(list) != 1 {
		t.Fatalf("after the death of its process: containers %+v, %v", list, err)
	}
	id := list[0].ID
	t.Cleanup(func() {
		server.Shutdown()
		if err := second.Discard(context.WithoutCancel(t.Context()), id); err != nil {
			t.Error(err)
		}
	})
	return second, l, id
}

// sealedProgram is a payload that holds a program of testdata.
func sealedProgram(t *testing.T, h home.Home, name string) plugin.Payload {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./testdata/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build a program: %v: %s", err, out)
	}
	data, err := os.ReadFile(program)
	must(t, err)
	sealIt := seal.Seal
	if ok, _ := seal.CanMount(h.Store()); !ok {
		sealIt = seal.SealTree
	}
	payload, err := sealIt(t.Context(), fstest.MapFS{name: {Data: data, Mode: 0o755}}, h.Store())
	must(t, err)
	t.Cleanup(func() {
		if err := seal.Remove(h.Store(), payload); err != nil {
			t.Error(err)
		}
	})
	return payload
}

func count(t *testing.T, in *instance.Instance) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := in.CallTool(ctx, wire.ToolCall{ID: "c1", Tool: "count", Params: json.RawMessage(`{}`)}, nil)
	must(t, err)
	return string(result.Result)
}

// TestRealAdoption: a plugin outlives the process that started it, and serves
// the next one with the same process.
func TestRealAdoption(t *testing.T) {
	f, l, id := realLife(t)
	records, err := f.Records()
	must(t, err)
	if rec := records[id]; rec.Key != l.Plan.Key || rec.Recipe != l.Plan.Recipe {
		t.Fatalf("the record is %+v", rec)
	}
	before := container(t, f, id)
	if before.State != sandbox.StateRunning || before.PID == 0 || time.Since(before.StartedAt) > time.Hour {
		t.Fatalf("the container is %+v", before)
	}
	if process, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", before.PID)); err != nil || strings.TrimSpace(string(process)) != "runner" {
		t.Logf("the process with the engine's PID is %q, %v: another PID name space", process, err)
	}
	began := time.Now()
	in, err := f.Adopt(t.Context(), l.Plan, *before)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, in.Start(ctx))
	t.Logf("adopted within %s", time.Since(began))
	if got := count(t, in); got != "2" {
		t.Errorf("the runner has said hello %s times, want 2", got)
	}
	after := container(t, f, id)
	if after == nil || after.PID != before.PID || !after.StartedAt.Equal(before.StartedAt) {
		t.Errorf("the container is %+v, was %+v", after, before)
	}
	in.Observe(after)

	// Its end is noticed as that of any other, and by who waits for an answer.
	hung := make(chan error, 1)
	go func() {
		_, err := in.CallTool(ctx, wire.ToolCall{ID: "c2", Tool: "hang"}, nil)
		hung <- err
	}()
	must(t, f.Engine.Stop(t.Context(), id, 0))
	if err := <-hung; !errdefs.IsUnavailable(err) || !fault.Of(err).Retryable {
		t.Errorf("a call = %v when the plugin was killed, want Unavailable and retryable", err)
	}
	<-in.Done()
	if in.Exit().Code != 137 {
		t.Errorf("exit %+v, want 137", in.Exit())
	}
	must(t, in.Close(t.Context()))
	expectNothing(t, f.Home)
	if c := container(t, f, id); c != nil {
		t.Errorf("Close left %+v", c)
	}
}

// TestRealHandover detaches and adopts in turn, and ends while it runs.
func TestRealHandover(t *testing.T) {
	f, l, id := realLife(t)
	before := container(t, f, id)
	for i := range 3 {
		in, err := f.Adopt(t.Context(), l.Plan, *before)
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		must(t, in.Start(ctx))
		cancel()
		if got, want := count(t, in), fmt.Sprint(i+2); got != want {
			t.Errorf("the runner has said hello %s times, want %s", got, want)
		}
		if i < 2 {
			must(t, in.Detach(t.Context()))
			continue
		}
		must(t, errors.Join(in.Stop(t.Context(), 0), in.Close(t.Context())))
	}
	expectNothing(t, f.Home)
}

// TestRealDiscard removes what a killed process left running.
func TestRealDiscard(t *testing.T) {
	f, _, id := realLife(t)
	left, err := f.Leftovers()
	if err != nil || len(left) != 1 || left[0] != id {
		t.Errorf("Leftovers() = %q, %v, want %s", left, err, id)
	}
	must(t, f.Discard(t.Context(), id))
	expectNothing(t, f.Home)
	if c := container(t, f, id); c != nil {
		t.Errorf("Discard left %+v", c)
	}
}
