package sandboxtest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest/internal/report"
)

var processRows = []row{
	{"as the spec says", false, func(t *testing.T, s *suite) {
		spec := s.spec("describe", "a b", "")
		var got report.Process
		s.ask(t, spec, &got)
		slices.Sort(got.Env)
		slices.Sort(spec.Env)
		want := report.Process{
			Args: spec.Args, Env: spec.Env, Dir: "/", Hostname: spec.Hostname(), UID: uid, GID: gid,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}},
	{"environment that replaces the image's", false, func(t *testing.T, s *suite) {
		spec := s.spec("describe")
		spec.Env = []string{"HOME=/h", "IMAGE_SECRET=ours", "PATH=/ours"}
		var got report.Process
		s.ask(t, spec, &got)
		slices.Sort(got.Env)
		if diff := cmp.Diff(spec.Env, got.Env); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}},
}

// Files that the hardening rows look at; which of them exist depends on the
// version of the control groups.
var (
	memoryFiles = []string{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"}
	swapFiles   = []string{"/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "/sys/fs/cgroup/memory.swap.max"}
	quotaFiles  = []string{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu.max"}
	shareFiles  = []string{"/sys/fs/cgroup/cpu/cpu.shares", "/sys/fs/cgroup/cpu,cpuacct/cpu.shares", "/sys/fs/cgroup/cpu.weight"}
	pidsFiles   = []string{"/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"}
	maskedFiles = []string{"/proc/cmdline", "/proc/version", "/proc/kallsyms", "/proc/modules", "/proc/interrupts", "/proc/keys"}
	ownFiles    = []string{"/proc/self/cgroup", "/proc/self/oom_score_adj", "/proc/sys/net/ipv4/ip_unprivileged_port_start"}
)

var hardeningRows = []row{
	{"seen from inside", true, seenFromInside},
	{"seen from outside", true, seenFromOutside},
	{"masked and read-only paths", true, maskedPaths},
	{"system calls", true, systemCalls},
	{"system calls of other architectures", true, func(t *testing.T, s *suite) {
		var got map[string]report.Attempt
		s.ask(t, s.spec("foreign"), &got)
		for name, how := range got {
			if how.Error == "" {
				t.Errorf("%s: %+v, want a call that is refused", name, how)
			}
		}
	}},
	{"programs from memory", true, func(t *testing.T, s *suite) {
		if got := s.attempt(t, s.spec("run memory")); s.Seccomp && got.Error == "" {
			t.Error("a program ran that is in no file system")
		}
	}},
	{"crash without a core dump", true, func(t *testing.T, s *suite) {
		dir := directory(t)
		spec := s.with(sandbox.Mount{Source: dir, Target: "/granted"}, "crash")
		spec.Dir = "/granted"
		if got := s.attempt(t, spec); got.Error != "SIGABRT" {
			t.Errorf("%+v, want a crash that dumps nothing", got)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("the crash left %v, %v", left, err)
		}
	}},
	{"read-only root", true, func(t *testing.T, s *suite) {
		s.wantAttempt(t, "EROFS", s.spec("create", "/etc/written")) // though everybody may write to it
		for path, want := range map[string]string{
			"/new":            "EROFS",
			"/dev/new":        "EACCES",
			"/dev/shm/new":    "ENOENT",
			"/dev/mqueue/new": "EMFILE", // RLIMIT_MSGQUEUE
		} {
			if !s.Seccomp {
				want = refused // its kernel asks for permission before anything else
			}
			s.wantAttempt(t, want, s.spec("create", path))
		}
	}},
	{"privileged ports on the loopback device", true, func(t *testing.T, s *suite) {
		for _, address := range []string{"127.0.0.1:53", "127.1.2.3:443"} {
			if got := s.attempt(t, s.spec("listen", address)); got.Error != "" || got.Text != "hello" {
				t.Errorf("%s: %+v", address, got)
			}
		}
	}},
}

func seenFromInside(t *testing.T, s *suite) {
	spec := s.spec(slices.Concat([]string{"sandbox"}, memoryFiles, swapFiles, quotaFiles, shareFiles, pidsFiles, maskedFiles, ownFiles)...)
	var got report.Kernel
	s.ask(t, spec, &got)
	checkStatus(t, s, got)
	if !s.Seccomp {
		checkOwnKernel(t, got)
		return
	}
	first := func(files []string) string {
		for _, path := range files {
			if text, ok := got.Files[path]; ok {
				return text
			}
		}
		return ""
	}
	memory := strconv.FormatInt(spec.Limits.Memory, 10)
	quota, _, _ := strings.Cut(first(quotaFiles), " ")
	for _, c := range []struct{ name, got, want string }{
		{"memory limit", first(memoryFiles), memory},
		{"cpu quota of 100 ms", quota, "50000"},
		{"pids limit", first(pidsFiles), strconv.FormatInt(spec.Limits.PIDs, 10)},
		{"oom score", got.Files["/proc/self/oom_score_adj"], strconv.Itoa(sandbox.Hardened().OOMScoreAdj)},
		{"unprivileged ports", got.Files["/proc/sys/net/ipv4/ip_unprivileged_port_start"], "0"},
		{"masked files", maskedContent(got), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
	if swap := first(swapFiles); swap != memory && swap != "0" {
		t.Errorf("swap: %q, want none", swap)
	}
	if shares := first(shareFiles); shares != "512" && (shares == "" || shares == "1024" || shares == "100") {
		t.Errorf("cpu shares: %q, want those of half a core", shares) // runtimes translate them to a weight differently
	}
	wantMount(t, got, "/proc/sys", "proc", "ro")
	for _, line := range strings.Split(got.Files["/proc/self/cgroup"], "\n") {
		if !strings.HasSuffix(line, ":/") {
			t.Errorf("the control group name space is not private: %s", line)
		}
	}
}

// maskedPaths looks at each path of the profile, of which a host has some.
func maskedPaths(t *testing.T, s *suite) {
	profile := sandbox.Hardened()
	var sizes map[string]int
	s.ask(t, s.spec(append([]string{"masked"}, profile.MaskedPaths...)...), &sizes)
	var got report.Kernel
	s.ask(t, s.spec("sandbox"), &got)
	if !s.Seccomp {
		return // a kernel of its own shows its own; see "seen from inside"
	}
	for path, size := range sizes {
		if size != 0 {
			t.Errorf("%s shows %d bytes or entries", path, size)
		}
	}
	if len(sizes) < len(profile.MaskedPaths)/2 {
		t.Errorf("only %d of %d masked paths were found", len(sizes), len(profile.MaskedPaths))
	}
	for _, path := range profile.ReadOnlyPaths {
		if _, err := os.Stat(path); err == nil {
			wantMount(t, got, path, "proc", "ro")
		}
	}
}

func maskedContent(got report.Kernel) string {
	var all string
	for _, path := range maskedFiles {
		all += got.Files[path]
	}
	return all
}

// checkStatus compares what the kernel says of the process.
func checkStatus(t *testing.T, s *suite, got report.Kernel) {
	t.Helper()
	const noCapability = "0000000000000000"
	want := map[string]string{
		"CapInh": noCapability, "CapPrm": noCapability, "CapEff": noCapability, "CapBnd": noCapability,
	}
	if s.Seccomp {
		want["CapAmb"], want["NoNewPrivs"], want["Seccomp"] = noCapability, "1", "2"
	}
	for key, value := range want {
		if got.Status[key] != value {
			t.Errorf("%s is %q, want %q", key, got.Status[key], value)
		}
	}
	if !got.NoNewPrivs {
		t.Error("a program could give itself new privileges")
	}
	if got.PID != 1 {
		t.Errorf("pid %d, want 1: the engine put something before it", got.PID)
	}
	for _, group := range got.Groups {
		if group != gid {
			t.Errorf("supplementary group %d", group)
		}
	}
	if diff := cmp.Diff([]string{"lo"}, got.Interfaces); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	core := uint64(sandbox.Hardened().CoreSize)
	if got.Core != [2]uint64{core, core} || got.OpenFiles != [2]uint64{256, 256} {
		t.Errorf("core %v, open files %v", got.Core, got.OpenFiles)
	}
}

func systemCalls(t *testing.T, s *suite) {
	var got map[string]string
	s.ask(t, s.spec("syscalls"), &got)
	checkAllowed(t, got)
	if !s.Seccomp {
		checkOwnCalls(t, got)
		return
	}
	for _, name := range []string{
		"io_uring_setup", "ptrace", "process_vm_readv", "bpf", "keyctl", "add_key", "userfaultfd", "perf_event_open",
		"splice", "tee", "vmsplice", "memfd_secret", "unshare", "setns", "personality", "shmget", "mq_open",
		"open_by_handle_at", "mount", "clone NEWUSER", "clock_settime", "clock_adjtime", "settimeofday", "mknodat",
		"pidfd_getfd", "execveat",
		"setrlimit CORE", "prlimit64 CORE",
		"fchmod SUID", "fchmodat SGID", "fchmodat2 SUID", "openat CREAT SUID", "openat TMPFILE SGID",
		"socket ALG", "socket VSOCK", "socket PACKET", "socket NETLINK_AUDIT", "socketpair TIPC",
	} {
		if got[name] != "EPERM" {
			t.Errorf("%s: %q, want EPERM", name, got[name])
		}
	}
	for name, want := range map[string]string{
		"clone3":            "ENOSYS", // so that libc falls back
		"openat2":           "ENOSYS",
		"memfd_create":      "ENOSYS",
		"memfd_create EXEC": "ENOSYS",
		"socket ICMP":       "EACCES", // the socket passes, the group range does not
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %s", name, got[name], want)
		}
	}
}

// checkAllowed looks for calls that programs need.
func checkAllowed(t *testing.T, got map[string]string) {
	t.Helper()
	allowed := []string{
		"setrlimit NOFILE", "prlimit64 NOFILE", "prlimit64 asks", "getcpu", "mlock2", "seccomp", "landlock_create_ruleset", "memfd_create NOEXEC_SEAL", "clone",
		"fchmod", "fchmodat2", "openat CREAT", "openat with a mode that does not count",
		"socket UNIX", "socket INET", "socket INET6", "socket NETLINK_ROUTE", "socketpair UNIX",
	}
	for _, name := range allowed {
		if result, made := got[name]; !made || result == "EPERM" {
			t.Errorf("%s: %q, want it to pass the filter", name, result)
		}
	}
}

var limitRows = []row{
	{"memory", true, tooMuchMemory},
	{"pids", true, tooManyProcesses},
	{"open files", true, func(t *testing.T, s *suite) {
		spec := s.spec("open", "1000")
		got := s.attempt(t, spec)
		if got.Error != "EMFILE" || got.Count >= spec.Limits.OpenFiles {
			t.Errorf("%+v, want fewer than %d files", got, spec.Limits.OpenFiles)
		}
	}},
	{"tmpfs size", true, func(t *testing.T, s *suite) {
		spec := s.spec("fill", "/tmp/full")
		spec.Tmpfs[0].Size = 8 << 20
		got := s.attempt(t, spec)
		if got.Error != "ENOSPC" || got.Count > spec.Tmpfs[0].Size || got.Count < spec.Tmpfs[0].Size/2 {
			t.Errorf("%+v, want %d bytes and ENOSPC", got, spec.Tmpfs[0].Size)
		}
	}},
	{"tmpfs noexec", true, func(t *testing.T, s *suite) {
		s.wantAttempt(t, "EACCES", s.spec("exec", "/tmp/program"))
	}},
	{"tmpfs mount options", true, func(t *testing.T, s *suite) {
		var got report.Kernel
		s.ask(t, s.spec("sandbox"), &got)
		wantMount(t, got, "/tmp", "tmpfs", "rw", "noexec")
		if s.Seccomp { // gVisor has no devices but its own, and nobody gains by a program; see "seen from inside"
			wantMount(t, got, "/tmp", "tmpfs", "nosuid", "nodev")
		}
	}},
}

var mountRows = []row{
	{"read-only", true, func(t *testing.T, s *suite) {
		dir := directory(t)
		writeFile(t, filepath.Join(dir, "data"), "from the host")
		mount := sandbox.Mount{Source: dir, Target: "/granted", ReadOnly: true}
		if got := s.attempt(t, s.with(mount, "read", "/granted/data")); got.Text != "from the host" {
			t.Errorf("%+v", got)
		}
		s.wantAttempt(t, "EROFS", s.with(mount, "create", "/granted/new"))
	}},
	{"read-write", true, func(t *testing.T, s *suite) {
		dir := directory(t)
		s.wantAttempt(t, "", s.with(sandbox.Mount{Source: dir, Target: "/granted"}, "create", "/granted/new"))
		got, err := os.ReadFile(filepath.Join(dir, "new"))
		if err != nil || string(got) != "written\n" {
			t.Errorf("on the host: %q, %v", got, err)
		}
	}},
	{"flags of the source stay", true, flagsStay},
	{"noexec", true, noExec},
	{"engine's own files give way", true, func(t *testing.T, s *suite) {
		dir := directory(t)
		spec := s.spec()
		targets := []string{"/etc/hosts", "/etc/resolv.conf", "/etc/passwd", "/etc/group", "/etc/hostname"}
		for _, target := range targets {
			source := writeFile(t, filepath.Join(dir, filepath.Base(target)), "ours: "+target)
			spec.Mounts = append(spec.Mounts, sandbox.Mount{Source: source, Target: target, ReadOnly: true})
		}
		spec.Args = append([]string{"/probe", "sandbox"}, targets...)
		var got report.Kernel
		s.ask(t, spec, &got)
		for _, target := range targets {
			if got.Files[target] != "ours: "+target {
				t.Errorf("%s holds %q", target, got.Files[target])
			}
			wantMount(t, got, target, "", "ro")
		}
	}},
	{"propagation is private", true, func(t *testing.T, s *suite) {
		var got report.Kernel
		s.ask(t, s.with(sandbox.Mount{Source: directory(t), Target: "/granted"}, "sandbox", "/proc/self/mountinfo"), &got)
		for _, line := range strings.Split(got.Files["/proc/self/mountinfo"], "\n") {
			if strings.Contains(line, " /granted ") && (strings.Contains(line, "shared:") || strings.Contains(line, "master:")) {
				t.Errorf("not private: %s", line)
			}
		}
	}},
	{"what is mounted below the source stays outside", true, func(t *testing.T, s *suite) {
		dir := directory(t)
		below := filepath.Join(dir, "below")
		if err := errors.Join(os.Mkdir(below, 0o755), os.Chmod(below, 0o755)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", below, "tmpfs", 0, "size=64k"); err != nil {
			t.Skipf("only root may mount: %v", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(below, 0); err != nil {
				t.Errorf("cannot unmount: %v", err)
			}
		})
		writeFile(t, filepath.Join(below, "data"), "of another file system")
		s.wantAttempt(t, "ENOENT", s.with(sandbox.Mount{Source: dir, Target: "/granted", ReadOnly: true}, "read", "/granted/below/data"))
	}},
	{"sealed image", true, sealedImage},
	{"mapped to the owner", true, mappedToTheOwner},
	{"socket in a read-only directory", true, socketOfTheHost},
	{"devices", true, devicesOfTheHost},
	{"set-user-ID programs", true, programsOfOthers},
}

// noExec starts a program from a mount that is to be noexec: by the engine, or
// where that leaves it to the caller, by the source.
func noExec(t *testing.T, s *suite) {
	info, err := s.Engine.Info(s.ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, want := directory(t), "EACCES"
	if !info.MountFlags {
		bindWith(t, dir, unix.MS_NOEXEC)
		if !s.Seccomp {
			want = refused // gVisor's kernel begins the program, which the host lets it map nowhere
		}
	}
	s.wantAttempt(t, want, s.with(sandbox.Mount{Source: dir, Target: "/granted", NoExec: true}, "exec", "/granted/program"))
}

// bindWith mounts dir over itself, with flags.
func bindWith(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("only root may mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount: %v", err)
		}
	})
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		t.Fatal(err)
	}
}

// flagsStay mounts what is mounted with flags already, as a directory and as a
// file in it.
func flagsStay(t *testing.T, s *suite) {
	dir := directory(t)
	if err := os.Chmod(writeFile(t, filepath.Join(dir, "file"), "sealed"), 0o666); err != nil {
		t.Fatal(err)
	}
	bindWith(t, dir, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)
	mounts := []sandbox.Mount{
		{Source: dir, Target: "/granted", ReadOnly: true},
		{Source: filepath.Join(dir, "file"), Target: "/etc/hosts", ReadOnly: true},
	}
	spec := s.spec("sandbox", "/granted/file", "/etc/hosts")
	spec.Mounts = mounts
	var got report.Kernel
	s.ask(t, spec, &got)
	for _, m := range mounts {
		if !s.Seccomp {
			break // gVisor's mounts are its own, above those that have the flags
		}
		wantMount(t, got, m.Target, "", "ro", "nosuid", "nodev", "noexec")
	}
	if got.Files["/granted/file"] != "sealed" || got.Files["/etc/hosts"] != "sealed" {
		t.Errorf("files %q", got.Files)
	}
	s.wantAttempt(t, "EROFS", s.with(mounts[0], "create", "/granted/new"))
	s.wantAttempt(t, "EROFS", s.with(mounts[1], "create", "/etc/hosts"))
}

func (s *suite) with(m sandbox.Mount, args ...string) sandbox.Spec {
	spec := s.spec(args...)
	spec.Mounts = append(spec.Mounts, m)
	return spec
}

func (s *suite) attempt(t *testing.T, spec sandbox.Spec) report.Attempt {
	t.Helper()
	var got report.Attempt
	s.ask(t, spec, &got)
	return got
}

func (s *suite) wantAttempt(t *testing.T, want string, spec sandbox.Spec) {
	t.Helper()
	if got := s.attempt(t, spec); got.Error != want && (want != refused || got.Error == "") {
		t.Errorf("%q: %+v, want error %q", spec.Args, got, want)
	}
}

// refused is any error, for wantAttempt.
const refused = "any"

// wantMount asserts a mount by target, type (unless empty) and options.
func wantMount(t *testing.T, got report.Kernel, target, kind string, options ...string) {
	t.Helper()
	for _, m := range got.Mounts {
		if m.Target != target {
			continue
		}
		for _, option := range options {
			if !slices.Contains(m.Options, option) {
				t.Errorf("mount %s has options %q, without %s", target, m.Options, option)
			}
		}
		if kind != "" && m.Type != kind {
			t.Errorf("mount %s is a %s, want %s", target, m.Type, kind)
		}
		return
	}
	t.Errorf("nothing is mounted on %s", target)
}
