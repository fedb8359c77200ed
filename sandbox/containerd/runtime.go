package containerd

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
)

const (
	// shim is containerd's own, for runtimes with runc's command line.
	shim           = "io.containerd.runc.v2"
	defaultRuntime = "runc"
	gvisor         = "runsc"
)

// usualRuntimes are looked for on the path. Others are found by their name.
func usualRuntimes() []string { return []string{defaultRuntime, "crun", gvisor, "youki"} }

// ociRuntime is a runtime that was found.
type ociRuntime struct {
	program string // absolute path
	gvisor  bool
}

// knownRuntimes are the usual ones that this host has.
func (e *Engine) knownRuntimes(ctx context.Context) []string {
	var known []string
	for _, name := range usualRuntimes() {
		if _, err := e.findRuntime(ctx, name); err == nil {
			known = append(known, name)
		}
	}
	return known
}

// findRuntime looks for a program on the path that calls itself an OCI
// runtime.
func (e *Engine) findRuntime(ctx context.Context, name string) (ociRuntime, error) {
	if found, ok := e.runtimes.Load(name); ok {
		return found.(ociRuntime), nil
	}
	program, err := exec.LookPath(name)
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return ociRuntime{}, err
	}
	about, err := e.run(ctx, program, "--version")
	if err != nil {
		return ociRuntime{}, err
	}
	if !strings.Contains(about, "\nspec: ") {
		return ociRuntime{}, fmt.Errorf("cannot use %s: it does not say that it is an OCI runtime", program)
	}
	found := ociRuntime{program: program}
	if strings.HasPrefix(about, "runsc version ") {
		found.gvisor = true
		found.program, err = e.wrapGVisor(ctx, program)
	}
	if err == nil {
		e.runtimes.Store(name, found)
	}
	return found, err
}

// run returns what a program prints, on either stream.
func (e *Engine) run(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return "", e.fail(ctx, "run "+program, err)
	}
	return string(out), nil
}

// wrapGVisor writes a program that starts runsc without a network of its own
// and with the sockets in mounts, which the shim for runc cannot ask for.
func (e *Engine) wrapGVisor(ctx context.Context, program string) (string, error) {
	flags, err := e.run(ctx, program, "flags")
	if err != nil {
		return "", err
	}
	var sockets string
	switch {
	case strings.Contains(flags, "-host-uds value"):
		sockets = "--host-uds=open"
	case strings.Contains(flags, "-fsgofer-host-uds"): // until late in 2022
		sockets = "--fsgofer-host-uds"
	default:
		return "", fmt.Errorf("cannot use %s: it knows no flag for sockets of the host: %w", program, errdefs.ErrFailedPrecondition)
	}
	quoted := "'" + strings.ReplaceAll(program, "'", `'\''`) + "'"
	return e.writeProgram("runsc", "#!/bin/sh\nexec "+quoted+" --network=none "+sockets+` "$@"`+"\n")
}

// writeProgram writes a script under a name that tells its content: what is
// there already is not written again, while a shim may run it.
func (e *Engine) writeProgram(name, text string) (string, error) {
	sum := sha256.Sum256([]byte(text))
	path := filepath.Join(e.dir, runtimesDir, name+"-"+hex.EncodeToString(sum[:8]))
	if have, err := os.ReadFile(path); err == nil && string(have) == text {
		return path, nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &fs); err == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		return "", fmt.Errorf("cannot use runtime %s: %s is on a file system without programs (noexec): %w", name, filepath.Dir(path), errdefs.ErrFailedPrecondition)
	}
	file, err := os.CreateTemp(filepath.Dir(path), name+".")
	if err != nil {
		return "", fmt.Errorf("cannot write a program for runtime %s: %w: %w", name, err, errdefs.ErrUnavailable)
	}
	_, err = file.WriteString(text)
	err = errors.Join(err, file.Chmod(0o700), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
		return "", fmt.Errorf("cannot write a program for runtime %s: %w: %w", name, err, errdefs.ErrUnavailable)
	}
	return path, nil
}

// runtimeOf finds the runtime that a spec asks for by name.
func (e *Engine) runtimeOf(ctx context.Context, name string) (ociRuntime, error) {
	name = cmp.Or(name, defaultRuntime)
	found, err := e.findRuntime(ctx, name)
	switch {
	case ctx.Err() != nil:
		return found, fmt.Errorf("cannot look for runtime %q: %w", name, ctx.Err())
	case errdefs.IsFailedPrecondition(err):
		return found, err
	case err != nil:
		return found, fmt.Errorf("cannot use runtime %q: the engine knows %s: %w: %w",
			name, strings.Join(e.knownRuntimes(ctx), ", "), err, errdefs.ErrInvalidArgument)
	}
	return found, nil
}

// info is what containerd is told of the runtime.
func (r ociRuntime) info() (containers.RuntimeInfo, error) {
	how, err := typeurl.MarshalAny(&options.Options{BinaryName: r.program})
	if err != nil {
		return containers.RuntimeInfo{}, fmt.Errorf("cannot describe runtime %s: %w: %w", r.program, err, errdefs.ErrInternal)
	}
	return containers.RuntimeInfo{Name: shim, Options: how}, nil
}
