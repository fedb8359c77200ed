// Package seccomp owns the table of system calls that a container of ours may
// make, and renders it as a profile. It promises that what the table does not
// name is refused: new system calls are closed until somebody adds them here.
//
// The profile is an allow-list for Node, its native addons and a static Go
// program. Compared with what engines allow by default it leaves out io_uring,
// ptrace and the other ways into a neighbouring process, System V IPC and
// message queues, splice and its relatives, key rings, BPF, userfaultfd,
// performance events, name spaces and mounts, and every socket family but
// those in the table (AF_VSOCK reaches a hypervisor, AF_ALG the kernel's
// crypto code).
package seccomp

import (
	"encoding/json"
	"slices"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// allowed lists the system calls that need no look at their arguments, by what
// they are for. Names that exist on one architecture only are skipped on the
// others.
var allowed = map[string][]string{
	"start and end of processes": {
		"execve", "exit", "exit_group", "fork", "vfork", "wait4", "waitid",
		"arch_prctl", "brk", "rseq", "set_robust_list", "get_robust_list", "set_tid_address",
		"kill", "tgkill", "pidfd_open", "pidfd_send_signal",
		"prctl", "restart_syscall", "membarrier",
	},
	"a process about itself": {
		"getpid", "getppid", "gettid", "getpgid", "getpgrp", "getsid", "setpgid", "setsid",
		"getuid", "geteuid", "getresuid", "getgid", "getegid", "getresgid", "getgroups",
		"setuid", "setresuid", "setgid", "setresgid", "setgroups", "capget", "capset",
		"getrlimit", "getrusage", "times", "umask", "uname", "sysinfo",
		"getcpu", "getpriority", "setpriority", "ioprio_get", "sched_getaffinity", "sched_setaffinity",
		"sched_getattr", "sched_getparam", "sched_getscheduler", "sched_yield",
		"sched_get_priority_max", "sched_get_priority_min",
	},
	"tightening its own sandbox": {
		"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
	},
	"memory": {
		"mmap", "munmap", "mremap", "mprotect", "madvise", "mincore", "msync",
		"mlock", "mlock2", "munlock",
		"pkey_alloc", "pkey_free", "pkey_mprotect",
	},
	"signals": {
		"rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
		"rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sigaltstack",
		"signalfd", "signalfd4", "pause",
	},
	"time": {
		"alarm", "clock_getres", "clock_gettime", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
		"getitimer", "setitimer", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
		"timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
	},
	"threads": {
		"futex", "futex_waitv",
	},
	"waiting": {
		"epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
		"epoll_wait", "eventfd", "eventfd2", "poll", "ppoll", "pselect6", "select",
		"inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch",
	},
	"descriptors": {
		"close", "close_range", "dup", "dup2", "dup3",
		"fcntl", "flock", "ioctl", "lseek", "pipe", "pipe2",
		"read", "readv", "pread64", "preadv", "preadv2", "readahead", "fadvise64",
		"write", "writev", "pwrite64", "pwritev", "pwritev2",
		"copy_file_range", "sendfile", "fallocate", "ftruncate", "truncate",
		"fsync", "fdatasync", "syncfs", "sync_file_range",
	},
	"files and directories": {
		"access", "faccessat", "faccessat2", "chdir", "fchdir", "getcwd", "getdents64",
		"stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs",
		"chown", "fchown", "fchownat", "lchown",
		"link", "linkat", "symlink", "symlinkat", "readlink", "readlinkat",
		"mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2",
		"utime", "utimes", "utimensat", "futimesat",
		"getxattr", "fgetxattr", "lgetxattr", "listxattr", "flistxattr", "llistxattr",
	},
	"sockets": {
		"accept", "accept4", "bind", "connect", "listen", "shutdown",
		"getpeername", "getsockname", "getsockopt", "setsockopt",
		"recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto",
	},
	"randomness": {
		"getrandom",
	},
}

// newNamespaces are the clone flags that make name spaces. CLONE_NEWTIME is
// not among them: in clone it is a part of the exit signal, and only clone3,
// which is refused, takes it as a flag.
const newNamespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWCGROUP | syscall.CLONE_NEWUTS |
	syscall.CLONE_NEWIPC | syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET

// conditional lists the system calls that depend on their arguments. Rules for
// one name add up; the conditions within a rule must all hold.
func conditional() []specs.LinuxSyscall {
	noSuchCall := uint(syscall.ENOSYS)
	return slices.Concat(limits(), modes(), memoryFiles(), []specs.LinuxSyscall{
		rule("clone", specs.LinuxSeccompArg{Index: 0, Value: newNamespaces, ValueTwo: 0, Op: specs.OpMaskedEqual}),
		// Its flags are behind a pointer, where no filter sees them. libc falls
		// back to clone when there is no such call.
		{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &noSuchCall},
		// The same, with a file's mode; everybody falls back to openat.
		{Names: []string{"openat2"}, Action: specs.ActErrno, ErrnoRet: &noSuchCall},
		rule("socket", equal(0, syscall.AF_UNIX)),
		rule("socket", equal(0, syscall.AF_INET)),
		rule("socket", equal(0, syscall.AF_INET6)),
		// os.networkInterfaces and getaddrinfo ask for the interfaces.
		rule("socket", equal(0, syscall.AF_NETLINK), equal(2, syscall.NETLINK_ROUTE)),
		rule("socketpair", equal(0, syscall.AF_UNIX)),
	})
}

// setID are the bits of a file's mode that lend its owner's rights to whoever
// runs it. A container's mounts ignore them, but the host's do not, and in a
// granted directory the files that a plugin makes belong to somebody there.
const setID = syscall.S_ISUID | syscall.S_ISGID

// modes allows making files, and changing their modes, without those bits. The
// mode of an open that makes no file is nobody's.
func modes() []specs.LinuxSyscall {
	const makes = syscall.O_CREAT | 0o20000000 // __O_TMPFILE
	without := func(index uint, bits uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Value: bits, ValueTwo: 0, Op: specs.OpMaskedEqual}
	}
	return []specs.LinuxSyscall{
		rule("chmod", without(1, setID)),
		rule("fchmod", without(1, setID)),
		rule("fchmodat", without(2, setID)),
		rule("fchmodat2", without(2, setID)),
		rule("creat", without(1, setID)),
		rule("open", without(2, setID)),
		rule("open", without(1, makes)),
		rule("openat", without(3, setID)),
		rule("openat", without(2, makes)),
	}
}

// memoryFiles allows files in memory that can never be run, so that no program
// starts from one; kernels before Linux 6.3, which know no such files, say that
// the flag is not valid. Other files in memory look like a call that is
// missing, for which there are temporary files.
func memoryFiles() []specs.LinuxSyscall {
	const noExec = 8 // MFD_NOEXEC_SEAL
	noSuchCall := uint(syscall.ENOSYS)
	flag := func(value uint64) []specs.LinuxSeccompArg {
		return []specs.LinuxSeccompArg{{Index: 1, Value: noExec, ValueTwo: value, Op: specs.OpMaskedEqual}}
	}
	return []specs.LinuxSyscall{
		rule("memfd_create", flag(noExec)...),
		{Names: []string{"memfd_create"}, Action: specs.ActErrno, ErrnoRet: &noSuchCall, Args: flag(0)},
	}
}

// limits allows setting every resource limit but that of core dumps, whose
// value keeps a crash from running the host's core_pattern program: lowered
// from 1 to 0, it would. The kernel reads 32 bits of the resource and a filter
// compares 64, so the rules look at single bits: RLIMIT_CORE, 4, is the one
// resource below 16 that none of them matches.
func limits() []specs.LinuxSyscall {
	rules := []specs.LinuxSyscall{rule("prlimit64", equal(2, 0))} // only asks
	for bit := uint64(1); bit < 16; bit <<= 1 {
		differs := func(index uint) specs.LinuxSeccompArg {
			return specs.LinuxSeccompArg{Index: index, Value: bit, ValueTwo: ^uint64(syscall.RLIMIT_CORE) & bit, Op: specs.OpMaskedEqual}
		}
		rules = append(rules, rule("setrlimit", differs(0)), rule("prlimit64", differs(1)))
	}
	return rules
}

func rule(name string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{name}, Action: specs.ActAllow, Args: args}
}

func equal(index uint, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: index, Value: value, Op: specs.OpEqualTo}
}

// OCI returns the profile as an OCI runtime specification takes it, for amd64
// and arm64. Everything else is refused with EPERM; system calls of a third
// architecture, such as those of 32-bit programs and of x32, end the thread.
func OCI() *specs.LinuxSeccomp {
	refused := uint(syscall.EPERM)
	unconditional := specs.LinuxSyscall{Action: specs.ActAllow}
	for _, names := range allowed {
		unconditional.Names = append(unconditional.Names, names...)
	}
	slices.Sort(unconditional.Names)
	return &specs.LinuxSeccomp{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: &refused,
		Architectures:   []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
		Syscalls:        append([]specs.LinuxSyscall{unconditional}, conditional()...),
	}
}

// Profile returns the profile as JSON: the form of Docker's security option
// seccomp=..., and of linux.seccomp in an OCI specification.
func Profile() []byte {
	profile, err := json.MarshalIndent(OCI(), "", "  ")
	if err != nil {
		panic(err) // structs of strings and numbers always marshal
	}
	return append(profile, '\n')
}
