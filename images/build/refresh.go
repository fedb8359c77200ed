package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/mod/semver"

	"github.com/ocmt/ocmt/images/build/deb"
	"github.com/ocmt/ocmt/images/build/fetch"
)

// What a refresh stays within: another Debian release or major version is a
// change that somebody makes on purpose.
const (
	suite     = "bookworm"
	nodeMajor = "24"
	npmMajor  = "12"
	keyring   = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// index is one of the indexes that versions are looked up in.
type index struct {
	archive deb.Archive
	suite   string // the directory below dists/
	name    string // the Codename that its Release file must have
}

var indexes = []index{
	{deb.Main, suite, suite},
	{deb.Main, suite + "-updates", suite + "-updates"},
	{deb.Security, suite + "-security", suite + "-security"},
}

// Refresh looks up the current versions. Debian's are taken from indexes whose
// signature gpgv verifies with the keys in the debian-archive-keyring package;
// npm's from the registry. When nothing is newer, old is returned unchanged.
func Refresh(ctx context.Context, s *Sources, old *Lock) (*Lock, error) {
	return refresh(ctx, s, old, func(ctx context.Context, signed []byte) ([]byte, error) {
		return verify(ctx, signed, keyring)
	})
}

// verifier returns what of a file is signed by Debian.
type verifier func(ctx context.Context, signed []byte) ([]byte, error)

func refresh(ctx context.Context, s *Sources, old *Lock, verify verifier) (*Lock, error) {
	lock := &Lock{Suite: suite}
	newest := map[string]Deb{}
	for _, x := range indexes {
		published, err := addIndex(ctx, s, x, verify, newest)
		if err != nil {
			return nil, fmt.Errorf("cannot look up Debian's %s: %w", x.suite, err)
		}
		if published.After(lock.Created) {
			lock.Created = published
		}
	}
	for _, d := range newest {
		lock.Debian = append(lock.Debian, d)
	}
	slices.SortFunc(lock.Debian, func(a, b Deb) int { return strings.Compare(a.Name+" "+a.Arch, b.Name+" "+b.Arch) })
	var err error
	if lock.NPM, err = currentNPM(ctx, s); err != nil {
		return nil, err
	}
	if err := lock.validate(); err != nil {
		return nil, fmt.Errorf("cannot make a lock of what was found: %w", err)
	}
	if old != nil && old.sameContent(lock) {
		return old, nil
	}
	return lock, nil
}

// addIndex adds the packages of one index to newest and returns when the index
// was published.
func addIndex(ctx context.Context, s *Sources, x index, verify verifier, newest map[string]Deb) (time.Time, error) {
	var urls []string
	for _, mirror := range s.mirrors(x.archive) {
		urls = append(urls, mirror+"/dists/"+x.suite+"/")
	}
	signed, err := s.Fresh(ctx, "InRelease", suffixed(urls, "InRelease"), "")
	if err != nil {
		return time.Time{}, err
	}
	text, err := verify(ctx, signed)
	if err != nil {
		return time.Time{}, err
	}
	release, err := parseRelease(text, x.name, time.Now())
	if err != nil {
		return time.Time{}, err
	}
	for arch := range arches {
		name := "main/binary-" + arch + "/Packages.xz"
		file, ok := release.files[name]
		if !ok {
			return time.Time{}, fmt.Errorf("its Release file lists no %s: %w", name, errdefs.ErrNotFound)
		}
		file.Name, file.URLs = x.suite+" "+name, suffixed(urls, name)
		uncached := fetch.Fetcher{Client: s.Client, Log: s.Log, Pause: s.Pause}
		b, err := uncached.Get(ctx, file)
		if err != nil {
			return time.Time{}, err
		}
		if b, err = deb.Unpack(b, name); err != nil {
			return time.Time{}, err
		}
		if err := deb.Stanzas(b, func(p deb.Stanza) error { return addNewest(newest, x.archive, arch, p) }); err != nil {
			return time.Time{}, err
		}
	}
	return release.date, nil
}

func suffixed(urls []string, end string) []string {
	var out []string
	for _, u := range urls {
		out = append(out, u+end)
	}
	return out
}

// verify returns the text that a clear-signed file signs. Only what gpgv wrote
// out is used: bytes outside the signature are not in it.
func verify(ctx context.Context, signed []byte, keyring string) ([]byte, error) {
	gpgv, err := exec.LookPath("gpgv")
	if err != nil {
		return nil, fmt.Errorf("cannot verify Debian's signature: install gpgv and debian-archive-keyring: %w", errdefs.ErrFailedPrecondition)
	}
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("cannot verify Debian's signature: install debian-archive-keyring: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	cmd := exec.CommandContext(ctx, gpgv, "--keyring", keyring, "--output", "-", "-")
	cmd.Stdin = bytes.NewReader(signed)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("cannot verify Debian's signature: %w: %s: %w", err, bytes.TrimSpace(problems.Bytes()), errdefs.ErrDataLoss)
	}
	return out.Bytes(), nil
}

// release is what is used of a Release file.
type release struct {
	date  time.Time
	files map[string]fetch.File // without name and addresses
}

func parseRelease(text []byte, codename string, now time.Time) (release, error) {
	s, err := deb.One(text)
	if err != nil {
		return release{}, err
	}
	if s["Codename"] != codename {
		return release{}, fmt.Errorf("its Release file is for %q, not %q: %w", s["Codename"], codename, errdefs.ErrDataLoss)
	}
	r := release{files: map[string]fetch.File{}}
	if r.date, err = time.Parse(time.RFC1123, s["Date"]); err != nil {
		return release{}, fmt.Errorf("its Release file has no date: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	r.date = r.date.UTC()
	if until := s["Valid-Until"]; until != "" {
		if t, err := time.Parse(time.RFC1123, until); err != nil || now.After(t) {
			return release{}, fmt.Errorf("its Release file was valid until %s, the mirror is too old: %w", until, errdefs.ErrFailedPrecondition)
		}
	}
	for line := range strings.Lines(s["SHA256"]) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		size, err := strconv.ParseUint(fields[1], 10, 63)
		if err != nil {
			return release{}, fmt.Errorf("its Release file has a size %q: %w", fields[1], errdefs.ErrInvalidArgument)
		}
		r.files[fields[2]] = fetch.File{Size: int64(size), Sum: fetch.SHA256(fields[0])}
	}
	return r, nil
}

// addNewest keeps the package when it is one of ours and newer than what is
// known.
func addNewest(newest map[string]Deb, archive deb.Archive, arch string, p deb.Stanza) error {
	if !slices.Contains(debianPackages, p["Package"]) || (p["Architecture"] != arch && p["Architecture"] != "all") {
		return nil
	}
	size, err := strconv.ParseInt(p["Size"], 10, 64)
	if err != nil {
		return fmt.Errorf("the index has a size %q for %s: %w", p["Size"], p["Package"], errdefs.ErrInvalidArgument)
	}
	key := p["Package"] + " " + p["Architecture"]
	if known, ok := newest[key]; ok && deb.Compare(known.Version, p["Version"]) >= 0 {
		return nil
	}
	newest[key] = Deb{
		Name: p["Package"], Version: p["Version"], Arch: p["Architecture"],
		Archive: archive, Path: p["Filename"], Size: size, SHA256: p["SHA256"],
	}
	return nil
}

// document is what is used of the registry's answer about a package.
type document struct {
	Versions map[string]struct {
		Dist struct {
			Integrity string `json:"integrity"`
		} `json:"dist"`
	} `json:"versions"`
}

// currentNPM looks up the newest Node that there is for all architectures, and
// the newest npm.
func currentNPM(ctx context.Context, s *Sources) ([]NPM, error) {
	var names []string
	for _, p := range arches {
		names = append(names, p.nodePackage)
	}
	slices.Sort(names)
	docs := map[string]document{}
	for _, name := range append(names, npmPackage) {
		var d document
		b, err := s.Fresh(ctx, name, []string{s.Registry + "/" + name}, "application/vnd.npm.install-v1+json")
		if err == nil {
			err = json.Unmarshal(b, &d)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot look up %s: %w", name, err)
		}
		docs[name] = d
	}
	node := newestVersion(nodeMajor, docs[names[0]], docs[names[1]])
	npm := newestVersion(npmMajor, docs[npmPackage])
	if node == "" || npm == "" {
		return nil, fmt.Errorf("cannot find Node %s or npm %s in the registry: %w", nodeMajor, npmMajor, errdefs.ErrNotFound)
	}
	var found []NPM
	for _, name := range names {
		found = append(found, NPM{name, node, docs[name].Versions[node].Dist.Integrity})
	}
	return append(found, NPM{npmPackage, npm, docs[npmPackage].Versions[npm].Dist.Integrity}), nil
}

// newestVersion is the newest release of a major version that all documents
// have, or "".
func newestVersion(major string, first document, others ...document) string {
	newest := ""
	for version := range first.Versions {
		v := "v" + version
		if semver.Major(v) != "v"+major || semver.Prerelease(v) != "" || semver.Compare(v, "v"+newest) <= 0 {
			continue
		}
		if !slices.ContainsFunc(others, func(d document) bool { _, ok := d.Versions[version]; return !ok }) {
			newest = version
		}
	}
	return newest
}
