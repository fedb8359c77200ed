// Package engine chooses the container engine by name and says which one it
// took. It is the one place that knows the implementations of
// sandbox.Engine.
package engine

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/docker"
)

// Auto takes the first engine that answers.
const Auto = "auto"

// Names are the engines that can be asked for.
func Names() []string { return []string{Auto, "docker"} }

// answerTimeout bounds how long an engine may take to describe itself.
const answerTimeout = 15 * time.Second

// Options say which engine is wanted.
type Options struct {
	Name    string // one of Names; empty is Auto
	Runtime string // an OCI runtime of the engine; empty is its default
	HomeID  string // containers of other homes are unknown to the engine; empty for a mere look
	Dir     string // a directory that the engine sees by the same path
	Logger  *slog.Logger
}

// Open connects to the engine and checks that it answers, is new enough, and
// knows the runtime. Unavailable when no engine answers, InvalidArgument for
// an unknown engine or runtime.
func Open(ctx context.Context, opts Options) (sandbox.Engine, sandbox.Info, error) {
	if name := cmp.Or(opts.Name, Auto); !slices.Contains(Names(), name) {
		return nil, sandbox.Info{}, fault.New(errdefs.ErrInvalidArgument, "unknown_engine", "there is no engine %q", name).
			WithHint("--engine takes one of: %s", strings.Join(Names(), ", "))
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	e, err := docker.New(ctx, docker.Options{Home: opts.HomeID, Dir: opts.Dir, Logger: opts.Logger})
	if err != nil {
		return nil, sandbox.Info{}, unavailable(err)
	}
	info, err := e.Info(ctx)
	if err != nil {
		return nil, info, unavailable(err)
	}
	if opts.Runtime != "" && !slices.Contains(info.Runtimes, opts.Runtime) {
		return nil, info, fault.New(errdefs.ErrInvalidArgument, "unknown_runtime", "engine %s has no runtime %q", info.Name, opts.Runtime).
			WithHint("it has: %s; add others to the engine's own configuration", strings.Join(info.Runtimes, ", "))
	}
	return e, info, nil
}

// unavailable adds what to do when the engine cannot be used.
func unavailable(err error) error {
	if errdefs.IsUnavailable(err) || errdefs.IsDeadlineExceeded(err) {
		return fault.New(errdefs.ErrUnavailable, "engine_unavailable", "no container engine can be used: %w", err).
			WithHint("install and start Docker Engine 20.10 or later (Debian: apt-get install docker.io), then look at `ocmt doctor`")
	}
	if errdefs.IsPermissionDenied(err) {
		return fault.New(errdefs.ErrUnavailable, "engine_denied", "this user may not use the container engine: %w", err).
			WithHint("add the user to the docker group, or run ocmt as root")
	}
	return fmt.Errorf("cannot use the container engine: %w", err)
}
