package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// arOf joins name, content pairs to an ar archive.
func arOf(members ...string) []byte {
	b := bytes.NewBufferString(arMagic)
	for i := 0; i < len(members); i += 2 {
		fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", members[i], 0, 0, 0, "100644", len(members[i+1]))
		b.WriteString(members[i+1])
		if len(members[i+1])%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func tarOf(t testing.TB, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, files[i+1])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func packed(t testing.TB, s, ext string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	default:
		return s
	}
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, s)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
		t.Run("compression="+ext, func(t *testing.T) {
			b := arOf("debian-binary", "2.0\n",
				"control.tar"+ext, packed(t, tarOf(t, "./md5sums", "x", "./control", "Package: x\n"), ext),
				"data.tar"+ext, packed(t, tarOf(t, "./usr/a", "A", "./usr/b", "BB"), ext))
			got := map[string]string{}
			control, err := Read(b, func(h *tar.Header, r io.Reader) error {
				content, err := io.ReadAll(r)
				got[h.Name] = string(content)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if string(control) != "Package: x\n" {
				t.Errorf("control = %q", control)
			}
			if diff := cmp.Diff(map[string]string{"./usr/a": "A", "./usr/b": "BB"}, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	control := tarOf(t, "control", "Package: x\n")
	whole := arOf("control.tar", control, "data.tar", tarOf(t, "a", "A"))
	tests := map[string][]byte{
		"nothing":             nil,
		"no archive":          []byte("PK\x03\x04"),
		"no control":          arOf("data.tar", tarOf(t)),
		"no data":             arOf("control.tar", control),
		"unknown compression": arOf("control.tar", control, "data.tar.lz4", "x"),
		"not compressed":      arOf("control.tar", control, "data.tar.xz", tarOf(t)),
		"not gzip":            arOf("control.tar", control, "data.tar.gz", tarOf(t)),
		"not zstd":            arOf("control.tar", control, "data.tar.zst", tarOf(t)),
		"not a tar":           arOf("control.tar", control, "data.tar", strings.Repeat("x", 1024)),
		"twice":               arOf("control.tar", control, "data.tar", tarOf(t), "data.tar", tarOf(t)),
		"cut off":             whole[:len(whole)-1000],
		"half a header":       append(bytes.Clone(whole), "xx"...),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Read(b, func(*tar.Header, io.Reader) error { return nil })
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("Read() = %v, want InvalidArgument", err)
			}
		})
	}
	refusal := fmt.Errorf("no")
	if _, err := Read(whole, func(*tar.Header, io.Reader) error { return refusal }); err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("Read() = %v, want the visitor's error", err)
	}
}

func TestBounded(t *testing.T) {
	for _, test := range []struct {
		left int64
		ok   bool
	}{{5, true}, {4, false}} {
		_, err := io.ReadAll(&bounded{r: strings.NewReader("12345"), left: test.left})
		if test.ok != (err == nil) || (err != nil && !errdefs.IsResourceExhausted(err)) {
			t.Errorf("reading 5 bytes with %d left: %v", test.left, err)
		}
	}
}

func TestUnpack(t *testing.T) {
	for _, ext := range []string{".gz", ".xz", ".zst"} {
		b, err := Unpack([]byte(packed(t, "content", ext)), "main/binary-amd64/Packages"+ext)
		if err != nil || string(b) != "content" {
			t.Errorf("Unpack(%s) = %q, %v", ext, b, err)
		}
	}
}

func FuzzMembers(f *testing.F) {
	f.Add(arOf("a", "1", "b/", "22"))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		found, err := members(b)
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("members() error %v has no class", err)
		}
		total := 0
		for _, m := range found {
			total += len(m)
		}
		if total > len(b) {
			t.Errorf("%d bytes out of %d", total, len(b))
		}
	})
}

func TestStanzas(t *testing.T) {
	text := "# comment\nPackage: a\nVersion: 1:2\nDescription: short\n long\n .\n\n\n  \nPackage: b\nSHA256:\n 1 2 3\n 4 5 6\nEmpty:\n"
	want := []Stanza{
		{"Package": "a", "Version": "1:2", "Description": "short\nlong\n."},
		{"Package": "b", "SHA256": "1 2 3\n4 5 6", "Empty": ""},
	}
	var got []Stanza
	if err := Stanzas([]byte(text), func(s Stanza) error { got = append(got, s); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stanzas (-want +got):\n%s", diff)
	}
	for _, bad := range []string{" continues nothing", "no colon", ": no name", strings.Repeat("x", 5<<20)} {
		if err := Stanzas([]byte(bad), func(Stanza) error { return nil }); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Stanzas(%.20q) = %v, want InvalidArgument", bad, err)
		}
	}
	if _, err := One([]byte("\n# nothing\n")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("One() of nothing = %v, want InvalidArgument", err)
	}
}

func FuzzStanzas(f *testing.F) {
	f.Add([]byte("A: b\n c\n\nD: e"))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Stanzas(b, func(s Stanza) error {
			if len(s) == 0 {
				t.Error("an empty stanza")
			}
			return nil
		})
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("Stanzas() error %v has another class", err)
		}
	})
}

func TestCompare(t *testing.T) {
	// Each is older than the next.
	ordered := []string{
		"~~", "~~a", "~", "", "0.1", "1.0~beta1~svc1245", "1.0~beta1", "1.0", "1.0-1", "1.0-1.1", "1.0-2", "1.0-10",
		"1.0a", "1.0+b1", "1.2.3~rc1-4", "1.2.3-4", "1.2.3-4+deb12u1", "1.2.3-4+deb12u14",
		"2.36-9+deb12u7", "2.36-9+deb12u14", "2025b-0+deb12u1", "2025b-0+deb12u2", "2026b-0+deb12u1", "2026f-0+deb12u1",
		"20230311+deb12u1", "20250419~deb12u2", "20250419", "1:0", "2:0",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			got := Compare(a, b)
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("Compare(%q, %q) = %d", a, b, got)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "0:1.0"}, {"1.01", "1.1"}, {"1.0-0", "1.0"}, {"1.0", "1."}} {
		if got := Compare(same[0], same[1]); got != 0 {
			t.Errorf("Compare(%q, %q) = %d, want 0", same[0], same[1], got)
		}
	}
}

func FuzzCompare(f *testing.F) {
	f.Add("1.0-1", "1.0~rc1-1", "2:0")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if Compare(a, a) != 0 || Compare(a, b) != -Compare(b, a) {
			t.Errorf("Compare is no order for %q, %q", a, b)
		}
		if Compare(a, b) <= 0 && Compare(b, c) <= 0 && Compare(a, c) > 0 {
			t.Errorf("Compare is not transitive for %q, %q, %q", a, b, c)
		}
	})
}

func TestMirrors(t *testing.T) {
	etc := t.TempDir()
	for name, content := range map[string]string{
		"sources.list": "# deb http://commented.example/debian x main\ndeb [arch=amd64 trusted=yes] http://one.example/debian/ bookworm main # x\n" +
			"deb\thttp://one.example/debian bookworm-updates main\ndeb-src http://source.example/debian bookworm main\ndeb [broken http://b.example/debian\ndeb alone\n",
		"sources.list.d/debian.sources": "Types: deb\nURIs: https://two.example/a/debian http://sec.example/debian-security\nSuites: x\n\n" +
			"Types: deb-src\nURIs: http://source.example/debian\n\nEnabled: no\nTypes: deb\nURIs: http://off.example/debian\n",
		"sources.list.d/broken.sources": " broken\nURIs: http://broken.example/debian\n",
		"sources.list.d/other.list":     "deb https://other.example/apt stable main\ndeb file:/srv/debian x main\ndeb cdrom:[x]/debian x main\ndeb mirror+file:/x/debian y main\n",
		"sources.list.d/ignored.bak":    "deb http://ignored.example/debian x main\n",
	} {
		path := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		etc     string
		archive Archive
		want    []string
	}{
		"main":     {etc, Main, []string{"http://one.example/debian", "https://two.example/a/debian", "https://deb.debian.org/debian"}},
		"security": {etc, Security, []string{"http://sec.example/debian-security", "https://deb.debian.org/debian-security"}},
		"none":     {t.TempDir(), Main, []string{"https://deb.debian.org/debian"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Mirrors(test.etc, test.archive)); diff != "" {
				t.Errorf("mirrors (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzSources(f *testing.F) {
	f.Add([]byte("deb [a=b] http://x/debian y main\n"))
	f.Add([]byte("Types: deb\nURIs: http://x/debian\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, uri := range append(listURIs(b), sourcesURIs(b)...) {
			if uri == "" || strings.ContainsAny(uri, " \n") {
				t.Errorf("an address %q", uri)
			}
		}
	})
}
