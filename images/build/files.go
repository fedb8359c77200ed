package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/images/build/deb"
)

// user is who runs in a container that is told no other user.
const user = "65532:65532"

// etc are the files of /etc that come from no package. Without nsswitch.conf,
// libc would ask DNS before it looks at /etc/hosts. Every container of ours
// gets its own passwd, group, hosts and resolv.conf over these.
var etc = map[string]string{
	"passwd":        "root:x:0:0:root:/:/nonexistent\nplugin:x:65532:65532:plugin:/state/home:/nonexistent\n",
	"group":         "root:x:0:\nplugin:x:65532:\n",
	"hosts":         "127.0.0.1 localhost\n::1 localhost\n",
	"resolv.conf":   "nameserver 127.0.0.1\n",
	"hostname":      "",
	"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

// osRelease lets tools that look for known weaknesses recognise the image.
const osRelease = `PRETTY_NAME="Debian GNU/Linux 12 (bookworm), as in the images of ocmt"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
`

// debianFiles is the layer of everything but Node, npm and our own: libraries,
// time zones, certificates, /etc and the places where things are mounted.
func debianFiles(ctx context.Context, p platform, o Options) (part, error) {
	t := skeleton(p)
	debs, err := o.Lock.debs(o.Arch)
	if err != nil {
		return part{}, err
	}
	certificates := map[string][]byte{}
	for _, d := range debs {
		b, err := o.Sources.deb(ctx, o.Lock, d)
		if err != nil {
			return part{}, err
		}
		control, err := deb.Read(b, func(h *tar.Header, r io.Reader) error {
			return addDebian(t, certificates, p, h, r)
		})
		if err == nil {
			err = checkControl(control, d)
		}
		if err != nil {
			return part{}, fmt.Errorf("%s: %w", d, err)
		}
		// Where tools that look for known weaknesses find versions in images
		// without a package manager.
		t.file("var/lib/dpkg/status.d/"+d.Name, control)
	}
	if len(certificates) == 0 || t[p.loader].kind == 0 {
		return part{}, fmt.Errorf("the packages hold no certificates or no dynamic loader: %w", errdefs.ErrInvalidArgument)
	}
	t.file("etc/ssl/certs/ca-certificates.crt", bundle(certificates))
	return part{"libraries, certificates and time zones of Debian " + suite, t}, nil
}

// skeleton is the directories, links and files of /etc that every image has.
func skeleton(p platform) tree {
	t := tree{}
	for _, dir := range []string{"dev", "proc", "sys", "run/ocmt", "plugin", "state"} {
		t.dir(dir, 0o755)
	}
	t.dir("tmp", 0o1777)
	t.symlink("lib", "usr/lib")
	if strings.HasPrefix(p.loader, "usr/lib64/") {
		t.symlink("lib64", "usr/lib64")
	}
	for name, content := range etc {
		t.file("etc/"+name, []byte(content))
	}
	t.file("usr/lib/os-release", []byte(osRelease))
	t.symlink("etc/os-release", "../usr/lib/os-release")
	return t
}

// addDebian adds one file of a package to t, or to the certificates, or to
// nothing.
func addDebian(t tree, certificates map[string][]byte, p platform, h *tar.Header, r io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	for _, dir := range []string{"lib/", "lib64/"} {
		if strings.HasPrefix(name, dir) {
			name = "usr/" + name
		}
	}
	certificate := strings.HasPrefix(name, "usr/share/ca-certificates/") && path.Ext(name) == ".crt"
	if !certificate && !debianFile(p, name) {
		return nil
	}
	switch h.Typeflag {
	case tar.TypeReg:
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		switch {
		case certificate:
			certificates[name] = b
		case strings.HasPrefix(path.Base(name), "ld-linux"):
			t.program(name, b)
		default:
			t.file(name, b)
		}
	case tar.TypeSymlink:
		t.symlink(name, h.Linkname)
	case tar.TypeLink:
		target := strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		e, ok := t[target]
		if !ok {
			return fmt.Errorf("cannot follow the hard link %s to %s: %w", name, target, errdefs.ErrInvalidArgument)
		}
		t.add(name, e)
	case tar.TypeDir:
	default:
		return fmt.Errorf("cannot add %s, it is neither file nor link: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// debianFile says whether a file of a Debian package belongs into the image.
// Character set converters (gconv) do not: Node brings its own.
func debianFile(p platform, name string) bool {
	dir, base := path.Split(name)
	switch {
	case name == p.loader:
		return true
	case dir == "usr/lib/"+p.triplet+"/":
		return strings.HasPrefix(base, "ld-linux") || (strings.HasPrefix(base, "lib") && strings.Contains(base, ".so."))
	case strings.HasPrefix(dir, "usr/share/zoneinfo/"):
		return !strings.HasPrefix(dir, "usr/share/zoneinfo/right/") && !strings.HasPrefix(dir, "usr/share/zoneinfo/posix/") &&
			base != "localtime"
	case strings.HasPrefix(dir, "usr/share/doc/"):
		// The licences, or the link to the package that has them.
		return base == "copyright" || dir == "usr/share/doc/"
	}
	return false
}

// checkControl makes sure that the package is the one that the lock names.
func checkControl(control []byte, d Deb) error {
	s, err := deb.One(control)
	if err != nil {
		return err
	}
	if s["Package"] != d.Name || s["Version"] != d.Version || s["Architecture"] != d.Arch {
		return fmt.Errorf("it says it is %s %s %s: %w", s["Package"], s["Version"], s["Architecture"], errdefs.ErrDataLoss)
	}
	return nil
}

// bundle joins certificates, in the order of their names.
func bundle(certificates map[string][]byte) []byte {
	var all bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(certificates)) {
		all.Write(bytes.TrimSpace(certificates[name]))
		all.WriteByte('\n')
	}
	return all.Bytes()
}

// nodeFiles is the layer of Node: one program and its licence.
func nodeFiles(ctx context.Context, p platform, o Options) (part, error) {
	t := tree{}
	pkg, err := addNPM(ctx, o, p.nodePackage, func(name string, b []byte) {
		switch name {
		case "bin/node":
			t.program("usr/bin/node", b)
		case "LICENSE":
			t.file("usr/share/doc/nodejs/copyright", b)
		}
	}, "bin/node", "LICENSE")
	if err != nil {
		return part{}, err
	}
	if len(t["usr/bin/node"].data) == 0 {
		return part{}, fmt.Errorf("%s holds no bin/node: %w", pkg, errdefs.ErrInvalidArgument)
	}
	return part{"Node " + pkg.Version, t}, nil
}

// npmFiles is the layer of the npm CLI without its manuals. Its files are
// read by Node, so none can be executed.
func npmFiles(ctx context.Context, o Options) (part, error) {
	const dir = "usr/lib/node_modules/npm/"
	t := tree{}
	pkg, err := addNPM(ctx, o, npmPackage, func(name string, b []byte) {
		if !strings.HasPrefix(name, "docs/") && !strings.HasPrefix(name, "man/") {
			t.file(dir+name, b)
		}
	})
	if err != nil {
		return part{}, err
	}
	if len(t[dir+"bin/npm-cli.js"].data) == 0 {
		return part{}, fmt.Errorf("%s holds no bin/npm-cli.js: %w", pkg, errdefs.ErrInvalidArgument)
	}
	return part{"npm " + pkg.Version, t}, nil
}

// addNPM calls add for the files of a locked npm package, or only for those
// of them that are named.
func addNPM(ctx context.Context, o Options, name string, add func(name string, b []byte), only ...string) (NPM, error) {
	pkg, err := o.Lock.npm(name)
	if err != nil {
		return pkg, err
	}
	b, err := o.Sources.npm(ctx, pkg)
	if err != nil {
		return pkg, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return pkg, fmt.Errorf("%s: %w", pkg, err)
	}
	archive := tar.NewReader(z)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return pkg, nil
		}
		if err != nil {
			return pkg, fmt.Errorf("%s: %w", pkg, err)
		}
		// npm drops the first element, whatever it is.
		_, file, ok := strings.Cut(strings.TrimPrefix(path.Clean("/"+h.Name), "/"), "/")
		if !ok || h.Typeflag != tar.TypeReg || (len(only) > 0 && !slices.Contains(only, file)) {
			continue
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return pkg, fmt.Errorf("%s: %w", pkg, err)
		}
		add(file, content)
	}
}
