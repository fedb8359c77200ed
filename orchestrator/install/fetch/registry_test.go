package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// published is one version of a package in the test's registry.
type published struct {
	name, version string
	manifest      map[string]any    // more fields of package.json
	files         map[string]string // by name in the tarball, below package/
	onlySHA1      bool              // no integrity, as old packages have
	wrongBytes    bool              // serves a tarball of other bytes than it says
}

// registry is an npm registry on loopback.
type registry struct {
	*httptest.Server
	packages map[string][]published
	mu       sync.Mutex
	requests []string
	auth     string // the last Authorization header
}

func serve(t *testing.T, packages ...published) *registry {
	r := &registry{packages: map[string][]published{}}
	for _, p := range packages {
		r.packages[p.name] = append(r.packages[p.name], p)
	}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, req.URL.Path)
	r.auth = req.Header.Get("Authorization")
	r.mu.Unlock()
	name, file, isTarball := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/-/")
	versions := r.packages[name]
	if versions == nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":"not_found"}`)
		return
	}
	if isTarball {
		for _, p := range versions {
			if file == p.version+".tgz" {
				if p.wrongBytes {
					p.files = map[string]string{"index.js": "evil"}
				}
				w.Write(p.tarball())
			}
		}
		return
	}
	all, latest := map[string]any{}, ""
	for _, p := range versions {
		m := p.packageJSON()
		data := p.tarball()
		sum1 := sha1.Sum(data)
		dist := map[string]any{"tarball": r.URL + "/" + name + "/-/" + p.version + ".tgz", "shasum": hex.EncodeToString(sum1[:])}
		if !p.onlySHA1 {
			dist["integrity"] = p.integrity()
		}
		m["dist"] = dist
		all[p.version], latest = m, p.version
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"name": name, "dist-tags": map[string]string{"latest": latest, "beta": versions[0].version}, "versions": all})
}

func (p published) packageJSON() map[string]any {
	m := map[string]any{"name": p.name, "version": p.version}
	for k, v := range p.manifest {
		m[k] = v
	}
	return m
}

func (p published) tarball() []byte {
	data, _ := json.Marshal(p.packageJSON())
	files := map[string]string{"package.json": string(data)}
	for name, content := range p.files {
		files[name] = content
	}
	return pack("package/", files)
}

func (p published) integrity() string {
	sum := sha512.Sum512(p.tarball())
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func pack(prefix string, files map[string]string) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	names := slices.Sorted(maps.Keys(files)) // the same bytes every time
	for _, name := range names {
		w.WriteHeader(&tar.Header{Name: prefix + name, Mode: 0o644, Size: int64(len(files[name]))})
		w.Write([]byte(files[name]))
	}
	w.Close()
	z.Close()
	return buf.Bytes()
}

// hostNPM runs jobs with this machine's npm, without a sandbox.
type hostNPM struct {
	after func(workDir string) // what happens before npm's results are read
	jobs  []Job
}

func (h *hostNPM) RunInstall(ctx context.Context, job Job) (int, string, error) {
	h.jobs = append(h.jobs, job)
	here := func(list []string) []string {
		mapped := make([]string, len(list))
		for i, s := range list {
			mapped[i] = strings.ReplaceAll(s, WorkTarget+"/", job.WorkDir+"/")
			if s == "--prefix="+WorkTarget {
				mapped[i] = "--prefix=" + job.WorkDir
			}
		}
		return mapped
	}
	cmd := exec.CommandContext(ctx, "npm", here(job.Args)[2:]...)
	cmd.Dir = job.WorkDir
	for _, e := range here(job.Env) {
		if !strings.HasPrefix(e, "PATH=") && !strings.HasPrefix(e, "NODE_EXTRA_CA_CERTS=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	job.Output.Write(output.Bytes())
	if failed := new(exec.ExitError); err != nil && !errors.As(err, &failed) {
		return 0, "", err
	}
	if h.after != nil {
		h.after(job.WorkDir)
	}
	return cmd.ProcessState.ExitCode(), output.String(), nil
}

func (h *hostNPM) Clean(_ context.Context, workDir string) error {
	entries, err := os.ReadDir(workDir)
	for _, e := range entries {
		os.RemoveAll(filepath.Join(workDir, e.Name()))
	}
	return err
}

func fetcher(t *testing.T, r *registry) (*Fetcher, *hostNPM) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("npm is not installed here")
	}
	reg, err := NewRegistry(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostNPM{}
	return &Fetcher{Registry: reg, Runner: h, Platform: HostPlatform()}, h
}

func TestLoadRegistry(t *testing.T) {
	home := t.TempDir()
	npmrc := `
; a comment
registry = "https://npm.example.com:8443/team/"
//npm.example.com:8443/team/:_authToken=${MY_TOKEN}
//npm.example.com:8443/:username = me
//npm.example.com/:_authToken=other-port
//elsewhere.example.com/:_authToken=secret
//npm.example.com:8443/team/:keyfile=/etc/key
//npm.example.com:8443/other/:_authToken=other-path
@corp:registry=https://corp.example.com
@same:registry=https://npm.example.com:8443/team
_authToken=legacy
`
	if err := os.WriteFile(filepath.Join(home, ".npmrc"), []byte(npmrc), 0o600); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"MY_TOKEN": "s3cret"}
	getenv := func(name string) string { return vars[name] }
	r, err := LoadRegistry(getenv, home)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Endpoint{Host: "npm.example.com", Port: 8443}); r.Endpoint() != want {
		t.Errorf("endpoint = %+v, want %+v", r.Endpoint(), want)
	}
	want := "registry=https://npm.example.com:8443/team/\n//npm.example.com:8443/:username=\"me\"\n//npm.example.com:8443/team/:_authToken=\"s3cret\"\n"
	if got := string(r.npmrc()); got != want {
		t.Errorf("npmrc = %q, want %q", got, want)
	}
	if err := r.serves("@corp/x"); err == nil {
		t.Error("a package of another registry's scope was let through")
	}
	for _, name := range []string{"@same/x", "@other/x", "corp"} {
		if err := r.serves(name); err != nil {
			t.Errorf("serves(%s) = %v", name, err)
		}
	}
	vars["MY_TOKEN"] = "two\nlines=x"
	if r, err = LoadRegistry(getenv, home); err != nil || strings.Contains(string(r.npmrc()), "two") {
		t.Errorf("a value of two lines got through: %q, %v", r.npmrc(), err)
	}
	vars["NPM_CONFIG_REGISTRY"] = "http://127.0.0.1:4873"
	if r, err = LoadRegistry(getenv, home); err != nil || r.Endpoint() != (Endpoint{Host: "127.0.0.1", Port: 4873, Plaintext: true}) {
		t.Errorf("from the environment: %+v, %v", r.Endpoint(), err)
	}
	if len(r.auth) != 0 {
		t.Errorf("tokens of another registry were taken: %v", r.auth)
	}
	if r, err = LoadRegistry(func(string) string { return "" }, t.TempDir()); err != nil || r.URL != DefaultRegistry {
		t.Errorf("default = %s, %v", r.URL, err)
	}
	for _, bad := range []string{"ftp://x", "https://u:p@x/", "x", "https://", "https://x:99999/", "https://x/?q"} {
		if _, err := NewRegistry(bad); err == nil {
			t.Errorf("NewRegistry(%q) was accepted", bad)
		}
	}
}

func TestRegistryAllows(t *testing.T) {
	r, err := NewRegistry("https://npm.example.com/x/")
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"https://npm.example.com/y.tgz": true, "https://NPM.example.com:443/y.tgz": true, "https://registry.npmjs.org/y.tgz": true,
		"http://npm.example.com/y.tgz": false, "https://npm.example.com:444/y.tgz": false, "https://npm.example.com.evil.org/": false, "http://registry.npmjs.org/y": false,
	} {
		if u, _ := url.Parse(address); r.allows(u) != want {
			t.Errorf("allows(%s) = %v, want %v", address, !want, want)
		}
	}
}

func TestHostCAFiles(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own.pem")
	if err := os.WriteFile(own, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	extra := func(name string) string {
		return map[string]string{"SSL_CERT_FILE": own, "NODE_EXTRA_CA_CERTS": own}[name]
	}
	if got := HostCAFiles(extra); len(got) != 1 || got[0] != own {
		t.Errorf("files = %v, want %s once", got, own)
	}
}
