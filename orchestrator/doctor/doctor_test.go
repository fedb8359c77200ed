package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/sandbox"
)

// expect fails unless a check has the status, speaks of each of the words, and
// says what mends it exactly if it is not ok.
func expect(t *testing.T, c Check, status string, words ...string) {
	t.Helper()
	if c.Status != status || (c.Fix == "") != (status == OK) {
		t.Errorf("%+v: want status %s", c, status)
	}
	for _, w := range words {
		if !strings.Contains(c.Detail+" "+c.Fix, w) {
			t.Errorf("%+v does not say %q", c, w)
		}
	}
}

func TestUser(t *testing.T) {
	expect(t, checkUser(0), OK, "root")
	expect(t, checkUser(999), OK, "uid 999")
	expect(t, checkUser(1000), Weaker, "person", "as good as root", asRoot)
	expect(t, checkStore(0, true), OK)
	expect(t, checkStore(0, false), Weaker, "cannot make files immutable", "ext4")
	expect(t, checkStore(999, false), Weaker, "immutable")
	expect(t, checkState(0), OK)
	expect(t, checkState(1000), Weaker, "0700")
}

func TestEngine(t *testing.T) {
	info := sandbox.Info{Name: "docker", Version: "20.10", Runtime: "runc", CgroupV2: true}
	expect(t, checkEngine("", info, nil), OK, "docker 20.10, runtime runc, cgroup v2")
	expect(t, checkEngine("runsc", info, nil), OK, "runtime runsc")
	info.Rootless, info.CgroupV2 = true, false
	expect(t, checkEngine("", info, nil), Weaker, "rootless", "cgroup v1")
	denied := fault.New(errdefs.ErrUnavailable, "engine_denied", "this user may not")
	expect(t, checkEngine("", sandbox.Info{}, denied), Missing, "may not", "usermod -aG docker "+userName())
	expect(t, checkEngine("", sandbox.Info{}, denied.WithHint("x")), Missing, "usermod")
	absent := fault.New(errdefs.ErrUnavailable, "engine_unavailable", "no engine").WithHint("install one")
	expect(t, checkEngine("", sandbox.Info{}, absent), Missing, "install one")
	classed := fmt.Errorf("cannot reach it: %w", errdefs.ErrUnavailable)
	if c := checkEngine("", sandbox.Info{}, classed); c.Detail != "cannot reach it" {
		t.Errorf("%+v: it ends with its class", c)
	}
	expect(t, checkEngine("", sandbox.Info{}, errors.New("strange")), Missing, "strange", "docker version")
}

func TestPayloadAndState(t *testing.T) {
	expect(t, checkSealing(true, "", sandbox.Info{}), OK, "by the daemon")
	expect(t, checkSealing(false, "only root can", sandbox.Info{ImageMounts: true}), OK, "by the engine", "only root can")
	expect(t, checkSealing(false, "no erofs", sandbox.Info{}), Weaker, "accidents", "modprobe erofs")
	expect(t, checkStateSize(true, ""), OK, "of the size it was granted")
	expect(t, checkStateSize(false, "only root can mount"), Weaker, "only root can mount", asRoot)
	expect(t, checkStateSize(false, `cannot make a file system: exec: "mkfs.ext4": not found`), Weaker, "e2fsprogs")
	expect(t, checkStateFlags(true, sandbox.Info{}), OK)
	expect(t, checkStateFlags(false, sandbox.Info{MountFlags: true}), OK)
	expect(t, checkStateFlags(false, sandbox.Info{}), Weaker, "noexec", asRoot)
}

func TestIsolation(t *testing.T) {
	both := sandbox.Info{Runtime: "runc", Runtimes: []string{"runc", "my-runsc"}}
	expect(t, checkIsolation("", sandbox.Info{Runtime: "runc"}), Weaker, "share the host's kernel", "apt-get install runsc")
	expect(t, checkIsolation("", both), Weaker, "ocmt serve --runtime my-runsc")
	expect(t, checkIsolation("my-runsc", both), OK)
	expect(t, checkIsolation("kata", both), OK)
	expect(t, checkWarning("the kernel does not account swap"), Weaker, "swapoff")
	expect(t, checkWarning("the engine cannot limit memory"), Weaker, "docker info")
}

// Looking at a home makes nothing.
func TestHome(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "a", "home")
	expect(t, checkHome(dir), OK, dir, "made by the first")
	if ok, why := canMount(os.Geteuid(), dir); !ok && why == "" {
		t.Error("does not say why it cannot mount")
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 0 {
		t.Errorf("made %v, %v", entries, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	expect(t, checkHome(dir), OK, dir)
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // the fault that is looked for
		t.Fatal(err)
	}
	expect(t, checkHome(dir), Weaker, "0777", "chmod go-w "+dir)
	file := filepath.Join(parent, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, checkHome(file), Missing, "no directory", "--home")
	expect(t, checkHome(filepath.Join(file, "home")), Missing, "--home")
	if os.Geteuid() != 0 {
		if err := os.Chmod(dir, 0o500); err != nil { //nolint:gosec // a directory
			t.Fatal(err)
		}
		expect(t, checkHome(dir), Missing, "chown")
		expect(t, checkHome(filepath.Join(dir, "home")), Missing, "not writable")
	}
}

// What would keep a daemon from starting, or a file from being in force, is
// found beforehand.
func TestFileSystemAndConfiguration(t *testing.T) {
	dir := t.TempDir()
	expect(t, checkFileSystem(filepath.Join(dir, "a", "home")), OK, "sockets")
	expect(t, checkFileSystem("/proc/home"), Missing, "/proc", "--home")
	expect(t, checkConfigs(dir), OK)
	tenant := filepath.Join(dir, "tenants", "acme")
	if err := os.MkdirAll(tenant, 0o700); err != nil {
		t.Fatal(err)
	}
	for text, word := range map[string]string{
		`{"plugins": {"entries": {"x": {"permissions": {"resources": {"memory": "-1"}}}}}}`: "memory",
		`{"plugins": {"entries": {"x": {"permissions": {"resources": {"cpus": 0}}}}}}`:      "cpus",
		`{"plugins": {"entries": {"x": {"permissions": {"resources": {"pids": 1e99}}}}}}`:   "pids",
		`{"plugins": `: "acme",
	} {
		path := filepath.Join(tenant, "config.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, checkConfigs(dir), Weaker, word, path)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("looking made %v, %v", left, err)
	}
}
