package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func quiet(string, int64, int64) {}

// tree lists the files below dir with their content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		name, _ := filepath.Rel(dir, p)
		got[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func names(files map[string]string) []string {
	var list []string
	for name := range files {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func parse(t *testing.T, s string) Spec {
	t.Helper()
	spec, err := ParseSpec(s)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

type object = map[string]any

// at is a place of the default tenant.
func at(dir string) Place { return Place{Tenant: plugin.DefaultTenant, Dir: dir} }

func TestNPM(t *testing.T) {
	r := serve(t,
		published{name: "@me/plug", version: "1.0.0", files: map[string]string{"index.js": "old"}},
		published{name: "@me/plug", version: "1.1.0", files: map[string]string{"index.js": "new", "bin/run": "run"},
			manifest: object{"bin": "bin/run", "dependencies": object{"dep": "^1.0.0", "nick": "npm:dep@2.0.0"},
				"optionalDependencies": object{"win-only": "1.0.0", "gone": "1.0.0"}, "peerDependencies": object{"peer": "1"}, "devDependencies": object{"dev": "1"},
				"scripts": object{"postinstall": "touch /tmp/ran"}}},
		published{name: "dep", version: "1.2.0", files: map[string]string{"a.js": "dep 1"}, onlySHA1: true},
		published{name: "dep", version: "2.0.0", files: map[string]string{"a.js": "dep 2", "node_modules/inner/i.js": "inner", "node_modules/inner/package.json": `{"name":"inner","version":"1.0.0"}`},
			manifest: object{"bundleDependencies": []string{"inner"}, "dependencies": object{"inner": "1.0.0"}}},
		published{name: "win-only", version: "1.0.0", manifest: object{"os": []string{"win32"}}},
	)
	f, h := fetcher(t, r)
	h.after = func(workDir string) { // what npm unpacked is not to be trusted
		if err := os.WriteFile(filepath.Join(workDir, "node_modules/@me/plug/index.js"), []byte("tampered"), 0o644); err != nil {
			t.Error(err)
		}
	}
	var messages []string
	dir := t.TempDir()
	got, err := f.NPM(context.Background(), parse(t, "@me/plug"), at(dir), func(m string, done, total int64) { messages = append(messages, m) })
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "@me/plug" || got.Version != "1.1.0" || !strings.HasPrefix(got.Integrity, "sha512-") || got.Root != "node_modules/@me/plug" {
		t.Errorf("fetched %+v", got)
	}
	if diff := cmp.Diff([]string{"@me/plug"}, got.Scripts); diff != "" {
		t.Errorf("scripts: %s", diff)
	}
	files := tree(t, got.Tree)
	want := []string{
		"node_modules/@me/plug/bin/run", "node_modules/@me/plug/index.js", "node_modules/@me/plug/package.json",
		"node_modules/dep/a.js", "node_modules/dep/package.json",
		"node_modules/nick/a.js", "node_modules/nick/node_modules/inner/i.js", "node_modules/nick/node_modules/inner/package.json", "node_modules/nick/package.json",
	}
	if diff := cmp.Diff(want, names(files)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if files["node_modules/@me/plug/index.js"] != "new" || files["node_modules/dep/a.js"] != "dep 1" || files["node_modules/nick/a.js"] != "dep 2" {
		t.Errorf("contents are not those of the verified tarballs: %v", files)
	}
	if info, _ := os.Stat(filepath.Join(got.Tree, "node_modules/@me/plug/bin/run")); info.Mode().Perm() != 0o755 {
		t.Errorf("bin has mode %v", info.Mode())
	}
	if !slices.Contains(messages, "downloading") || !slices.Contains(messages, "verifying dep") {
		t.Errorf("progress = %v", messages)
	}
	job := h.jobs[0]
	if info, _ := os.Stat(job.WorkDir); info.Mode().Perm() != 0o777 || job.Registry.Host != "127.0.0.1" || !job.Registry.Plaintext {
		t.Errorf("job = %+v, mode %v", job, info.Mode())
	}
	if err := f.Remove(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}

func TestNPMVersionsAndTags(t *testing.T) {
	r := serve(t, published{name: "p", version: "1.0.0"}, published{name: "p", version: "2.0.0"})
	f, _ := fetcher(t, r)
	for spec, want := range map[string]string{"p@1.0.0": "1.0.0", "npm:p@beta": "1.0.0", "p@latest": "2.0.0"} {
		got, err := f.NPM(context.Background(), parse(t, spec), at(t.TempDir()), quiet)
		if err != nil || got.Version != want {
			t.Errorf("%s = %s, %v, want %s", spec, got.Version, err, want)
		}
	}
}

func TestNPMSendsTheRegistrysToken(t *testing.T) {
	r := serve(t, published{name: "p", version: "1.0.0"})
	f, _ := fetcher(t, r)
	f.Registry.auth["//"+strings.TrimPrefix(r.URL, "http://")+"/:_authToken"] = "s3cret"
	if _, err := f.NPM(context.Background(), parse(t, "p"), at(t.TempDir()), quiet); err != nil || r.auth != "Bearer s3cret" {
		t.Errorf("authorization = %q, %v", r.auth, err)
	}
}

func TestNPMFailures(t *testing.T) {
	r := serve(t,
		published{name: "p", version: "1.0.0"},
		published{name: "bad-bytes", version: "1.0.0", files: map[string]string{"index.js": "good"}, wrongBytes: true},
		published{name: "needs-git", version: "1.0.0", manifest: object{"dependencies": object{"g": "git+file:///nowhere/g.git"}}},
		published{name: "needs-none", version: "1.0.0", manifest: object{"dependencies": object{"nope": "1.0.0"}}},
		published{name: "mac", version: "1.0.0", manifest: object{"os": []string{"darwin"}}},
	)
	tests := []struct {
		spec string
		is   func(error) bool
		want string
	}{
		{"nope", errdefs.IsNotFound, "nope"},
		{"@me/nope@1.0.0", errdefs.IsNotFound, "nope"},
		{"p@9.9.9", errdefs.IsNotFound, "No matching version found for p@9.9.9"},
		{"p@nosuchtag", errdefs.IsNotFound, "nosuchtag"},
		{"needs-none", errdefs.IsNotFound, "nope"},
		{"bad-bytes", errdefs.IsDataLoss, "integrity"},
		{"needs-git", errdefs.IsAborted, ""},
		{"mac", errdefs.IsFailedPrecondition, "mac"},
	}
	for _, tt := range tests {
		t.Run(tt.spec, func(t *testing.T) {
			f, _ := fetcher(t, r)
			_, err := f.NPM(context.Background(), parse(t, tt.spec), at(t.TempDir()), quiet)
			if err == nil || !tt.is(err) || !strings.Contains(err.Error(), tt.want) || fault.Of(err).Hint == "" {
				t.Errorf("error = %v (hint %q), want one with %q", err, fault.Of(err).Hint, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "npm error") || len(err.Error()) > 800) {
				t.Errorf("npm's noise got through: %v", err)
			}
		})
	}
}

func TestNPMRegistryUnreachable(t *testing.T) {
	f, _ := fetcher(t, serve(t))
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that nobody listens on
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	if f.Registry, err = NewRegistry("http://" + address); err != nil {
		t.Fatal(err)
	}
	if _, err := f.NPM(context.Background(), parse(t, "p"), at(t.TempDir()), quiet); !errdefs.IsUnavailable(err) || fault.Of(err).Hint == "" {
		t.Errorf("error = %v, want unavailable", err)
	}
}

func TestTamperedCacheIsDetected(t *testing.T) {
	r := serve(t, published{name: "p", version: "1.0.0", files: map[string]string{"index.js": "good"}})
	f, h := fetcher(t, r)
	tests := map[string]func(file string) error{
		"other bytes": func(file string) error {
			return os.WriteFile(file, published{name: "p", version: "1.0.0", files: map[string]string{"index.js": "evil"}}.tarball(), 0o644)
		},
		"appended": func(file string) error {
			o, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer o.Close()
			_, err = o.WriteString("x")
			return err
		},
		"a link out": func(file string) error { return errors.Join(os.Remove(file), os.Symlink("/etc/passwd", file)) },
	}
	for name, tamper := range tests {
		t.Run(name, func(t *testing.T) {
			h.after = func(workDir string) {
				err := filepath.WalkDir(filepath.Join(workDir, contents, "sha512"), func(p string, d fs.DirEntry, err error) error {
					if err != nil || d.IsDir() {
						return err
					}
					if head, _ := os.ReadFile(p); bytes.HasPrefix(head, []byte("\x1f\x8b")) {
						return tamper(p)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
			_, err := f.NPM(context.Background(), parse(t, "p"), at(t.TempDir()), quiet)
			if err == nil || (name != "a link out" && !errdefs.IsDataLoss(err)) {
				t.Errorf("error = %v, want data loss", err)
			}
		})
	}
}

func TestForgedLockfileIsRefused(t *testing.T) {
	r := serve(t, published{name: "p", version: "1.0.0"})
	f, h := fetcher(t, r)
	tests := map[string]struct{ old, new, want string }{
		"integrity dropped": {`"integrity"`, `"was"`, "no integrity"},
		"other host":        {`"resolved": "http://127.0.0.1`, `"resolved": "http://127.0.0.2`, "not the registry"},
		"a link":            {`"integrity"`, `"link": true, "integrity"`, "link"},
		"elsewhere":         {`"node_modules/p"`, `"../p"`, "no place"},
		"not there":         {`"node_modules/p"`, `"node_modules/q"`, "installed nothing"},
		"other digest":      {`"sha512-`, `"sha512-AAAA`, "integrity"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h.after = func(workDir string) {
				file := filepath.Join(workDir, lockName)
				data, err := os.ReadFile(file)
				if err != nil || !strings.Contains(string(data), tt.old) {
					t.Fatalf("lockfile %s, %v", data, err)
				}
				os.WriteFile(file, []byte(strings.ReplaceAll(string(data), tt.old, tt.new)), 0o644)
			}
			if _, err := f.NPM(context.Background(), parse(t, "p"), at(t.TempDir()), quiet); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestUpload(t *testing.T) {
	old := published{name: "dep", version: "1.0.0", files: map[string]string{"a.js": "1"}}
	r := serve(t, old, published{name: "dep", version: "1.5.0", files: map[string]string{"a.js": "1.5"}})
	dep := `{"name":"up","version":"1.0.0","scripts":{"preinstall":"false"},"workspaces":["x"],"dependencies":{"dep":"^1.0.0"},"devDependencies":{"nope":"1"}}`
	locked := `{"name":"up","version":"1.0.0","lockfileVersion":3,"packages":{"":{"dependencies":{"dep":"^1.0.0"}},"node_modules/dep":{"version":"1.0.0",` +
		`"resolved":"` + r.URL + `/dep/-/1.0.0.tgz","integrity":"` + old.integrity() + `"}}}`
	tests := []struct {
		name   string
		source plugin.Source
		prefix string
		files  map[string]string
		want   map[string]string // of the dependency
		runs   int
	}{
		{"no dependencies", plugin.SourcePath, "", map[string]string{"package.json": `{"name":"up"}`, "index.js": "x", "node_modules/evil/index.js": "x", "node_modules": "x"}, nil, 0},
		{"dependencies", plugin.SourcePath, "./", map[string]string{"package.json": dep, "node_modules/dep/a.js": "uploaded"}, map[string]string{"node_modules/dep/a.js": "1.5"}, 1},
		{"an archive with a lockfile", plugin.SourceArchive, "package/", map[string]string{"package.json": dep, "package-lock.json": locked}, map[string]string{"node_modules/dep/a.js": "1"}, 1},
		{"an archive without a directory around it", plugin.SourceArchive, "./", map[string]string{"a/b.js": "x", "package.json": dep}, map[string]string{"node_modules/dep/a.js": "1.5"}, 1},
		{"an archive that bundles one of two", plugin.SourceArchive, "package/", map[string]string{
			"package.json":              `{"name":"up","dependencies":{"dep":"^1.0.0","own":"workspace:*"},"bundleDependencies":["own"]}`,
			"node_modules/own/index.js": "own", "node_modules/dep/a.js": "uploaded",
		}, map[string]string{"node_modules/own/index.js": "own", "node_modules/dep/a.js": "1.5"}, 1},
		{"an archive that bundles all", plugin.SourceArchive, "", map[string]string{
			"package.json":              `{"name":"up","dependencies":{"own":"1.0.0"},"bundledDependencies":["own"]}`,
			"node_modules/own/index.js": "own",
		}, map[string]string{"node_modules/own/index.js": "own"}, 0},
		{"a directory that would bundle", plugin.SourcePath, "", map[string]string{
			"package.json":      `{"name":"up","dependencies":{"dep":"^1.0.0"},"bundleDependencies":["dep"]}`,
			"package-lock.json": `{"name":"up","lockfileVersion":3,"packages":{"":{"name":"up","dependencies":{"dep":"^1.0.0"},"bundleDependencies":["dep"]},"node_modules/dep":{"version":"1.0.0","inBundle":true}}}`,
		}, map[string]string{"node_modules/dep/a.js": "1.5"}, 1},
		{"a shrinkwrap", plugin.SourcePath, "", map[string]string{"package.json": dep, "npm-shrinkwrap.json": locked}, map[string]string{"node_modules/dep/a.js": "1"}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, h := fetcher(t, r)
			got, err := f.Upload(context.Background(), bytes.NewReader(pack(tt.prefix, tt.files)), tt.source, at(t.TempDir()), quiet)
			if err != nil {
				t.Fatal(err)
			}
			if got.Root != "." || got.Integrity != "" || len(h.jobs) != tt.runs {
				t.Errorf("fetched %+v with %d runs of npm, want %d", got, len(h.jobs), tt.runs)
			}
			files := tree(t, got.Tree)
			for name, content := range files {
				if strings.HasPrefix(name, "node_modules/") && name != "node_modules/dep/package.json" && tt.want[name] != content {
					t.Errorf("%s holds %q, want %q", name, content, tt.want[name])
				}
			}
			for name, content := range tt.want {
				if files[name] != content {
					t.Errorf("%s holds %q, want %q", name, files[name], content)
				}
			}
			if files["package.json"] != tt.files["package.json"] {
				t.Errorf("package.json = %q", files["package.json"])
			}
		})
	}
}

func TestUploadRefuses(t *testing.T) {
	for name, spec := range map[string]string{
		"git": "git+https://github.com/a/b.git", "short git": "a/b", "file": "file:../x", "link": "link:../x", "workspace": "workspace:*", "url": "https://example.com/x.tgz", "path": "../x",
	} {
		f := &Fetcher{} // nothing may be run
		files := map[string]string{"package.json": `{"name":"up","optionalDependencies":{"d":"` + spec + `"}}`}
		_, err := f.Upload(context.Background(), bytes.NewReader(pack("", files)), plugin.SourcePath, at(t.TempDir()), quiet)
		if !errdefs.IsAborted(err) || fault.Of(err).Hint == "" || !strings.Contains(err.Error(), "dependency d") {
			t.Errorf("%s: %v, want a refusal of the dependency", name, err)
		}
	}
}

// owner is a runner that alone may remove what lies in locked: for root the
// file is immutable, for others its directory is read-only.
type owner struct {
	Runner
	locked  string
	cleaned string
}

func (o *owner) lock(on bool) error {
	if os.Geteuid() != 0 {
		return os.Chmod(o.locked, map[bool]fs.FileMode{true: 0o500, false: 0o700}[on])
	}
	f, err := os.Open(filepath.Join(o.locked, "x"))
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, map[bool]int{true: 0x10, false: 0}[on])
}

func (o *owner) Clean(_ context.Context, workDir string) error {
	o.cleaned = workDir
	return o.lock(false)
}

func TestRemoveCleansAsTheOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "staging")
	o := &owner{locked: filepath.Join(dir, workName, "locked")}
	if err := errors.Join(os.MkdirAll(o.locked, 0o700), os.WriteFile(filepath.Join(o.locked, "x"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := o.lock(true); err != nil {
		t.Skipf("this file system has no immutable files: %v", err)
	}
	t.Cleanup(func() { o.lock(false) })
	if err := (&Fetcher{Runner: o}).Remove(context.Background(), dir); err != nil || o.cleaned != filepath.Join(dir, workName) {
		t.Errorf("Remove = %v, cleaned %q", err, o.cleaned)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}

type broken struct{ Runner }

func (broken) RunInstall(context.Context, Job) (int, string, error) {
	return 0, "", errdefs.ErrUnavailable
}

func TestRunnerFails(t *testing.T) {
	r, err := NewRegistry(DefaultRegistry)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca")
	os.WriteFile(ca, []byte("CERT"), 0o600)
	dir := t.TempDir()
	f := &Fetcher{Registry: r, Runner: broken{}, CAFiles: []string{ca, ca}}
	if _, err := f.NPM(context.Background(), Spec{Name: "p"}, at(dir), quiet); !errdefs.IsUnavailable(err) {
		t.Errorf("error = %v, want the runner's", err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, caName)); err != nil || string(data) != "CERT\nCERT\n" {
		t.Errorf("bundle = %q, %v", data, err)
	}
}

func TestParseSpec(t *testing.T) {
	tests := []struct {
		in   string
		want Spec
	}{
		{"plug", Spec{Name: "plug"}}, {"npm:plug", Spec{Name: "plug"}}, {"plug@1.2.3", Spec{"plug", "1.2.3"}},
		{"@a/b", Spec{Name: "@a/b"}}, {"@a/b@1.2.3-beta.1+x", Spec{"@a/b", "1.2.3-beta.1+x"}}, {"npm:@a/b@next", Spec{"@a/b", "next"}},
		{"plug@beta-2", Spec{"plug", "beta-2"}}, {"gitter", Spec{Name: "gitter"}},
	}
	for _, tt := range tests {
		if got, err := ParseSpec(tt.in); err != nil || got != tt.want {
			t.Errorf("ParseSpec(%q) = %+v, %v, want %+v", tt.in, got, err, tt.want)
		}
	}
	for _, bad := range []string{
		"", "@", "plug@", "@a/b@", "plug@^1.0.0", "plug@~1", "plug@1", "plug@1.x", "plug@x", "plug@*", "plug@>=1", "plug@1.0.0 || 2.0.0", "plug@1.0.0 - 2", "plug@v1.2.3", "plug@v1",
		"https://example.com/p.tgz", "http://example.com", "git+ssh://git@h/p", "git@github.com:a/b", "github:a/b", "a/b", "a/b#main", "p.git", "file:../p", "./p", "../p", "/p", "~/p", "p.tgz", "p.tar.gz",
		"npm:npm:p", "workspace:p", "--registry=x", "-g", "a b", "p@1.0.0\n", "node_modules", "..", "@a/..", "p;rm", "$(x)", strings.Repeat("a", 300), "p@" + strings.Repeat("a", 300), "plug@npm:other@1.0.0",
	} {
		if got, err := ParseSpec(bad); !errdefs.IsInvalidArgument(err) || fault.Of(err).Hint == "" {
			t.Errorf("ParseSpec(%q) = %+v, %v, want invalid argument with a hint", bad, got, err)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add("npm:@a/b@1.2.3")
	f.Add("a/b#x")
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := ParseSpec(s)
		if err != nil {
			return
		}
		if strings.HasPrefix(spec.String(), "-") || strings.ContainsAny(spec.String(), " \n:#*^<>|\\") || plugin.CheckPackageName(spec.Name) != nil {
			t.Fatalf("accepted %q as %+v", s, spec)
		}
	})
}

func TestProgressOfLongLines(t *testing.T) {
	var last int64
	p := &progress{report: func(_ string, done, _ int64) { last = done }}
	io.WriteString(p, "npm http fet")
	io.WriteString(p, "ch GET 200\nother\nnpm http cache x\n"+strings.Repeat("x", 1<<20))
	if last != 2 || len(p.partial) > 4096 {
		t.Errorf("counted %d responses and kept %d bytes", last, len(p.partial))
	}
}
