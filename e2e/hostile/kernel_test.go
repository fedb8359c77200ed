package hostile

import (
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// refusedCall is what becomes of a system call that is not carried out.
const refusedCall = "EPERM|EACCES|ENOSYS|EINVAL|EAFNOSUPPORT|EPROTONOSUPPORT|ESOCKTNOSUPPORT|EOPNOTSUPP|ENOTSUP"

// ownKernel is why gVisor lets calls succeed: they are carried out by the
// sandbox's own kernel, on what that has.
const ownKernel = "under gVisor the sandbox's own kernel does it, to itself"

// kernelGroup calls the kernel for what a plugin has no business with.
func kernelGroup() group {
	started, wall := time.Now(), time.Now().Round(0)
	hostname, _ := os.Hostname()
	return group{name: "kernel", attacks: []attack{
		{
			name: "io-uring", varies: true, raw: true,
			aims:   "make system calls where no filter sees them",
			layer:  "seccomp; gVisor has a small one of its own",
			inside: ownKernel,
			want:   map[string]string{"": "EPERM", "runsc": refusedCall + "|EBADF|ok"},
		},
		{
			name: "raw-sockets", varies: true, raw: true,
			aims:   "reach the wire, the hypervisor or the kernel's crypto code by a socket",
			layer:  "seccomp allows UNIX, INET and INET6; no CAP_NET_RAW, no group may ping",
			want:   map[string]string{"": "EPERM", "ping": "EACCES|EPERM", "runsc": refusedCall, "runsc/ping": "ok"},
			inside: ownKernel + ", which has no device but the loopback",
		},
		{
			name: "netlink-families", varies: true, raw: true,
			aims:   "speak to audit, firewall, crypto and device code of the kernel",
			layer:  "seccomp allows NETLINK_ROUTE alone",
			want:   map[string]string{"": "EPERM", "runsc": refusedCall, "runsc/uevent": "ok"},
			inside: ownKernel,
		},
		{
			name: "netlink-route", varies: true, raw: true,
			aims:  "give itself an address, a route or a device",
			layer: "network namespace of its own, no CAP_NET_ADMIN",
			want:  map[string]string{"": "EPERM", "runsc": refusedCall},
		},
		{
			name: "namespaces", varies: true, raw: true,
			aims:   "become root in a namespace of its own, from where most kernel bugs are reached",
			layer:  "seccomp: unshare, setns, clone with such flags, clone3",
			want:   map[string]string{"": "EPERM|EACCES", "clone3": "ENOSYS", "runsc": refusedCall + "|ENOENT|ok", "runsc/clone3": refusedCall},
			inside: ownKernel,
		},
		{
			name: "mounts", varies: true, raw: true,
			aims:  "see or hide files by mounting, unmounting or another root",
			layer: "seccomp, no CAP_SYS_ADMIN",
			want:  map[string]string{"": "EPERM|ENOSYS", "runsc": refusedCall + "|ENOENT|EBUSY"},
		},
		{
			name: "ptrace", varies: true, raw: true,
			aims:  "take hold of other processes",
			layer: "seccomp, PID namespace",
			want:  map[string]string{"": "EPERM", "runsc": refusedCall + "|ESRCH|EBADF|EFAULT"},
		},
		{
			name: "bpf", varies: true, raw: true,
			aims:  "run code in the kernel",
			layer: "seccomp; gVisor has none",
			want:  map[string]string{"": "EPERM", "runsc": refusedCall},
		},
		{
			name: "keyrings", varies: true, raw: true,
			aims:  "read keys of the host or leave some, which no namespace divides",
			layer: "seccomp; uid of its own",
			want:  map[string]string{"": "EPERM", "runsc": refusedCall},
		},
		{
			name: "perf", varies: true, raw: true,
			aims:   "read the kernel's log, and watch what others run",
			layer:  "seccomp",
			want:   map[string]string{"": "EPERM", "runsc": refusedCall + "|ENODEV", "runsc/syslog": "ok"},
			inside: ownKernel + "; its log is made up",
		},
		{
			name: "userfaultfd", varies: true, raw: true,
			aims:  "hold the kernel at a page fault, as exploits do",
			layer: "seccomp; gVisor has none",
			want:  map[string]string{"": "EPERM", "runsc": refusedCall},
		},
		{
			name: "machine", varies: true, raw: true,
			aims:   "reboot, load modules or another kernel, swap, rename the host",
			layer:  "seccomp, no capabilities, UTS namespace",
			want:   map[string]string{"": "EPERM|ENOSYS", "runsc": refusedCall + "|EFAULT", "runsc/mbind": "ok"},
			inside: ownKernel,
			check: func(t *testing.T, _ *world) {
				if now, err := os.Hostname(); err != nil || now != hostname {
					t.Errorf("the host is called %q, %v, and was %q", now, err, hostname)
				}
			},
		},
		{
			name: "clock", varies: true, raw: true,
			aims:  "set the clock, so that grants last and certificates pass",
			layer: "seccomp, no CAP_SYS_TIME",
			want:  map[string]string{"": "EPERM", "runsc": refusedCall},
			check: func(t *testing.T, _ *world) {
				if d := time.Since(started) - time.Now().Round(0).Sub(wall); d.Abs() > time.Second {
					t.Errorf("the clock was moved by %s", d)
				}
			},
		},
		{
			name: "privileges", varies: true, raw: true,
			aims:   "become root or a neighbour's user, take capabilities, lift its limits",
			inside: ownKernel + "; the host's scheduler sees no priority",
			layer:  "no capabilities, no_new_privs, hard limits, seccomp for the core limit",
			want: map[string]string{
				"": "EPERM|EACCES", "no_new_privs": "EINVAL", "set_mm": "EPERM|EINVAL|EBADF",
				"runsc": refusedCall, "runsc/setpriority": "ok",
			},
		},
		{
			name: "emulation", varies: true, raw: true,
			aims:   "reach rarely used code of the kernel",
			layer:  "seccomp",
			want:   map[string]string{"": "EPERM|ENOSYS", "runsc": refusedCall + "|EBADF|EFAULT|ok"},
			inside: ownKernel,
		},
		{
			name: "foreign-calls", varies: true, raw: true,
			aims:   "make system calls by numbers that the filter does not mean",
			layer:  "seccomp: other architectures end the process",
			want:   map[string]string{"": "SIGSYS|SIGSEGV|ENOSYS|EPERM", "runsc": "SIGSYS|SIGSEGV|ENOSYS|ok"},
			inside: "under gVisor every call ends in the sandbox's own kernel, by whatever number",
		},
		{
			name: "terminals", varies: true, raw: true,
			aims:  "type commands into a terminal of the operator",
			layer: "no terminal is given to a container",
			want:  map[string]string{"": refusedFile + "|ENXIO|ENOTTY|EIO|EINVAL|ENODEV"},
		},
		{
			name: "shared-memory", varies: true, raw: true, prepare: prepareSegment,
			aims:   "read memory that host processes share, and fill the kernel's tables",
			layer:  "IPC namespace, seccomp, RLIMIT_MSGQUEUE of 0",
			params: `{"key":"{key}"}`,
			want:   map[string]string{"": "EPERM", "runsc": "ok|ENOSYS", "runsc/host's segment": "ENOENT"},
			inside: ownKernel,
		},
		{
			name: "abstract-sockets", varies: true, raw: true, prepare: prepareAbstract,
			aims:   "speak to sockets of the host that are in no file system",
			layer:  "network namespace of its own",
			params: `{"names":["{abstract}"]}`,
			want:   map[string]string{"": "ECONNREFUSED|ENOENT|EPERM|EACCES"},
		},
	}}
}

// prepareSegment makes a segment of the host that everybody may read.
func prepareSegment(t *testing.T, w *world) {
	t.Helper()
	const key = 0x0c317ab5
	id, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
			t.Error(err)
		}
	})
	data, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	copy(data, w.secret)
	if err := unix.SysvShmDetach(data); err != nil {
		t.Error(err)
	}
	w.vars["key"] = strconv.Itoa(key)
}

// prepareAbstract makes a listener on an abstract socket of the host.
func prepareAbstract(t *testing.T, w *world) {
	t.Helper()
	name := "hostile-decoy-" + strconv.Itoa(os.Getpid())
	w.vars["abstract"] = name
	listenDecoy(t, "@"+name)
}
