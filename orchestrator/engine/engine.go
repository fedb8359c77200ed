// Package engine chooses the container engine by name and says which one it
// took. It is the one place that knows the implementations of
// sandbox.Engine.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/containerd"
	"github.com/ocmt/ocmt/sandbox/docker"
)

// The engines that can be asked for. Auto takes the first that answers, in the
// order of preferred.
const (
	Auto       = "auto"
	Docker     = "docker"
	Containerd = "containerd"
)

// preferred is the order in which Auto tries: containerd starts a plugin twice
// as fast as Docker does (docs/benchmarks.md).
var preferred = []string{Containerd, Docker}

// Names are the engines that can be asked for.
func Names() []string { return []string{Auto, Docker, Containerd} }

// answerTimeout bounds how long an engine may take to describe itself.
const answerTimeout = 15 * time.Second

// Options say which engine is wanted.
type Options struct {
	Name    string // one of Names; empty is Auto
	Runtime string // an OCI runtime of the engine; empty is its default
	// Last is the engine that the home's containers were made with, which Auto
	// then takes, and no other: those that run are known to it alone, and a
	// plugin never has two. Empty is none.
	Last string
	// Mounts says that the caller mounts sealed images itself, so that whether
	// the engine could need not be tried out.
	Mounts bool
	HomeID string // containers of other homes are unknown to the engine; empty for a mere look
	Dir    string // a directory that the engine sees by the same path, and may keep files in
	Logger *slog.Logger
}

// Open connects to the engine and checks that it answers, is new enough, and
// knows the runtime. Unavailable when no engine answers, InvalidArgument for
// an unknown engine or runtime, FailedPrecondition for one that is too old.
func Open(ctx context.Context, opts Options) (sandbox.Engine, sandbox.Info, error) {
	name := cmp.Or(opts.Name, Auto)
	if !slices.Contains(Names(), name) {
		return nil, sandbox.Info{}, fault.New(errdefs.ErrInvalidArgument, "unknown_engine", "there is no engine %q", name).
			WithHint("--engine takes one of: %s", strings.Join(Names(), ", "))
	}
	if name == Auto {
		name = cmp.Or(opts.Last, Auto)
	}
	e, info, err := open(ctx, name, opts)
	if err != nil {
		return nil, info, unavailable(name, opts, err)
	}
	if opts.Runtime != "" && !slices.Contains(info.Runtimes, opts.Runtime) {
		return nil, info, fault.New(errdefs.ErrInvalidArgument, "unknown_runtime", "engine %s has no runtime %q", info.Name, opts.Runtime).
			WithHint("%s", runtimeHint(info))
	}
	return e, info, nil
}

// open opens the engine of that name, or for Auto the first that can be used.
func open(ctx context.Context, name string, opts Options) (sandbox.Engine, sandbox.Info, error) {
	if name != Auto {
		return connect(ctx, name, opts)
	}
	var errs []error
	for _, name := range preferred {
		e, info, err := connect(ctx, name, opts)
		if err == nil {
			return e, info, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	return nil, sandbox.Info{}, errors.Join(errs...)
}

func connect(ctx context.Context, name string, opts Options) (e sandbox.Engine, info sandbox.Info, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if name == Containerd {
		e, err = containerd.New(ctx, containerd.Options{Home: opts.HomeID, Dir: opts.Dir, Logger: opts.Logger})
	} else {
		e, err = docker.New(ctx, docker.Options{Home: opts.HomeID, Dir: opts.Dir, NoTrial: opts.Mounts, Logger: opts.Logger})
	}
	if err != nil {
		return nil, info, err
	}
	info, err = e.Info(ctx)
	return e, info, err
}

// runtimeHint says how an engine gets another runtime.
func runtimeHint(info sandbox.Info) string {
	have := "it has: " + strings.Join(info.Runtimes, ", ")
	if info.Name == Containerd {
		return have + "; install the runtime on the daemon's PATH"
	}
	return have + "; add others to the engine's own configuration"
}

// addresses says how to name another engine of that name.
var addresses = map[string]string{
	Auto:       "name its socket by DOCKER_HOST or CONTAINERD_ADDRESS",
	Docker:     "name its socket by DOCKER_HOST",
	Containerd: "name its socket by CONTAINERD_ADDRESS",
}

// install says how to get an engine of that name.
var install = map[string]string{
	Auto:       "install and start Docker Engine 20.10 or containerd 1.6 or later (Debian: apt-get install docker.io)",
	Docker:     "install and start Docker Engine 20.10 or later (Debian: apt-get install docker.io)",
	Containerd: "install and start containerd 1.6 or later (Debian: apt-get install containerd)",
}

// unavailable adds what to do when the engine cannot be used.
func unavailable(name string, opts Options, err error) error {
	switch { // of several engines, the one that is there says more
	case errdefs.IsPermissionDenied(err):
		return fault.New(errdefs.ErrUnavailable, "engine_denied", "this user may not use the container engine: %w", err).
			WithHint("add the user to the docker group, or run ocmt as root")
	case errdefs.IsFailedPrecondition(err):
		return fault.New(errdefs.ErrFailedPrecondition, "engine_too_old", "cannot use the container engine: %w", err).
			WithHint("%s, or %s", install[name], addresses[name])
	case errdefs.IsUnavailable(err) || errdefs.IsDeadlineExceeded(err):
		f := fault.New(errdefs.ErrUnavailable, "engine_unavailable", "no container engine can be used: %w", err)
		if name == opts.Last && cmp.Or(opts.Name, Auto) == Auto {
			return f.WithHint("the plugins of this home ran on %s: start it, or choose another engine with --engine", name)
		}
		return f.WithHint("%s, or %s, then look at `ocmt doctor`", install[name], addresses[name])
	}
	return fmt.Errorf("cannot use the container engine: %w", err)
}
