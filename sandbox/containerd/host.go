package containerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

// cgroupRoot is where the control groups are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// cgroupPath is a container's control group.
func cgroupPath(id string) string { return "/" + namespace + "/" + id }

// host is what this machine enforces. Runtimes refuse a limit for which there
// is no controller, or leave it out; either way it must be known before.
type host struct {
	cgroupV2  bool
	missing   []string // controllers
	swapLimit bool
	seccomp   bool
	cpus      int
	memory    int64

	appArmor, appArmorWarning string // see loadAppArmor
}

func inspectHost() host {
	var fs unix.Statfs_t
	h := host{cpus: runtime.NumCPU()}
	h.cgroupV2 = unix.Statfs(cgroupRoot, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
	var controllers []string
	if text, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers")); h.cgroupV2 && err == nil {
		controllers = strings.Fields(string(text))
	}
	for _, name := range []string{"memory", "pids", "cpu"} {
		_, err := os.Stat(filepath.Join(cgroupRoot, name))
		if has := slices.Contains(controllers, name) || !h.cgroupV2 && err == nil; !has {
			h.missing = append(h.missing, name)
		}
	}
	_, err := os.Stat(filepath.Join(cgroupRoot, "memory/memory.memsw.limit_in_bytes"))
	h.swapLimit = h.cgroupV2 || err == nil
	_, err = unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	h.seccomp = err == nil
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		h.memory = int64(info.Totalram) * int64(info.Unit)
	}
	h.appArmor, h.appArmorWarning = loadAppArmor()
	return h
}

// check refuses limits that this host cannot enforce.
func (h *host) check(limits sandbox.Limits) error {
	if len(h.missing) > 0 {
		return fmt.Errorf("cannot limit containers: the host has no control group for %s: %w", strings.Join(h.missing, ", "), errdefs.ErrFailedPrecondition)
	}
	if !h.seccomp {
		return fmt.Errorf("cannot confine containers: the kernel has no seccomp: %w", errdefs.ErrFailedPrecondition)
	}
	return limits.CheckHost(sandbox.Info{CPUs: h.cpus, Memory: h.memory})
}

// cgroup is the directory of a container's control group, or of the one for
// memory.
func (h *host) cgroup(id string) string {
	if h.cgroupV2 {
		return filepath.Join(cgroupRoot, cgroupPath(id))
	}
	return filepath.Join(cgroupRoot, "memory", cgroupPath(id))
}

// oomKilled says that the memory limit has ended a process of a container,
// whose control group is there until the container is removed.
func (h *host) oomKilled(id string) bool {
	path := filepath.Join(h.cgroup(id), "memory.oom_control")
	if h.cgroupV2 {
		path = filepath.Join(h.cgroup(id), "memory.events")
	}
	text, err := os.ReadFile(path)
	return err == nil && countsOOMKill(string(text))
}

// countsOOMKill reads a memory.oom_control or a memory.events.
func countsOOMKill(text string) bool {
	for line := range strings.Lines(text) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			n, err := strconv.ParseUint(count, 10, 64)
			return err == nil && n > 0
		}
	}
	return false
}

// warnings are about what this host lacks, with the runtimes that it has.
func (h *host) warnings(runtimes []string) []string {
	var all []string
	weak := func(present bool, sentence string) {
		if !present {
			all = append(all, sentence)
		}
	}
	for _, name := range h.missing {
		weak(false, "the host has no control group for "+name+": containers will be refused")
	}
	weak(h.seccomp, "the kernel has no seccomp: containers will be refused")
	weak(h.swapLimit, "the kernel does not account swap: a container may use swap beyond its memory limit")
	weak(slices.Contains(runtimes, defaultRuntime), "there is no "+defaultRuntime+" on the path: containers of the default runtime will be refused")
	weak(h.appArmorWarning == "", h.appArmorWarning)
	return all
}

// Info describes the engine.
func (e *Engine) Info(ctx context.Context) (sandbox.Info, error) {
	version, err := e.connect(ctx)
	if err != nil {
		return sandbox.Info{}, err
	}
	info := sandbox.Info{
		Name:       "containerd",
		Version:    version,
		Runtime:    defaultRuntime,
		Runtimes:   e.knownRuntimes(ctx),
		Rootless:   e.isRootless(),
		CgroupV2:   e.host.cgroupV2,
		AppArmor:   e.host.appArmor,
		CPUs:       e.host.cpus,
		Memory:     e.host.memory,
		MountFlags: true,
	}
	info.Warnings = e.host.warnings(info.Runtimes)
	info.ImageMounts, err = e.canMountImages()
	if err != nil {
		info.Warnings = append(info.Warnings, fmt.Sprintf("it could not be found out whether the kernel mounts EROFS image files: %v", err))
	}
	return info, ctx.Err()
}

// isRootless goes by whose socket it is.
func (e *Engine) isRootless() bool {
	var socket unix.Stat_t
	return unix.Stat(e.address, &socket) == nil && socket.Uid != 0
}
