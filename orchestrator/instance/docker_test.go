package instance_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/docker"
	"github.com/ocmt/ocmt/sandbox/sandboxtest"
)

// probing is a real engine whose containers run the probe instead of the
// runner.
type probing struct {
	sandbox.Engine
	program string
	args    []string
}

func (e *probing) Create(ctx context.Context, spec sandbox.Spec) error {
	spec.Args = append([]string{e.program}, e.args...)
	return e.Engine.Create(ctx, spec)
}

// real returns a factory as setup does, over a real engine.
func real(t *testing.T) (*instance.Factory, *probing, instance.Plan) {
	t.Helper()
	engine, err := docker.New(t.Context(), docker.Options{})
	if err != nil {
		if strings.Contains(os.Getenv("E2E_REQUIRE"), "docker") {
			t.Fatalf("E2E_REQUIRE asks for docker: %v", err)
		}
		t.Skipf("no docker engine: %v", err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	img := sandboxtest.ProbeImage(t)
	if err := engine.EnsureImage(t.Context(), img, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeImage(t, img.Digest) })
	f, _, plan := setup(t, nil)
	if f.Info, err = engine.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := &probing{Engine: engine, program: "/probe"}
	f.Engine, f.Image, f.HomeID = e, img.Digest, filepath.Base(t.TempDir())+t.Name()
	f.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	return f, e, plan
}

// ask runs the probe in the plan's container and returns what it answers.
func (e *probing) ask(t *testing.T, f *instance.Factory, plan instance.Plan, into any, args ...string) {
	t.Helper()
	e.args = args
	in, err := start(t, f, plan)
	got := fault.Of(err)
	if got.Code != "plugin_exited" { // as the probe is no runner
		t.Fatalf("Start() = %v", err)
	}
	out, ok := got.Details.(instance.Output)
	if !ok {
		t.Fatalf("the probe said nothing: %v", err)
	}
	if err := json.Unmarshal([]byte(out.Output), into); err != nil {
		t.Fatalf("%q: %v", out.Output, err)
	}
	if err := in.Close(t.Context()); err != nil {
		t.Error(err)
	}
	expectNothing(t, f.Home)
}

// outcome is the probe's answer to an attempt.
type outcome struct {
	Error string `json:"error"`
	Text  string `json:"text"`
}

// view is what the probe sees.
type view struct {
	Mounts []struct {
		Target  string   `json:"target"`
		Options []string `json:"options"`
	} `json:"mounts"`
	Files map[string]string `json:"files"`
}

func (v view) options(target string) []string {
	for _, m := range v.Mounts {
		if m.Target == target {
			return m.Options
		}
	}
	return nil
}

// owner is a user of the host whose directory is granted.
const owner = 4242

// ownedDir is a private directory of the owner's with a private file in it.
func ownedDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount and give files away")
	}
	dir := mkdir(t, filepath.Join(realTempDir(t), "project"))
	file := filepath.Join(dir, "private")
	for _, err := range []error{
		os.Chmod(dir, 0o700), os.WriteFile(file, []byte("the owner's"), 0o600),
		os.Chown(dir, owner, owner), os.Chown(file, owner, owner),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRealWorkspace(t *testing.T) {
	f, e, plan := real(t)
	dir := ownedDir(t)
	plan.Workspaces = []instance.Workspace{{Path: dir}}
	var got outcome
	e.ask(t, f, plan, &got, "read", filepath.Join(dir, "private"))
	if got.Text != "the owner's" {
		t.Skipf("this kernel or file system maps no owners: %+v", got)
	}
	made := filepath.Join(dir, "made")
	e.ask(t, f, plan, &got, "create", made)
	var st unix.Stat_t
	if err := unix.Stat(made, &st); err != nil || st.Uid != owner || st.Gid != owner {
		t.Errorf("what the plugin made belongs to %d:%d, %v; the attempt %+v", st.Uid, st.Gid, err, got)
	}
	if e.ask(t, f, plan, &got, "create", filepath.Dir(dir)+"/beside"); got.Error != "EACCES" {
		t.Errorf("create beside a workspace below /tmp: %+v, want EACCES", got)
	}
	if e.ask(t, f, plan, &got, "exec", filepath.Join(dir, "program")); got.Error != "EACCES" {
		t.Errorf("exec in a workspace: %+v, want EACCES", got)
	}
	plan.Workspaces[0].ReadOnly = true
	if e.ask(t, f, plan, &got, "create", filepath.Join(dir, "new")); got.Error != "EROFS" {
		t.Errorf("create in a read-only workspace: %+v", got)
	}
	if e.ask(t, f, plan, &got, "read", made); got.Text != "written\n" {
		t.Errorf("read in a read-only workspace: %+v", got)
	}
}

// TestRealWorkspaceBeside uses a path outside of /tmp, where the container has
// no directory yet, and a workspace within another.
func TestRealWorkspaceBeside(t *testing.T) {
	f, e, plan := real(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can make directories there")
	}
	base, err := os.MkdirTemp("/srv", "ocmt-test-")
	if err != nil {
		t.Skipf("no place for a directory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := mkdir(t, filepath.Join(base, "a", "b"))
	inner := mkdir(t, filepath.Join(dir, "inner"))
	plan.Workspaces = []instance.Workspace{{Path: inner}, {Path: dir, ReadOnly: true}}
	var got outcome
	if e.ask(t, f, plan, &got, "create", filepath.Join(base, "a", "new")); got.Error != "EROFS" {
		t.Errorf("create beside: %+v, want EROFS", got)
	}
	var seen view
	e.ask(t, f, plan, &seen, "sandbox")
	for target, want := range map[string][]string{dir: {"ro", "nosuid", "nodev", "noexec"}, inner: {"rw", "nosuid", "nodev", "noexec"}} {
		for _, option := range want {
			if got := seen.options(target); !slices.Contains(got, option) {
				t.Errorf("%s has options %q, without %s", target, got, option)
			}
		}
	}
}

// TestRealMountFlags: nothing of ours in a container is without them.
func TestRealMountFlags(t *testing.T) {
	f, e, plan := real(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("certificates"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.CAFiles = []string{ca}
	var got view
	e.ask(t, f, plan, &got, "sandbox", "/etc/ssl/ocmt-ca.pem", "/etc/resolv.conf")
	for target, writable := range map[string]bool{
		"/run/ocmt": false, "/etc/passwd": false, "/etc/group": false, "/etc/hosts": false, "/etc/resolv.conf": false,
		"/etc/ssl/ocmt-ca.pem": false, "/state": true,
	} {
		want := []string{"nosuid", "nodev", "noexec", map[bool]string{true: "rw", false: "ro"}[writable]}
		for _, option := range want {
			if options := got.options(target); !slices.Contains(options, option) {
				t.Errorf("%s has options %q, without %s", target, options, option)
			}
		}
	}
	if !strings.HasPrefix(got.Files["/etc/ssl/ocmt-ca.pem"], "certificates\n-----BEGIN CERTIFICATE-----\n") || !strings.HasPrefix(got.Files["/etc/resolv.conf"], "nameserver 127.0.0.1") {
		t.Errorf("files %q", got.Files)
	}
}

func removeImage(t *testing.T, digest string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "docker", "image", "rm", "--force", digest).CombinedOutput(); err != nil {
		t.Errorf("cannot remove image %s: %v: %s", digest, err, out)
	}
}
