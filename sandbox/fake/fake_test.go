package fake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/fake"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

func TestConformance(t *testing.T) {
	image := sandboxtest.TinyImage(t)
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Harness {
		return sandboxtest.Harness{Engine: fake.New(fake.Options{Run: sandboxtest.Play}), Image: image}
	})
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func spec(mounts ...sandbox.Mount) sandbox.Spec {
	return sandbox.Harden(sandbox.Spec{
		ID: "ocmt-1", Image: digest, Args: []string{"/ocmt/init"}, Env: []string{"HOME=/"}, UID: 20001, GID: 20001,
		Labels: map[string]string{
			sandbox.LabelHome: "home", sandbox.LabelTenant: "default",
			sandbox.LabelInstance: "1", sandbox.LabelRole: sandbox.RolePlugin,
		},
		Mounts: mounts,
		Limits: sandbox.LimitsFor(sandbox.RolePlugin),
	})
}

// start makes an engine and runs a container on it.
func start(t *testing.T, options fake.Options, mounts ...sandbox.Mount) *fake.Engine {
	t.Helper()
	options.Images = []string{digest}
	engine := fake.New(options)
	if err := engine.Create(t.Context(), spec(mounts...)); err != nil {
		t.Fatal(err)
	}
	if err := engine.Start(t.Context(), "ocmt-1"); err != nil {
		t.Fatal(err)
	}
	return engine
}

// TestMountedSocket plays a runner: it connects to the socket in the directory
// that its spec mounts.
func TestMountedSocket(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "bus.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	start(t, fake.Options{Run: func(_ context.Context, spec sandbox.Spec, out io.Writer) int {
		conn, err := net.Dial("unix", filepath.Join(spec.Mounts[0].Source, "bus.sock"))
		if err != nil {
			fmt.Fprintln(out, err)
			return 1
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "hello from "+spec.ID)
		return 0
	}}, sandbox.Mount{Source: dir, Target: "/run/ocmt", ReadOnly: true})
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "hello from ocmt-1" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestOutOfMemory(t *testing.T) {
	engine := start(t, fake.Options{Run: func(context.Context, sandbox.Spec, io.Writer) int { return fake.OOM }})
	if exit, err := engine.Wait(t.Context(), "ocmt-1"); err != nil || exit.Code != 137 || !exit.OOMKilled {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

func TestExit(t *testing.T) {
	causes := make(chan error, 1)
	engine := start(t, fake.Options{Run: func(ctx context.Context, _ sandbox.Spec, _ io.Writer) int {
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return 0
	}})
	if err := engine.Exit("ocmt-1", sandbox.Exit{Code: 139}); err != nil {
		t.Fatal(err)
	}
	if exit, err := engine.Wait(t.Context(), "ocmt-1"); err != nil || exit.Code != 139 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if cause := <-causes; !errors.Is(cause, fake.ErrKilled) {
		t.Errorf("the workload ended for %v", cause)
	}
	if err := engine.Exit("ocmt-1", sandbox.Exit{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("second Exit: %v", err)
	}
	if err := engine.Exit("nobody", sandbox.Exit{}); !errdefs.IsNotFound(err) {
		t.Errorf("unknown id: %v", err)
	}
}

func TestStopGraceIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		engine := start(t, fake.Options{Run: func(ctx context.Context, _ sandbox.Spec, _ io.Writer) int {
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), fake.ErrTerminated) {
				t.Errorf("the workload ended for %v", context.Cause(ctx))
			}
			<-over
			return 0
		}})
		began := time.Now()
		if err := engine.Stop(t.Context(), "ocmt-1", time.Minute); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %s", took)
		}
		if exit, err := engine.Wait(t.Context(), "ocmt-1"); err != nil || exit.Code != 137 {
			t.Errorf("exit %+v, %v", exit, err)
		}
		close(over)
	})
}

func TestInjectedFailures(t *testing.T) {
	full := fmt.Errorf("disk is full: %w", errdefs.ErrResourceExhausted)
	failing := "create"
	engine := fake.New(fake.Options{Images: []string{digest}, Fail: func(ctx context.Context, method, id string) error {
		if method == "wait" {
			<-ctx.Done()
			return ctx.Err()
		}
		if method == failing && id == "ocmt-1" {
			return full
		}
		return nil
	}})
	if err := engine.Create(t.Context(), spec()); !errdefs.IsResourceExhausted(err) || !errors.Is(err, full) {
		t.Errorf("Create: %v", err)
	}
	failing = "start"
	if err := engine.Create(t.Context(), spec()); err != nil {
		t.Errorf("Create: %v", err)
	}
	if err := engine.Start(t.Context(), "ocmt-1"); !errors.Is(err, full) {
		t.Errorf("Start: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := engine.Wait(ctx, "ocmt-1"); !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("Wait: %v", err)
	}
}

func TestOutputWithoutNewLines(t *testing.T) {
	engine := start(t, fake.Options{Run: func(_ context.Context, spec sandbox.Spec, out io.Writer) int {
		chunk := bytes.Repeat([]byte("x"), 1<<20)
		for range 3 * spec.Limits.LogSize / int64(len(chunk)) {
			_, _ = out.Write(chunk)
		}
		_, _ = io.WriteString(out, "end")
		return 0
	}})
	if _, err := engine.Wait(t.Context(), "ocmt-1"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := engine.Logs(t.Context(), "ocmt-1", sandbox.LogOptions{}, &out); err != nil {
		t.Fatal(err)
	}
	limit := int(sandbox.LimitsFor(sandbox.RolePlugin).LogSize) * sandbox.LogFiles
	if out.Len() != limit || !bytes.HasSuffix(out.Bytes(), []byte("end")) {
		t.Errorf("%d bytes, want %d", out.Len(), limit)
	}
}

func TestSpec(t *testing.T) {
	engine := start(t, fake.Options{})
	if got, err := engine.Spec("ocmt-1"); err != nil || got.UID != 20001 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := engine.Spec("nobody"); !errdefs.IsNotFound(err) {
		t.Errorf("error %v", err)
	}
	info, err := engine.Info(t.Context())
	if err != nil || info.Name != "fake" || len(info.Runtimes) != 1 {
		t.Errorf("%+v, %v", info, err)
	}
}
