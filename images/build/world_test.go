package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"debug/elf"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ocmt/ocmt/images"
	"github.com/ocmt/ocmt/images/build/deb"
	"github.com/ocmt/ocmt/images/build/fetch"
)

// world is a Debian mirror and an npm registry of a test's own, with small
// packages that have the shape of the real ones.
type world struct {
	files   sync.Map // path to []byte
	lock    *Lock
	sources *Sources
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, ok := w.files.Load(r.URL.Path)
		if !ok {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		rw.Write(b.([]byte))
	}))
	t.Cleanup(server.Close)
	w.sources = &Sources{
		Main: []string{server.URL + "/debian"}, Security: []string{server.URL + "/debian-security"},
		Snapshots: server.URL + "/snapshots", Registry: server.URL + "/npm",
		Fetcher: fetch.Fetcher{Dir: t.TempDir(), Pause: time.Millisecond},
	}
	w.lock = &Lock{Created: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Suite: suite}
	w.addDeb(t, "all", "ca-certificates", "1", files{
		"./usr/share/ca-certificates/mozilla/B.crt": {data: "second\n"}, "./usr/share/ca-certificates/mozilla/A.crt": {data: "first"},
		"./usr/sbin/update-ca-certificates": {mode: 0o755, data: "#!/bin/sh"},
	})
	w.addDeb(t, "all", "tzdata", "2026f", files{
		"./usr/share/zoneinfo/Europe/Berlin": {data: "CET"}, "./usr/share/zoneinfo/right/Europe/Berlin": {data: "CET"},
		"./usr/share/zoneinfo/posix/Europe/Berlin": {data: "CET"}, "./usr/share/zoneinfo/localtime": {link: "/etc/localtime"},
		"./usr/share/zoneinfo/Poland": {link: "Europe/Berlin"}, "./usr/share/zoneinfo/Same": {hard: "./usr/share/zoneinfo/Europe/Berlin"},
	})
	for arch, p := range arches {
		lib := "./lib/" + p.triplet + "/"
		w.addDeb(t, arch, "libc6", "2.36", files{
			lib + "libc.so.6": {mode: 0o4755, data: "libc"}, lib + "ld-linux-" + arch + ".so.2": {mode: 0o755, data: "loader"},
			"./" + p.loader[len("usr/"):]: {link: lib[1:] + "ld-linux-" + arch + ".so.2"}, lib + "libmemusage.so": {data: "x"},
			"./usr/lib/" + p.triplet + "/gconv/UTF-16.so": {data: "x"}, "./usr/bin/evil": {mode: 0o6755, data: "x"},
			"./usr/share/doc/libc6/copyright": {data: "LGPL"}, "./usr/share/doc/libc6/changelog.gz": {data: "x"},
		})
		w.addDeb(t, arch, "libgcc-s1", "12", files{lib + "libgcc_s.so.1": {data: "libgcc"}})
		w.addDeb(t, arch, "libstdc++6", "12+x~1", files{
			"./usr/lib/" + p.triplet + "/libstdc++.so.6.0": {data: "libstdc++"}, "./usr/lib/" + p.triplet + "/libstdc++.so.6": {link: "libstdc++.so.6.0"},
			"./usr/share/doc/libstdc++6": {link: "gcc-12-base"},
		})
		w.addDeb(t, arch, "gcc-12-base", "12", files{"./usr/share/doc/gcc-12-base/copyright": {data: "GPL"}})
		w.addNPM(t, p.nodePackage, "24.0.0", files{
			"package/bin/node": {mode: 0o6755, data: "node"}, "package/LICENSE": {data: "MIT"}, "package/include/node.h": {data: "x"},
		})
	}
	w.addNPM(t, npmPackage, "12.0.0", files{
		"package/bin/npm-cli.js": {mode: 0o755, data: "npm"}, "package/docs/a.html": {data: "x"}, "package/man/man1/a.1": {data: "x"},
		"package/LICENSE": {data: "Artistic"}, "package/../../escape": {data: "x"},
	})
	return w
}

// options are those of a build that works.
func (w *world) options(t *testing.T, arch string) Options {
	t.Helper()
	dir := t.TempDir()
	runner := filepath.Join(dir, "runner.js")
	if err := os.WriteFile(runner, []byte("console.log('runner')\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Options{Arch: arch, Init: elfOf(t, arches[arch].machine, elf.PT_LOAD), Runner: runner, Out: filepath.Join(dir, "out"), Lock: w.lock, Sources: w.sources}
}

// elfOf writes the headers of a program for the machine, which is all that is
// looked at; segment is the type of its only segment.
func elfOf(t *testing.T, machine elf.Machine, segment elf.ProgType) string {
	t.Helper()
	var b bytes.Buffer
	header := elf.Header64{
		Ident:   [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(elf.ET_EXEC),
		Machine: uint16(machine),
		Version: uint32(elf.EV_CURRENT),
		Phoff:   64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	for _, part := range []any{header, elf.Prog64{Type: uint32(segment)}} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(path, b.Bytes(), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// content is a file of a test's package.
type content struct {
	mode       int64
	data       string
	link, hard string
	kind       byte // when it is neither file nor link
}

type files map[string]content

// tarOf writes hard links last, since they refer to what came before.
func tarOf(t *testing.T, fs files) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, hard := range []bool{false, true} {
		for name, f := range fs {
			if (f.hard != "") != hard {
				continue
			}
			h := &tar.Header{Name: name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg, Uid: 1000, Uname: "somebody", ModTime: time.Now()}
			switch {
			case f.hard != "":
				h.Typeflag, h.Linkname = tar.TypeLink, f.hard
			case f.link != "":
				h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
			case f.kind != 0:
				h.Typeflag = f.kind
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, f.data)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(content)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// debOf makes a package; the control file names it.
func debOf(t *testing.T, arch, name, version string, fs files) []byte {
	t.Helper()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\n", name, version, arch)
	members := [][2]string{
		{"debian-binary", "2.0\n"},
		{"control.tar.gz", string(gzipped(t, tarOf(t, files{"./control": {data: control}})))},
		{"data.tar.gz", string(gzipped(t, tarOf(t, fs)))},
	}
	b := bytes.NewBufferString("!<arch>\n")
	for _, m := range members {
		fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", m[0], 0, 0, 0, "100644", len(m[1]), m[1])
		if len(m[1])%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// addDeb publishes a package and locks it, in place of an earlier one.
func (w *world) addDeb(t *testing.T, arch, name, version string, fs files) {
	t.Helper()
	b := debOf(t, arch, name, version, fs)
	sum := sha256.Sum256(b)
	d := Deb{Name: name, Version: version, Arch: arch, Archive: deb.Main, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
	d.Path = fmt.Sprintf("pool/main/%s_%s_%s.deb", name, version, arch)
	w.files.Store("/debian/"+d.Path, b)
	for i, old := range w.lock.Debian {
		if old.Name == name && old.Arch == arch {
			w.lock.Debian[i] = d
			return
		}
	}
	w.lock.Debian = append(w.lock.Debian, d)
}

// addNPM publishes a package and locks it, in place of an earlier one.
func (w *world) addNPM(t *testing.T, name, version string, fs files) {
	t.Helper()
	b := gzipped(t, tarOf(t, fs))
	sum := sha512.Sum512(b)
	p := NPM{name, version, "sha512-" + base64.StdEncoding.EncodeToString(sum[:])}
	w.files.Store(fmt.Sprintf("/npm/%s/-/%s-%s.tgz", name, name, version), b)
	for i, old := range w.lock.NPM {
		if old.Name == name {
			w.lock.NPM[i] = p
			return
		}
	}
	w.lock.NPM = append(w.lock.NPM, p)
}

// unpacked reads an image's archive: path to header and content, as a
// container would see them.
func unpacked(t *testing.T, path string) map[string]file {
	t.Helper()
	image, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]file{}
	for _, layer := range layers {
		r, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		archive := tar.NewReader(r)
		for {
			h, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			found[filepath.Clean(h.Name)] = file{*h, b}
		}
		r.Close()
	}
	return found
}

type file struct {
	tar.Header
	data []byte
}

// configOf reads the configuration of an image's archive.
func configOf(t *testing.T, o Options, e images.Entry) (digest string, config string) {
	t.Helper()
	image, err := tarball.ImageFromPath(filepath.Join(o.Out, e.File), nil)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return hash.String(), string(raw)
}
