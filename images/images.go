// Package images knows the container images that this binary was built with,
// and where their files are.
//
// There are two, never one per plugin. [Base] runs plugins: Node, libc, CA
// certificates, time zones, ocmt-init and the runner, and no other program.
// [Install] is the same with the npm CLI and serves installing alone. They are
// made by images/build from the versions in lock.json.
//
// An image is named by the digest of its configuration, which Docker and
// containerd compute alike. `make build` compiles both digests in, so a file
// with another digest is refused here, whatever its name. A binary from a plain
// `go build` knows no digest and says so.
//
// Errors carry a github.com/containerd/errdefs class and say what to do next.
package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"

	"github.com/containerd/errdefs"
)

// Name says which of the images is meant.
type Name string

// The two images.
const (
	Base    Name = "base"    // runs plugins
	Install Name = "install" // base and the npm CLI
)

// BaseDigest and InstallDigest are set while linking and by nothing else:
//
//	-ldflags "-X github.com/ocmt/ocmt/images.BaseDigest=sha256:... -X ..."
var (
	BaseDigest    string
	InstallDigest string
)

// IndexFile is the name of the file that lists the images of its directory.
const IndexFile = "images.json"

// Index is the content of an [IndexFile]: architecture (as in GOARCH), then name.
type Index map[string]map[Name]Entry

// Entry is one image of an [Index].
type Entry struct {
	Digest string `json:"digest"` // of the configuration, "sha256:<hex>"
	File   string `json:"file"`   // name of the `docker save` archive, beside the index
	Size   int64  `json:"size"`   // of the file, in bytes
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ValidateDigest says whether s has the form of an image's digest. Operators
// name another base image by it; it fails with InvalidArgument.
func ValidateDigest(s string) error {
	if !digestForm.MatchString(s) {
		return fmt.Errorf("cannot use %q as an image digest: write sha256: and 64 hex digits in lower case: %w",
			s, errdefs.ErrInvalidArgument)
	}
	return nil
}

// ReadIndex reads the index of dir. It fails with NotFound when there is none
// and with InvalidArgument when its content is not an index.
func ReadIndex(dir string) (Index, error) {
	path := filepath.Join(dir, IndexFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot find %s: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the image index: %w: %w", err, errdefs.ErrUnknown)
	}
	index, err := parseIndex(b)
	if err != nil {
		return nil, fmt.Errorf("cannot use %s: %w", path, err)
	}
	return index, nil
}

func parseIndex(b []byte) (Index, error) {
	var index Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	for arch, entries := range index {
		for name, e := range entries {
			if err := e.validate(); err != nil {
				return nil, fmt.Errorf("%s/%s: %w", arch, name, err)
			}
		}
	}
	return index, nil
}

func (e Entry) validate() error {
	if err := ValidateDigest(e.Digest); err != nil {
		return err
	}
	if e.File == "." || !filepath.IsLocal(e.File) || filepath.Base(e.File) != e.File {
		return fmt.Errorf("cannot use %q as a file name: %w", e.File, errdefs.ErrInvalidArgument)
	}
	if e.Size <= 0 {
		return fmt.Errorf("cannot use %d as a file size: %w", e.Size, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Write stores the index in dir, replacing the one that is there in one step.
func (x Index) Write(dir string) error {
	b, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the image index: %w: %w", err, errdefs.ErrUnknown)
	}
	path := filepath.Join(dir, IndexFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write the image index: %w: %w", err, errdefs.ErrUnknown)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("cannot write the image index: %w: %w", err, errdefs.ErrUnknown)
	}
	return nil
}

// Finder finds the files of images whose digests are known.
type Finder struct {
	Base, Install string   // digests; empty when not known
	Arch          string   // as in GOARCH
	Dirs          []string // where to look, in this order
}

// Built returns the finder of this binary: the digests it was linked with, and
// $OCMT_IMAGES, the binary's own directory, ../lib/ocmt from there, and
// /usr/lib/ocmt.
func Built() Finder {
	f := Finder{Base: BaseDigest, Install: InstallDigest, Arch: runtime.GOARCH}
	if dir := os.Getenv("OCMT_IMAGES"); dir != "" {
		f.Dirs = append(f.Dirs, dir)
	}
	if dir, err := executableDir(); err == nil {
		f.Dirs = append(f.Dirs, dir, filepath.Join(dir, "..", "lib", "ocmt"))
	}
	f.Dirs = append(f.Dirs, "/usr/lib/ocmt")
	return f
}

func executableDir() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	exe, err = filepath.EvalSymlinks(exe)
	return filepath.Dir(exe), err
}

// Digest returns the digest of the image that belongs to this binary. It fails
// with FailedPrecondition when the binary was built without.
func (f Finder) Digest(name Name) (string, error) {
	digest := map[Name]string{Base: f.Base, Install: f.Install}[name]
	if digest == "" {
		return "", fmt.Errorf("cannot tell which %q image belongs to this binary: it was built without one; build it with `make build`: %w",
			name, errdefs.ErrFailedPrecondition)
	}
	return digest, ValidateDigest(digest)
}

// Locate returns the archive of the image, as made by `docker save`, and its
// size in bytes. It fails with NotFound when no directory has one, and with
// FailedPrecondition when what is there belongs to another build. The content
// is not read: the engine that loads it reports the digest of what it got.
func (f Finder) Locate(name Name) (path string, size int64, err error) {
	want, err := f.Digest(name)
	if err != nil {
		return "", 0, err
	}
	var foreign error
	for _, dir := range f.Dirs {
		path, size, err := locateIn(dir, f.Arch, name, want)
		if err == nil {
			return path, size, nil
		}
		if !errdefs.IsNotFound(err) && foreign == nil {
			foreign = err
		}
	}
	if foreign != nil {
		return "", 0, foreign
	}
	return "", 0, fmt.Errorf("cannot find the %q image for %s in %q: run `make build`, or set OCMT_IMAGES to the directory that holds %s: %w",
		name, f.Arch, f.Dirs, IndexFile, errdefs.ErrNotFound)
}

func locateIn(dir, arch string, name Name, want string) (string, int64, error) {
	index, err := ReadIndex(dir)
	if err != nil {
		return "", 0, err
	}
	entry, ok := index[arch][name]
	if !ok {
		return "", 0, fmt.Errorf("cannot find %s/%s in %s: %w", arch, name, dir, errdefs.ErrNotFound)
	}
	if entry.Digest != want {
		return "", 0, fmt.Errorf("cannot use the %q image in %s: it is %s and this binary needs %s; run `make build`: %w",
			name, dir, entry.Digest, want, errdefs.ErrFailedPrecondition)
	}
	path := filepath.Join(dir, entry.File)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, fmt.Errorf("cannot find %s: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return "", 0, fmt.Errorf("cannot use %s: %w: %w", path, err, errdefs.ErrFailedPrecondition)
	}
	if info.Size() != entry.Size {
		return "", 0, fmt.Errorf("cannot use %s: it has %d bytes instead of %d; run `make build`: %w",
			path, info.Size(), entry.Size, errdefs.ErrFailedPrecondition)
	}
	return path, entry.Size, nil
}

// Digest is [Finder.Digest] of [Built].
func Digest(name Name) (string, error) { return Built().Digest(name) }

// Locate is [Finder.Locate] of [Built].
func Locate(name Name) (path string, size int64, err error) { return Built().Locate(name) }
