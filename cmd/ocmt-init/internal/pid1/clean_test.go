package pid1_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// plugin is the uid that the tests clean as when they are root.
const plugin = 65532

// clean runs "ocmt-init clean" with a plugin's rights.
func clean(t *testing.T, dir string) (code int, stderr string) {
	t.Helper()
	cmd := exec.Command(initBinary(t), "clean", dir)
	if os.Geteuid() == 0 {
		if err := os.Chmod(filepath.Dir(initBinary(t)), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: plugin, Gid: plugin}}
	}
	code, _, stderr = finish(t, cmd)
	return code, stderr
}

// stateDir makes a directory that the plugin owns and can reach.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "state")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	own(t, dir)
	return dir
}

// own gives a tree to the plugin.
func own(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, plugin, plugin))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left in %s: %v, %v", dir, entries, err)
	}
}

func TestClean(t *testing.T) {
	dir, outside := stateDir(t), stateDir(t)
	must(t, os.WriteFile(filepath.Join(outside, "keep"), []byte("keep"), 0o600))
	must(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o700))
	for i := range 2000 {
		must(t, os.WriteFile(filepath.Join(dir, "a", strconv.Itoa(i)), nil, 0o000))
	}
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	must(t, os.Symlink(outside, filepath.Join(dir, "a/b/link")))
	must(t, os.Symlink(filepath.Join(outside, "keep"), filepath.Join(dir, "a/b/file-link")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	must(t, os.Mkdir(filepath.Join(dir, ".ocmt-clean-1"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, ".ocmt-clean-1/x"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, ".ocmt-clean-2"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "-rf\n\xff name"), nil, 0o600))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	ln, err := net.Listen("unix", filepath.Join(dir, "sock"))
	must(t, err)
	defer ln.Close()
	own(t, dir)
	own(t, outside)
	must(t, os.Chmod(filepath.Join(dir, "a/b/c"), 0o000))
	must(t, os.Chmod(filepath.Join(dir, "a/b"), 0o000))
	must(t, os.Chmod(filepath.Join(dir, "a"), 0o500))
	must(t, os.Chmod(dir, 0o000))

	if code, stderr := clean(t, dir); code != 0 || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	wantEmpty(t, dir)
	if got, err := os.ReadFile(filepath.Join(outside, "keep")); err != nil || string(got) != "keep" {
		t.Errorf("a file behind a symbolic link: %q, %v", got, err)
	}
	if code, _ := clean(t, dir); code != 0 {
		t.Errorf("cleaning an empty directory: exit code %d", code)
	}
}

// TestCleanDeep nests directories far beyond PATH_MAX and the descriptor
// limit.
func TestCleanDeep(t *testing.T) {
	const depth = 5000
	dir := stateDir(t)
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, "a-directory", 0o700))
		next, err := unix.Openat(fd, "a-directory", unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err)
		if os.Geteuid() == 0 {
			must(t, unix.Fchown(next, plugin, plugin))
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	if code, stderr := clean(t, dir); code != 0 {
		t.Errorf("exit code %d, %.300q", code, stderr)
	}
	wantEmpty(t, dir)
}

// TestCleanNamesWhatIsLeft has files of another user in the way.
func TestCleanNamesWhatIsLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making another user's files needs root")
	}
	dir := stateDir(t)
	must(t, os.MkdirAll(filepath.Join(dir, "foreign"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "foreign/stays"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "goes"), nil, 0o600))
	must(t, os.Lchown(filepath.Join(dir, "goes"), plugin, plugin))
	code, stderr := clean(t, dir)
	if code != 1 || !strings.Contains(stderr, "cannot delete "+filepath.Join(dir, "foreign")+": ") {
		t.Errorf("exit code %d, %q, want 1 and the name", code, stderr)
	}
	if _, err := os.Lstat(filepath.Join(dir, "goes")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what could be deleted is there: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "foreign/stays")); err != nil {
		t.Errorf("another user's file: %v", err)
	}
}

func TestCleanRefuses(t *testing.T) {
	dir := stateDir(t)
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "real/keep"), nil, 0o600))
	must(t, os.Symlink("real", filepath.Join(dir, "link")))
	own(t, dir)
	for _, target := range []string{
		filepath.Join(dir, "link"), filepath.Join(dir, "none"), filepath.Join(dir, "real/keep"),
	} {
		if code, stderr := clean(t, target); code != 1 || !strings.Contains(stderr, "cannot clean") {
			t.Errorf("clean %s: exit code %d, %q", target, code, stderr)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "real/keep")); err != nil {
		t.Errorf("a refused target was touched: %v", err)
	}
}
