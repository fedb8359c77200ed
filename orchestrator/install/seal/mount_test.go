package seal

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func needMount(t *testing.T) {
	t.Helper()
	if ok, why := CanMount(t.TempDir()); !ok {
		t.Skipf("cannot mount here: %s", why)
	}
}

// mounted mounts a sealed payload by mount and returns where.
func mounted(t *testing.T, mount func(target string) error) string {
	t.Helper()
	target := t.TempDir()
	if err := mount(target); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Unmount(target); err != nil {
			t.Error(err)
		}
	})
	return target
}

func open(t *testing.T, seal sealer, src fs.FS) (dir string, s *Sealed) {
	t.Helper()
	dir = store(t)
	p, err := seal(context.Background(), src, dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = Open(context.Background(), dir, p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return dir, s
}

func TestMountShowsTheTree(t *testing.T) {
	needMount(t)
	forms(t, func(t *testing.T, seal sealer) {
		_, s := open(t, seal, sample())
		target := mounted(t, s.Mount)
		s.Close() // the mount lives on
		checkSample(t, target)
	})
}

func TestMountThroughLoopDevice(t *testing.T) {
	needMount(t)
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("no loop devices here")
	}
	_, s := open(t, Seal, sample())
	device, err := s.attachLoop()
	if err != nil {
		t.Fatal(err)
	}
	info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
	device.Close()
	if want := uint32(unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR); err != nil || info.Flags&want != want {
		t.Errorf("loop flags = %x, %v, want read-only and autoclear", info.Flags, err)
	}
	checkSample(t, mounted(t, s.mountLoop))
}

// checkSample compares a mount with sample().
func checkSample(t *testing.T, target string) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		t.Fatal(err)
	}
	if want := int64(unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV); st.Flags&want != want {
		t.Errorf("mount flags = %x, want ro, nosuid, nodev", st.Flags)
	}
	if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing: %v, want a read-only file system", err)
	}
	seen := 0
	for name, f := range sample() {
		p := filepath.Join(target, name)
		info, err := os.Lstat(p)
		if err != nil {
			t.Error(err)
			continue
		}
		seen++
		switch f.Mode.Type() {
		case fs.ModeSymlink:
			if got, _ := os.Readlink(p); got != string(f.Data) {
				t.Errorf("%s -> %q, want %q", name, got, f.Data)
			}
		case 0:
			if got, _ := os.ReadFile(p); !bytes.Equal(got, f.Data) {
				t.Errorf("%s holds %d bytes, want %d", name, len(got), len(f.Data))
			}
			if exec := info.Mode()&0o111 != 0; exec != (f.Mode&0o111 != 0) || info.Mode()&(fs.ModeSetuid|0o022) != 0 {
				t.Errorf("%s has mode %v", name, info.Mode())
			}
		}
	}
	if seen != len(sample()) {
		t.Errorf("the mount shows %d of %d names", seen, len(sample()))
	}
}

func TestSwapBetweenHashAndMountIsHarmless(t *testing.T) {
	needMount(t)
	dir, s := open(t, Seal, fstest.MapFS{"a": {Data: []byte("verified")}})
	evil, err := Seal(context.Background(), fstest.MapFS{"a": {Data: []byte("swapped!")}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	evilPlace, _ := objectPath(dir, evil)
	setImmutable(evilPlace, false)
	setImmutable(s.path, false)
	if err := os.Rename(evilPlace, s.path); err != nil {
		t.Fatal(err)
	}
	read := func(target string) string {
		data, err := os.ReadFile(filepath.Join(target, "a"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if got := read(mounted(t, s.Mount)); got != "verified" {
		t.Errorf("mounted %q, want what was verified", got)
	}
	if !strings.HasPrefix(s.Path(), "/proc/") {
		t.Errorf("Path = %s, want the descriptor", s.Path())
	}
	// An engine mounts by that name.
	byName := mounted(t, func(target string) error { return unix.Mount(s.Path(), target, "erofs", mountFlags, "") })
	if got := read(byName); got != "verified" {
		t.Errorf("mounted by its name %q, want what was verified", got)
	}
}

func TestMountOfManyFiles(t *testing.T) {
	needMount(t)
	src := fifty(t)
	_, s := open(t, Seal, src)
	target := mounted(t, s.Mount)
	files := 0
	err := fs.WalkDir(src, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		want, err := fs.ReadFile(src, p)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(target, p))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs (%v)", p, err)
		}
		return nil
	})
	if err != nil || files != 5000 {
		t.Errorf("compared %d files, %v, want 5000", files, err)
	}
}

func TestRemoveWhileMounted(t *testing.T) {
	needMount(t)
	dir, s := open(t, Seal, fstest.MapFS{"a": {Data: []byte("still here")}})
	target := mounted(t, s.Mount)
	if err := Remove(dir, s.payload); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(target, "a")); string(got) != "still here" {
		t.Errorf("after Remove the mount shows %q", got)
	}
}

func TestUnmount(t *testing.T) {
	needMount(t)
	if err := Unmount(t.TempDir()); err != nil {
		t.Errorf("nothing mounted: %v", err)
	}
	if err := Unmount(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Errorf("no target: %v", err)
	}
	_, s := open(t, Seal, fstest.MapFS{"a": {Data: []byte("x")}})
	target := mounted(t, s.Mount)
	busy, err := os.Open(filepath.Join(target, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := Unmount(target); err != nil {
		t.Errorf("busy: %v", err)
	}
	if _, err := os.Stat(filepath.Join(target, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Unmount: %v, want nothing there", err)
	}
}

func TestCanMountLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ok, why := CanMount(dir)
	if ok == (why != "") {
		t.Errorf("CanMount = %v, %q, want a reason exactly when it cannot", ok, why)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("left %v behind", names)
	}
}
