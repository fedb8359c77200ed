package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// crashEnv makes the test binary seal for ever in the directory it names, to
// be killed.
const crashEnv = "SEAL_TEST_CRASH_STORE"

func TestMain(m *testing.M) {
	if store := os.Getenv(crashEnv); store != "" {
		for i := 0; ; i++ {
			form := []sealer{Seal, SealTree}[i%2]
			src := fstest.MapFS{"a": {Data: bytes.Repeat([]byte(strconv.Itoa(i)), 100_000)}, "d/b": {Data: []byte("b")}}
			if _, err := form(context.Background(), src, store); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

type sealer func(context.Context, fs.FS, string) (plugin.Payload, error)

// forms runs a test for both forms.
func forms(t *testing.T, test func(t *testing.T, seal sealer)) {
	t.Run("form=erofs", func(t *testing.T) { test(t, Seal) })
	t.Run("form=tree", func(t *testing.T) { test(t, SealTree) })
}

// store returns a store directory that the test's end can remove.
func store(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "store")
	t.Cleanup(func() {
		objects, _ := List(dir)
		for _, o := range objects {
			if err := Remove(dir, o); err != nil {
				t.Error(err)
			}
		}
	})
	return dir
}

func sample() fstest.MapFS {
	return fstest.MapFS{
		"package.json":        {Data: []byte(`{"name":"x"}`), Mode: 0o600},
		"bin/tool":            {Data: []byte("#!/usr/bin/node\n"), Mode: 0o4711},
		"empty":               {},
		"big":                 {Data: bytes.Repeat([]byte("0123456789abcdef"), 5000)},
		"node_modules/y/a.js": {Data: []byte("export {}"), Mode: 0o644, ModTime: time.Now()},
		"emptydir":            {Mode: fs.ModeDir | 0o700},
		"link":                {Data: []byte("node_modules/../bin/tool"), Mode: fs.ModeSymlink},
		"node_modules/up":     {Data: []byte("../package.json"), Mode: fs.ModeSymlink},
		"dangling":            {Data: []byte("no/such/file"), Mode: fs.ModeSymlink},
	}
}

func TestSealIsReproducible(t *testing.T) {
	forms(t, func(t *testing.T, seal sealer) {
		ctx, dir := context.Background(), store(t)
		first, err := seal(ctx, sample(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if first.Files != 8 || first.Size == 0 {
			t.Errorf("payload = %+v, want 8 files", first)
		}
		again := sample()
		for _, f := range again {
			f.ModTime = f.ModTime.Add(time.Hour)
		}
		for name, into := range map[string]string{"same store": dir, "another store": store(t)} {
			got, err := seal(ctx, again, into)
			if err != nil || got != first {
				t.Errorf("%s: second seal = %+v, %v, want %+v", name, got, err, first)
			}
		}
		if objects, _ := List(dir); len(objects) != 1 || objects[0].Digest != first.Digest {
			t.Errorf("store holds %v, want the one object", objects)
		}
		if names, _ := os.ReadDir(dir); len(names) != 1 {
			t.Errorf("store holds %v, want nothing else", names)
		}
	})
}

func TestDigestCoversEverything(t *testing.T) {
	changes := map[string]func(fstest.MapFS){
		"content": func(m fstest.MapFS) { m["package.json"] = &fstest.MapFile{Data: []byte(`{"name":"y"}`)} },
		"name":    func(m fstest.MapFS) { m["package.jsom"] = m["package.json"]; delete(m, "package.json") },
		"mode":    func(m fstest.MapFS) { m["package.json"].Mode |= 0o100 },
		"target":  func(m fstest.MapFS) { m["link"].Data = []byte("bin/tool") },
		"type":    func(m fstest.MapFS) { m["link"].Mode = 0o644 },
		"dir":     func(m fstest.MapFS) { delete(m, "emptydir") },
	}
	forms(t, func(t *testing.T, seal sealer) {
		dir := store(t)
		want, err := seal(context.Background(), sample(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range changes {
			src := sample()
			change(src)
			if got, err := seal(context.Background(), src, dir); err != nil || got.Digest == want.Digest {
				t.Errorf("%s changed: digest %s, %v, want another one", name, got.Digest, err)
			}
		}
	})
}

func TestSealRefuses(t *testing.T) {
	link := func(target string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink}
	}
	tests := []struct {
		name string
		src  fstest.MapFS
		want string
	}{
		{"absolute link", fstest.MapFS{"l": link("/etc/passwd")}, `"l"`},
		{"link out", fstest.MapFS{"d/l": link("../../x")}, `"d/l"`},
		{"link out through a link", fstest.MapFS{"a/b/c/f": {}, "s": link("a/b/c"), "a/l": link("../s/../../../../x")}, `"a/l"`},
		{"link out through a nearer link", fstest.MapFS{"deep/er": link("../top"), "top/f": {}, "deep/l": link("er/../../x")}, `"deep/l"`},
		{"links in a circle", fstest.MapFS{"a": link("b"), "b": link("a")}, "more than 40"},
		{"long target", fstest.MapFS{"l": link(strings.Repeat("x", maxLinkLen+1))}, "4096 bytes"},
		{"empty target", fstest.MapFS{"l": link("")}, "0 bytes"},
		{"device", fstest.MapFS{"d": {Mode: fs.ModeDevice}}, `"d"`},
		{"char device", fstest.MapFS{"d": {Mode: fs.ModeDevice | fs.ModeCharDevice}}, `"d"`},
		{"fifo", fstest.MapFS{"d": {Mode: fs.ModeNamedPipe}}, `"d"`},
		{"socket", fstest.MapFS{"d": {Mode: fs.ModeSocket}}, `"d"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			forms(t, func(t *testing.T, seal sealer) {
				dir := store(t)
				_, err := seal(context.Background(), tt.src, dir)
				if !errdefs.IsAborted(err) || !strings.Contains(err.Error(), tt.want) || fault.Of(err).Hint == "" {
					t.Errorf("error = %v, want a refusal of %s", err, tt.want)
				}
				if names, _ := os.ReadDir(dir); len(names) != 0 {
					t.Errorf("store holds %v, want nothing", names)
				}
			})
		})
	}
}

func TestSealRefusesRealSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Seal(context.Background(), os.DirFS(dir), store(t)); !errdefs.IsAborted(err) {
		t.Errorf("error = %v, want a refusal", err)
	}
}

func TestOpenDetectsEveryFlippedByte(t *testing.T) {
	ctx, dir := context.Background(), store(t)
	p, err := Seal(ctx, fstest.MapFS{"a": {Data: []byte("hello")}, "b/c": {Data: bytes.Repeat([]byte("x"), 500)}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	place, _ := objectPath(dir, p)
	setImmutable(place, false)
	f, err := os.OpenFile(place, os.O_RDWR, 0) // root may; others own the file and chmod
	if err != nil {
		if err = os.Chmod(place, 0o644); err == nil {
			f, err = os.OpenFile(place, os.O_RDWR, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	defer f.Close()
	var one [1]byte
	for at := range p.Size {
		if _, err := f.ReadAt(one[:], at); err != nil {
			t.Fatal(err)
		}
		one[0] ^= 1
		if _, err := f.WriteAt(one[:], at); err != nil {
			t.Fatal(err)
		}
		s, err := Open(ctx, dir, p)
		if err == nil {
			s.Close()
			t.Fatalf("a flipped bit in byte %d was not detected", at)
		}
		if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), p.Digest) || strings.Count(err.Error(), "sha256:") != 2 {
			t.Fatalf("error = %v, want data loss naming both digests", err)
		}
		one[0] ^= 1
		if _, err := f.WriteAt(one[:], at); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(ctx, dir, p)
	if err != nil {
		t.Fatalf("restored: %v", err)
	}
	s.Close()
}

func TestOpenDetectsChangedTree(t *testing.T) {
	changes := map[string]func(root string) error{
		"content": func(r string) error {
			p := filepath.Join(r, "package.json")
			return errors.Join(os.Chmod(p, 0o644), os.WriteFile(p, []byte(`{"name":"y"}`), 0), os.Chmod(p, 0o444))
		},
		"added":   func(r string) error { return os.WriteFile(filepath.Join(r, "new"), nil, 0o444) },
		"removed": func(r string) error { return os.Remove(filepath.Join(r, "empty")) },
		"mode":    func(r string) error { return os.Chmod(filepath.Join(r, "empty"), 0o555) },
		"link": func(r string) error {
			l := filepath.Join(r, "link")
			return errors.Join(os.Remove(l), os.Symlink("empty", l))
		},
		"fifo": func(r string) error { return unix.Mkfifo(filepath.Join(r, "pipe"), 0o444) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			ctx, dir := context.Background(), store(t)
			p, err := SealTree(ctx, sample(), dir)
			if err != nil {
				t.Fatal(err)
			}
			place, _ := objectPath(dir, p)
			os.Chmod(place, 0o755)
			if err := change(place); err != nil {
				t.Fatal(err)
			}
			if s, err := Open(ctx, dir, p); !errdefs.IsDataLoss(err) {
				if s != nil {
					s.Close()
				}
				t.Errorf("error = %v, want data loss", err)
			}
			// Sealing again mends it.
			if _, err := SealTree(ctx, sample(), dir); err != nil {
				t.Fatal(err)
			}
			s, err := Open(ctx, dir, p)
			if err != nil {
				t.Fatalf("after sealing again: %v", err)
			}
			s.Close()
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	ctx, dir := context.Background(), store(t)
	p, err := Seal(ctx, sample(), dir)
	if err != nil {
		t.Fatal(err)
	}
	missing := plugin.Payload{Digest: "sha256:" + strings.Repeat("0", 64), Form: plugin.FormEROFS}
	if _, err := Open(ctx, dir, missing); !errdefs.IsNotFound(err) {
		t.Errorf("missing: %v, want not found", err)
	}
	for _, bad := range []plugin.Payload{{}, {Digest: "sha256:../../x", Form: "erofs"}, {Digest: p.Digest, Form: "ext4"}, {Digest: p.Digest, Form: "../x"}} {
		if _, err := Open(ctx, dir, bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Open(%+v) = %v, want invalid argument", bad, err)
		}
		if err := Remove(dir, bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Remove(%+v) = %v, want invalid argument", bad, err)
		}
	}
	place, _ := objectPath(dir, missing)
	if err := os.Symlink("elsewhere", place); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, dir, missing); !errdefs.IsDataLoss(err) {
		t.Errorf("a symlink in its place: %v, want data loss", err)
	}
	os.Remove(place)
	if err := unix.Mkfifo(place, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, dir, missing); !errdefs.IsDataLoss(err) {
		t.Errorf("a pipe in its place: %v, want data loss", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Open(cancelled, dir, p); !errdefs.IsCanceled(err) {
		t.Errorf("cancelled: %v, want cancelled", err)
	}
}

func TestRemove(t *testing.T) {
	forms(t, func(t *testing.T, seal sealer) {
		ctx, dir := context.Background(), store(t)
		p, err := seal(ctx, sample(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second finds nothing
			if err := Remove(dir, p); err != nil {
				t.Fatal(err)
			}
		}
		if names, _ := os.ReadDir(dir); len(names) != 0 {
			t.Errorf("store holds %v, want nothing", names)
		}
	})
}

// TestSealReplaces seals a tree whose object is there and is none any more.
func TestSealReplaces(t *testing.T) {
	for name, put := range map[string]func(place string) error{
		"other bytes": func(p string) error { return os.WriteFile(p, []byte("altered"), 0o444) },
		"other bytes, immutable": func(p string) error {
			defer setImmutable(p, true)
			return os.WriteFile(p, []byte("altered"), 0o444)
		},
		"a symlink": func(p string) error { return os.Symlink("elsewhere", p) },
		"a pipe":    func(p string) error { return unix.Mkfifo(p, 0o644) },
		"a directory": func(p string) error {
			return errors.Join(os.MkdirAll(filepath.Join(p, "sub"), 0o755), os.WriteFile(filepath.Join(p, "sub", "file"), nil, 0o444))
		},
	} {
		t.Run(name, func(t *testing.T) {
			forms(t, func(t *testing.T, seal sealer) {
				ctx, dir := context.Background(), store(t)
				p, err := seal(ctx, sample(), dir)
				if err != nil {
					t.Fatal(err)
				}
				place, _ := objectPath(dir, p)
				if err := errors.Join(Remove(dir, p), put(place)); err != nil {
					t.Fatal(err)
				}
				if s, err := Open(ctx, dir, p); !errdefs.IsDataLoss(err) {
					t.Errorf("opened %v, %v, want data loss", s, err)
				}
				if again, err := seal(ctx, sample(), dir); err != nil || again != p {
					t.Fatalf("sealed %+v, %v, want %+v", again, err, p)
				}
				s, err := Open(ctx, dir, p)
				if err != nil {
					t.Fatal(err)
				}
				s.Close()
				if names, _ := os.ReadDir(dir); len(names) != 1 {
					t.Errorf("the store holds %v, want the object alone", names)
				}
			})
		})
	}
}

// TestReplaceIsOneStep looks for an image again and again while it is replaced:
// there is never none.
func TestReplaceIsOneStep(t *testing.T) {
	ctx, dir := context.Background(), store(t)
	p, err := Seal(ctx, sample(), dir)
	if err != nil {
		t.Fatal(err)
	}
	place, _ := objectPath(dir, p)
	stop, missing := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				missing <- n
				return
			default:
			}
			if _, err := os.Lstat(place); err != nil {
				n++
			}
		}
	}()
	for range 50 {
		setImmutable(place, false)
		if err := os.Chmod(place, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(place, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("altered"), 64); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if _, err := Seal(ctx, sample(), dir); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if n := <-missing; n != 0 {
		t.Errorf("there was no image %d times", n)
	}
}

func TestImmutable(t *testing.T) {
	ctx, dir := context.Background(), store(t)
	p, err := Seal(ctx, sample(), dir)
	if err != nil {
		t.Fatal(err)
	}
	place, _ := objectPath(dir, p)
	f, err := os.Open(place)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	if info.Mode().Perm() != 0o444 {
		t.Errorf("mode = %v, want 0444", info.Mode())
	}
	if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err != nil || flags&fsImmutable == 0 {
		t.Skipf("no immutable flag here (not root, or the file system has none): flags %x, %v", flags, err)
	}
	if err := os.Rename(place, place+"x"); err == nil {
		t.Error("an immutable payload could be renamed")
	}
}

// TestCrash kills a process that seals without end, and looks at what is left.
func TestCrash(t *testing.T) {
	ctx, dir := context.Background(), store(t)
	for i := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), crashEnv+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+rand.IntN(60)+10*i) * time.Millisecond) // any moment will do
		if err := cmd.Process.Kill(); err != nil {
			t.Fatalf("it ended before it was killed: %v", err)
		}
		cmd.Wait()
		if err := Clean(dir); err != nil {
			t.Fatal(err)
		}
	}
	objects, err := List(dir)
	if err != nil || len(objects) == 0 {
		t.Fatalf("objects = %v, %v, want some", objects, err)
	}
	names, _ := os.ReadDir(dir)
	if len(names) != len(objects) {
		t.Errorf("%d names for %d objects after Clean", len(names), len(objects))
	}
	for _, o := range objects {
		s, err := Open(ctx, dir, o)
		if err != nil {
			t.Errorf("half an object: %v", err)
			continue
		}
		s.Close()
	}
}

func TestListAndCleanWithoutStore(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	if objects, err := List(none); err != nil || len(objects) != 0 {
		t.Errorf("List = %v, %v, want nothing", objects, err)
	}
	if err := Clean(none); err != nil {
		t.Errorf("Clean = %v, want nothing to do", err)
	}
}

// fifty returns a tree of 5,000 files and 50 MB, incompressible.
func fifty(tb testing.TB) fs.FS {
	dir := tb.TempDir()
	random := rand.NewChaCha8(sha256.Sum256([]byte("seal")))
	data := make([]byte, 10_000)
	for i := range 5000 {
		name := filepath.Join(dir, fmt.Sprintf("d%d/e%d/f%d.js", i%10, i%100, i))
		if i < 500 {
			name = filepath.Join(dir, fmt.Sprintf("flat/%s%d.js", strings.Repeat("long-", 20), i))
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			tb.Fatal(err)
		}
		random.Read(data)
		if err := os.WriteFile(name, data, 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return os.DirFS(dir)
}

func BenchmarkSeal(b *testing.B) {
	src := fifty(b)
	for form, seal := range map[string]sealer{"erofs": Seal, "tree": SealTree} {
		b.Run("form="+form+"/size=50MB", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				dir := store(b)
				b.StartTimer()
				if _, err := seal(context.Background(), src, dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	src := fifty(b)
	for form, seal := range map[string]sealer{"erofs": Seal, "tree": SealTree} {
		b.Run("form="+form+"/size=50MB", func(b *testing.B) {
			dir := store(b)
			p, err := seal(context.Background(), src, dir)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(p.Size)
			for b.Loop() {
				s, err := Open(context.Background(), dir, p)
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	}
}
