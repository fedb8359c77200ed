package images

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

var (
	digestA = "sha256:" + strings.Repeat("a", 64)
	digestB = "sha256:" + strings.Repeat("b", 64)
)

// dirWith makes a directory whose index holds e as the base image for amd64.
func dirWith(t *testing.T, e Entry, content string) string {
	t.Helper()
	dir := t.TempDir()
	if err := (Index{"amd64": {Base: e}}).Write(dir); err != nil {
		t.Fatal(err)
	}
	if content != "" {
		if err := os.WriteFile(filepath.Join(dir, e.File), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLocate(t *testing.T) {
	good := dirWith(t, Entry{digestA, "a.tar", 4}, "tar!")
	foreign := dirWith(t, Entry{digestB, "a.tar", 4}, "tar!")
	short := dirWith(t, Entry{digestA, "a.tar", 5}, "tar!")
	gone := dirWith(t, Entry{digestA, "a.tar", 4}, "")
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, IndexFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	tests := map[string]struct {
		finder Finder
		name   Name
		dir    string
		is     func(error) bool
		says   []string
	}{
		"found":            {Finder{Base: digestA, Arch: "amd64", Dirs: []string{good}}, Base, good, nil, nil},
		"found later":      {Finder{Base: digestA, Arch: "amd64", Dirs: []string{empty, gone, broken, foreign, good}}, Base, good, nil, nil},
		"no digest":        {Finder{Arch: "amd64", Dirs: []string{good}}, Base, "", errdefs.IsFailedPrecondition, []string{"make build"}},
		"no digest of one": {Finder{Base: digestA, Arch: "amd64", Dirs: []string{good}}, Install, "", errdefs.IsFailedPrecondition, []string{"install"}},
		"unknown name":     {Finder{Base: digestA, Arch: "amd64", Dirs: []string{good}}, "other", "", errdefs.IsFailedPrecondition, nil},
		"bad digest":       {Finder{Base: "sha256:1", Arch: "amd64", Dirs: []string{good}}, Base, "", errdefs.IsInvalidArgument, nil},
		"nowhere":          {Finder{Base: digestA, Arch: "amd64", Dirs: []string{empty, gone}}, Base, "", errdefs.IsNotFound, []string{"make build", "OCMT_IMAGES", empty}},
		"other arch":       {Finder{Base: digestA, Arch: "arm64", Dirs: []string{good}}, Base, "", errdefs.IsNotFound, nil},
		"other image":      {Finder{Base: digestA, Install: digestB, Arch: "amd64", Dirs: []string{good}}, Install, "", errdefs.IsNotFound, nil},
		"other build":      {Finder{Base: digestA, Arch: "amd64", Dirs: []string{empty, foreign}}, Base, "", errdefs.IsFailedPrecondition, []string{digestA, digestB, "make build"}},
		"cut off":          {Finder{Base: digestA, Arch: "amd64", Dirs: []string{short}}, Base, "", errdefs.IsFailedPrecondition, []string{"4 bytes instead of 5"}},
		"broken index":     {Finder{Base: digestA, Arch: "amd64", Dirs: []string{broken}}, Base, "", errdefs.IsInvalidArgument, []string{broken}},
		"no directories":   {Finder{Base: digestA, Arch: "amd64"}, Base, "", errdefs.IsNotFound, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path, size, err := test.finder.Locate(test.name)
			if test.is == nil {
				if err != nil || path != filepath.Join(test.dir, "a.tar") || size != 4 {
					t.Fatalf("Locate() = %q, %d, %v, want a.tar in %s", path, size, err, test.dir)
				}
				return
			}
			if err == nil || !test.is(err) {
				t.Fatalf("Locate() error = %v, of another class than wanted", err)
			}
			for _, word := range test.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error %q does not say %q", err, word)
				}
			}
		})
	}
}

func TestBuilt(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("OCMT_IMAGES", dir)
	exe, err := executableDir()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{dir, exe, filepath.Join(exe, "..", "lib", "ocmt"), "/usr/lib/ocmt"}
	if got := Built().Dirs; !slices.Equal(got, want) {
		t.Errorf("Built().Dirs = %q, want %q", got, want)
	}
	if _, err := Digest(Base); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Digest() without one linked in = %v, want FailedPrecondition", err)
	}
	if _, _, err := Locate(Base); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Locate() without a digest linked in = %v, want FailedPrecondition", err)
	}
}

func TestValidateDigest(t *testing.T) {
	for digest, ok := range map[string]bool{
		digestA:                                true,
		"":                                     false,
		"sha256:":                              false,
		strings.Repeat("a", 64):                false,
		digestA + "a":                          false,
		digestA + "\n":                         false,
		" " + digestA:                          false,
		"sha512:" + strings.Repeat("a", 64):    false,
		"sha256:" + strings.Repeat("A", 64):    false,
		"sha256:" + strings.Repeat("g", 64):    false,
		"ocmt-base@sha256:" + digestA[7:]:      false,
		"sha256:../" + strings.Repeat("a", 61): false,
	} {
		err := ValidateDigest(digest)
		if (err == nil) != ok || (err != nil && !errdefs.IsInvalidArgument(err)) {
			t.Errorf("ValidateDigest(%q) = %v, want ok %v", digest, err, ok)
		}
	}
}

func TestIndexRoundTrip(t *testing.T) {
	want := Index{"arm64": {Base: {digestA, "x.tar", 7}, Install: {digestB, "y.tar", 8}}}
	dir := t.TempDir()
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := ReadIndex(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("index changed on its way (-want +got):\n%s", diff)
	}
	if _, err := ReadIndex(t.TempDir()); !errdefs.IsNotFound(err) {
		t.Errorf("ReadIndex() of an empty directory = %v, want NotFound", err)
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"amd64":{"base":{"digest":"` + digestA + `","file":"a.tar","size":1}}}`))
	f.Add([]byte(`{"amd64":{"base":{"digest":"` + digestA + `","file":"../a.tar","size":1}}}`))
	f.Add([]byte(`{"amd64":{"base":{"digest":"` + digestA + `","file":".","size":1}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		index, err := parseIndex(b)
		if err != nil {
			return
		}
		for _, entries := range index {
			for _, e := range entries {
				if filepath.Dir(filepath.Join("/x", e.File)) != "/x" || ValidateDigest(e.Digest) != nil || e.Size <= 0 {
					t.Errorf("parseIndex(%q) let %+v through", b, e)
				}
			}
		}
	})
}
