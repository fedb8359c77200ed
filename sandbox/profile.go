package sandbox

import (
	"slices"
	"time"

	"github.com/ocmt/ocmt/sandbox/seccomp"
)

// LogFiles is the number of files of Limits.LogSize that an engine keeps per
// container.
const LogFiles = 2

// GVisorPIDs returns the limit that engines set for Limits.PIDs under gVisor,
// which runs in the container's control group itself: 35 to 45 threads of its
// kernel and of its file server (measured with release 20221219, an idle program
// and an idle Node), and for each thread of the container's processes one that
// runs it and one that waits for it.
func GVisorPIDs(pids int64) int64 { return 2*pids + 64 }

// gVisorMounts is how many mounts GVisorPIDs allows for; its file server has
// four threads for each (measured as above).
const gVisorMounts, gVisorMountThreads = 16, 4

// GVisorPIDs is the function of that name for all that the spec mounts.
func (s *Spec) GVisorPIDs() int64 {
	return GVisorPIDs(s.Limits.PIDs) + gVisorMountThreads*int64(max(0, len(s.Mounts)-gVisorMounts))
}

// Profile is the part of the hardening that no [Spec] can change. Engines take
// it from [Hardened] and translate it field by field.
type Profile struct {
	// Network is the kind of network: "none" is a loopback device alone.
	Network string
	// IPC "none" is a name space of its own without /dev/shm.
	IPC string
	// CgroupNamespace "private" hides the host's cgroup paths.
	CgroupNamespace string
	// Restart "no" leaves restarts to the supervisor.
	Restart string
	// StopSignal asks the first process to end.
	StopSignal string
	// Capabilities that are kept, in every set.
	Capabilities []string

	ReadOnlyRoot    bool
	NoNewPrivileges bool

	// CoreSize is RLIMIT_CORE in bytes: the one value that stops core dumps.
	// A core_pattern that is a pipe runs a program of the host as root for
	// every crash, with a limit of 0 too; the kernel takes 1 for the limit of
	// such a program itself, and ends there (fs/coredump.c). For a file, 1 is
	// less than any core dump needs.
	CoreSize    int64
	QueueSize   int64 // bytes, RLIMIT_MSGQUEUE: /dev/mqueue takes no queue
	OOMScoreAdj int   // plugins die before the orchestrator does

	Sysctls       map[string]string
	MaskedPaths   []string // files read as empty, directories list as empty
	ReadOnlyPaths []string
}

// Hardened returns the profile that every container of ours is made with.
func Hardened() Profile {
	return Profile{
		Network:         "none",
		IPC:             "none",
		CgroupNamespace: "private",
		Restart:         "no",
		StopSignal:      "SIGTERM",
		Capabilities:    nil,
		ReadOnlyRoot:    true,
		NoNewPrivileges: true,
		CoreSize:        1,
		QueueSize:       0,
		OOMScoreAdj:     500,
		Sysctls: map[string]string{
			// The forwarder binds 53, 80 and 443 without a capability.
			"net.ipv4.ip_unprivileged_port_start": "0",
			// An empty range: nobody opens ICMP sockets.
			"net.ipv4.ping_group_range": "1 0",
		},
		MaskedPaths:   slices.Concat(maskedByEngines, maskedByUs),
		ReadOnlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
	}
}

var (
	// maskedByEngines is what engines mask by default, which naming paths of
	// one's own replaces.
	maskedByEngines = []string{
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/firmware", "/sys/devices/virtual/powercap",
	}
	// maskedByUs tells about the host, its neighbours and its load, and Node
	// needs none of it. /sys/fs/cgroup stays: V8 sizes its heap by it.
	maskedByUs = []string{
		"/proc/cmdline", "/proc/config.gz", "/proc/diskstats", "/proc/interrupts",
		"/proc/kallsyms", "/proc/key-users", "/proc/modules", "/proc/pressure",
		"/proc/version", "/proc/vmstat",
		"/sys/block", "/sys/class", "/sys/kernel",
	}
)

// Harden returns spec with what was left out set to the hardened default: the
// seccomp profile, a /tmp of its own (64 MiB, or a quarter of the memory if
// that is less), the working directory / and a stop grace of 10 s. What every
// container gets besides, whatever its spec says, is [Hardened].
func Harden(spec Spec) Spec {
	if len(spec.Seccomp) == 0 {
		spec.Seccomp = seccomp.Profile()
	}
	if spec.Dir == "" {
		spec.Dir = "/"
	}
	if spec.StopGrace == 0 {
		spec.StopGrace = 10 * time.Second
	}
	if !spec.hasTarget("/tmp") {
		size := min(64<<20, spec.Limits.Memory/4)
		spec.Tmpfs = append(slices.Clone(spec.Tmpfs), Tmpfs{Target: "/tmp", Size: size, Mode: 0o1777})
	}
	return spec
}

func (s *Spec) hasTarget(path string) bool {
	return slices.ContainsFunc(s.Mounts, func(m Mount) bool { return m.Target == path }) ||
		slices.ContainsFunc(s.Tmpfs, func(t Tmpfs) bool { return t.Target == path })
}

// LimitsFor returns the limits that a container of a role gets unless its
// manifest or its operator says otherwise. Unknown roles get none, which
// [Spec.Validate] refuses.
func LimitsFor(role string) Limits {
	switch role {
	case RolePlugin, RoleCheck: // what the manifest's example asks for
		return Limits{Memory: 256 << 20, CPUs: 0.5, PIDs: 64, OpenFiles: 1024, LogSize: 4 << 20}
	case RoleInstall: // npm resolves large trees in memory
		return Limits{Memory: 1 << 30, CPUs: 2, PIDs: 128, OpenFiles: 4096, LogSize: 4 << 20}
	case RoleClean:
		return Limits{Memory: 128 << 20, CPUs: 0.5, PIDs: 32, OpenFiles: 256, LogSize: 1 << 20}
	}
	return Limits{}
}

// CPUShares is the weight of a container on a host that has not time enough for
// everybody: 1024, which is what others get by default, for a whole core. 2 is
// the kernel's smallest.
func (l Limits) CPUShares() int64 { return min(max(2, int64(l.CPUs*1024)), 1<<18) }

// Fit returns the limits lowered to what the engine's host has, for defaults;
// a limit that a person named is to be refused by [Limits.CheckHost] instead.
func (l Limits) Fit(host Info) Limits {
	if host.Memory > 0 {
		l.Memory = min(l.Memory, host.Memory)
	}
	if host.CPUs > 0 {
		l.CPUs = min(l.CPUs, float64(host.CPUs))
	}
	return l
}
