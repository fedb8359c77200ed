package build

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// maxUnpacked is what the image for running plugins may take on disk, in bytes.
const maxUnpacked = 170 << 20

// standIn builds a small static program to take the place of ocmt-init.
func standIn(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "init")
	code := "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"stand-in \" + os.Args[1]) }\n"
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// buildReal builds from the committed lock, with packages from the cache or
// from where the host gets its packages.
func buildReal(t *testing.T, arch string) (Options, Result) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the real images, which may download 55 MB")
	}
	lock, err := ReadLock("../lock.json")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := HostSources(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	runner := filepath.Join(dir, "runner.js")
	script := fmt.Sprintf("console.log('runner', process.getuid()) // %d", time.Now().UnixNano())
	if err := os.WriteFile(runner, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Arch: arch, Init: standIn(t, arch), Runner: runner, Out: filepath.Join(dir, "out"), Lock: lock, Sources: sources}
	result, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return o, result
}

// TestRealImages builds for both architectures, twice, and reads what came out.
func TestRealImages(t *testing.T) {
	for arch, p := range arches {
		t.Run("arch="+arch, func(t *testing.T) {
			o, result := buildReal(t, arch)
			again := o
			again.Out = t.TempDir()
			second, err := Build(t.Context(), again)
			if err != nil {
				t.Fatal(err)
			}
			if second != result {
				t.Errorf("two builds gave %+v and %+v", result, second)
			}
			base := unpacked(t, filepath.Join(o.Out, result.Base.File))
			checkEntries(t, o.Lock, base)
			checkPrograms(t, p, base)
			install := unpacked(t, filepath.Join(o.Out, result.Install.File))
			checkEntries(t, o.Lock, install)
			checkPrograms(t, p, install)
			size := int64(0)
			for _, f := range base {
				size += (f.Size + 4095) / 4096 * 4096
			}
			if size > maxUnpacked {
				t.Errorf("the base image takes %d bytes, at most %d are allowed", size, maxUnpacked)
			}
			if n := strings.Count(string(base["etc/ssl/certs/ca-certificates.crt"].data), "-----BEGIN CERTIFICATE-----"); n < 100 {
				t.Errorf("the bundle holds %d certificates", n)
			}
		})
	}
}

// checkPrograms asserts that nothing can be executed but Node, ocmt-init and
// the loader, that the loader is found where programs ask for it, and that no
// shell or package manager is there in any form.
func checkPrograms(t *testing.T, p platform, found map[string]file) {
	t.Helper()
	loader := p.loader
	for found[loader].Typeflag == tar.TypeSymlink {
		target := found[loader].Linkname
		if !filepath.IsAbs(target) {
			target = filepath.Join("/", filepath.Dir(loader), target)
		}
		if strings.HasPrefix(target, "/lib/") {
			target = "/usr" + target
		}
		loader = strings.TrimPrefix(target, "/")
	}
	want := []string{"ocmt/init", "usr/bin/node", loader}
	if diff := cmp.Diff(want, names(found, isProgram)); diff != "" {
		t.Errorf("programs (-want +got):\n%s", diff)
	}
	for name := range found {
		switch dir, base := filepath.Split(name); {
		case strings.HasSuffix(dir, "bin/") && name != "usr/bin/node" && !strings.HasPrefix(name, "usr/lib/node_modules/npm/"),
			base == "sh", base == "bash", base == "busybox", base == "dpkg" && found[name].Typeflag != tar.TypeDir, base == "apt":
			t.Errorf("the image holds %s", name)
		}
	}
}

// docker runs the Docker CLI and returns what it printed.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// needDocker skips without an engine, or fails where one is demanded.
func needDocker(t *testing.T) {
	t.Helper()
	out, err := exec.Command("docker", "version", "--format", "{{.Server.Arch}}").CombinedOutput()
	if err == nil {
		return
	}
	if strings.Contains(os.Getenv("E2E_REQUIRE"), "docker") {
		t.Fatalf("E2E_REQUIRE demands Docker: %v\n%s", err, out)
	}
	t.Skipf("no Docker engine answers: %v", err)
}

// TestRealImagesInDocker loads the images and runs Node and npm in them.
func TestRealImagesInDocker(t *testing.T) {
	needDocker(t)
	o, result := buildReal(t, docker(t, "version", "--format", "{{.Server.Arch}}"))
	for _, digest := range []string{result.Base.Digest, result.Install.Digest} {
		t.Cleanup(func() { exec.Command("docker", "image", "rm", "--force", digest).Run() })
	}
	docker(t, "load", "--input", filepath.Join(o.Out, result.Base.File))
	docker(t, "load", "--input", filepath.Join(o.Out, result.Install.File))
	run := func(digest string, args ...string) string {
		t.Helper()
		locked := []string{"run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp:mode=1777", "--env", "TZ=Europe/Berlin", digest}
		return docker(t, append(locked, args...)...)
	}
	node := func(script string) []string { return []string{"node", "-e", script} }
	tests := map[string]struct {
		digest string
		args   []string
		want   string
	}{
		"version":      {result.Base.Digest, node("console.log(process.version)"), "v" + lockedVersion(t, o, arches[o.Arch].nodePackage)},
		"user":         {result.Base.Digest, node("const u = os.userInfo(); console.log(u.uid, u.gid, u.username, u.homedir)"), "65532 65532 plugin /state/home"},
		"time zone":    {result.Base.Digest, node("console.log(new Date(0).getHours(), Intl.DateTimeFormat().resolvedOptions().timeZone)"), "1 Europe/Berlin"},
		"Intl":         {result.Base.Digest, node("console.log((1234.5).toLocaleString('de-DE'))"), "1.234,5"},
		"localhost":    {result.Base.Digest, node("dns.lookup('localhost', {family: 4}, (e, a) => console.log(e, a))"), "null 127.0.0.1"},
		"built-in CAs": {result.Base.Digest, node("require('https'); console.log(tls.rootCertificates.length > 100)"), "true"},
		"bundled CAs": {result.Base.Digest, node(
			"tls.createSecureContext({ca: fs.readFileSync('/etc/ssl/certs/ca-certificates.crt')}); console.log('ok')"), "ok"},
		"libc's zones":  {result.Base.Digest, node("console.log(fs.readFileSync('/usr/share/zoneinfo/Europe/Berlin').toString('latin1', 0, 4))"), "TZif"},
		"no shell":      {result.Base.Digest, node("console.log(child_process.spawnSync('/bin/sh').error.code)"), "ENOENT"},
		"default":       {result.Base.Digest, nil, "stand-in run"},
		"runner":        {result.Base.Digest, []string{"node", "/ocmt/runner.js"}, "runner 65532"},
		"no npm":        {result.Base.Digest, node("console.log(fs.existsSync('/usr/lib/node_modules'))"), "false"},
		"npm":           {result.Install.Digest, []string{"node", "--no-warnings", "/usr/lib/node_modules/npm/bin/npm-cli.js", "--version", "--cache=/tmp"}, lockedVersion(t, o, npmPackage)},
		"npm's options": {result.Install.Digest, node(installScript), "0 main.js\n0"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := run(test.digest, test.args...); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	for _, e := range []string{result.Base.Digest, result.Install.Digest} {
		if got := docker(t, "image", "inspect", "--format", "{{.Id}}", e); got != e {
			t.Errorf("Docker calls the image %s, want %s", got, e)
		}
	}
}

// installScript installs a package, with the options that plugins are
// installed with, that has a failing script and dependencies which nobody can
// fetch here, and prints npm's exit code, what was installed, and what npm
// wrote about unknown options.
const installScript = `
const npm = (...args) => child_process.spawnSync('/usr/bin/node', ['/usr/lib/node_modules/npm/bin/npm-cli.js', ...args],
  {cwd: '/tmp/app', encoding: 'utf8', env: {HOME: '/tmp', PATH: '/usr/bin'}});
fs.mkdirSync('/tmp/dep'); fs.mkdirSync('/tmp/app');
fs.writeFileSync('/tmp/dep/main.js', '');
fs.writeFileSync('/tmp/dep/package.json', JSON.stringify({name: 'dep', version: '1.0.0', main: 'main.js',
  scripts: {install: 'exit 3'}, peerDependencies: {peer: '1'}, devDependencies: {dev: '1'}}));
fs.writeFileSync('/tmp/app/package.json', '{}');
npm('pack', '/tmp/dep', '--ignore-scripts');
const r = npm('install', './dep-1.0.0.tgz', '--ignore-scripts', '--omit=dev', '--omit=peer', '--legacy-peer-deps', '--offline');
console.log(r.status, fs.readdirSync('/tmp/app/node_modules/dep').filter(f => f != 'package.json').join());
console.log((r.stderr.match(/unknown|deprecated|invalid/gi) || []).length);
`

func lockedVersion(t *testing.T, o Options, name string) string {
	t.Helper()
	p, err := o.Lock.npm(name)
	if err != nil {
		t.Fatal(err)
	}
	return p.Version
}
