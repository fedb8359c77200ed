// Package fake is a container engine in memory, for tests: a container is a
// call of a Go function. It passes the conformance suite of
// sandbox/sandboxtest, so that a test which holds with it is a test of the
// caller; what only a kernel can do, it does not pretend.
//
// It uses no goroutine but the workloads', and no clock but package time's, so
// that it works within testing/synctest.
package fake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/sandbox"
)

// ErrTerminated is the cause of a workload's context after SIGTERM.
var ErrTerminated = errors.New("terminated")

// ErrKilled is the cause of a workload's context after SIGKILL without a
// SIGTERM before it.
var ErrKilled = errors.New("killed")

// OOM is what a workload returns to end as if the memory limit had ended it.
const OOM = -1

// Options configure an engine. The zero value is useful.
type Options struct {
	// Run is the workload. Its context ends with SIGTERM; what it returns is
	// the exit code. A workload that goes on after SIGKILL is a zombie: its
	// container has ended, and its output goes nowhere. out is its standard
	// output, and by a method Stderr() io.Writer its standard error. A nil Run
	// waits for SIGTERM and returns 0.
	Run func(ctx context.Context, spec sandbox.Spec, out io.Writer) int

	// Images are the configuration digests that the engine holds from the
	// beginning.
	Images []string

	// Info is what Info answers; Name is "fake" when it is empty.
	Info sandbox.Info

	// Fail, if set, is called first by every method with the method's lower
	// case name ("create", "start", ...) and the container's id or the image's
	// digest. An error that it returns is the method's. It may block until ctx
	// ends, as an engine that hangs would.
	Fail func(ctx context.Context, method, id string) error
}

// Engine is an engine in memory. Make it with [New].
type Engine struct {
	options Options

	mu         sync.Mutex
	images     map[string]bool
	containers map[string]*unit
	lastPID    int
}

var _ sandbox.Engine = (*Engine)(nil)

// unit is one container. What is not set at its creation is guarded by
// Engine.mu.
type unit struct {
	spec    sandbox.Spec
	log     *log
	state   sandbox.State
	started time.Time
	pid     int
	exit    sandbox.Exit
	cancel  context.CancelCauseFunc // ends the workload's context
	ended   chan struct{}           // closed when the state becomes exited
	gone    chan struct{}           // closed when the container is removed
}

// New returns an engine without containers.
func New(options Options) *Engine {
	if options.Run == nil {
		options.Run = func(ctx context.Context, _ sandbox.Spec, _ io.Writer) int {
			<-ctx.Done()
			return 0
		}
	}
	options.Info.Name = cmp.Or(options.Info.Name, "fake")
	options.Info.Version = cmp.Or(options.Info.Version, "1")
	options.Info.Runtime = cmp.Or(options.Info.Runtime, "fake")
	if len(options.Info.Runtimes) == 0 {
		options.Info.Runtimes = []string{options.Info.Runtime}
	}
	engine := &Engine{options: options, images: map[string]bool{}, containers: map[string]*unit{}}
	for _, digest := range options.Images {
		engine.images[digest] = true
	}
	return engine
}

// Info returns Options.Info.
func (e *Engine) Info(ctx context.Context) (sandbox.Info, error) {
	if err := e.enter(ctx, "info", ""); err != nil {
		return sandbox.Info{}, err
	}
	return e.options.Info, nil
}

// EnsureImage reads and checks the archive, and remembers the digest.
func (e *Engine) EnsureImage(ctx context.Context, img sandbox.Image, progress func(sent int64)) error {
	if err := e.enter(ctx, "ensureimage", img.Digest); err != nil {
		return err
	}
	if e.hasImage(img.Digest) {
		return nil
	}
	if img.Open == nil {
		return fmt.Errorf("cannot find image %s: %w", img.Digest, errdefs.ErrNotFound)
	}
	archive, err := img.Open()
	if err != nil {
		return fmt.Errorf("cannot open the archive of image %s: %w", img.Digest, err)
	}
	defer archive.Close()
	sent := counted(ctx, archive, progress)
	if err := sandbox.CheckArchive(sent, img.Digest); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	if _, err := io.Copy(io.Discard, sent); err != nil {
		return fmt.Errorf("cannot read the archive of image %s: %w", img.Digest, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.images[img.Digest] = true
	return nil
}

// Create checks the spec as every engine does, and keeps it.
func (e *Engine) Create(ctx context.Context, spec sandbox.Spec) error {
	if err := e.enter(ctx, "create", spec.ID); err != nil {
		return err
	}
	if err := errors.Join(spec.Validate(), spec.CheckSources(), spec.Limits.CheckHost(e.options.Info)); err != nil {
		return err
	}
	if spec.Runtime != "" && !slices.Contains(e.options.Info.Runtimes, spec.Runtime) {
		return fmt.Errorf("cannot use runtime %q, the engine knows %q: %w", spec.Runtime, e.options.Info.Runtimes, errdefs.ErrInvalidArgument)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.containers[spec.ID] != nil {
		return fmt.Errorf("cannot create container %s: the name is taken: %w", spec.ID, errdefs.ErrAlreadyExists)
	}
	if !e.images[spec.Image] {
		return fmt.Errorf("cannot find image %s: %w", spec.Image, errdefs.ErrNotFound)
	}
	spec.Labels = maps.Clone(spec.Labels)
	e.containers[spec.ID] = &unit{
		spec:  spec,
		log:   newLog(spec.Limits.LogSize * sandbox.LogFiles),
		state: sandbox.StateCreated,
		ended: make(chan struct{}),
		gone:  make(chan struct{}),
	}
	return nil
}

// Start calls the workload.
func (e *Engine) Start(ctx context.Context, id string) error {
	if err := e.enter(ctx, "start", id); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	u, err := e.find(id)
	if err != nil {
		return err
	}
	if u.state != sandbox.StateCreated {
		return fmt.Errorf("cannot start container %s: it is %s: %w", id, u.state, errdefs.ErrFailedPrecondition)
	}
	workload, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	e.lastPID++
	u.state, u.started, u.pid, u.cancel = sandbox.StateRunning, time.Now(), e.lastPID, cancel
	go func() {
		code := e.options.Run(workload, u.spec, u.log)
		exit := sandbox.Exit{Code: code}
		if code == OOM {
			exit = sandbox.Exit{Code: 137, OOMKilled: true}
		}
		e.end(u, exit, nil)
	}()
	return nil
}

// Wait blocks until the workload has returned or was killed.
func (e *Engine) Wait(ctx context.Context, id string) (sandbox.Exit, error) {
	if err := e.enter(ctx, "wait", id); err != nil {
		return sandbox.Exit{}, err
	}
	u, err := e.lookup(id)
	if err != nil {
		return sandbox.Exit{}, err
	}
	select {
	case <-u.ended:
		return u.exit, nil
	case <-u.gone:
		return sandbox.Exit{}, notFound(id)
	case <-ctx.Done():
		return sandbox.Exit{}, fmt.Errorf("cannot wait for container %s: %w", id, ctx.Err())
	}
}

// Stop ends the workload's context, and the container after grace.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := e.enter(ctx, "stop", id); err != nil {
		return err
	}
	u, err := e.lookup(id)
	if err != nil || !e.signal(u, grace) {
		return nil // unknown or not running: nothing to do
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-u.ended:
	case <-timer.C:
		e.kill(u)
	case <-ctx.Done():
		return fmt.Errorf("cannot stop container %s: %w", id, ctx.Err())
	}
	return nil
}

// signal sends SIGTERM, or SIGKILL when there is no grace, and says whether
// the container has still to end.
func (e *Engine) signal(u *unit, grace time.Duration) bool {
	e.mu.Lock()
	running := u.state == sandbox.StateRunning
	e.mu.Unlock()
	if !running {
		return false
	}
	if grace <= 0 {
		e.kill(u)
		return false
	}
	u.cancel(ErrTerminated)
	return true
}

// Remove kills the container and forgets it.
func (e *Engine) Remove(ctx context.Context, id string) error {
	if err := e.enter(ctx, "remove", id); err != nil {
		return err
	}
	u, err := e.lookup(id)
	if err != nil {
		return nil //nolint:nilerr // not there is what was asked for
	}
	e.mu.Lock()
	if e.containers[id] == u {
		delete(e.containers, id)
		close(u.gone)
	}
	running := u.state == sandbox.StateRunning
	e.mu.Unlock()
	if running {
		e.kill(u)
	}
	u.log.close()
	return nil
}

// List returns the containers in the order of their ids.
func (e *Engine) List(ctx context.Context, match map[string]string) ([]sandbox.Container, error) {
	if err := e.enter(ctx, "list", ""); err != nil {
		return nil, err
	}
	if match[sandbox.LabelHome] == "" {
		return nil, fmt.Errorf("cannot list containers without label %s: %w", sandbox.LabelHome, errdefs.ErrInvalidArgument)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []sandbox.Container
	for _, id := range slices.Sorted(maps.Keys(e.containers)) {
		u := e.containers[id]
		if !u.matches(match) {
			continue
		}
		c := sandbox.Container{ID: id, Labels: maps.Clone(u.spec.Labels), State: u.state, StartedAt: u.started, Exit: u.exit}
		if u.state == sandbox.StateRunning {
			c.PID = u.pid
		}
		found = append(found, c)
	}
	return found, nil
}

// Logs writes what the workload wrote.
func (e *Engine) Logs(ctx context.Context, id string, options sandbox.LogOptions, w io.Writer) error {
	if err := e.enter(ctx, "logs", id); err != nil {
		return err
	}
	u, err := e.lookup(id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	options.Follow = options.Follow && u.state == sandbox.StateRunning
	e.mu.Unlock()
	return u.log.copy(ctx, options, w)
}

// Exit ends a running container as if its first process had ended that way,
// by itself: a crash, or with exit.OOMKilled the memory limit.
func (e *Engine) Exit(id string, exit sandbox.Exit) error {
	u, err := e.lookup(id)
	if err != nil {
		return err
	}
	if !e.end(u, exit, ErrKilled) {
		return fmt.Errorf("cannot end container %s: it is not running: %w", id, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// Spec returns what a container was created with.
func (e *Engine) Spec(id string) (sandbox.Spec, error) {
	u, err := e.lookup(id)
	if err != nil {
		return sandbox.Spec{}, err
	}
	return u.spec, nil
}

func (e *Engine) kill(u *unit) { e.end(u, sandbox.Exit{Code: 137}, ErrKilled) }

// end makes a running container exited and says whether it was running.
func (e *Engine) end(u *unit, exit sandbox.Exit, cause error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if u.state != sandbox.StateRunning {
		return false
	}
	exit.At = time.Now()
	u.state, u.exit = sandbox.StateExited, exit
	u.cancel(cause)
	u.log.close()
	close(u.ended)
	return true
}

func (e *Engine) enter(ctx context.Context, method, id string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cannot %s %s: %w", method, id, err)
	}
	if e.options.Fail != nil {
		if err := e.options.Fail(ctx, method, id); err != nil {
			return fmt.Errorf("cannot %s %s: %w", method, id, err)
		}
	}
	return nil
}

func (e *Engine) hasImage(digest string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.images[digest]
}

func (e *Engine) lookup(id string) (*unit, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.find(id)
}

// find wants e.mu to be held.
func (e *Engine) find(id string) (*unit, error) {
	if u := e.containers[id]; u != nil {
		return u, nil
	}
	return nil, notFound(id)
}

func notFound(id string) error {
	return fmt.Errorf("cannot find container %s: %w", id, errdefs.ErrNotFound)
}

func (u *unit) matches(labels map[string]string) bool {
	for key, value := range labels {
		if got, ok := u.spec.Labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// counted tells progress how much of r was read, and fails when ctx ends.
func counted(ctx context.Context, r io.Reader, progress func(int64)) io.Reader {
	var sent int64
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := r.Read(p)
		sent += int64(n)
		if progress != nil && n > 0 {
			progress(sent)
		}
		return n, err
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
