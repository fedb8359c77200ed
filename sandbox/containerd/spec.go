package containerd

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

// specVersion is the oldest of the OCI runtime specification that has all that
// is used here; older runtimes refuse newer ones.
const specVersion = "1.0.2"

// cpuPeriod is that of the CPU quota, in microseconds.
const cpuPeriod = 100_000

// ociSpec is the profile and the spec, field by field. Nothing comes from a
// template: what is not set here is not there.
func ociSpec(spec *sandbox.Spec, h *host) (*specs.Spec, error) {
	profile := sandbox.Hardened()
	var seccomp specs.LinuxSeccomp
	if err := json.Unmarshal(spec.Seccomp, &seccomp); err != nil {
		return nil, fmt.Errorf("cannot read the seccomp profile of sandbox %s: %w: %w", spec.ID, err, errdefs.ErrInvalidArgument)
	}
	mounts, err := ociMounts(spec)
	if err != nil {
		return nil, err
	}
	return &specs.Spec{
		Version:  specVersion,
		Process:  ociProcess(spec, &profile, h.appArmor),
		Root:     &specs.Root{Path: "rootfs", Readonly: profile.ReadOnlyRoot},
		Hostname: spec.Hostname(),
		Mounts:   mounts,
		Linux: &specs.Linux{
			CgroupsPath: cgroupPath(spec.ID),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
				// One without a path is new: a loopback device alone.
				{Type: specs.NetworkNamespace},
			},
			Resources:     ociResources(spec, h),
			Sysctl:        profile.Sysctls,
			MaskedPaths:   profile.MaskedPaths,
			ReadonlyPaths: profile.ReadOnlyPaths,
			Seccomp:       &seccomp,
		},
	}, nil
}

func ociProcess(spec *sandbox.Spec, profile *sandbox.Profile, appArmor string) *specs.Process {
	same := func(kind string, n int64) specs.POSIXRlimit {
		return specs.POSIXRlimit{Type: kind, Soft: uint64(n), Hard: uint64(n)}
	}
	return &specs.Process{
		User: specs.User{UID: spec.UID, GID: spec.GID},
		Args: spec.Args,
		Env:  spec.Env,
		Cwd:  spec.Dir,
		Capabilities: &specs.LinuxCapabilities{
			Bounding: profile.Capabilities, Effective: profile.Capabilities, Inheritable: profile.Capabilities,
			Permitted: profile.Capabilities, Ambient: profile.Capabilities,
		},
		Rlimits: []specs.POSIXRlimit{
			same("RLIMIT_NOFILE", spec.Limits.OpenFiles),
			same("RLIMIT_CORE", profile.CoreSize),
			same("RLIMIT_MSGQUEUE", profile.QueueSize),
		},
		NoNewPrivileges: profile.NoNewPrivileges,
		ApparmorProfile: appArmor,
		OOMScoreAdj:     &profile.OOMScoreAdj,
	}
}

func ociResources(spec *sandbox.Spec, h *host) *specs.LinuxResources {
	limits := spec.Limits
	quota, period, shares := int64(limits.CPUs*cpuPeriod), uint64(cpuPeriod), uint64(limits.CPUShares())
	memory := &specs.LinuxMemory{Limit: &limits.Memory} // of this copy of the limits
	if h.swapLimit {
		memory.Swap = &limits.Memory // of both together: no swap
	}
	return &specs.LinuxResources{
		Memory: memory,
		CPU:    &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares},
		Pids:   &specs.LinuxPids{Limit: &limits.PIDs},
		// The runtime allows null, zero, full, random, urandom, tty and
		// pseudo terminals by itself.
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
	}
}

// ociMounts are the kernel's own file systems, then tmpfs, then the spec's
// mounts, in its order. There is no /dev/shm.
func ociMounts(spec *sandbox.Spec) ([]specs.Mount, error) {
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=64k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	for _, t := range spec.Tmpfs {
		mounts = append(mounts, specs.Mount{
			Destination: t.Target, Type: "tmpfs", Source: "tmpfs",
			Options: []string{"rw", "nosuid", "nodev", "noexec", "size=" + strconv.FormatInt(t.Size, 10), fmt.Sprintf("mode=%o", t.Mode)},
		})
	}
	for _, m := range spec.Mounts {
		mount, err := ociMount(m)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

// ociMount takes no flag of the source off.
func ociMount(m sandbox.Mount) (specs.Mount, error) {
	if m.Image {
		options := []string{"ro", "nosuid", "nodev"}
		if m.NoExec {
			options = append(options, "noexec")
		}
		return specs.Mount{Destination: m.Target, Type: "erofs", Source: m.Source, Options: options}, nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(m.Source, &fs); err != nil {
		return specs.Mount{}, fmt.Errorf("cannot look at mount source %s: %w: %w", m.Source, err, errdefs.ErrInvalidArgument)
	}
	// Not rbind: what is mounted below the source stays outside.
	options := []string{"bind", "rprivate", "nosuid", "nodev"}
	if m.NoExec || fs.Flags&unix.ST_NOEXEC != 0 {
		options = append(options, "noexec")
	}
	if m.ReadOnly || fs.Flags&unix.ST_RDONLY != 0 {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: options}, nil
}
