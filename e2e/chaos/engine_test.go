package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// engine is a container engine of the suite's own, which it may kill.
type engine interface {
	name() string
	// env points clients at it; flags makes ocmt serve use it.
	env() []string
	flags() []string
	// start starts it and waits until it answers. After kill or stop, it
	// starts over what the one before left.
	start(ctx context.Context) error
	kill() error   // SIGKILL
	stop() error   // in order
	pause() error  // SIGSTOP
	resume() error // SIGCONT
	version(ctx context.Context) string
	// containers lists those of a home, whatever state they are in.
	containers(ctx context.Context, homeID string) ([]container, error)
	// remove kills and removes a container behind the daemon's back; killAll
	// kills its processes and leaves it.
	remove(ctx context.Context, id string) error
	killAll(ctx context.Context, id string) error
}

// container is one as its engine knows it.
type container struct {
	id, plugin string
	running    bool
}

// dockerd is a private Docker engine: no network, nothing of the host's but
// the kernel.
type dockerd struct {
	dir         string
	liveRestore bool // containers go on while it is away
	p           *process
}

func (d *dockerd) name() string {
	if d.liveRestore {
		return "docker"
	}
	return "docker without live-restore"
}
func (d *dockerd) socket() string  { return filepath.Join(d.dir, "docker.sock") }
func (d *dockerd) env() []string   { return []string{"DOCKER_HOST=unix://" + d.socket()} }
func (d *dockerd) flags() []string { return []string{"--engine", "docker"} }

func (d *dockerd) start(ctx context.Context) error {
	if err := os.MkdirAll(d.dir, 0o711); err != nil {
		return err
	}
	config := filepath.Join(d.dir, "daemon.json") // none of the host's
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		return err
	}
	args := []string{
		"--config-file", config, "--data-root", filepath.Join(d.dir, "data"), "--exec-root", filepath.Join(d.dir, "exec"),
		"--pidfile", filepath.Join(d.dir, "pid"), "--host", "unix://" + d.socket(),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
	}
	if d.liveRestore {
		args = append(args, "--live-restore")
	}
	_ = os.Remove(filepath.Join(d.dir, "pid")) // of one that was killed
	p, err := spawn(filepath.Join(d.dir, "log"), nil, "dockerd", args...)
	if err != nil {
		return err
	}
	d.p = p
	return answers(ctx, p, func(ctx context.Context) error {
		_, err := d.docker(ctx, "version", "--format", "{{.Server.Version}}")
		return err
	})
}

func (d *dockerd) kill() error   { return d.p.end(syscall.SIGKILL, 10*time.Second) }
func (d *dockerd) stop() error   { return d.p.end(syscall.SIGTERM, time.Minute) }
func (d *dockerd) pause() error  { return d.p.cmd.Process.Signal(syscall.SIGSTOP) }
func (d *dockerd) resume() error { return d.p.cmd.Process.Signal(syscall.SIGCONT) }

// killContainerd kills the containerd that dockerd runs for itself.
func (d *dockerd) killContainerd() error {
	text, err := os.ReadFile(filepath.Join(d.dir, "exec", "containerd", "containerd.pid"))
	if err != nil {
		return err
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

func (d *dockerd) docker(ctx context.Context, args ...string) (string, error) {
	return output(ctx, "docker", append([]string{"--host", "unix://" + d.socket()}, args...)...)
}

func (d *dockerd) version(ctx context.Context) string {
	v, err := d.docker(ctx, "version", "--format", "{{.Server.Version}}")
	if err != nil {
		return ""
	}
	return v
}

func (d *dockerd) containers(ctx context.Context, homeID string) ([]container, error) {
	out, err := d.docker(ctx, "ps", "--all", "--no-trunc", "--filter", "label=ocmt.home="+homeID,
		"--format", `{{.ID}} {{.State}} {{.Label "ocmt.plugin"}}`)
	if err != nil {
		return nil, err
	}
	var list []container
	for line := range strings.Lines(out) {
		f := append(strings.Fields(line), "", "")
		list = append(list, container{id: f[0], running: f[1] == "running", plugin: f[2]})
	}
	return list, nil
}

func (d *dockerd) remove(ctx context.Context, id string) error {
	_, err := d.docker(ctx, "rm", "--force", id)
	return err
}

func (d *dockerd) killAll(ctx context.Context, id string) error {
	_, err := d.docker(ctx, "kill", id)
	return err
}

// containerd is a private containerd.
type containerd struct {
	dir string
	p   *process
}

func (c *containerd) name() string    { return "containerd" }
func (c *containerd) socket() string  { return filepath.Join(c.dir, "c.sock") }
func (c *containerd) env() []string   { return []string{"CONTAINERD_ADDRESS=" + c.socket()} }
func (c *containerd) flags() []string { return []string{"--engine", "containerd"} }

func (c *containerd) start(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o711); err != nil {
		return err
	}
	config := filepath.Join(c.dir, "config.toml")
	text := fmt.Sprintf("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[plugins.\"io.containerd.internal.v1.opt\"]\n  path = %q\n",
		filepath.Join(c.dir, "opt"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	p, err := spawn(filepath.Join(c.dir, "log"), nil, "containerd", "--config", config,
		"--root", filepath.Join(c.dir, "root"), "--state", filepath.Join(c.dir, "state"), "--address", c.socket())
	if err != nil {
		return err
	}
	c.p = p
	return answers(ctx, p, func(ctx context.Context) error {
		_, err := c.ctr(ctx, "version")
		return err
	})
}

func (c *containerd) kill() error   { return c.p.end(syscall.SIGKILL, 10*time.Second) }
func (c *containerd) stop() error   { return c.p.end(syscall.SIGTERM, time.Minute) }
func (c *containerd) pause() error  { return c.p.cmd.Process.Signal(syscall.SIGSTOP) }
func (c *containerd) resume() error { return c.p.cmd.Process.Signal(syscall.SIGCONT) }

func (c *containerd) ctr(ctx context.Context, args ...string) (string, error) {
	return output(ctx, "ctr", append([]string{"--address", c.socket()}, args...)...)
}

func (c *containerd) version(ctx context.Context) string {
	out, err := c.ctr(ctx, "version")
	if err != nil {
		return ""
	}
	_, server, _ := strings.Cut(out, "Server:")
	f := append(strings.Fields(server), "", "")
	return f[1]
}

// namespaces are all that it knows: ocmt has its own in there.
func (c *containerd) namespaces(ctx context.Context) ([]string, error) {
	out, err := c.ctr(ctx, "namespaces", "list", "--quiet")
	return strings.Fields(out), err
}

func (c *containerd) containers(ctx context.Context, homeID string) ([]container, error) {
	spaces, err := c.namespaces(ctx)
	if err != nil {
		return nil, err
	}
	var list []container
	for _, ns := range spaces {
		ids, err := c.ctr(ctx, "--namespace", ns, "containers", "list", "--quiet")
		if err != nil {
			return nil, err
		}
		tasks, err := c.ctr(ctx, "--namespace", ns, "tasks", "list")
		if err != nil {
			return nil, err
		}
		for _, id := range strings.Fields(ids) {
			text, err := c.ctr(ctx, "--namespace", ns, "containers", "info", id)
			if err != nil {
				continue // it went away meanwhile
			}
			var info struct{ Labels map[string]string }
			if err := json.Unmarshal([]byte(text), &info); err != nil {
				return nil, err
			}
			if info.Labels["ocmt.home"] == homeID {
				list = append(list, container{id: ns + "/" + id, plugin: info.Labels["ocmt.plugin"], running: taskRuns(tasks, id)})
			}
		}
	}
	return list, nil
}

func taskRuns(tasks, id string) bool {
	for line := range strings.Lines(tasks) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == id {
			return f[2] == "RUNNING"
		}
	}
	return false
}

func (c *containerd) remove(ctx context.Context, id string) error {
	ns, id, _ := strings.Cut(id, "/")
	if _, err := c.ctr(ctx, "--namespace", ns, "tasks", "delete", "--force", id); err != nil {
		return err
	}
	_, err := c.ctr(ctx, "--namespace", ns, "containers", "delete", id)
	if err != nil && strings.Contains(err.Error(), "not found") { // the daemon was faster
		return nil
	}
	return err
}

func (c *containerd) killAll(ctx context.Context, id string) error {
	ns, id, _ := strings.Cut(id, "/")
	_, err := c.ctr(ctx, "--namespace", ns, "tasks", "kill", "--signal", "SIGKILL", "--all", id)
	return err
}

// answers waits until an engine that was started answers.
func answers(ctx context.Context, p *process, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended:\n%s", p.cmd.Path, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w\n%s", p.cmd.Path, err, p.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
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
