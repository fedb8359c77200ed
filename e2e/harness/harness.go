// Package harness runs the built ocmt as its users do: a daemon over a home of
// its own, and commands against it. The end-to-end tests, the benchmarks and
// the demo share it.
package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Root returns the module's root, found from the working directory upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = parent
	}
}

// Binary returns the path of bin/ocmt, which `make build` writes.
func Binary() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin", "ocmt")
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("no %s: run `make build` first", bin)
	}
	return bin, nil
}

// Daemon is a running `ocmt serve`.
type Daemon struct {
	Home   string
	HomeID string
	bin    string
	cmd    *exec.Cmd
	log    *syncBuffer
	exited chan struct{}
	err    error
}

// Start runs `ocmt serve` over home and waits until it answers.
func Start(ctx context.Context, home string, args ...string) (*Daemon, error) {
	bin, err := Binary()
	if err != nil {
		return nil, err
	}
	d := &Daemon{Home: home, bin: bin, log: &syncBuffer{}, exited: make(chan struct{})}
	d.cmd = exec.Command(bin, append([]string{"serve", "--home", home}, args...)...) //nolint:noctx // our own binary, ended by Stop
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.exited)
	}()
	return d, d.waitAnswer(ctx)
}

func (d *Daemon) waitAnswer(ctx context.Context) error {
	for {
		res := d.Run(ctx, "status", "--json")
		if res.Code == 0 {
			var status struct {
				HomeID string `json:"homeId"`
			}
			if err := json.Unmarshal(res.Stdout, &status); err != nil {
				return err
			}
			d.HomeID = status.HomeID
			return nil
		}
		select {
		case <-d.exited:
			return fmt.Errorf("ocmt serve ended: %w\n%s", d.err, d.Log())
		case <-ctx.Done():
			return fmt.Errorf("ocmt serve does not answer: %w\n%s", ctx.Err(), d.Log())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Log returns what the daemon printed so far.
func (d *Daemon) Log() string { return d.log.String() }

// PID is the daemon's process id.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Stop ends the daemon in order and returns its error.
func (d *Daemon) Stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.exited:
		return d.err
	case <-time.After(time.Minute):
		_ = d.cmd.Process.Kill()
		<-d.exited
		return fmt.Errorf("ocmt serve did not end within a minute of SIGTERM:\n%s", d.Log())
	}
}

// Kill ends the daemon with SIGKILL.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill()
	<-d.exited
}

// Result is what a command printed and how it ended.
type Result struct {
	Stdout, Stderr []byte
	Code           int
	Took           time.Duration
}

// Run runs one ocmt command against the daemon, without a terminal.
func (d *Daemon) Run(ctx context.Context, args ...string) Result {
	return d.RunInput(ctx, nil, args...)
}

// RunInput is Run with standard input.
func (d *Daemon) RunInput(ctx context.Context, stdin io.Reader, args ...string) Result {
	cmd := exec.CommandContext(ctx, d.bin, append(args, "--home", d.Home)...) // our own binary
	cmd.Stdin = stdin
	return capture(cmd)
}

// JSON runs a command with --json and decodes its output.
func (d *Daemon) JSON(ctx context.Context, into any, args ...string) error {
	res := d.Run(ctx, append(args, "--json")...)
	if res.Code != 0 {
		return fmt.Errorf("ocmt %s: exit code %d: %s", strings.Join(args, " "), res.Code, res.Stderr)
	}
	return json.Unmarshal(res.Stdout, into)
}

// Leftovers lists what the home still has on this host: containers, volumes,
// mounts, sockets and processes. After a stop or an uninstall it is empty.
func (d *Daemon) Leftovers(ctx context.Context) ([]string, error) {
	var left []string
	for _, kind := range [][]string{{"ps", "-a"}, {"volume", "ls"}} {
		out, err := Docker(ctx, append(kind, "--quiet", "--filter", "label=ocmt.home="+d.HomeID)...)
		if err != nil {
			return nil, err
		}
		for _, id := range strings.Fields(out) {
			left = append(left, kind[0]+" "+id)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], d.Home+"/") {
			left = append(left, "mount "+f[4])
		}
	}
	for _, pattern := range []string{"run/i/*", "run/*.sock", "instances/*", "staging/*"} {
		paths, err := filepath.Glob(filepath.Join(d.Home, "ocmt", pattern))
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			left = append(left, "file "+p)
		}
	}
	return append(left, processes(d.Home)...), nil
}

// processes lists the processes that name the home on their command line.
func processes(home string) []string {
	var left []string
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range dirs {
		line, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(line), home) {
			continue
		}
		if args := strings.Split(string(line), "\x00"); filepath.Base(args[0]) == "ocmt" {
			left = append(left, "process "+strings.Join(args, " "))
		}
	}
	return left
}

// Container returns the engine's id of the running container of a plugin.
func (d *Daemon) Container(ctx context.Context, tenant, id string) (string, error) {
	out, err := Docker(ctx, "ps", "--quiet", "--no-trunc", "--filter", "label=ocmt.home="+d.HomeID,
		"--filter", "label=ocmt.tenant="+tenant, "--filter", "label=ocmt.plugin="+id)
	if err != nil {
		return "", err
	}
	ids := strings.Fields(out)
	if len(ids) != 1 {
		return "", fmt.Errorf("%d containers of plugin %s run, want 1", len(ids), id)
	}
	return ids[0], nil
}

// Docker runs the docker command and returns its output.
func Docker(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", args...).Output() // arguments are ours
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", fmt.Errorf("docker %s: %w: %s", args[0], err, exit.Stderr)
		}
		return "", fmt.Errorf("docker %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// syncBuffer is a buffer that one goroutine writes and others read.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Serve runs `ocmt serve` with arguments that make it end by itself, with
// DOCKER_HOST as given (empty: as it is).
func Serve(ctx context.Context, dockerHost string, args ...string) Result {
	bin, err := Binary()
	if err != nil {
		return Result{Code: -1, Stderr: []byte(err.Error())}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...) // our own binary
	if dockerHost != "" {
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+dockerHost)
	}
	return capture(cmd)
}

// capture runs a command to its end.
func capture(cmd *exec.Cmd) Result {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err := cmd.Run()
	res := Result{Stdout: out.Bytes(), Stderr: errs.Bytes(), Took: time.Since(start)}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		res.Code = exit.ExitCode()
	case err != nil:
		res.Code = -1
		res.Stderr = append(res.Stderr, err.Error()...)
	}
	return res
}
