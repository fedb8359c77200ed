package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Engine is a container engine seen from outside, by its own command line: what
// is looked at and broken there, ocmt is not told of. Containers are named by
// the engine's own ids.
type Engine interface {
	// Name is what `ocmt serve --engine` calls it.
	Name() string
	// Answers fails when the engine cannot be reached.
	Answers(ctx context.Context) error
	// Containers returns those that carry all the labels, in every state or
	// the running ones alone.
	Containers(ctx context.Context, labels map[string]string, running bool) ([]string, error)
	// PID returns the process id of a container's first process, on the host.
	PID(ctx context.Context, id string) (int, error)
	// Kill sends SIGKILL to a container's first process.
	Kill(ctx context.Context, id string) error
	// Remove removes a container by force, with what belongs to it.
	Remove(ctx context.Context, id string) error
	// Pause freezes all processes of a container, until Resume.
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	// Exec runs a program in a container, as its user, and returns its output.
	Exec(ctx context.Context, id string, args ...string) (string, error)
	// Inspect returns all that the engine noted of a container, as JSON.
	Inspect(ctx context.Context, id string) (string, error)
	// Limits returns what the engine was told to bound a container by.
	Limits(ctx context.Context, id string) (Limits, error)
	// Kept lists all that the engine still keeps of a home.
	Kept(ctx context.Context, home string) ([]string, error)
}

// Limits are of a container.
type Limits struct {
	Memory int64 // bytes
	PIDs   int64
}

// EngineName is the engine that E2E_ENGINE asks for: docker, the default, or
// containerd.
func EngineName() string { return cmp.Or(os.Getenv("E2E_ENGINE"), "docker") }

// RuntimeName is the OCI runtime that E2E_RUNTIME asks for; empty is the
// engine's default.
func RuntimeName() string { return os.Getenv("E2E_RUNTIME") }

// EngineFlags choose, for commands as `ocmt serve`, the engine and the runtime
// that the environment asks for.
func EngineFlags() []string {
	flags := []string{"--engine", EngineName()}
	if name := RuntimeName(); name != "" {
		flags = append(flags, "--runtime", name)
	}
	return flags
}

// Chosen is the engine that the environment asks for, at its usual address.
func Chosen() (Engine, error) {
	switch name := EngineName(); name {
	case "docker":
		return Docker(""), nil
	case "containerd":
		return Containerd(""), nil
	default:
		return nil, fmt.Errorf("E2E_ENGINE=%s: there are docker and containerd", name)
	}
}

// command runs an engine's program, and returns what it printed without the
// space around it.
func command(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output() // arguments are ours
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, exit.Stderr)
		}
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}
