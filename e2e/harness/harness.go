// Package harness runs the built ocmt as its users do: a daemon over a home of
// its own, and commands against it. The end-to-end tests, the benchmarks and
// the demo share it.
package harness

import (
	"bytes"
	"cmp"
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
	engine Engine
	cmd    *exec.Cmd
	log    *syncBuffer
	exited chan struct{}
	err    error
}

// Options say how a daemon is run.
type Options struct {
	Home string
	Args []string // of serve, besides the home, the engine and the runtime
	Env  []string // besides the caller's
	Bin  string   // another program than bin/ocmt
	// Engine is another engine than the environment's; its address is for Env to
	// say.
	Engine Engine
}

// Start runs `ocmt serve` over home, on the engine that the environment asks
// for, and waits until it answers.
func Start(ctx context.Context, home string, args ...string) (*Daemon, error) {
	return StartWith(ctx, Options{Home: home, Args: args})
}

// StartWith is Start with more to say.
func StartWith(ctx context.Context, opts Options) (*Daemon, error) {
	bin, err := Binary()
	if err != nil {
		return nil, err
	}
	bin = cmp.Or(opts.Bin, bin)
	d := &Daemon{Home: opts.Home, bin: bin, engine: opts.Engine, log: &syncBuffer{}, exited: make(chan struct{})}
	flags := EngineFlags()
	if d.engine != nil {
		flags = []string{"--engine", d.engine.Name()}
	} else if d.engine, err = Chosen(); err != nil {
		return nil, err
	}
	args := append([]string{"serve", "--home", opts.Home}, flags...)
	d.cmd = exec.Command(bin, append(args, opts.Args...)...) //nolint:noctx // our own binary, ended by Stop
	d.cmd.Env = append(os.Environ(), opts.Env...)
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

// Ended is a daemon that somebody else ran and that has ended, to look for
// what it left.
func Ended(home, homeID string) (*Daemon, error) {
	engine, err := Chosen()
	return &Daemon{Home: home, HomeID: homeID, engine: engine}, err
}

// Log returns what the daemon printed so far.
func (d *Daemon) Log() string { return d.log.String() }

// PID is the daemon's process id.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Stop ends the daemon and its plugins in order and returns its error.
func (d *Daemon) Stop() error { return d.end(syscall.SIGTERM) }

// HandOver ends the daemon in order and leaves its plugins running, for the
// next one.
func (d *Daemon) HandOver() error { return d.end(syscall.SIGUSR2) }

func (d *Daemon) end(how syscall.Signal) error {
	if err := d.cmd.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.exited:
		return d.err
	case <-time.After(time.Minute):
		_ = d.cmd.Process.Kill()
		<-d.exited
		return fmt.Errorf("ocmt serve did not end within a minute of %s:\n%s", how, d.Log())
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

// Container returns the engine's id of the running container of a plugin.
func (d *Daemon) Container(ctx context.Context, tenant, id string) (string, error) {
	ids, err := d.engine.Containers(ctx, map[string]string{"ocmt.home": d.HomeID, "ocmt.tenant": tenant, "ocmt.plugin": id}, true)
	if err != nil {
		return "", err
	}
	if len(ids) != 1 {
		return "", fmt.Errorf("%d containers of plugin %s run, want 1", len(ids), id)
	}
	return ids[0], nil
}

// Containers returns the engine's ids of all containers of the home, running
// or not.
func (d *Daemon) Containers(ctx context.Context) ([]string, error) {
	return d.engine.Containers(ctx, map[string]string{"ocmt.home": d.HomeID}, false)
}

// Engine is what runs the daemon's containers.
func (d *Daemon) Engine() Engine { return d.engine }

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

// Run runs one command of ocmt that needs no daemon, or a daemon that ends by
// itself, with variables besides the caller's.
func Run(ctx context.Context, env []string, args ...string) Result {
	bin, err := Binary()
	if err != nil {
		return Result{Code: -1, Stderr: []byte(err.Error())}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...) // our own binary
	cmd.Env = append(os.Environ(), env...)
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
