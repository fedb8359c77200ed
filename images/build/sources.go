package build

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/images/build/deb"
	"github.com/ocmt/ocmt/images/build/fetch"
)

const (
	// DefaultRegistry is npm's own.
	DefaultRegistry = "https://registry.npmjs.org"
	// snapshots keeps every version that Debian ever published.
	snapshots = "https://snapshot.debian.org/archive"
)

// Sources says where to download from. What comes is verified against the
// lock, so a source is never trusted.
type Sources struct {
	Main, Security []string // addresses of Debian mirrors, the preferred one first
	Snapshots      string   // address of an archive of Debian archives
	Registry       string   // npm registry
	fetch.Fetcher
}

// HostSources returns the sources that this host is configured with: apt's
// mirrors and npm's registry, the public ones where nothing is configured. The
// cache is $OCMT_CACHE, or ocmt/images in the user's cache directory.
func HostSources(log *slog.Logger) (*Sources, error) {
	cache := os.Getenv("OCMT_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("cannot choose a cache directory, set OCMT_CACHE: %w: %w", err, errdefs.ErrFailedPrecondition)
		}
		cache = filepath.Join(dir, "ocmt", "images")
	}
	home, _ := os.UserHomeDir() // without one there is no ~/.npmrc
	return &Sources{
		Main:      deb.Mirrors("/etc/apt", deb.Main),
		Security:  deb.Mirrors("/etc/apt", deb.Security),
		Snapshots: snapshots,
		Registry:  registry(os.Getenv, filepath.Join(home, ".npmrc")),
		Fetcher:   fetch.Fetcher{Dir: cache, Log: log},
	}, nil
}

// registry is the npm registry of the environment, of the user's npmrc, or the
// public one.
func registry(getenv func(string) string, npmrc string) string {
	for _, name := range []string{"NPM_CONFIG_REGISTRY", "npm_config_registry"} {
		if value := getenv(name); value != "" {
			return strings.TrimRight(value, "/")
		}
	}
	b, err := os.ReadFile(npmrc)
	if err != nil {
		return DefaultRegistry
	}
	return cmp.Or(npmrcRegistry(b), DefaultRegistry)
}

// npmrcRegistry is the registry that an npmrc file names, or "".
func npmrcRegistry(b []byte) string {
	for line := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(key) == "registry" {
			return strings.TrimRight(strings.Trim(strings.TrimSpace(value), `"'`), "/")
		}
	}
	return ""
}

func (s *Sources) mirrors(archive deb.Archive) []string {
	if archive == deb.Security {
		return s.Security
	}
	return s.Main
}

// deb fetches a Debian package.
func (s *Sources) deb(ctx context.Context, lock *Lock, d Deb) ([]byte, error) {
	// A day after the lock was made: the snapshots certainly hold by then what
	// was new, and superseded packages stay in the archive for longer.
	day := lock.Created.Add(24 * time.Hour).UTC().Format("20060102T150405Z")
	var urls []string
	for _, mirror := range append(s.mirrors(d.Archive), fmt.Sprintf("%s/%s/%s", s.Snapshots, d.Archive, day)) {
		urls = append(urls, mirror+"/"+escapePath(d.Path))
	}
	return s.Get(ctx, fetch.File{Name: d.String(), URLs: urls, Size: d.Size, Sum: fetch.SHA256(d.SHA256)})
}

// npm fetches the tarball of an npm package.
func (s *Sources) npm(ctx context.Context, p NPM) ([]byte, error) {
	sum, err := fetch.Integrity(p.Integrity)
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("%s/%s/-/%s-%s.tgz", s.Registry, p.Name, path.Base(p.Name), p.Version)
	return s.Get(ctx, fetch.File{Name: p.String(), URLs: []string{address}, Sum: sum})
}

// escapePath escapes what Debian's file names hold beyond letters ("+", "~",
// ":"), which some mirrors take for something else.
func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(url.PathEscape(part), "+", "%2B")
	}
	return strings.Join(parts, "/")
}

// hinted adds what to do when a locked version is gone, which a mirror says and
// an archive of snapshots that cannot be reached leaves open.
func hinted(err error) error {
	if errdefs.IsNotFound(err) || errdefs.IsUnavailable(err) {
		return fmt.Errorf("%w; when the locked version is gone, rewrite the lock with `%s`", err, RefreshCommand)
	}
	return err
}
