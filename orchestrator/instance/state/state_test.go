package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

const uid = 1 << 20

// volume is one in a directory of the test's own, at the end of which nothing
// of it may be mounted or on a loop device.
func volume(t testing.TB, size int64) (*Volumes, Volume) {
	t.Helper()
	dir, err := os.MkdirTemp("", "state")
	must(t, err)
	t.Cleanup(func() {
		expectNothing(t, dir)
		must(t, os.RemoveAll(dir))
	})
	if ok, why := CanMount(dir); !ok {
		t.Skip("cannot mount: ", why)
	}
	v := Volume{Image: filepath.Join(dir, "p", "state.img"), Dir: filepath.Join(dir, "p", "state"), Size: size, UID: uid}
	return New(slog.New(slog.NewTextHandler(t.Output(), nil))), v
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expectNothing fails the test if anything below dir is mounted or on a loop
// device.
func expectNothing(t testing.TB, dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir+"/") {
			t.Errorf("still mounted: %s", line)
			_ = unix.Unmount(strings.Fields(line)[4], unix.MNT_DETACH)
		}
	}
	// Somebody's container that is being started has the mounts for a moment.
	for began := time.Now(); len(loops(t, dir)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("still on a loop device: %q", loops(t, dir))
		}
	}
}

func loops(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	var found []string
	for _, path := range paths {
		if file, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(file), dir+"/") {
			found = append(found, strings.TrimSpace(string(file)))
		}
	}
	return found
}

func hold(t testing.TB, s *Volumes, v Volume) {
	t.Helper()
	must(t, s.Hold(t.Context(), v))
}

func write(t testing.TB, path string, size int) {
	t.Helper()
	must(t, os.WriteFile(path, make([]byte, size), 0o600))
}

// fillUp writes until there is no room, and returns how much it was.
func fillUp(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	chunk := make([]byte, 64<<10)
	var written int64
	for {
		n, err := f.Write(chunk)
		written += int64(n)
		if errors.Is(err, unix.ENOSPC) {
			return written
		}
		must(t, err)
	}
}

// TestSizes fills volumes up: a plugin gets what it was granted, and little
// more.
func TestSizes(t *testing.T) {
	for _, size := range []int64{MinSize, 5 << 20, 16 << 20, 100 << 20, 256 << 20} {
		t.Run(fmt.Sprint(size>>20, "MiB"), func(t *testing.T) {
			s, v := volume(t, size)
			hold(t, s, v)
			got := fillUp(t, filepath.Join(v.Dir, "all"))
			most := size + size/16 + 4<<20
			t.Logf("%d KiB of %d KiB, in an image of %d KiB", got>>10, size>>10, imageSize(size)>>10)
			if got < size || got > most {
				t.Errorf("%d bytes can be written, want %d to %d", got, size, most)
			}
			must(t, s.Release(v.Dir))
		})
	}
}

func TestNeighboursAreUnharmed(t *testing.T) {
	s, v := volume(t, 4<<20)
	other := v
	other.Image, other.Dir = filepath.Join(filepath.Dir(v.Image), "q.img"), filepath.Join(filepath.Dir(v.Dir), "q")
	hold(t, s, v)
	hold(t, s, other)
	write(t, filepath.Join(other.Dir, "before"), 1000)
	fillUp(t, filepath.Join(v.Dir, "all"))
	write(t, filepath.Join(other.Dir, "after"), 2<<20)
	for name, want := range map[string]int64{"before": 1000, "after": 2 << 20} {
		if info, err := os.Stat(filepath.Join(other.Dir, name)); err != nil || info.Size() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	must(t, errors.Join(s.Release(v.Dir), s.Release(other.Dir)))
}

// TestMounted looks at what a plugin is given.
func TestMounted(t *testing.T) {
	s, v := volume(t, MinSize)
	hold(t, s, v)
	defer func() { must(t, s.Release(v.Dir)) }()
	var st unix.Stat_t
	must(t, unix.Stat(v.Dir, &st))
	if st.Uid != uid || st.Gid != uid || st.Mode&0o7777 != 0o700 {
		t.Errorf("it belongs to %d:%d with mode %o", st.Uid, st.Gid, st.Mode&0o7777)
	}
	if left, err := os.ReadDir(v.Dir); err != nil || len(left) != 0 {
		t.Errorf("it holds %v, %v", left, err)
	}
	var sfs unix.Statfs_t
	must(t, unix.Statfs(v.Dir, &sfs))
	if want := int64(unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC); sfs.Flags&want != want {
		t.Errorf("its flags are %x", sfs.Flags)
	}
	must(t, unix.Stat(v.Image, &st))
	if st.Mode&0o7777 != 0o600 || st.Blocks*512 > 1<<20 {
		t.Errorf("the image has mode %o and takes %d bytes", st.Mode&0o7777, st.Blocks*512)
	}
}

// TestShared: one mount for all who hold it, until the last.
func TestShared(t *testing.T) {
	s, v := volume(t, 4<<20)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if err := s.Hold(t.Context(), v); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	write(t, filepath.Join(v.Dir, "file"), 10)
	if got := loops(t, filepath.Dir(v.Image)); len(got) != 1 {
		t.Errorf("loop devices: %q, want one", got)
	}
	if err := s.Unmount(v.Dir); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Unmount() = %v of a volume in use", err)
	}
	must(t, s.Sweep(filepath.Dir(v.Dir)))
	for i := range 20 {
		if _, err := os.Stat(filepath.Join(v.Dir, "file")); err != nil {
			t.Fatalf("after %d releases: %v", i, err)
		}
		must(t, s.Release(v.Dir))
	}
	expectNothing(t, filepath.Dir(v.Dir))
	hold(t, s, v)
	if _, err := os.Stat(filepath.Join(v.Dir, "file")); err != nil {
		t.Error(err)
	}
	must(t, s.Release(v.Dir))
}

// TestManyAtOnce: different volumes at the same time, over and over.
func TestManyAtOnce(t *testing.T) {
	s, v := volume(t, MinSize)
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			own := v
			own.Image, own.Dir = fmt.Sprint(v.Image, i, ".img"), fmt.Sprint(v.Dir, i)
			for range 3 {
				err := s.Hold(t.Context(), own)
				if err == nil {
					err = os.WriteFile(filepath.Join(own.Dir, "mine"), []byte(own.Dir), 0o600)
				}
				if err == nil {
					err = s.Release(own.Dir)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// TestAnotherProcess finds what an earlier one left mounted, here as two
// Volumes.
func TestAnotherProcess(t *testing.T) {
	first, v := volume(t, MinSize)
	hold(t, first, v)
	write(t, filepath.Join(v.Dir, "file"), 10)
	second := New(slog.New(slog.DiscardHandler))
	hold(t, second, v)
	if got := loops(t, filepath.Dir(v.Image)); len(got) != 1 {
		t.Errorf("loop devices: %q, want one", got)
	}
	must(t, second.Release(v.Dir))
	expectNothing(t, filepath.Dir(v.Dir))

	hold(t, first, v) // and one that leaves without an heir
	third := New(slog.New(slog.DiscardHandler))
	must(t, third.Sweep(filepath.Dir(filepath.Dir(v.Dir))))
	expectNothing(t, filepath.Dir(v.Dir))
}

// TestLingeringMount: what a mount that nobody sees here keeps alive is not put
// on a second loop device.
func TestLingeringMount(t *testing.T) {
	s, v := volume(t, 4<<20)
	hold(t, s, v)
	write(t, filepath.Join(v.Dir, "early"), 10)
	open, err := os.Create(filepath.Join(v.Dir, "open"))
	must(t, err)
	must(t, s.Release(v.Dir)) // it is detached, and lives on with the file
	hold(t, s, v)
	if got := loops(t, filepath.Dir(v.Image)); len(got) != 1 {
		t.Errorf("loop devices: %q, want one", got)
	}
	_, err = open.WriteString("late")
	must(t, errors.Join(err, open.Close()))
	if text, err := os.ReadFile(filepath.Join(v.Dir, "open")); string(text) != "late" {
		t.Errorf("read %q, %v", text, err)
	}
	must(t, s.Release(v.Dir))
}

func TestGrows(t *testing.T) {
	s, v := volume(t, 2<<20)
	hold(t, s, v)
	fillUp(t, filepath.Join(v.Dir, "all"))
	larger := v
	larger.Size = 20 << 20
	hold(t, s, larger) // somebody uses it
	if f, err := os.Create(filepath.Join(v.Dir, "more")); err == nil {
		if _, err := f.Write(make([]byte, 1<<20)); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("it was made larger while somebody used it: %v", err)
		}
		must(t, f.Close())
	}
	must(t, errors.Join(s.Release(v.Dir), s.Release(v.Dir)))
	hold(t, s, larger)
	if got := fillUp(t, filepath.Join(v.Dir, "more")); got < 16<<20 {
		t.Errorf("%d bytes more could be written", got)
	}
	must(t, s.Release(v.Dir))
	larger.Size = 3 << 30
	hold(t, s, larger)
	var sfs unix.Statfs_t
	must(t, unix.Statfs(v.Dir, &sfs))
	if got := int64(sfs.Bavail) * sfs.Bsize; got < 2900<<20 {
		t.Errorf("%d MiB are free", got>>20)
	}
	must(t, s.Release(v.Dir))
	out := fsck(t, v.Image)
	t.Log(out)
}

// fsck fails the test when an image that nobody uses is not in order.
func fsck(t *testing.T, image string) string {
	t.Helper()
	_, out, err := run(t.Context(), "e2fsck", "-fn", image)
	if err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
	return out
}

func TestShrinks(t *testing.T) {
	s, v := volume(t, 64<<20)
	hold(t, s, v)
	write(t, filepath.Join(v.Dir, "file"), 10<<20)
	smaller := v
	smaller.Size = 4 << 20
	hold(t, s, smaller) // somebody uses it
	var sfs unix.Statfs_t
	must(t, unix.Statfs(v.Dir, &sfs))
	if int64(sfs.Blocks)*sfs.Bsize < v.Size {
		t.Error("it was made smaller while somebody used it")
	}
	must(t, errors.Join(s.Release(v.Dir), s.Release(v.Dir)))

	err := s.Hold(t.Context(), smaller)
	if f := fault.Of(err); !errdefs.IsFailedPrecondition(err) || f.Code != "state_too_small" || !strings.Contains(f.Hint, "12MiB") {
		t.Fatalf("Hold() = %v with the hint %q", err, fault.Of(err).Hint)
	}
	expectNothing(t, filepath.Dir(v.Dir))
	smaller.Size = 12 << 20
	hold(t, s, smaller)
	if info, err := os.Stat(filepath.Join(v.Dir, "file")); err != nil || info.Size() != 10<<20 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if info, err := os.Stat(v.Image); err != nil || info.Size() != imageSize(12<<20) {
		t.Errorf("the image is %v, %v", info, err)
	}
	must(t, s.Release(v.Dir))
	fsck(t, v.Image)
}

// tree is what a test puts into a directory.
func tree(t *testing.T, dir string) {
	t.Helper()
	old := time.Unix(1_600_000_000, 0)
	in := func(name string) string { return filepath.Join(dir, name) }
	hole, err := os.Create(in("sparse"))
	must(t, err)
	_, err = hole.WriteAt([]byte("end"), 1<<30)
	must(t, errors.Join(err, hole.Close()))
	for _, err := range []error{
		os.MkdirAll(in("a/b/c"), 0o750),
		os.WriteFile(in("a/b/file"), []byte("text"), 0o640),
		os.WriteFile(in("name\nwith\xffbytes"), []byte("odd"), 0o600),
		os.WriteFile(in("größe ü 日本"), []byte("unicode"), 0o600),
		os.WriteFile(in("setuid"), nil, 0o600), os.Chmod(in("setuid"), 0o755|fs.ModeSetuid),
		os.Symlink("/etc/passwd", in("link")), os.Symlink("../../outside", in("a/out")),
		os.Link(in("a/b/file"), in("hard")),
		unix.Mkfifo(in("fifo"), 0o600),
		os.Chown(in("a/b/file"), uid, uid), os.Chown(in("a"), uid, uid), os.Lchown(in("link"), uid, uid),
		os.Chtimes(in("a/b/file"), old, old), os.Chtimes(in("a/b/c"), old, old), os.Chtimes(in("a"), old, old),
	} {
		must(t, err)
	}
}

// describe lists what a directory holds, with all that a copy has to keep.
func describe(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		line := fmt.Sprintf("%q %o %d:%d", strings.TrimPrefix(path, dir), st.Mode, st.Uid, st.Gid)
		switch {
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			must(t, err)
			line += " -> " + to
		case d.Type() == fs.ModeNamedPipe:
			return nil
		case d.Type().IsRegular():
			line += fmt.Sprintf(" size %d links %d time %d", st.Size, st.Nlink, st.Mtim.Sec)
			if st.Size < 100 {
				text, err := os.ReadFile(path)
				must(t, err)
				line += " " + string(text)
			}
		case d.IsDir():
			line += fmt.Sprintf(" time %d", st.Mtim.Sec)
		}
		list = append(list, line)
		return nil
	}))
	return list
}

// TestMigrates moves what a plain directory holds into an image, once.
func TestMigrates(t *testing.T) {
	s, v := volume(t, 4<<20)
	must(t, os.MkdirAll(v.Dir, 0o700))
	tree(t, v.Dir)
	want := describe(t, v.Dir)
	hold(t, s, v)
	if got := describe(t, v.Dir); !slices.Equal(got, want) {
		t.Errorf("in the image\n%s\nwas\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if info, err := os.Stat(filepath.Join(v.Dir, "sparse")); err != nil || info.Size() != 1<<30+3 {
		t.Errorf("the sparse file is %v, %v", info, err)
	}
	must(t, s.Release(v.Dir))
	if left := describe(t, v.Dir); len(left) > 0 {
		t.Errorf("below the image there is still %q", left)
	}
	hold(t, s, v)
	if got := describe(t, v.Dir); !slices.Equal(got, want) {
		t.Errorf("at the second start\n%s", strings.Join(got, "\n"))
	}
	must(t, s.Release(v.Dir))
	fsck(t, v.Image)
}

// TestMigrationThatDoesNotFit leaves everything as it is.
func TestMigrationThatDoesNotFit(t *testing.T) {
	s, v := volume(t, 2<<20)
	must(t, os.MkdirAll(v.Dir, 0o700))
	write(t, filepath.Join(v.Dir, "large"), 8<<20)
	write(t, filepath.Join(v.Dir, "small"), 8)
	before := describe(t, v.Dir)
	err := s.Hold(t.Context(), v)
	if f := fault.Of(err); !errdefs.IsFailedPrecondition(err) || f.Code != "state_too_small" || !strings.Contains(f.Hint, "10MiB") {
		t.Fatalf("Hold() = %v with the hint %q", err, fault.Of(err).Hint)
	}
	if after := describe(t, v.Dir); !slices.Equal(before, after) {
		t.Errorf("it holds %q, was %q", after, before)
	}
	if left, err := filepath.Glob(v.Image + "*"); err != nil || len(left) != 0 {
		t.Errorf("left %q, %v", left, err)
	}
	expectNothing(t, filepath.Dir(v.Dir))
	v.Size = 10 << 20 // what the hint says
	hold(t, s, v)
	if after := describe(t, v.Dir); !slices.Equal(before, after) {
		t.Errorf("it holds %q, was %q", after, before)
	}
	must(t, s.Release(v.Dir))
}

// TestMigrationThatWasCutOff begins anew, whatever was half done.
func TestMigrationThatWasCutOff(t *testing.T) {
	s, v := volume(t, 4<<20)
	must(t, os.MkdirAll(v.Dir, 0o700))
	write(t, filepath.Join(v.Dir, "file"), 100)
	made := Volume{Image: v.Image + newSuffix, Dir: newDir(v.Dir), Size: v.Size, UID: v.UID}
	must(t, format(t.Context(), made))
	must(t, os.Mkdir(made.Dir, 0o700))
	device, err := attachLoop(made.Image)
	must(t, err)
	must(t, mountAt(t.Context(), device, made.Dir))
	must(t, device.Close())
	write(t, filepath.Join(made.Dir, "half"), 100)
	hold(t, s, v)
	if got := describe(t, v.Dir); len(got) != 1 || !strings.Contains(got[0], "/file") {
		t.Errorf("it holds %q", got)
	}
	if left, err := filepath.Glob(v.Image + "?*"); err != nil || len(left) != 0 {
		t.Errorf("left %q, %v", left, err)
	}
	must(t, s.Release(v.Dir))
}

// copyOf takes the image as it is on the disk in the middle of its use, as
// after a crash of the host.
func copyOf(t *testing.T, image string) {
	t.Helper()
	data, err := os.ReadFile(image)
	must(t, err)
	must(t, os.WriteFile(image+".crash", data, 0o600))
}

func TestCrash(t *testing.T) {
	s, v := volume(t, 4<<20)
	hold(t, s, v)
	write(t, filepath.Join(v.Dir, "synced"), 1000)
	for _, path := range []string{filepath.Join(v.Dir, "synced"), v.Dir} {
		must(t, syncFile(path))
	}
	copyOf(t, v.Image)
	must(t, s.Release(v.Dir))
	must(t, os.Rename(v.Image+".crash", v.Image))
	f, err := os.Open(v.Image)
	must(t, err)
	if super, err := readSuperblock(f); err != nil || super.clean {
		t.Errorf("after a crash the superblock is %+v, %v", super, err)
	}
	must(t, f.Close())
	hold(t, s, v)
	if info, err := os.Stat(filepath.Join(v.Dir, "synced")); err != nil || info.Size() != 1000 {
		t.Errorf("what was synced: %v, %v", info, err)
	}
	must(t, s.Release(v.Dir))
	fsck(t, v.Image)
}

// TestDamaged: nothing is lost by our doing.
func TestDamaged(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, v Volume){
		"no file system": func(t *testing.T, v Volume) {
			must(t, os.WriteFile(v.Image, make([]byte, 8<<20), 0o600))
		},
		"cut off": func(t *testing.T, v Volume) { must(t, os.Truncate(v.Image, 2<<20)) },
		"empty":   func(t *testing.T, v Volume) { must(t, os.Truncate(v.Image, 0)) },
		"a directory": func(t *testing.T, v Volume) {
			must(t, errors.Join(os.Remove(v.Image), os.Mkdir(v.Image, 0o700)))
		},
		"a symlink": func(t *testing.T, v Volume) {
			must(t, errors.Join(os.Rename(v.Image, v.Image+".else"), os.Symlink(v.Image+".else", v.Image)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, v := volume(t, 4<<20)
			hold(t, s, v)
			must(t, s.Release(v.Dir))
			damage(t, v)
			before, err := os.Lstat(v.Image)
			must(t, err)
			err = s.Hold(t.Context(), v)
			if !errdefs.IsDataLoss(err) && !errdefs.IsFailedPrecondition(err) {
				t.Errorf("Hold() = %v", err)
			}
			after, err := os.Lstat(v.Image)
			if err != nil || after.Size() != before.Size() || after.Mode() != before.Mode() {
				t.Errorf("the image is %v, %v, was %v", after, err, before)
			}
		})
	}
}

func TestBeforeAnyHold(t *testing.T) {
	s, v := volume(t, MinSize)
	must(t, errors.Join(s.Release(v.Dir), s.Unmount(v.Dir), s.Sweep(filepath.Dir(v.Dir))))
	hold(t, s, v)
	must(t, s.Release(v.Dir))
}

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), 1<<20)
	must(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	write(t, filepath.Join(dir, "d", "c"), 2<<20)
	must(t, os.Symlink("/usr", filepath.Join(dir, "link")))
	u, err := Measure(t.Context(), dir, 1<<30, 1000)
	if err != nil || u.Bytes < 3<<20 || u.Bytes > 3<<20+64<<10 || u.Entries != 6 || u.Hidden != 0 {
		t.Errorf("Measure() = %+v, %v", u, err)
	}
	if u, err := Measure(t.Context(), dir, 2<<20, 1000); err != nil || !u.Over(2<<20, 1000) {
		t.Errorf("Measure() = %+v, %v, want it over the size", u, err)
	}
	if u, err := Measure(t.Context(), dir, 1<<30, 3); err != nil || u.Entries != 4 {
		t.Errorf("Measure() = %+v, %v, want it to stop at 4 entries", u, err)
	}
	if _, err := Measure(t.Context(), filepath.Join(dir, "none"), 1, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Measure() = %v of nothing", err)
	}
}

func BenchmarkHold(b *testing.B) {
	b.Run("start=first", func(b *testing.B) {
		s, v := volume(b, 256<<20)
		for b.Loop() {
			hold(b, s, v)
			b.StopTimer()
			must(b, errors.Join(s.Release(v.Dir), os.Remove(v.Image)))
			b.StartTimer()
		}
	})
	b.Run("start=later", func(b *testing.B) {
		s, v := volume(b, 256<<20)
		hold(b, s, v)
		must(b, s.Release(v.Dir))
		for b.Loop() {
			hold(b, s, v)
			b.StopTimer()
			must(b, s.Release(v.Dir))
			b.StartTimer()
		}
	})
	b.Run("release", func(b *testing.B) {
		s, v := volume(b, 256<<20)
		for b.Loop() {
			b.StopTimer()
			hold(b, s, v)
			write(b, filepath.Join(v.Dir, "file"), 1<<20)
			b.StartTimer()
			must(b, s.Release(v.Dir))
		}
	})
}
