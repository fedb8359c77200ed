package main

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// none is -1: an invalid descriptor.
const none = ^uintptr(0)

type args = [6]uintptr

// calls are sets of single system calls.
var calls = map[string]map[string]call{
	"io_uring": {
		"io_uring_setup":    {unix.SYS_IO_URING_SETUP, args{8, zeros(256)}},
		"io_uring_enter":    {unix.SYS_IO_URING_ENTER, args{none}},
		"io_uring_register": {unix.SYS_IO_URING_REGISTER, args{none}},
	},
	"sockets": {
		"raw ICMP":     socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
		"raw IP":       socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW),
		"raw IPv6":     socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6),
		"ping":         socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP),
		"packet":       socket(unix.AF_PACKET, unix.SOCK_RAW, 0x300),
		"packet dgram": socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0x300),
		"vsock":        socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
		"alg":          socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
		"tipc":         socket(unix.AF_TIPC, unix.SOCK_STREAM, 0),
		"can":          socket(unix.AF_CAN, unix.SOCK_RAW, 1),
		"bluetooth":    socket(unix.AF_BLUETOOTH, unix.SOCK_RAW, 1),
		"xdp":          socket(unix.AF_XDP, unix.SOCK_RAW, 0),
		"key":          socket(unix.AF_KEY, unix.SOCK_RAW, 2),
		"rds":          socket(unix.AF_RDS, unix.SOCK_SEQPACKET, 0),
		"kcm":          socket(unix.AF_KCM, unix.SOCK_DGRAM, 0),
		"nfc":          socket(unix.AF_NFC, unix.SOCK_RAW, 0),
		"ax25":         socket(unix.AF_AX25, unix.SOCK_DGRAM, 0),
		"llc":          socket(unix.AF_LLC, unix.SOCK_STREAM, 0),
	},
	"netlink families": {
		"usersock":  socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_USERSOCK),
		"sock_diag": socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG),
		"xfrm":      socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM),
		"audit":     socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT),
		"netfilter": socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER),
		"uevent":    socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT),
		"connector": socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_CONNECTOR),
		"generic":   socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC),
		"crypto":    socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_CRYPTO),
	},
	"mounts": {
		"tmpfs":        {unix.SYS_MOUNT, args{text("none"), text("/tmp"), text("tmpfs")}},
		"proc":         {unix.SYS_MOUNT, args{text("proc"), text("/tmp"), text("proc")}},
		"bind":         {unix.SYS_MOUNT, args{text("/"), text("/tmp"), 0, unix.MS_BIND}},
		"remount":      {unix.SYS_MOUNT, args{0, text("/plugin"), 0, unix.MS_REMOUNT | unix.MS_BIND}},
		"propagation":  {unix.SYS_MOUNT, args{0, text("/"), 0, unix.MS_SHARED | unix.MS_REC}},
		"umount":       {unix.SYS_UMOUNT2, args{text("/run/ocmt"), unix.MNT_DETACH}},
		"pivot_root":   {unix.SYS_PIVOT_ROOT, args{text("/tmp"), text("/tmp")}},
		"chroot":       {unix.SYS_CHROOT, args{text("/tmp")}},
		"fsopen":       {unix.SYS_FSOPEN, args{text("tmpfs")}},
		"fspick":       {unix.SYS_FSPICK, args{cwd, text("/plugin")}},
		"open_tree":    {unix.SYS_OPEN_TREE, args{cwd, text("/"), unix.OPEN_TREE_CLONE}},
		"move_mount":   {unix.SYS_MOVE_MOUNT, args{cwd, text("/tmp"), cwd, text("/plugin")}},
		"mount_setat":  {unix.SYS_MOUNT_SETATTR, args{cwd, text("/plugin"), 0, zeros(32), 32}},
		"quotactl":     {unix.SYS_QUOTACTL, args{0, text("/state")}},
		"statmount":    {457, args{zeros(64), zeros(512), 512}},
		"fanotify":     {unix.SYS_FANOTIFY_INIT, args{0, 0}},
		"listmount":    {458, args{zeros(64), zeros(512), 64}},
		"open_tree_a":  {467, args{cwd, text("/"), 0}},
		"umount force": {unix.SYS_UMOUNT2, args{text("/state"), unix.MNT_FORCE}},
	},
	"namespaces": {
		"unshare user":   {unix.SYS_UNSHARE, args{unix.CLONE_NEWUSER}},
		"unshare mount":  {unix.SYS_UNSHARE, args{unix.CLONE_NEWNS}},
		"unshare net":    {unix.SYS_UNSHARE, args{unix.CLONE_NEWNET}},
		"unshare pid":    {unix.SYS_UNSHARE, args{unix.CLONE_NEWPID}},
		"unshare ipc":    {unix.SYS_UNSHARE, args{unix.CLONE_NEWIPC}},
		"unshare uts":    {unix.SYS_UNSHARE, args{unix.CLONE_NEWUTS}},
		"unshare cgroup": {unix.SYS_UNSHARE, args{unix.CLONE_NEWCGROUP}},
		"unshare time":   {unix.SYS_UNSHARE, args{unix.CLONE_NEWTIME}},
		"setns":          {unix.SYS_SETNS, args{none, 0}},
		"clone3":         {unix.SYS_CLONE3, args{zeros(88), 7}}, // too small to be carried out
	},
	"bpf": {
		"map":     {unix.SYS_BPF, args{unix.BPF_MAP_CREATE, zeros(128), 72}},
		"program": {unix.SYS_BPF, args{unix.BPF_PROG_LOAD, zeros(128), 120}},
		"object":  {unix.SYS_BPF, args{unix.BPF_OBJ_GET, zeros(128), 72}},
		"ids":     {unix.SYS_BPF, args{unix.BPF_PROG_GET_NEXT_ID, zeros(128), 72}},
	},
	"keys": {
		"add_key":        {unix.SYS_ADD_KEY, args{text("user"), text("hostile"), text("x"), 1, uintptr(0xfffffffd)}},
		"request_key":    {unix.SYS_REQUEST_KEY, args{text("user"), text("hostile"), 0, 0}},
		"keyctl session": {unix.SYS_KEYCTL, args{unix.KEYCTL_JOIN_SESSION_KEYRING, 0}},
		"keyctl read":    {unix.SYS_KEYCTL, args{unix.KEYCTL_READ, uintptr(0xfffffffb)}},
	},
	"perf": {
		"perf_event_open":   {unix.SYS_PERF_EVENT_OPEN, args{zeros(128), 0, none, none, 0}},
		"syslog":            {unix.SYS_SYSLOG, args{3, zeros(64), 64}},
		"lookup_dcookie":    {unix.SYS_LOOKUP_DCOOKIE, args{0, zeros(64), 64}},
		"get_kernel_counts": {unix.SYS_PERF_EVENT_OPEN, args{zeros(128), none, 0, none, 0}},
	},
	"userfaultfd": {
		"userfaultfd": {unix.SYS_USERFAULTFD, args{unix.O_CLOEXEC}},
		"user mode":   {unix.SYS_USERFAULTFD, args{1}},
	},
	"machine": {
		"reboot":          {unix.SYS_REBOOT, args{1, 1, 0}}, // the wrong magic
		"kexec_load":      {unix.SYS_KEXEC_LOAD, args{0, 0, 0, none}},
		"kexec_file_load": {unix.SYS_KEXEC_FILE_LOAD, args{none, none}},
		"init_module":     {unix.SYS_INIT_MODULE, args{0, 0, 0}},
		"finit_module":    {unix.SYS_FINIT_MODULE, args{none, text(""), 0}},
		"delete_module":   {unix.SYS_DELETE_MODULE, args{text("hostile"), 0}},
		"swapon":          {unix.SYS_SWAPON, args{text("/state/none")}},
		"swapoff":         {unix.SYS_SWAPOFF, args{text("/state/none")}},
		"sethostname":     {unix.SYS_SETHOSTNAME, args{text("hostile"), 7}},
		"setdomainname":   {unix.SYS_SETDOMAINNAME, args{text("hostile"), 7}},
		"acct":            {unix.SYS_ACCT, args{text("/state/none")}},
		"vhangup":         {unix.SYS_VHANGUP, args{}},
		"nfsservctl":      {unix.SYS_NFSSERVCTL, args{}},
		"migrate_pages":   {unix.SYS_MIGRATE_PAGES, args{1, 64, zeros(8), zeros(8)}},
		"mbind":           {unix.SYS_MBIND, args{0, 0, 1}},
	},
	"clock": {
		"clock_settime": {unix.SYS_CLOCK_SETTIME, args{unix.CLOCK_REALTIME, now()}},
		"settimeofday":  {unix.SYS_SETTIMEOFDAY, args{zeros(16), zeros(8)}},
		"clock_adjtime": {unix.SYS_CLOCK_ADJTIME, args{unix.CLOCK_REALTIME, nothingToAdjust()}},
		"adjtimex":      {unix.SYS_ADJTIMEX, args{nothingToAdjust()}},
	},
	"privileges": {
		"setuid":          {unix.SYS_SETUID, args{0}},
		"setreuid":        {unix.SYS_SETREUID, args{0, 0}},
		"setresuid":       {unix.SYS_SETRESUID, args{0, 0, 0}},
		"setgid":          {unix.SYS_SETGID, args{0}},
		"setresgid":       {unix.SYS_SETRESGID, args{0, 0, 0}},
		"setgroups":       {unix.SYS_SETGROUPS, args{1, zeros(4)}},
		"neighbour's uid": {unix.SYS_SETUID, args{uintptr(os.Getuid() + 1)}},
		"capset":          {unix.SYS_CAPSET, args{capHeader(), allCaps()}},
		"ambient":         {unix.SYS_PRCTL, args{unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0}},
		"no_new_privs":    {unix.SYS_PRCTL, args{unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0}},
		"set_mm":          {unix.SYS_PRCTL, args{unix.PR_SET_MM, unix.PR_SET_MM_EXE_FILE, none, 0, 0}},
		"securebits":      {unix.SYS_PRCTL, args{unix.PR_SET_SECUREBITS, 1, 0, 0, 0}},
		"setpriority":     {unix.SYS_SETPRIORITY, args{unix.PRIO_PROCESS, 0, ^uintptr(19)}}, // -20
		"realtime":        {unix.SYS_SCHED_SETSCHEDULER, args{0, unix.SCHED_FIFO, realtime()}},
		"ioprio":          {unix.SYS_IOPRIO_SET, args{1, 0, 1 << 13}},
		"core limit":      {unix.SYS_PRLIMIT64, args{0, unix.RLIMIT_CORE, unlimited()}},
		"files limit":     {unix.SYS_PRLIMIT64, args{0, unix.RLIMIT_NOFILE, unlimited()}},
		"queue limit":     {unix.SYS_PRLIMIT64, args{0, unix.RLIMIT_MSGQUEUE, unlimited()}},
		"init's limit":    {unix.SYS_PRLIMIT64, args{1, unix.RLIMIT_CORE, unlimited()}},
	},
	"emulation": {
		"personality":  {unix.SYS_PERSONALITY, args{0x0400000}}, // READ_IMPLIES_EXEC
		"remap":        {unix.SYS_REMAP_FILE_PAGES, args{}},
		"splice":       {unix.SYS_SPLICE, args{none, 0, none}},
		"vmsplice":     {unix.SYS_VMSPLICE, args{none}},
		"tee":          {unix.SYS_TEE, args{none, none}},
		"memfd_secret": {unix.SYS_MEMFD_SECRET, args{0}},
		"kcmp":         {unix.SYS_KCMP, args{1, 1, 0}},
	},
}

const cwd = ^uintptr(99) // AT_FDCWD

func socket(family, kind, protocol int) call {
	return call{unix.SYS_SOCKET, args{uintptr(family), uintptr(kind), uintptr(protocol)}}
}

// now is the time as it is, so that setting it changes nothing.
func now() uintptr {
	ts := unix.NsecToTimespec(time.Now().UnixNano())
	b := *(*[unsafe.Sizeof(ts)]byte)(unsafe.Pointer(&ts))
	return pointer(b[:])
}

// nothingToAdjust asks for a change that is none: ADJ_SETOFFSET by nothing.
func nothingToAdjust() uintptr {
	tx := unix.Timex{Modes: 0x0100}
	b := *(*[unsafe.Sizeof(tx)]byte)(unsafe.Pointer(&tx))
	return pointer(b[:])
}

func capHeader() uintptr {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	b := *(*[unsafe.Sizeof(h)]byte)(unsafe.Pointer(&h))
	return pointer(b[:])
}

func allCaps() uintptr {
	d := [2]unix.CapUserData{{Effective: ^uint32(0), Permitted: ^uint32(0), Inheritable: ^uint32(0)}}
	b := *(*[unsafe.Sizeof(d)]byte)(unsafe.Pointer(&d))
	return pointer(b[:])
}

func realtime() uintptr {
	priority := int32(1)
	b := *(*[4]byte)(unsafe.Pointer(&priority))
	return pointer(b[:])
}

func unlimited() uintptr {
	limit := syscall.Rlimit{Cur: ^uint64(0), Max: ^uint64(0)}
	b := *(*[unsafe.Sizeof(limit)]byte)(unsafe.Pointer(&limit))
	return pointer(b[:])
}

// pointer keeps bytes for the kernel.
func pointer(b []byte) uintptr {
	c := append([]byte(nil), b...)
	kept = append(kept, c)
	return uintptr(unsafe.Pointer(&c[0]))
}
