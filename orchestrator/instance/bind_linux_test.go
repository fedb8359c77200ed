package instance

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// pluginUID is nobody's on the host.
const pluginUID = 1<<20 + 7

func needRoot(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func makeDir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func unmounted(t *testing.T, target string) {
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
			t.Errorf("cannot unmount %s: %v", target, err)
		}
	})
}

func flagsOf(t *testing.T, target string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		t.Fatal(err)
	}
	return st.Flags & (unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC)
}

// TestBindWorkspaceFollowsNoSymlink: what a path leads through may have been
// replaced since it was checked.
func TestBindWorkspaceFollowsNoSymlink(t *testing.T) {
	dir := needRoot(t)
	makeDir(t, filepath.Join(dir, "real", "below"))
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "link"), filepath.Join(dir, "link", "below")} {
		_, err := bindWorkspace(Workspace{Path: path}, filepath.Join(dir, "target"), pluginUID)
		if got := fault.Of(err); got.Code != "workspace_changed" || !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v, want workspace_changed", path, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "target")); err == nil {
		t.Error("something was made for a mount that is refused")
	}
}

// TestBindWorkspaceFlags looks at both ways to mount: ramfs maps no owners.
func TestBindWorkspaceFlags(t *testing.T) {
	dir := needRoot(t)
	plain := makeDir(t, filepath.Join(dir, "plain"))
	ram := makeDir(t, filepath.Join(dir, "ram"))
	if err := unix.Mount("ramfs", ram, "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	unmounted(t, ram)
	const own = unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC
	for name, c := range map[string]struct {
		workspace Workspace
		want      int64
		unmapped  bool
	}{
		"read-write":        {Workspace{Path: plain}, own, false},
		"read-only":         {Workspace{Path: plain, ReadOnly: true}, own | unix.ST_RDONLY, false},
		"plain, read-write": {Workspace{Path: ram}, own, true},
		"plain, read-only":  {Workspace{Path: ram, ReadOnly: true}, own | unix.ST_RDONLY, true},
	} {
		t.Run(name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "target")
			unmapped, err := bindWorkspace(c.workspace, target, pluginUID)
			if err != nil {
				t.Fatal(err)
			}
			unmounted(t, target)
			if got := flagsOf(t, target); got != c.want {
				t.Errorf("flags %x, want %x", got, c.want)
			}
			if unmapped != nil && !c.unmapped {
				t.Skipf("this kernel or file system maps no owners: %v", unmapped)
			}
			var st unix.Stat_t
			if err := unix.Stat(target, &st); err != nil {
				t.Fatal(err)
			}
			if mapped := st.Uid == pluginUID && st.Gid == pluginUID; mapped == c.unmapped {
				t.Errorf("it belongs to %d:%d, mapped %v", st.Uid, st.Gid, !c.unmapped)
			}
		})
	}
}

func TestTailLines(t *testing.T) {
	var tail tailLines
	line := make([]byte, 1<<20)
	for range 20 {
		if n, err := tail.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(tail.lines) != keptBytes>>20 || tail.size != keptBytes {
		t.Errorf("%d lines, %d bytes are kept, want at most %d", len(tail.lines), tail.size, keptBytes)
	}
}
