package verify

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// MaxLock bounds a lockfile, in bytes.
const MaxLock = 32 << 20

const (
	maxPackages = 20_000
	maxLockPath = 1024
	modules     = "node_modules"
)

// Package is one place in the tree that a lockfile describes.
type Package struct {
	Path             string // "node_modules/a/node_modules/@b/c"
	Name             string // the package's own; differs from the path's for aliases
	Version          string
	Resolved         string // the tarball's URL
	Integrity        string
	Optional         bool // may be missing: nothing but optional dependencies need it
	OS, CPU, Libc    []string
	Link             bool // a symlink to a directory elsewhere
	InBundle         bool // comes inside the tarball of a package above it
	HasInstallScript bool
	omitted          bool // a development or peer dependency
}

// Lock is an npm lockfile of version 2 or 3.
type Lock struct {
	Packages []Package // by path, parents first; without the root
}

// lockEntry is a value of "packages".
type lockEntry struct {
	Name             string `json:"name"`
	Version          string `json:"version"`
	Resolved         string `json:"resolved"`
	Integrity        string `json:"integrity"`
	Dev              bool   `json:"dev"`
	Peer             bool   `json:"peer"`
	Optional         bool   `json:"optional"`
	DevOptional      bool   `json:"devOptional"`
	Extraneous       bool   `json:"extraneous"`
	Link             bool   `json:"link"`
	InBundle         bool   `json:"inBundle"`
	HasInstallScript bool   `json:"hasInstallScript"`
	OS               names  `json:"os"`
	CPU              names  `json:"cpu"`
	Libc             names  `json:"libc"`
}

// names is a string or a list of strings.
type names []string

func (n *names) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*n = names{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(n))
}

// ParseLock reads package-lock.json or npm-shrinkwrap.json.
func ParseLock(data []byte) (Lock, error) {
	if len(data) > MaxLock {
		return Lock{}, badLock("the lockfile is larger than %d bytes", MaxLock)
	}
	var file struct {
		Version  int                  `json:"lockfileVersion"`
		Packages map[string]lockEntry `json:"packages"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return Lock{}, badLock("cannot read the lockfile: %w", err)
	}
	if file.Version != 2 && file.Version != 3 {
		return Lock{}, badLock("the lockfile has version %d, and only 2 and 3 are supported", file.Version)
	}
	if len(file.Packages) > maxPackages {
		return Lock{}, badLock("the lockfile lists %d packages, at most %d are allowed", len(file.Packages), maxPackages)
	}
	var lock Lock
	for where, e := range file.Packages {
		if where == "" {
			continue
		}
		p, err := e.at(where)
		if err != nil {
			return Lock{}, err
		}
		lock.Packages = append(lock.Packages, p)
	}
	slices.SortFunc(lock.Packages, func(a, b Package) int { return strings.Compare(a.Path, b.Path) })
	return lock, nil
}

func (e lockEntry) at(where string) (Package, error) {
	name, err := installedName(where)
	if err != nil {
		return Package{}, err
	}
	if e.Name != "" {
		name = e.Name
	}
	if err := plugin.CheckPackageName(name); err != nil {
		return Package{}, badLock("cannot use the lockfile: %w", err)
	}
	return Package{
		Path: where, Name: name, Version: e.Version, Resolved: e.Resolved, Integrity: e.Integrity,
		Optional: e.Optional || e.DevOptional, OS: e.OS, CPU: e.CPU, Libc: e.Libc,
		Link: e.Link, InBundle: e.InBundle, HasInstallScript: e.HasInstallScript,
		omitted: e.Dev || e.Peer || e.Extraneous,
	}, nil
}

// installedName checks that a path consists of node_modules/<name> only, and
// returns the last name.
func installedName(where string) (name string, err error) {
	rest := strings.Split(where, "/")
	for len(rest) > 0 && len(where) <= maxLockPath {
		size := 2
		if len(rest) > 2 && strings.HasPrefix(rest[1], "@") {
			size = 3
		}
		if len(rest) < size || rest[0] != modules {
			break
		}
		name = strings.Join(rest[1:size], "/")
		if plugin.CheckPackageName(name) != nil {
			break
		}
		if rest = rest[size:]; len(rest) == 0 {
			return name, nil
		}
	}
	return "", badLock("the lockfile has a package at %.100q, which is no place below node_modules", where)
}

// Platform is what a plugin runs on, in npm's words.
type Platform struct{ OS, CPU, Libc string }

// Select returns the packages that an install lays out, by path, parents
// first. It leaves out what npm leaves out as well: development and peer
// dependencies, optional ones for other platforms, and what comes inside
// another package's tarball. allowed says from which URLs a tarball may come.
// Anything that is no registry tarball with an integrity is refused.
func (l Lock) Select(platform Platform, allowed func(*url.URL) bool) ([]Package, error) {
	var selected []Package
	skipped := map[string]bool{}
	byPath := map[string]Package{}
	for _, p := range l.Packages {
		byPath[p.Path] = p
		fits := platform.fits(p)
		switch {
		case p.omitted || skipped[parent(p.Path)] || (!fits && p.Optional):
			skipped[p.Path] = true
		case p.InBundle:
			if _, bundler := byPath[parent(p.Path)]; !bundler {
				return nil, badLock("the package %s is said to come inside another one, but there is none above it", p.Path)
			}
		case !fits:
			return nil, fault.New(errdefs.ErrFailedPrecondition, "platform", "the package %s is not for %s on %s with %s",
				p.Name, platform.OS, platform.CPU, platform.Libc).WithHint("it cannot run in a plugin's container")
		default:
			if err := p.check(allowed); err != nil {
				return nil, err
			}
			selected = append(selected, p)
		}
	}
	return selected, nil
}

// parent is the path of the package that p lies in, or "".
func parent(p string) string {
	i := strings.LastIndex(p, "/"+modules+"/")
	return p[:max(i, 0)]
}

func (p Package) check(allowed func(*url.URL) bool) error {
	if p.Link {
		return unsafeSource(p, "is a link to a directory")
	}
	u, err := url.Parse(p.Resolved)
	switch {
	case p.Resolved == "" && p.Integrity != "": // npm was told not to write it: it asks the registry by name
	case p.Resolved == "":
		return unsafeSource(p, "has no recorded source")
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil || u.Host == "":
		return unsafeSource(p, fmt.Sprintf("comes from %q", plugin.Printable(p.Resolved, 100)))
	case !allowed(u):
		return unsafeSource(p, fmt.Sprintf("comes from %q, which is not the registry", plugin.Printable(u.Scheme+"://"+u.Host, 100)))
	case p.Integrity == "":
		return unsafeSource(p, "has no integrity")
	}
	if _, err := ParseIntegrity(p.Integrity); err != nil {
		return badLock("cannot use the package %s: %w", p.Path, err)
	}
	return nil
}

// fits is npm's check of "os", "cpu" and "libc".
func (f Platform) fits(p Package) bool {
	return matches(f.OS, p.OS) && matches(f.CPU, p.CPU) && matches(f.Libc, p.Libc)
}

func matches(have string, list []string) bool {
	if len(list) == 0 || (len(list) == 1 && list[0] == "any") {
		return true
	}
	wanted, onlyNegated := false, true
	for _, item := range list {
		if not, negated := strings.CutPrefix(item, "!"); negated {
			if not == have {
				return false
			}
			continue
		}
		onlyNegated = false
		wanted = wanted || item == have
	}
	return wanted || onlyNegated
}

func unsafeSource(p Package, why string) error {
	return fault.New(fault.ErrPlugin, "unsafe_dependency", "the package %s %s", p.Path, why).
		WithHint("only packages of the configured registry with an integrity can be installed")
}

func badLock(format string, args ...any) error {
	return fault.New(fault.ErrPlugin, "bad_lockfile", format, args...).
		WithHint("make the lockfile anew with npm 7 or later, or leave it out")
}
