package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// ordinaryUID belongs to nobody: above the people of a usual host, below the
// plugins' own.
const ordinaryUID = 61234

// ordinary is a user who may use Docker's socket and nothing else. It has
// copies of the program and the images, since the repository may be in a place
// that only root can enter.
type ordinary struct {
	dir    string
	groups []uint32
}

// newOrdinary skips the test where there can be no such user.
func newOrdinary(t *testing.T) ordinary {
	t.Helper()
	engine := need(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can act as another user; the other tests run as one")
	}
	var groups []uint32
	if engine.Name() == "docker" {
		groups = []uint32{dockerGroup(t)}
	}
	dir := filepath.Dir(newHome(t)) // its removal included
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	shareBuilt(t, filepath.Dir(bin), filepath.Join(dir, "bin"))
	for _, path := range []string{dir, filepath.Join(dir, "bin")} {
		if err := errors.Join(os.Chown(path, ordinaryUID, ordinaryUID), os.Chmod(path, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	return ordinary{dir: dir, groups: groups}
}

func dockerGroup(t *testing.T) uint32 {
	t.Helper()
	st, err := os.Stat("/var/run/docker.sock")
	if err != nil || os.Getenv("DOCKER_HOST") != "" {
		t.Skip("the engine's socket is not at its usual place")
	}
	group := st.Sys().(*syscall.Stat_t).Gid //nolint:forcetypeassert // as documented for Linux
	if group == 0 || st.Mode().Perm()&0o060 != 0o060 {
		t.Skip("no group but root's may use the engine's socket")
	}
	return group
}

// shareBuilt links what was built into a directory that others can enter, or
// copies it where links cannot be.
func shareBuilt(t *testing.T, from, to string) {
	t.Helper()
	files, err := os.ReadDir(from)
	if err := errors.Join(err, os.Mkdir(to, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !f.Type().IsRegular() {
			continue
		}
		source, target := filepath.Join(from, f.Name()), filepath.Join(to, f.Name())
		if os.Link(source, target) == nil {
			continue
		}
		if err := copyFile(source, target); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755) //nolint:gosec // a program
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// command is a command of that user, with the groups.
func (u ordinary) command(ctx context.Context, groups []uint32, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // our own binary, or rm
	cmd.Dir = u.dir
	cmd.Env = []string{"HOME=" + u.dir, "OCMT_HOME=" + u.home(), "PATH=" + os.Getenv("PATH"), "SSL_CERT_FILE=" + os.Getenv("SSL_CERT_FILE"),
		"NODE_EXTRA_CA_CERTS=" + os.Getenv("NODE_EXTRA_CA_CERTS")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUID, Gid: ordinaryUID, Groups: groups}}
	return cmd
}

func (u ordinary) home() string { return filepath.Join(u.dir, "home") }

func (u ordinary) ocmt() string { return filepath.Join(u.dir, "bin", "ocmt") }

// run is the tests' run, as that user.
func (u ordinary) run(t *testing.T, groups []uint32, code int, words []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := u.command(ctx, groups, u.ocmt(), args...).CombinedOutput()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Fatalf("ocmt %s: exit code %d, want %d:\n%s", strings.Join(args, " "), got, code, out)
	}
	for _, w := range words {
		if !strings.Contains(string(out), w) {
			t.Errorf("ocmt %s does not say %q:\n%s", strings.Join(args, " "), w, out)
		}
	}
	return string(out)
}

// serve runs the daemon and returns how to stop it in order.
func (u ordinary) serve(t *testing.T) (stop func() string) {
	t.Helper()
	var log strings.Builder
	cmd := u.command(context.WithoutCancel(t.Context()), u.groups, u.ocmt(), append([]string{"serve"}, harness.EngineFlags()...)...)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	var once bool
	stop = func() string {
		if once {
			return ""
		}
		once = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("ocmt serve: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("ocmt serve did not end within a minute of SIGTERM")
			_ = cmd.Process.Kill()
			<-exited
		}
		return log.String()
	}
	t.Cleanup(func() { stop() })
	eventually(t, time.Minute, "the daemon answers", func() bool {
		return u.command(t.Context(), u.groups, u.ocmt(), "status").Run() == nil
	})
	return stop
}

// An ordinary user in Docker's group can do it all: what was made by other uids
// is removed with their rights, and nothing is left that the user could not
// remove. containerd is root's alone.
func TestOrdinaryUser(t *testing.T) {
	u := newOrdinary(t)
	if harness.EngineName() == "containerd" {
		u.run(t, nil, 7, []string{"this user may not use the container engine", "as root", "hint:"}, append([]string{"serve"}, harness.EngineFlags()...)...)
		if left, err := filepath.Glob(filepath.Join(u.home(), "ocmt", "run", "*.sock")); err != nil || len(left) > 0 {
			t.Errorf("it left %v, %v", left, err)
		}
		return
	}
	fixtures := filepath.Join(u.dir, "fixtures")
	if err := os.CopyFS(fixtures, os.DirFS(filepath.Join("testdata", "plugins"))); err != nil {
		t.Fatal(err)
	}
	stop := u.serve(t)
	var status struct{ HomeID string }
	if err := json.Unmarshal([]byte(u.run(t, u.groups, 0, nil, "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	// One with a dependency, which npm fetches, and one that keeps state.
	u.run(t, u.groups, 0, []string{"running"}, "plugins", "install", filepath.Join(fixtures, "register-esm"))
	u.run(t, u.groups, 0, []string{"running"}, "plugins", "install", filepath.Join(fixtures, "register-cjs"))
	u.run(t, u.groups, 0, []string{"hello 7"}, "tools", "call", "register-esm", "reg_greet", "--params", `{"name":"7"}`)
	u.run(t, u.groups, 0, nil, "tools", "call", "register-cjs", "count")
	u.run(t, u.groups, 0, []string{"running"}, "plugins", "restart", "register-cjs")
	u.run(t, u.groups, 0, []string{`"n": 2`}, "tools", "call", "register-cjs", "count", "--json")
	u.run(t, u.groups, 0, []string{"unchanged", "erofs"}, "plugins", "verify", "register-cjs")
	u.run(t, u.groups, 0, nil, "plugins", "uninstall", "register-cjs")
	u.run(t, u.groups, 0, nil, "plugins", "uninstall", "register-esm")
	if log := stop(); strings.Contains(log, "cannot remove") {
		t.Errorf("the daemon could not clean up:\n%s", log)
	}
	ended, err := harness.Ended(u.home(), status.HomeID)
	if err != nil {
		t.Fatal(err)
	}
	expectNothingLeft(t, ended)
	if out, err := u.command(t.Context(), nil, "rm", "-r", u.home()).CombinedOutput(); err != nil {
		t.Errorf("the user cannot remove the own home: %v\n%s", err, out)
	}
}

// Doctor says what such a user lacks; without the group, serve and doctor say
// how to get into it.
func TestOrdinaryUserIsTold(t *testing.T) {
	u := newOrdinary(t)
	doctor := append([]string{"doctor"}, harness.EngineFlags()...)
	if harness.EngineName() == "containerd" {
		u.run(t, nil, 1, []string{"missing  engine", "as root"}, doctor...)
		return
	}
	out := u.run(t, u.groups, 0, nil, doctor...)
	for _, weaker := range []string{"user", "payload files", "plugin state", "noexec state"} {
		if !strings.Contains(out, "weaker   "+weaker) {
			t.Errorf("doctor does not say that %s is weaker:\n%s", weaker, out)
		}
	}
	if _, err := os.Stat(u.home()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("doctor made the home: %v", err)
	}
	u.run(t, nil, 1, []string{"missing  engine", "usermod -aG docker"}, doctor...)
	u.run(t, nil, 7, []string{"this user may not use the container engine", "docker group"}, append([]string{"serve"}, harness.EngineFlags()...)...)
}
