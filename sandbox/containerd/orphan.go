package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
)

// runtimeRoot is where the shim has runtimes keep their state.
const runtimeRoot = "/run/containerd/runc/" + namespace

// endOrphan ends what runs of a container without a task: containerd may
// forget one that was being created when its caller died, or when it was
// killed itself. The control group tells, which goes with a task that was
// deleted.
func (e *Engine) endOrphan(ctx context.Context, c containers.Container) error {
	if _, err := os.Stat(e.host.cgroup(c.ID)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	e.logger.Warn("a container runs that containerd has forgotten", "container", c.ID)
	how, err := typeurl.UnmarshalAny(c.Runtime.Options)
	if err != nil {
		return fmt.Errorf("cannot tell the runtime of container %s: %w: %w", c.ID, err, errdefs.ErrInternal)
	}
	runtime, ok := how.(*options.Options)
	if !ok {
		return fmt.Errorf("cannot tell the runtime of container %s: %w", c.ID, errdefs.ErrInternal)
	}
	if err := endShims(c.ID); err != nil {
		return err
	}
	_, err = e.run(ctx, runtime.BinaryName, "--root", runtimeRoot, "delete", "--force", c.ID)
	return err
}

// endShims kills the shims of a container, which are known by their arguments.
func endShims(id string) error {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	arguments := []byte(strings.Join([]string{"", "-namespace", namespace, "-id", id, ""}, "\x00"))
	for _, file := range files {
		line, err := os.ReadFile(file)
		program, _, _ := bytes.Cut(line, []byte{0})
		if err != nil || !bytes.Contains(line, arguments) || filepath.Base(string(program)) != "containerd-shim-runc-v2" {
			continue // gone, or another program
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil {
			err = unix.Kill(pid, unix.SIGKILL)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot end the shim of container %s: %w: %w", id, err, errdefs.ErrUnavailable)
		}
	}
	return nil
}
