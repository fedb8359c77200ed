package containerd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

func TestInfo(t *testing.T) {
	e := withRuntime(t, defaultRuntime)
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Name != "containerd" || info.Version == "" || info.Runtime != defaultRuntime || info.CPUs == 0 || info.Memory == 0 || !info.MountFlags || info.Rootless {
		t.Errorf("info %+v", info)
	}
	if !slices.Contains(info.Runtimes, defaultRuntime) {
		t.Errorf("runtimes %q", info.Runtimes)
	}
	if left, err := filepath.Glob(filepath.Join(e.dir, "*.erofs")); err != nil || len(left) != 0 {
		t.Errorf("the trial left %q, %v", left, err)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), e.dir) {
		t.Errorf("the trial left a mount, %v", err)
	}
}

func TestUnlimitingHost(t *testing.T) {
	limits := sandbox.LimitsFor(sandbox.RoleClean)
	whole := host{seccomp: true, cpus: 2, memory: 4 << 30}
	for name, c := range map[string]struct {
		spoil func(*host)
		is    func(error) bool
		says  string
	}{
		"no controller":     {func(h *host) { h.missing = []string{"pids", "cpu"} }, errdefs.IsFailedPrecondition, "no control group for pids, cpu"},
		"no seccomp":        {func(h *host) { h.seccomp = false }, errdefs.IsFailedPrecondition, "no seccomp"},
		"not enough memory": {func(h *host) { h.memory = 64 << 20 }, errdefs.IsInvalidArgument, "exceeds the host's"},
	} {
		h := whole
		c.spoil(&h)
		if err := h.check(limits); !c.is(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := whole.check(limits); err != nil {
		t.Errorf("a host that has all: %v", err)
	}
	spec := validSpec("sha256:" + strings.Repeat("0", 64))
	if r := ociResources(&spec, &whole); r.Memory.Swap != nil {
		t.Error("swap is limited where that is refused")
	}
	whole.swapLimit = true
	if r := ociResources(&spec, &whole); *r.Memory.Swap != spec.Limits.Memory || *r.Memory.Limit != spec.Limits.Memory || *r.CPU.Quota != 50000 || *r.Pids.Limit != 32 {
		t.Errorf("resources %+v", r)
	}
}

func TestCountsOOMKill(t *testing.T) {
	for text, want := range map[string]bool{
		"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n":                true,
		"oom_kill_disable 0\nunder_oom 0\noom_kill 0\n":                false,
		"low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n": true,
		"low 0\nhigh 0\nmax 12\noom 3\noom_kill 0\noom_group_kill 4\n": false,
		"oom_kill_disable 0\nunder_oom 0\n":                            false,
		"":                                                             false,
		"oom_kill many\n":                                              false,
		"oom_kill -1":                                                  false,
		"oom_kill 18446744073709551615":                                true,
	} {
		if got := countsOOMKill(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzCountsOOMKill(f *testing.F) {
	f.Add("under_oom 0\noom_kill 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if countsOOMKill(text) && !strings.Contains(text, "oom_kill ") {
			t.Errorf("%q", text)
		}
	})
}

func TestRuntimes(t *testing.T) {
	e := withRuntime(t, defaultRuntime)
	spec := probe(t, e, "exit", "3")
	for _, name := range []string{"no-such-runtime", "true"} {
		spec.Runtime = name
		err := e.Create(t.Context(), spec)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), `cannot use runtime "`+name+`": the engine knows `) || !strings.Contains(err.Error(), defaultRuntime) {
			t.Errorf("error %v", err)
		}
	}
	spec.Runtime = defaultRuntime
	start(t, e, spec)
	if exit := wait(t, e, spec.ID); exit.Code != 3 {
		t.Errorf("exit %+v", exit)
	}
	remove(t, e, spec.ID)
}

// TestWrapper has runtimes that know one flag for sockets or the other.
func TestWrapper(t *testing.T) {
	e := &Engine{dir: tempDir(t), timeout: patience}
	if err := e.makeDirs(); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(tempDir(t), "it's here")
	for name, c := range map[string]struct{ flags, want string }{
		"new": {"  -host-uds value\n  -fsgofer-host-uds\n", " --network=none --host-uds=open "},
		"old": {"  -fsgofer-host-uds\n", " --network=none --fsgofer-host-uds "},
	} {
		program := filepath.Join(bin, name)
		writeProgram(t, program, "case $1 in flags) echo '"+c.flags+"' >&2;; *) echo \"$0 $*\";; esac")
		for range 2 {
			wrapper, err := e.wrapGVisor(t.Context(), program)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.run(t.Context(), wrapper, "--root", "a b", "create")
			if want := program + c.want + "--root a b create\n"; err != nil || got != want {
				t.Errorf("%s: %q, %v, want %q", name, got, err, want)
			}
		}
	}
	programs, err := os.ReadDir(filepath.Join(e.dir, runtimesDir))
	if err != nil || len(programs) != 2 {
		t.Errorf("programs %v, %v, want one of each", programs, err)
	}
	none := filepath.Join(bin, "none")
	writeProgram(t, none, "echo '-network value'")
	if _, err := e.wrapGVisor(t.Context(), none); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("without a flag: %v", err)
	}
}

func writeProgram(t *testing.T, path, script string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestWrapperWithoutPrograms has a directory that nothing can be run from.
func TestWrapperWithoutPrograms(t *testing.T) {
	dir := tempDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOEXEC, "size=64k"); err != nil {
		t.Skipf("only root may mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("cannot unmount: %v", err)
		}
	})
	e := &Engine{dir: dir, timeout: patience}
	if err := e.makeDirs(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.writeProgram("runsc", "#!/bin/sh\n"); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "noexec") {
		t.Errorf("error %v", err)
	}
}

// TestNoImage mounts a file that is no EROFS image: an error of Start, of which
// nothing is left.
func TestNoImage(t *testing.T) {
	for _, runtime := range []string{defaultRuntime, gvisor} {
		t.Run(runtime, func(t *testing.T) {
			e := withRuntime(t, runtime)
			spec := probe(t, e, "exit", "0")
			spec.Runtime = runtime
			source := filepath.Join(tempDir(t), "text")
			if err := os.WriteFile(source, []byte(strings.Repeat("no image\n", 1000)), 0o644); err != nil {
				t.Fatal(err)
			}
			spec.Mounts = []sandbox.Mount{{Source: source, Target: "/plugin", ReadOnly: true, Image: true}}
			if err := e.Create(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			if err := e.Start(t.Context(), spec.ID); err == nil || !strings.Contains(err.Error(), source) {
				t.Errorf("Start: %v", err)
			}
			remove(t, e, spec.ID)
			wantNothing(t, e, spec.ID)
		})
	}
}
