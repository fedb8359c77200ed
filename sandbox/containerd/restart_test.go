package containerd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

// daemon is a containerd of the test's own.
type daemon struct {
	dir     string
	address string
	process *exec.Cmd
}

// newDaemon starts one, or skips the test where that is not possible.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	if _, err := exec.LookPath("containerd"); err != nil || os.Geteuid() != 0 {
		open(t, Options{}) // says whether that matters
		t.Skip("starting a containerd takes root and its program")
	}
	// A short path: containerd keeps sockets there.
	dir, err := os.MkdirTemp("", "ctrd")
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{dir: dir, address: filepath.Join(dir, "s")}
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), d.address)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start(t)
	t.Cleanup(func() {
		d.kill(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cannot remove %s: %v", dir, err)
		}
	})
	return d
}

func (d *daemon) start(t *testing.T) {
	t.Helper()
	d.process = exec.Command("containerd", "--config", filepath.Join(d.dir, "config.toml")) // ended by kill
	if err := d.process.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill ends it as a crash does: its containers run on.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if err := d.process.Process.Kill(); err != nil {
		t.Errorf("cannot kill containerd: %v", err)
	}
	_ = d.process.Wait() // it was killed
}

// connect returns an engine on it as soon as it answers.
func (d *daemon) connect(t *testing.T, options Options) *Engine {
	t.Helper()
	options.Address = d.address
	for end := time.Now().Add(patience); ; {
		e, err := New(t.Context(), options)
		if err == nil {
			t.Cleanup(func() { _ = e.Close() })
			return e
		}
		if time.Now().After(end) {
			t.Fatalf("containerd did not come: %v", err)
		}
		pause(t.Context(), 20*time.Millisecond, nil)
	}
}

// TestEngineIsKilled kills containerd under running containers, of which one
// ends before it is back.
func TestEngineIsKilled(t *testing.T) {
	d := newDaemon(t)
	e := d.connect(t, Options{Dir: tempDir(t), Timeout: 20 * time.Second})
	stays := probe(t, e, "print", "3", "9")
	dies := stays
	dies.ID += "-dies"
	start(t, e, stays)
	start(t, e, dies)
	t.Cleanup(func() {
		remove(t, e, stays.ID)
		remove(t, e, dies.ID)
	})
	awaitOutput(t, e, stays.ID, "sleeping")
	exits := map[string]chan sandbox.Exit{stays.ID: make(chan sandbox.Exit, 1), dies.ID: make(chan sandbox.Exit, 1)}
	for id, exit := range exits {
		go func() {
			got, err := e.Wait(t.Context(), id)
			if err != nil {
				t.Errorf("Wait: %v", err)
			}
			exit <- got
		}()
	}
	c, err := e.look(t.Context(), dies.ID)
	if err != nil {
		t.Fatal(err)
	}
	d.kill(t)
	if err := unix.Kill(c.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := e.Stop(t.Context(), stays.ID, patience); !errdefs.IsUnavailable(err) || time.Since(began) > 5*time.Second {
		t.Errorf("Stop without an engine: %v after %s", err, time.Since(began))
	}
	d.start(t)
	if exit := <-exits[dies.ID]; exit.Code != 137 {
		t.Errorf("of the one that died: %+v", exit)
	}
	for end := time.Now().Add(patience); ; {
		err := e.Stop(t.Context(), stays.ID, patience)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if exit := <-exits[stays.ID]; exit.Code != 9 {
		t.Errorf("of the one that stayed: %+v", exit)
	}
}

// TestEngineStaysAway bounds how long Wait puts up with that.
func TestEngineStaysAway(t *testing.T) {
	d := newDaemon(t)
	e := d.connect(t, Options{Dir: tempDir(t), Timeout: time.Second})
	spec := probe(t, e, "sleep", "0")
	start(t, e, spec)
	failed := make(chan error)
	go func() {
		_, err := e.Wait(t.Context(), spec.ID)
		failed <- err
	}()
	d.kill(t)
	if err := <-failed; !errdefs.IsUnavailable(err) {
		t.Errorf("Wait: %v", err)
	}
	d.start(t)
	for _, err := e.connect(t.Context()); err != nil; _, err = e.connect(t.Context()) {
		pause(t.Context(), 20*time.Millisecond, nil)
	}
	remove(t, e, spec.ID)
}

// TestForgottenContainer has containerd forget a container that runs.
func TestForgottenContainer(t *testing.T) {
	for _, runtime := range []string{defaultRuntime, gvisor} {
		t.Run(runtime, func(t *testing.T) {
			withRuntime(t, runtime)
			d := newDaemon(t)
			e := d.connect(t, Options{Dir: tempDir(t)})
			spec := probe(t, e, "sleep", "0")
			spec.Runtime = runtime
			start(t, e, spec)
			d.kill(t)
			bundle := filepath.Join(d.dir, "state", "io.containerd.runtime.v2.task", namespace, spec.ID)
			if err := errors.Join(unix.Unmount(filepath.Join(bundle, "rootfs"), unix.MNT_DETACH), os.RemoveAll(bundle)); err != nil {
				t.Fatal(err)
			}
			d.start(t)
			e = d.connect(t, Options{Dir: e.dir})
			if len(processes(t, spec.ID)) == 0 {
				t.Error("nothing runs")
			}
			if exit := wait(t, e, spec.ID); exit.Code != 137 {
				t.Errorf("exit %+v", exit)
			}
			remove(t, e, spec.ID)
			wantNothing(t, e, spec.ID)
			if left, err := filepath.Glob(filepath.Join(runtimeRoot, spec.ID+"*")); err != nil || len(left) > 0 {
				t.Errorf("the runtime keeps %q, %v", left, err)
			}
			for _, err := e.connect(t.Context()); err != nil; _, err = e.connect(t.Context()) {
				pause(t.Context(), 20*time.Millisecond, nil)
			}
		})
	}
}
