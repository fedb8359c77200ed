package sandbox

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/sandbox/seccomp"
)

func TestHardenFillsWhatIsLeftOut(t *testing.T) {
	got := Harden(Spec{Limits: Limits{Memory: 64 << 20}})
	want := Spec{
		Dir: "/", StopGrace: 10 * time.Second, Seccomp: seccomp.Profile(),
		Tmpfs:  []Tmpfs{{Target: "/tmp", Size: 16 << 20, Mode: 0o1777}},
		Limits: Limits{Memory: 64 << 20},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if roomy := Harden(Spec{Limits: Limits{Memory: 8 << 30}}); roomy.Tmpfs[0].Size != 64<<20 {
		t.Errorf("tmpfs of %d bytes", roomy.Tmpfs[0].Size)
	}
}

func TestHardenKeepsWhatIsSaid(t *testing.T) {
	spec := Spec{
		Dir: "/state", StopGrace: time.Second, Seccomp: []byte("{}"),
		Tmpfs: []Tmpfs{{Target: "/tmp", Size: 1 << 20, Mode: 0o700}},
	}
	if diff := cmp.Diff(spec, Harden(spec)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	mounted := Spec{Mounts: []Mount{{Target: "/tmp"}}}
	if got := Harden(mounted); len(got.Tmpfs) != 0 {
		t.Errorf("a tmpfs over a mount: %+v", got.Tmpfs)
	}
}

func TestHardenDoesNotTouchItsArgument(t *testing.T) {
	backing := make([]Tmpfs, 1, 4)
	backing[0] = Tmpfs{Target: "/a"}
	first := Harden(Spec{Tmpfs: backing, Limits: Limits{Memory: 8 << 20}})
	second := Harden(Spec{Tmpfs: backing, Limits: Limits{Memory: 16 << 20}})
	if first.Tmpfs[1].Size == second.Tmpfs[1].Size {
		t.Error("two specs share their tmpfs")
	}
}

func TestHardened(t *testing.T) {
	p := Hardened()
	if p.Network != "none" || p.IPC != "none" || p.CgroupNamespace != "private" || p.Restart != "no" ||
		!p.ReadOnlyRoot || !p.NoNewPrivileges || len(p.Capabilities) != 0 || p.CoreSize != 1 {
		t.Errorf("profile %+v", p)
	}
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/kallsyms", "/sys/firmware", "/sys/kernel", "/sys/class"} {
		if !slices.Contains(p.MaskedPaths, path) {
			t.Errorf("%s is not masked", path)
		}
	}
	if slices.Contains(p.MaskedPaths, "/sys/fs/cgroup") {
		t.Error("V8 needs /sys/fs/cgroup")
	}
	p.MaskedPaths[0], p.Sysctls["x"] = "changed", "y"
	if again := Hardened(); again.MaskedPaths[0] == "changed" || again.Sysctls["x"] != "" {
		t.Error("a caller can change the profile")
	}
}

func TestLimitsFor(t *testing.T) {
	for _, role := range []string{RolePlugin, RoleCheck, RoleInstall, RoleClean} {
		spec := valid()
		spec.Limits = LimitsFor(role)
		if err := spec.Validate(); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
	if got := LimitsFor("nobody"); got != (Limits{}) {
		t.Errorf("an unknown role gets %+v", got)
	}
}

func TestCPUShares(t *testing.T) {
	for cpus, want := range map[float64]int64{0.5: 512, 1: 1024, 4: 4096, 0.001: 2, MaxCPUs: 1 << 18} {
		if got := (Limits{CPUs: cpus}).CPUShares(); got != want {
			t.Errorf("%v cores: %d shares, want %d", cpus, got, want)
		}
	}
}
