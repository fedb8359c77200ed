package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/images/build/deb"
	"github.com/ocmt/ocmt/images/build/fetch"
)

// RefreshCommand rewrites the lock file with the current versions.
const RefreshCommand = "go run ./images/cmd/imagebuild --refresh-lock"

// debianPackages is what the images take from Debian.
var debianPackages = []string{"ca-certificates", "gcc-12-base", "libc6", "libgcc-s1", "libstdc++6", "tzdata"}

// Lock pins everything that the images are made of but our own files.
type Lock struct {
	// Created is when Debian published the newest of the indexes that the
	// versions were taken from. It is the time of all files in the images.
	Created time.Time `json:"created"`
	// Suite is the code name of the Debian release.
	Suite  string `json:"suite"`
	Debian []Deb  `json:"debian"`
	NPM    []NPM  `json:"npm"`
}

// Deb is a Debian package.
type Deb struct {
	Name    string      `json:"name"`
	Version string      `json:"version"`
	Arch    string      `json:"arch"` // "amd64", "arm64" or "all"
	Archive deb.Archive `json:"archive"`
	Path    string      `json:"path"` // below the archive's address
	Size    int64       `json:"size"` // in bytes
	SHA256  string      `json:"sha256"`
}

// NPM is a package of the npm registry.
type NPM struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Integrity string `json:"integrity"` // sha512
}

// ReadLock reads a lock file.
func ReadLock(path string) (*Lock, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the lock file, run from the repository's root or name it with --lock: %w: %w",
			err, errdefs.ErrNotFound)
	}
	lock, err := parseLock(b)
	if err != nil {
		return nil, fmt.Errorf("cannot use %s, rewrite it with `%s`: %w", path, RefreshCommand, err)
	}
	return lock, nil
}

func parseLock(b []byte) (*Lock, error) {
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	lock := &Lock{}
	if err := decoder.Decode(lock); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return lock, lock.validate()
}

// Write stores the lock at path.
func (l *Lock) Write(path string) error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the lock file: %w: %w", err, errdefs.ErrUnknown)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write the lock file: %w: %w", err, errdefs.ErrUnknown)
	}
	return nil
}

func (l *Lock) validate() error {
	if l.Created.IsZero() || l.Suite != suite {
		return fmt.Errorf("it has no creation time or is not for %s: %w", suite, errdefs.ErrInvalidArgument)
	}
	for _, d := range l.Debian {
		if !filepath.IsLocal(d.Path) || d.Size <= 0 || (d.Archive != deb.Main && d.Archive != deb.Security) {
			return fmt.Errorf("its entry for %s (%s) has no usable path, size or archive: %w", d.Name, d.Arch, errdefs.ErrInvalidArgument)
		}
	}
	for arch := range arches {
		if _, err := l.debs(arch); err != nil {
			return err
		}
		if _, err := l.npm(arches[arch].nodePackage); err != nil {
			return err
		}
	}
	_, err := l.npm(npmPackage)
	return err
}

// debs returns the packages for arch, one for each of debianPackages.
func (l *Lock) debs(arch string) ([]Deb, error) {
	var found []Deb
	for _, name := range debianPackages {
		i := slices.IndexFunc(l.Debian, func(d Deb) bool {
			return d.Name == name && (d.Arch == arch || d.Arch == "all")
		})
		if i < 0 {
			return nil, fmt.Errorf("it has no %s for %s: %w", name, arch, errdefs.ErrInvalidArgument)
		}
		found = append(found, l.Debian[i])
	}
	return found, nil
}

func (l *Lock) npm(name string) (NPM, error) {
	for _, p := range l.NPM {
		if p.Name == name {
			_, err := fetch.Integrity(p.Integrity)
			return p, err
		}
	}
	return NPM{}, fmt.Errorf("it has no npm package %s: %w", name, errdefs.ErrInvalidArgument)
}

// sameContent says whether both pin the same, whenever they were made.
func (l *Lock) sameContent(other *Lock) bool {
	return l.Suite == other.Suite && slices.Equal(l.Debian, other.Debian) && slices.Equal(l.NPM, other.NPM)
}

// String is the package's name and version, for people.
func (d Deb) String() string { return strings.Join([]string{d.Name, d.Version, d.Arch}, " ") }

// String is the package's name and version, for people.
func (p NPM) String() string { return p.Name + "@" + p.Version }
