package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// call is a system call with arguments that would do no harm if it were let
// through, and that an ordinary user's process could make without a filter or
// that would fail with something else than EPERM.
type call struct {
	number uintptr
	args   [4]uintptr
}

// none is -1: an invalid descriptor, or "only ask" for some calls.
const none = ^uintptr(0)

var calls = map[string]call{
	// To be refused.
	"io_uring_setup":       {unix.SYS_IO_URING_SETUP, [4]uintptr{0, 0}},
	"ptrace":               {unix.SYS_PTRACE, [4]uintptr{none}},
	"process_vm_readv":     {unix.SYS_PROCESS_VM_READV, [4]uintptr{1}},
	"bpf":                  {unix.SYS_BPF, [4]uintptr{none}},
	"keyctl":               {unix.SYS_KEYCTL, [4]uintptr{none}},
	"add_key":              {unix.SYS_ADD_KEY, [4]uintptr{}},
	"userfaultfd":          {unix.SYS_USERFAULTFD, [4]uintptr{1 /* UFFD_USER_MODE_ONLY */}},
	"perf_event_open":      {unix.SYS_PERF_EVENT_OPEN, [4]uintptr{}},
	"splice":               {unix.SYS_SPLICE, [4]uintptr{none, 0, none}},
	"tee":                  {unix.SYS_TEE, [4]uintptr{none, none}},
	"vmsplice":             {unix.SYS_VMSPLICE, [4]uintptr{none}},
	"memfd_secret":         {unix.SYS_MEMFD_SECRET, [4]uintptr{none}},
	"unshare":              {unix.SYS_UNSHARE, [4]uintptr{0}},
	"setns":                {unix.SYS_SETNS, [4]uintptr{none}},
	"personality":          {unix.SYS_PERSONALITY, [4]uintptr{0xffffffff}},
	"shmget":               {unix.SYS_SHMGET, [4]uintptr{0, 4096, 0o600}},
	"mq_open":              {unix.SYS_MQ_OPEN, [4]uintptr{}},
	"memfd_create":         {unix.SYS_MEMFD_CREATE, [4]uintptr{}},
	"memfd_create EXEC":    {unix.SYS_MEMFD_CREATE, [4]uintptr{0, unix.MFD_EXEC}},
	"clock_settime":        {unix.SYS_CLOCK_SETTIME, [4]uintptr{none}},
	"clock_adjtime":        {unix.SYS_CLOCK_ADJTIME, [4]uintptr{none}},
	"settimeofday":         {unix.SYS_SETTIMEOFDAY, [4]uintptr{}},
	"mknodat":              {unix.SYS_MKNODAT, [4]uintptr{none, 0, unix.S_IFIFO}},
	"pidfd_getfd":          {unix.SYS_PIDFD_GETFD, [4]uintptr{none}},
	"execveat":             {unix.SYS_EXECVEAT, [4]uintptr{none}},
	"open_by_handle_at":    {unix.SYS_OPEN_BY_HANDLE_AT, [4]uintptr{}},
	"mount":                {unix.SYS_MOUNT, [4]uintptr{}},
	"setrlimit CORE":       {unix.SYS_SETRLIMIT, [4]uintptr{unix.RLIMIT_CORE}},
	"prlimit64 CORE":       {unix.SYS_PRLIMIT64, [4]uintptr{0, unix.RLIMIT_CORE, none}},
	"clone NEWUSER":        {unix.SYS_CLONE, [4]uintptr{unix.CLONE_NEWUSER | uintptr(syscall.SIGCHLD)}},
	"fchmod SUID":          {unix.SYS_FCHMOD, [4]uintptr{none, unix.S_ISUID}},
	"fchmodat SGID":        {unix.SYS_FCHMODAT, [4]uintptr{none, 0, unix.S_ISGID}},
	"fchmodat2 SUID":       {unix.SYS_FCHMODAT2, [4]uintptr{none, 0, unix.S_ISUID}},
	"openat CREAT SUID":    {unix.SYS_OPENAT, [4]uintptr{none, 0, unix.O_CREAT, unix.S_ISUID}},
	"openat TMPFILE SGID":  {unix.SYS_OPENAT, [4]uintptr{none, 0, unix.O_TMPFILE, unix.S_ISGID}},
	"openat2":              {unix.SYS_OPENAT2, [4]uintptr{none}},
	"clone3":               {unix.SYS_CLONE3, [4]uintptr{0, 0}},
	"socket ALG":           {unix.SYS_SOCKET, [4]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}},
	"socket VSOCK":         {unix.SYS_SOCKET, [4]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}},
	"socket PACKET":        {unix.SYS_SOCKET, [4]uintptr{unix.AF_PACKET, unix.SOCK_RAW}},
	"socket NETLINK_AUDIT": {unix.SYS_SOCKET, [4]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}},
	"socketpair TIPC":      {unix.SYS_SOCKETPAIR, [4]uintptr{unix.AF_TIPC, unix.SOCK_STREAM}},
	"socket ICMP":          {unix.SYS_SOCKET, [4]uintptr{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}},

	// To be allowed.
	"setrlimit NOFILE":                       {unix.SYS_SETRLIMIT, [4]uintptr{unix.RLIMIT_NOFILE}},
	"prlimit64 NOFILE":                       {unix.SYS_PRLIMIT64, [4]uintptr{0, unix.RLIMIT_NOFILE, none}},
	"prlimit64 asks":                         {unix.SYS_PRLIMIT64, [4]uintptr{0, unix.RLIMIT_CORE, 0}},
	"fchmod":                                 {unix.SYS_FCHMOD, [4]uintptr{none, 0o755}},
	"fchmodat2":                              {unix.SYS_FCHMODAT2, [4]uintptr{none, 0, 0o755}},
	"openat CREAT":                           {unix.SYS_OPENAT, [4]uintptr{none, 0, unix.O_CREAT, 0o755}},
	"openat with a mode that does not count": {unix.SYS_OPENAT, [4]uintptr{none, 0, unix.O_RDONLY, unix.S_ISUID}},
	"getcpu":                                 {unix.SYS_GETCPU, [4]uintptr{}},
	"mlock2":                                 {unix.SYS_MLOCK2, [4]uintptr{}},
	"seccomp":                                {unix.SYS_SECCOMP, [4]uintptr{none}},
	"landlock_create_ruleset":                {unix.SYS_LANDLOCK_CREATE_RULESET, [4]uintptr{0, 0, 1 /* only ask for the version */}},
	"memfd_create NOEXEC_SEAL":               {unix.SYS_MEMFD_CREATE, [4]uintptr{0, unix.MFD_NOEXEC_SEAL}},
	"clone":                                  {unix.SYS_CLONE, [4]uintptr{uintptr(syscall.SIGCHLD)}},
	"socket UNIX":                            {unix.SYS_SOCKET, [4]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}},
	"socket INET":                            {unix.SYS_SOCKET, [4]uintptr{unix.AF_INET, unix.SOCK_STREAM}},
	"socket INET6":                           {unix.SYS_SOCKET, [4]uintptr{unix.AF_INET6, unix.SOCK_STREAM}},
	"socket NETLINK_ROUTE":                   {unix.SYS_SOCKET, [4]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}},
	"socketpair UNIX":                        {unix.SYS_SOCKETPAIR, [4]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}},
}

// syscalls makes every call and returns the errors by name.
func syscalls() map[string]string {
	errs := map[string]string{}
	for name, c := range calls {
		result, _, errno := syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], 0, 0)
		if errno == 0 && result == 0 && c.number == unix.SYS_CLONE { // the child
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		errs[name] = ""
		if errno != 0 {
			errs[name] = unix.ErrnoName(errno)
		}
	}
	return errs
}
