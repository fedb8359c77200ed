package sandboxtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/sandboxtest/internal/report"
)

// seenFromOutside looks at the process that the host has for a container: the
// container's own, or the kernel that gVisor gives it.
func seenFromOutside(t *testing.T, s *suite) {
	id := s.startSleeping(t, "sleep", "0")
	containers := s.list(t, s.ctx(t))
	if len(containers) != 1 || containers[0].PID == 0 {
		t.Fatalf("containers %+v", containers)
	}
	proc := "/proc/" + strconv.Itoa(containers[0].PID) + "/"
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Skipf("the engine's processes cannot be seen from here: %v", err)
	}
	for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("status without %q:\n%s", want, status)
		}
	}
	if strings.Contains(string(status), "Uid:\t0\t") {
		t.Errorf("the container runs as root:\n%s", status)
	}
	if own := "Uid:\t" + strconv.Itoa(uid) + "\t"; s.Seccomp && !strings.Contains(string(status), own) {
		t.Errorf("the container does not run as %d:\n%s", uid, status)
	}
	spaces := []string{"net", "mnt", "ipc", "uts"}
	if s.Seccomp { // gVisor's processes and groups are its own kernel's
		spaces = append(spaces, "pid", "cgroup")
	}
	for _, space := range spaces {
		its, err := os.Readlink(proc + "ns/" + space)
		ours, ourErr := os.Readlink("/proc/self/ns/" + space)
		if err = errors.Join(err, ourErr); err != nil || its == ours {
			t.Errorf("name space %s is the host's: %v", its, err)
		}
	}
	spec := s.spec()
	pids := spec.Limits.PIDs
	if !s.Seccomp {
		pids = sandbox.GVisorPIDs(pids)
	}
	memory := strconv.FormatInt(spec.Limits.Memory, 10)
	for _, c := range []struct {
		name, v1, v2 string
		want         []string
	}{
		{"memory", "memory/memory.limit_in_bytes", "memory.max", []string{memory}},
		{"memory and swap", "memory/memory.memsw.limit_in_bytes", "memory.swap.max", []string{memory, "0"}},
		{"cpu time", "cpu/cpu.cfs_quota_us", "cpu.max", []string{"50000", "50000 100000"}},
		{"processes", "pids/pids.max", "pids.max", []string{strconv.FormatInt(pids, 10)}},
	} {
		got, err := groupFile(proc+"cgroup", c.v1, c.v2)
		if err != nil || got != c.want[0] && got != c.want[len(c.want)-1] {
			t.Errorf("%s: limit %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	score, err := os.ReadFile(proc + "oom_score_adj")
	if want := strconv.Itoa(sandbox.Hardened().OOMScoreAdj); err != nil || strings.TrimSpace(string(score)) != want {
		t.Errorf("oom score %q, %v, want %s", score, err, want)
	}
	s.stop(t, id, grace)
}

// groupFile reads a file of a process's control group. The first part of the
// path for version 1 is the controller.
func groupFile(groups, v1, v2 string) (string, error) {
	file, err := os.Open(groups)
	if err != nil {
		return "", err
	}
	defer file.Close()
	controller, name, _ := strings.Cut(v1, "/")
	path := ""
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.SplitN(lines.Text(), ":", 3)
		switch {
		case len(f) != 3:
		case strings.Contains(","+f[1]+",", ","+controller+","):
			path = filepath.Join("/sys/fs/cgroup", controller, f[2], name)
		case f[1] == "" && path == "":
			path = filepath.Join("/sys/fs/cgroup", f[2], v2)
		}
	}
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// tooMuchMemory takes more than there may be. The limit ends the program every
// time. Why it ended, the engine knows every time only where the control group
// outlives the program: Docker's shim looks at the group after the kernel woke
// it, and says nothing when the group is gone by then, since gVisor's runtime
// removes it at once. No look of our own comes earlier. So under gVisor a kill
// may be taken for a plain exit with 137, but not each of several.
func tooMuchMemory(t *testing.T, s *suite) {
	attempts, marked := 1, false
	if !s.Seccomp {
		attempts = 5
	}
	for range attempts {
		spec := s.spec("eat", strconv.Itoa(256<<20))
		exit, out := s.run(t, spec)
		if exit.Code != 137 {
			t.Fatalf("exit %+v, output %q, want a kill", exit, out)
		}
		for _, c := range s.list(t, s.ctx(t)) {
			if c.ID == spec.ID && exit.OOMKilled && !c.Exit.OOMKilled {
				t.Errorf("listed as %+v, waited for as %+v", c.Exit, exit)
			}
		}
		if marked = exit.OOMKilled; marked {
			break
		}
	}
	if !marked {
		t.Errorf("none of %d kills is known as the memory limit's", attempts)
	}
	if exit, out := s.run(t, s.spec("eat", strconv.Itoa(16<<20))); exit.Code != 0 || exit.OOMKilled {
		t.Errorf("within the limit: exit %+v, output %q", exit, out)
	}
}

// tooManyProcesses starts more than there may be. Where the limit is on the
// processes of a kernel of the container's own, that kernel ends with them.
func tooManyProcesses(t *testing.T, s *suite) {
	spec := s.spec("spawn", "200")
	exit, out := s.run(t, spec)
	if !s.Seccomp && exit.Code != 0 && !exit.OOMKilled {
		return
	}
	var got report.Attempt
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("exit %+v, output %q: %v", exit, out, err)
	}
	if got.Error != "EAGAIN" || got.Count >= spec.Limits.PIDs {
		t.Errorf("%+v, want fewer than %d processes", got, spec.Limits.PIDs)
	}
}

// socketOfTheHost is how a container reaches the bus and the egress broker: a
// socket that everybody may use, in a directory that is mounted read-only.
func socketOfTheHost(t *testing.T, s *suite) {
	dir, err := os.MkdirTemp("/tmp", "ocmt") // short: a socket's path is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, "heard "+line)
			_ = c.Close()
		}
	}()
	mount := sandbox.Mount{Source: dir, Target: "/bus", ReadOnly: true}
	if got := s.attempt(t, s.with(mount, "connect", "/bus/s")); got.Error != "" || got.Text != "heard hello\n" {
		t.Errorf("%+v", got)
	}
	s.wantAttempt(t, refused, s.with(mount, "create", "/bus/new"))
	s.wantAttempt(t, "ENOENT", s.with(mount, "connect", "/bus/none"))
}

// devicesOfTheHost finds nodes of devices in a directory that was not mounted
// nodev: the device rules of the profile, or gVisor, stand in for the flag.
func devicesOfTheHost(t *testing.T, s *suite) {
	dir := directory(t)
	for name, device := range map[string]uint64{"mem": unix.Mkdev(1, 1), "kmsg": unix.Mkdev(1, 11)} {
		path := filepath.Join(dir, name)
		if err := errors.Join(unix.Mknod(path, unix.S_IFCHR, int(device)), os.Chmod(path, 0o666)); err != nil {
			t.Skipf("only root may make devices: %v", err)
		}
		s.wantAttempt(t, refused, s.with(sandbox.Mount{Source: dir, Target: "/granted"}, "read", "/granted/"+name))
	}
}

// programsOfOthers runs a program from a directory that was not mounted nosuid,
// where it is root's: no-new-privileges stands in for the flag.
func programsOfOthers(t *testing.T, s *suite) {
	dir := directory(t)
	mount := sandbox.Mount{Source: dir, Target: "/granted"}
	s.wantAttempt(t, "", s.with(mount, "exec", "/granted/program")) // copies itself there
	path := filepath.Join(dir, "program")
	if err := errors.Join(os.Chown(path, 0, 0), os.Chmod(path, 0o755|os.ModeSetuid|os.ModeSetgid)); err != nil {
		t.Skipf("only root may give files away: %v", err)
	}
	spec := s.with(mount)
	spec.Args = []string{"/granted/program", "sandbox"}
	var got report.Kernel
	s.ask(t, spec, &got)
	checkStatus(t, s, got)
	for key, id := range map[string]int{"Uid": uid, "Gid": gid} {
		for _, text := range strings.Fields(got.Status[key]) {
			if text != strconv.Itoa(id) {
				t.Errorf("%s is %q, want %d alone", key, got.Status[key], id)
			}
		}
	}
}
