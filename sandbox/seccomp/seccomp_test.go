package seccomp

import (
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestGolden(t *testing.T) {
	const path = "testdata/profile.json"
	if *update {
		if err := os.WriteFile(path, Profile(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(Profile())); diff != "" {
		t.Errorf("the profile differs from %s; look at the change, then run with -update (-want +got):\n%s", path, diff)
	}
}

func TestJSONIsTheOCIProfile(t *testing.T) {
	var got specs.LinuxSeccomp
	if err := json.Unmarshal(Profile(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(OCI(), &got); diff != "" {
		t.Error(diff)
	}
}

// hostile are calls that reach beyond a process, or the kernel in ways that
// Node has no use for.
var hostile = []string{
	"io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "io_submit",
	"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp",
	"bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key",
	"splice", "vmsplice", "tee", "memfd_secret", "memfd_create", "modify_ldt", "personality",
	"io_getevents", "io_cancel", "io_destroy", "process_mrelease", "pidfd_getfd", "remap_file_pages", "vhangup",
	"fanotify_init", "fanotify_mark", "get_mempolicy", "set_mempolicy", "mbind", "migrate_pages", "move_pages",
	"sched_setattr", "sched_setscheduler", "sched_setparam", "ioprio_set", "_sysctl", "sysfs", "ustat",
	"unshare", "setns", "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount", "mount_setattr",
	"pivot_root", "chroot", "mknod", "mknodat", "swapon", "swapoff", "quotactl", "acct",
	"name_to_handle_at", "open_by_handle_at", "execveat", "uselib",
	"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
	"shmget", "shmat", "msgget", "semget", "mq_open", "mq_timedsend",
	"clock_settime", "settimeofday", "adjtimex", "clock_adjtime", "sethostname", "setdomainname",
	"setxattr", "lsetxattr", "fsetxattr", "syslog", "lookup_dcookie", "iopl", "ioperm",
}

func TestHostileCallsAreAbsent(t *testing.T) {
	allowed := OCI().Syscalls[0].Names
	for _, name := range hostile {
		if slices.Contains(allowed, name) {
			t.Errorf("%s is allowed", name)
		}
	}
}

func TestUnconditionalNames(t *testing.T) {
	profile := OCI()
	names := profile.Syscalls[0].Names
	if got := slices.Compact(slices.Clone(names)); len(got) != len(names) {
		t.Errorf("a name is listed twice: %d names, %d different", len(names), len(got))
	}
	for _, rule := range profile.Syscalls[1:] {
		for _, name := range rule.Names {
			if slices.Contains(names, name) {
				t.Errorf("%s has conditions, but is allowed without any", name)
			}
		}
	}
	for _, needed := range []string{"getcpu", "getrlimit", "fork", "mlock2", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} {
		if !slices.Contains(names, needed) {
			t.Errorf("%s is missing", needed)
		}
	}
}

func TestSocketFamilies(t *testing.T) {
	type pair struct{ Family, Protocol uint64 }
	const any = ^uint64(0)
	var got []pair
	for _, rule := range OCI().Syscalls[1:] {
		if rule.Names[0] != "socket" {
			continue
		}
		p := pair{Protocol: any}
		for _, arg := range rule.Args {
			if arg.Op != specs.OpEqualTo {
				t.Errorf("socket is compared with %s", arg.Op)
			}
			switch arg.Index {
			case 0:
				p.Family = arg.Value
			case 2:
				p.Protocol = arg.Value
			}
		}
		got = append(got, p)
	}
	want := []pair{{1, any}, {2, any}, {10, any}, {16, 0}} // unix, inet, inet6, netlink route
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCloneMakesNoNamespace(t *testing.T) {
	const want = 0x7e020000 // CLONE_NEW* of clone(2)
	if newNamespaces != want {
		t.Errorf("mask is %#x, want %#x", uint64(newNamespaces), uint64(want))
	}
	rules := OCI().Syscalls
	at := slices.IndexFunc(rules, func(r specs.LinuxSyscall) bool { return r.Names[0] == "clone" })
	flags, refused := rules[at], rules[at+1]
	if flags.Names[0] != "clone" || flags.Args[0].Op != specs.OpMaskedEqual || flags.Args[0].Value != want || flags.Args[0].ValueTwo != 0 {
		t.Errorf("clone: %+v", flags)
	}
	if refused.Names[0] != "clone3" || refused.Action != specs.ActErrno || refused.ErrnoRet == nil || *refused.ErrnoRet != 38 {
		t.Errorf("clone3: %+v", refused)
	}
}

// decides says what becomes of a call, as the kernel would: 0 when it is
// allowed, and else the error.
func decides(name string, args ...uint64) uint {
	profile := OCI()
	for _, r := range profile.Syscalls {
		matches := slices.Contains(r.Names, name) && !slices.ContainsFunc(r.Args, func(a specs.LinuxSeccompArg) bool {
			if a.Op == specs.OpMaskedEqual {
				return args[a.Index]&a.Value != a.ValueTwo
			}
			return a.Op != specs.OpEqualTo || args[a.Index] != a.Value
		})
		switch {
		case matches && r.Action == specs.ActAllow:
			return 0
		case matches:
			return *r.ErrnoRet
		}
	}
	return *profile.DefaultErrnoRet
}

func allows(name string, args ...uint64) bool { return decides(name, args...) == 0 }

func TestFilesInMemory(t *testing.T) {
	const name, cloexec, sealing, noExec, exec = 0x7fff0000, 1, 2, 8, 0x10
	for flags, want := range map[uint64]uint{
		0: 38, cloexec: 38, cloexec | sealing: 38, exec: 38, cloexec | exec: 38,
		noExec: 0, cloexec | noExec: 0, cloexec | sealing | noExec: 0,
	} {
		if got := decides("memfd_create", name, flags); got != want {
			t.Errorf("memfd_create with flags %#x: error %d, want %d", flags, got, want)
		}
	}
}

// TestCoreLimit evaluates the rules for the limits.
func TestCoreLimit(t *testing.T) {
	const core, pointer = 4, 0x7fff0000
	for resource := range uint64(16) {
		for _, high := range []uint64{0, 1 << 32, 1 << 63} { // bits that the kernel ignores
			want := resource != core
			if got := allows("setrlimit", high|resource, pointer); got != want {
				t.Errorf("setrlimit %#x: allowed %v, want %v", high|resource, got, want)
			}
			if got := allows("prlimit64", 0, high|resource, pointer, 0); got != want {
				t.Errorf("prlimit64 %#x: allowed %v, want %v", high|resource, got, want)
			}
		}
	}
	if !allows("prlimit64", 0, core, 0, pointer) || !allows("getrlimit", core, pointer) {
		t.Error("the limit of core dumps cannot be read")
	}
}
