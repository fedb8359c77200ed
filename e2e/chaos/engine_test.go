package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// engine is a container engine of the suite's own, which it may kill.
type engine interface {
	harness.Engine // seen from outside
	title() string // in reports
	env() []string // points the daemon at it
	// start starts it and waits until it answers. After kill or stop, it
	// starts over what the one before left.
	start(ctx context.Context) error
	kill() error   // SIGKILL
	stop() error   // in order
	pause() error  // SIGSTOP
	resume() error // SIGCONT
	end()          // for good, whatever state it is in
	version(ctx context.Context) string
}

// own is what every engine of the suite's has: a directory, and a process.
type own struct {
	harness.Engine
	dir string
	p   *process
}

func (o *own) kill() error   { return o.p.end(syscall.SIGKILL, 10*time.Second) }
func (o *own) stop() error   { return o.p.end(syscall.SIGTERM, time.Minute) }
func (o *own) pause() error  { return o.p.cmd.Process.Signal(syscall.SIGSTOP) }
func (o *own) resume() error { return o.p.cmd.Process.Signal(syscall.SIGCONT) }

func (o *own) end() {
	if o.p == nil {
		return
	}
	_ = o.resume()
	if o.stop() != nil {
		_ = o.kill()
	}
}

// run starts the engine's program and waits until it answers.
func (o *own) run(ctx context.Context, name string, args ...string) error {
	p, err := spawn(filepath.Join(o.dir, "log"), nil, name, args...)
	if err != nil {
		return err
	}
	o.p = p
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	for {
		err := o.Answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended:\n%s", name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w\n%s", name, err, p.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// dockerd is a private Docker engine on a private containerd: no network,
// nothing of the host's but the kernel.
type dockerd struct {
	own
	below       *containerd
	liveRestore bool // containers go on while it is away
}

func newDockerd(dir string) *dockerd {
	return &dockerd{
		own:   own{Engine: harness.Docker("unix://" + filepath.Join(dir, "docker.sock")), dir: dir},
		below: newContainerd(dir + "-below"), liveRestore: true,
	}
}

func (d *dockerd) title() string {
	if d.liveRestore {
		return "docker"
	}
	return "docker without live-restore"
}

func (d *dockerd) host() string  { return "unix://" + filepath.Join(d.dir, "docker.sock") }
func (d *dockerd) env() []string { return []string{"DOCKER_HOST=" + d.host()} }

func (d *dockerd) start(ctx context.Context) error {
	config := filepath.Join(d.dir, "daemon.json") // none of the host's
	if err := errors.Join(os.MkdirAll(d.dir, 0o711), os.WriteFile(config, []byte("{}"), 0o600)); err != nil {
		return err
	}
	if d.below.p == nil || !d.below.p.running() {
		if err := d.below.start(ctx); err != nil {
			return err
		}
	}
	args := []string{
		"--config-file", config, "--containerd", d.below.socket(), "--data-root", filepath.Join(d.dir, "data"), "--exec-root", filepath.Join(d.dir, "exec"),
		"--pidfile", filepath.Join(d.dir, "pid"), "--host", d.host(),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
	}
	if d.liveRestore {
		args = append(args, "--live-restore")
	}
	_ = os.Remove(filepath.Join(d.dir, "pid")) // of one that was killed
	return d.run(ctx, "dockerd", args...)
}

// end ends dockerd and its containerd, however they are.
func (d *dockerd) end() { d.own.end(); d.below.end() }

func (d *dockerd) version(ctx context.Context) string {
	v, _ := output(ctx, "docker", "--host", d.host(), "version", "--format", "{{.Server.Version}}")
	return v
}

// containerd is a private containerd.
type containerd struct{ own }

func newContainerd(dir string) *containerd {
	return &containerd{own{Engine: harness.Containerd(filepath.Join(dir, "c.sock")), dir: dir}}
}

func (c *containerd) title() string  { return "containerd" }
func (c *containerd) socket() string { return filepath.Join(c.dir, "c.sock") }
func (c *containerd) env() []string  { return []string{"CONTAINERD_ADDRESS=" + c.socket()} }

func (c *containerd) start(ctx context.Context) error {
	config := filepath.Join(c.dir, "config.toml")
	text := fmt.Sprintf("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[plugins.\"io.containerd.internal.v1.opt\"]\n  path = %q\n",
		filepath.Join(c.dir, "opt"))
	if err := errors.Join(os.MkdirAll(c.dir, 0o711), os.WriteFile(config, []byte(text), 0o600)); err != nil {
		return err
	}
	return c.run(ctx, "containerd", "--config", config,
		"--root", filepath.Join(c.dir, "root"), "--state", filepath.Join(c.dir, "state"), "--address", c.socket())
}

func (c *containerd) version(ctx context.Context) string {
	out, _ := output(ctx, "ctr", "--address", c.socket(), "version")
	_, server, _ := strings.Cut(out, "Server:")
	f := append(strings.Fields(server), "", "")
	return f[1]
}

// output runs a command, for at most 30 s, and returns what it printed.
func output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
