package verify

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func sri512(data string) string {
	sum := sha512.Sum512([]byte(data))
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func sri1(data string) string {
	sum := sha1.Sum([]byte(data))
	return "sha1-" + base64.StdEncoding.EncodeToString(sum[:])
}

func TestIntegrity(t *testing.T) {
	tests := []struct {
		name, integrity string
		algorithm       string
		ok              bool
	}{
		{"sha512", sri512("x"), "sha512", true},
		{"sha1", sri1("x"), "sha1", true},
		{"the strongest wins", sri1("x") + " " + sri512("y"), "sha512", false},
		{"the strongest wins, in any order", sri512("x") + "\n" + sri1("y"), "sha512", true},
		{"one of several", sri512("y") + " " + sri512("x"), "sha512", true},
		{"options", sri512("x") + "?foo", "sha512", true},
		{"unknown beside", "md5-xxx " + sri512("x"), "sha512", true},
		{"other bytes", sri512("y"), "sha512", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i, err := ParseIntegrity(tt.integrity)
			if err != nil || i.Algorithm != tt.algorithm {
				t.Fatalf("ParseIntegrity = %q, %v, want %q", i.Algorithm, err, tt.algorithm)
			}
			v := i.NewVerifier()
			io.WriteString(v, "x")
			err = v.Verify()
			if (err == nil) != tt.ok || (err != nil && !errdefs.IsDataLoss(err)) {
				t.Errorf("Verify = %v, want ok %v", err, tt.ok)
			}
		})
	}
	for _, bad := range []string{"", "md5-xxx", "sha512-", "sha512-xxxx", "sha512-" + strings.Repeat("A", 86) + "=A", "sha512", "sha1-" + strings.Repeat("!", 28), sri512("x") + " sha1-x"} {
		if _, err := ParseIntegrity(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("ParseIntegrity(%q) = %v, want invalid argument", bad, err)
		}
	}
}

func FuzzParseIntegrity(f *testing.F) {
	f.Add(sri512("x") + " " + sri1("y"))
	f.Add("sha512-?x")
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseIntegrity(s)
		if err != nil {
			return
		}
		if len(i.Hex()) == 0 || i.NewVerifier().Verify() == nil && !strings.Contains(s, "-") {
			t.Fatalf("accepted %q", s)
		}
	})
}

func lockfile(version int, packages string) []byte {
	return fmt.Appendf(nil, `{"lockfileVersion":%d,"packages":{"":{"name":"root"},%s}}`, version, packages)
}

func fromRegistry(u *url.URL) bool { return u.Scheme == "https" && u.Host == "registry.npmjs.org" }

var linux = Platform{OS: "linux", CPU: "x64", Libc: "glibc"}

func TestSelect(t *testing.T) {
	source := `"version":"1.0.0","resolved":"https://registry.npmjs.org/x.tgz","integrity":"` + sri512("x") + `"`
	lock, err := ParseLock(lockfile(3, `
		"node_modules/b": {`+source+`},
		"node_modules/@s/a": {`+source+`,"hasInstallScript":true,"os":"linux"},
		"node_modules/b/node_modules/c": {"name":"real-c",`+source+`},
		"node_modules/b/node_modules/in": {"version":"1.0.0","inBundle":true},
		"node_modules/dev": {`+source+`,"dev":true},
		"node_modules/dev/node_modules/x": {`+source+`},
		"node_modules/peer": {"peer":true},
		"node_modules/musl": {`+source+`,"optional":true,"os":["linux"],"cpu":["x64"],"libc":["musl"]},
		"node_modules/musl/node_modules/y": {`+source+`,"optional":true},
		"node_modules/glibc": {`+source+`,"optional":true,"libc":["glibc"],"cpu":["!arm"],"os":["any"]},
		"node_modules/unsaid": {"version":"1.0.0","integrity":"`+sri512("x")+`"},
		"node_modules/win": {`+source+`,"devOptional":true,"os":["!linux"]}`))
	if err != nil {
		t.Fatal(err)
	}
	selected, err := lock.Select(linux, fromRegistry)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range selected {
		got = append(got, p.Path+"="+p.Name)
	}
	want := []string{"node_modules/@s/a=@s/a", "node_modules/b=b", "node_modules/b/node_modules/c=real-c", "node_modules/glibc=glibc",
		"node_modules/unsaid=unsaid"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("selected (-want +got):\n%s", diff)
	}
	if !selected[0].HasInstallScript || selected[1].HasInstallScript {
		t.Error("HasInstallScript is not recorded")
	}
}

func TestSelectRefuses(t *testing.T) {
	with := func(resolved, rest string) string {
		return `"node_modules/x":{"version":"1.0.0","resolved":"` + resolved + `"` + rest + `}`
	}
	good := `,"integrity":"` + sri512("x") + `"`
	const tarball = "https://registry.npmjs.org/x.tgz"
	tests := []struct{ name, packages, want string }{
		{"git", with("git+ssh://git@github.com/a/b.git#0123", good), "comes from"},
		{"git over https", with("git+https://github.com/a/b.git#0123", good), "comes from"},
		{"file", with("file:../x", good), "comes from"},
		{"other host", with("https://example.com/x.tgz", good), "not the registry"},
		{"http", with("http://registry.npmjs.org/x.tgz", good), "not the registry"},
		{"other port", with("https://registry.npmjs.org:444/x.tgz", good), "not the registry"},
		{"with a user", with("https://u:p@registry.npmjs.org/x.tgz", good), "comes from"},
		{"no source", `"node_modules/x":{"version":"1.0.0"}`, "no recorded source"},
		{"no integrity", with(tarball, ``), "no integrity"},
		{"bad integrity", with(tarball, `,"integrity":"md5-x"`), "integrity"},
		{"link", with(tarball, `,"link":true`+good), "link"},
		{"required for another platform", with(tarball, `,"os":["darwin"]`+good), "not for linux"},
		{"bundled in nothing", with(tarball, `,"inBundle":true`+good), "none above"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lock, err := ParseLock(lockfile(3, tt.packages))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = lock.Select(linux, fromRegistry); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParseLockRefuses(t *testing.T) {
	var many strings.Builder
	for i := range maxPackages {
		fmt.Fprintf(&many, `"node_modules/x%d":{},`, i)
	}
	tests := []struct{ name, data, want string }{
		{"no JSON", "{", "cannot read"},
		{"version 1", `{"lockfileVersion":1,"dependencies":{}}`, "version 1"},
		{"version 4", `{"lockfileVersion":4}`, "version 4"},
		{"workspace", string(lockfile(3, `"packages/a":{}`)), "no place below node_modules"},
		{"dots", string(lockfile(3, `"node_modules/../../x":{}`)), "no place"},
		{"dot dot as a name", string(lockfile(3, `"node_modules/..":{}`)), "no place"},
		{"absolute", string(lockfile(3, `"/node_modules/x":{}`)), "no place"},
		{"ends early", string(lockfile(3, `"node_modules/x/node_modules":{}`)), "no place"},
		{"scope alone", string(lockfile(3, `"node_modules/@x":{}`)), "no place"},
		{"bin", string(lockfile(3, `"node_modules/.bin":{}`)), "no place"},
		{"twice nested", string(lockfile(3, `"node_modules/node_modules/x":{}`)), "no place"},
		{"bad real name", string(lockfile(3, `"node_modules/x":{"name":"../x"}`)), "package name"},
		{"long", string(lockfile(3, `"`+strings.Repeat("node_modules/x/", 100)+`node_modules/x":{}`)), "no place"},
		{"too many", string(lockfile(3, many.String()+`"node_modules/x":{}`)), "at most 20000"},
		{"too large", strings.Repeat(" ", MaxLock+1), "larger than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseLock([]byte(tt.data)); !errdefs.IsAborted(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add(lockfile(3, `"node_modules/@a/b/node_modules/c":{"os":"x","integrity":"`+sri512("x")+`","resolved":"https://registry.npmjs.org/x"}`))
	f.Add([]byte(`{"lockfileVersion":2,"packages":{"node_modules/x":{"link":true}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		lock, err := ParseLock(data)
		if err != nil {
			return
		}
		selected, err := lock.Select(linux, fromRegistry)
		if err != nil {
			return
		}
		for _, p := range selected {
			if !fs.ValidPath(p.Path) || !strings.HasPrefix(p.Path, "node_modules/") || p.Integrity == "" || p.Link {
				t.Fatalf("selected %+v", p)
			}
		}
	})
}

type file struct {
	name, data, link string
	kind             byte
	mode             int64
}

func archive(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		if f.kind == 0 {
			f.kind = tar.TypeReg
		}
		h := &tar.Header{Name: f.name, Linkname: f.link, Typeflag: f.kind, Mode: f.mode, Size: int64(len(f.data))}
		if f.kind == tar.TypeXGlobalHeader {
			h = &tar.Header{Typeflag: f.kind, PAXRecords: map[string]string{"comment": "x"}}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, f.data)
	}
	w.Close()
	return buf.Bytes()
}

func zipped(data []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(data)
	w.Close()
	return buf.Bytes()
}

// unpack returns what an archive becomes: "mode data" by name.
func unpack(t testing.TB, data []byte, o Unpack) (map[string]string, error) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if o.Budget == nil {
		o.Budget = NewBudget()
	}
	if err := Tar(context.Background(), bytes.NewReader(data), root, o); err != nil {
		return nil, err
	}
	if err := MarkExecutables(root); err != nil {
		return nil, err
	}
	got := map[string]string{}
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		if d.Type() == fs.ModeSymlink {
			target, _ := os.Readlink(p)
			got[name] = "-> " + target
			return nil
		}
		content, err := os.ReadFile(p)
		info, _ := d.Info()
		got[name] = fmt.Sprintf("%o %s", info.Mode().Perm(), content)
		return err
	})
	return got, err
}

func TestTar(t *testing.T) {
	bin := `{"bin":{"x":"./bin/x","gone":"gone","out":"../../x"}}`
	files := []file{
		{kind: tar.TypeXGlobalHeader},
		{name: "package/", kind: tar.TypeDir, mode: 0o700},
		{name: "package/package.json", data: bin, mode: 0o600},
		{name: "package/bin/x", data: "x", mode: 0o644},
		{name: "package/run", data: "r", mode: 0o4710},
		{name: "package/twice", data: "1"}, {name: "package/twice", data: "2"},
		{name: "package/link", kind: tar.TypeSymlink, link: "bin/x"},
		{name: "package/node_modules/y/z", data: "z"},
		{name: "top", data: "left out"},
	}
	skip := func(name string) bool { return name == "node_modules" || strings.HasPrefix(name, "node_modules/") }
	want := map[string]string{"package.json": "644 " + bin, "bin/x": "755 x", "run": "755 r", "twice": "644 2", "link": "-> bin/x"}
	for name, data := range map[string][]byte{"plain": archive(t, files...), "gzip": zipped(archive(t, files...))} {
		got, err := unpack(t, data, Unpack{Strip: 1, Skip: skip})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	got, err := unpack(t, archive(t, file{name: "./a", data: "a"}, file{name: "l", kind: tar.TypeSymlink, link: "/etc"}), Unpack{SkipLinks: true})
	if err != nil || cmp.Diff(map[string]string{"a": "644 a"}, got) != "" {
		t.Errorf("skipping links = %v, %v, want a alone", got, err)
	}
}

func TestTarRefuses(t *testing.T) {
	sym := func(name, target string) file { return file{name: name, kind: tar.TypeSymlink, link: target} }
	tests := []struct {
		name  string
		files []file
	}{
		{"absolute", []file{{name: "/etc/passwd"}}},
		{"dot dot", []file{{name: "a/../../x"}}},
		{"inner dot dot", []file{{name: "a/../x"}}},
		{"long name", []file{{name: strings.Repeat("x/", MaxPath/2) + "x"}}},
		{"long component", []file{{name: strings.Repeat("x", 300)}}},
		{"no UTF-8", []file{{name: "a\xff"}}},
		{"link out", []file{sym("a", "../x")}},
		{"absolute link", []file{sym("a", "/etc/passwd")}},
		{"empty link", []file{sym("a", "")}},
		{"hard link", []file{{name: "a"}, {name: "b", kind: tar.TypeLink, link: "a"}}},
		{"device", []file{{name: "a", kind: tar.TypeBlock}}},
		{"char device", []file{{name: "a", kind: tar.TypeChar}}},
		{"fifo", []file{{name: "a", kind: tar.TypeFifo}}},
		{"file as directory", []file{{name: "a"}, {name: "a/b"}}},
		{"directory as file", []file{{name: "a/b"}, {name: "a"}}},
		{"link over a file", []file{{name: "a"}, sym("a", "b")}},
		{"file below a link", []file{sym("a", "b"), {name: "a/x"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := unpack(t, archive(t, tt.files...), Unpack{}); !errdefs.IsAborted(err) {
				t.Errorf("unpacked %v, %v, want a refusal", got, err)
			}
		})
	}
	whole := zipped(archive(t, file{name: "a", data: strings.Repeat("x", 10_000)}))
	for name, data := range map[string][]byte{"cut": whole[:len(whole)-10], "no tar": []byte(strings.Repeat("no tar ", 200)), "gzip of nothing": {0x1f, 0x8b, 9}} {
		if got, err := unpack(t, data, Unpack{}); !errdefs.IsAborted(err) {
			t.Errorf("%s: unpacked %.80v, %v, want a refusal", name, got, err)
		}
	}
}

func TestTarBudget(t *testing.T) {
	data := archive(t, file{name: "a", data: "12345"}, file{name: "b", data: "12345"})
	for _, tt := range []struct {
		budget Budget
		ok     bool
	}{{Budget{Files: 2, Bytes: 20_000}, true}, {Budget{Files: 1, Bytes: 20_000}, false}, {Budget{Files: 2, Bytes: 9}, false}} {
		budget := tt.budget
		if _, err := unpack(t, data, Unpack{Budget: &budget}); (err == nil) != tt.ok || (err != nil && !errdefs.IsResourceExhausted(err)) {
			t.Errorf("budget %+v: %v, want ok %v", tt.budget, err, tt.ok)
		}
	}
	// A few kilobytes that want to be gigabytes.
	if _, err := unpack(t, zipped(archive(t, file{name: "bomb", data: strings.Repeat("\x00", 8<<20)})), Unpack{Budget: &Budget{Files: 10, Bytes: 1 << 20}}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("bomb: %v, want resource exhausted", err)
	}
}

func FuzzTar(f *testing.F) {
	f.Add(archive(f, file{name: "p/a", data: "x"}, file{name: "p/l", kind: tar.TypeSymlink, link: "a"}))
	f.Add(zipped(archive(f, file{name: "../a", data: "x"})))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		inner := filepath.Join(dir, "inner")
		if err := os.Mkdir(inner, 0o700); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(inner)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = Tar(context.Background(), bytes.NewReader(data), root, Unpack{Strip: 1, Budget: &Budget{Files: 100, Bytes: 1 << 20}})
		if names, _ := os.ReadDir(dir); len(names) != 1 {
			t.Fatalf("wrote outside: %v", names)
		}
	})
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "a"), []byte("12345"), 0o644)
	os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644)
	os.Symlink("/etc/passwd", filepath.Join(dir, "out"))
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if got, err := ReadFile(root, "a", 5); err != nil || string(got) != "12345" {
		t.Errorf("a = %q, %v", got, err)
	}
	if _, err := ReadFile(root, "a", 4); !errdefs.IsResourceExhausted(err) {
		t.Errorf("too large: %v, want resource exhausted", err)
	}
	if got, err := ReadFile(root, "none", 5); got != nil || err != nil {
		t.Errorf("none = %v, %v, want nil", got, err)
	}
	if got, err := ReadFile(root, "empty", 5); got == nil || err != nil {
		t.Errorf("empty = %v, %v, want an empty slice", got, err)
	}
	for _, name := range []string{"out", "d", "pipe"} {
		if _, err := ReadFile(root, name, 5); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestNamesOfPlatforms(t *testing.T) {
	var p struct{ OS, CPU names }
	if err := json.Unmarshal([]byte(`{"os":"linux","cpu":["x64","arm64"]}`), &p); err != nil || len(p.OS) != 1 || len(p.CPU) != 2 {
		t.Errorf("names = %+v, %v", p, err)
	}
}
