// Package fetch gets a plugin's files: a package of the npm registry with its
// dependencies, or an uploaded directory or archive with its dependencies.
//
// npm, in a container of its own that reaches the registry and nothing else,
// only resolves and downloads: scripts never run. What npm unpacked is never
// used. This package reads the lockfile that npm wrote, takes every tarball
// from npm's content-addressed cache, checks its integrity itself, and lays
// the tree out from exactly those bytes.
//
// How containers are run is the caller's: see [Runner].
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/install/verify"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Names below a staging directory.
const (
	workName = "work" // npm's, mounted into the container
	treeName = "tree" // what is laid out, to be sealed
	caName   = "ca.pem"
)

// Runner runs npm in a sandbox.
type Runner interface {
	// RunInstall runs a job to its end and returns its exit code and the end
	// of its output, stdout and stderr as they came, of which it may keep the
	// last 64 KiB. An error means that the job could not be run.
	RunInstall(ctx context.Context, job Job) (exitCode int, output string, err error)
	// Clean removes what jobs wrote to workDir with the rights they had. It is
	// asked for only where the daemon itself may not: files belong to the
	// container's user.
	Clean(ctx context.Context, workDir string) error
}

// Job is one run of npm.
type Job struct {
	Args []string // the whole command, from /usr/bin/node on
	Env  []string // the whole environment
	// WorkDir is a host directory to be mounted read-write at [WorkTarget],
	// which is the working directory too. Its mode is 0777 below a directory
	// of mode 0700, since the container's user is not the daemon's; with a
	// umask of 022 or less the daemon can read what npm writes.
	WorkDir string
	// Tenant is for whom the job runs.
	Tenant string
	// Registry is all that the container may reach.
	Registry Endpoint
	// CABundle is a host file to be mounted read-only at [CATarget]; it may be
	// empty.
	CABundle string
	// Output takes the output as it comes; never nil.
	Output io.Writer
	// Report is told of what takes long before npm runs; never nil.
	Report Report
}

// Where a job finds its mounts.
const (
	WorkTarget = "/work"
	CATarget   = "/etc/ssl/ocmt-ca.pem"
)

// Fetcher fetches packages. All fields must be set, but for CAFiles.
type Fetcher struct {
	Registry Registry
	Runner   Runner
	Platform verify.Platform // see [HostPlatform]
	// CAFiles are PEM files of the host that the container must trust too; see
	// [HostCAFiles].
	CAFiles []string
}

// Place says where to fetch to and for whom. Dir is an empty directory of mode
// 0700.
type Place struct {
	Tenant string
	Dir    string
}

// Report is told what goes on: a line for people, and how much of how much is
// done where that is known.
type Report func(message string, done, total int64)

// Fetched is a laid out tree. It must be sealed before anything in it counts.
type Fetched struct {
	Tree      string // host directory
	Root      string // the plugin's package in it: ".", or "node_modules/<name>"
	Name      string // of the package as the registry knows it; empty for uploads
	Version   string
	Integrity string
	// Scripts are the packages that wanted to run scripts at their install,
	// which they did not.
	Scripts []string
}

// HostPlatform is what plugins run on: Linux with glibc on this machine's
// processor.
func HostPlatform() verify.Platform {
	cpu := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if cpu == "" {
		cpu = runtime.GOARCH
	}
	return verify.Platform{OS: "linux", CPU: cpu, Libc: "glibc"}
}

// NPM fetches a package of the registry into a place
// which the caller removes by [Fetcher.Remove]. NotFound when there is
// no such package or version, Unavailable when the registry cannot be
// reached, DataLoss when an integrity does not match.
func (f *Fetcher) NPM(ctx context.Context, spec Spec, at Place, report Report) (Fetched, error) {
	lock, work, err := f.resolve(ctx, at, resolution{spec: spec.String()}, report)
	if err != nil {
		return Fetched{}, err
	}
	got := Fetched{Tree: filepath.Join(at.Dir, treeName), Root: "node_modules/" + spec.Name, Name: spec.Name}
	found := false
	for _, p := range lock {
		if p.Path == got.Root {
			found, got.Version, got.Integrity = true, p.Version, p.Integrity
		}
	}
	if !found {
		return Fetched{}, fault.New(fault.ErrPlugin, "not_installed", "npm installed nothing for %s", spec).
			WithHint("the package may be for another platform")
	}
	if err := os.Mkdir(got.Tree, 0o755); err != nil {
		return Fetched{}, fmt.Errorf("cannot lay out the package: %w", err)
	}
	got.Scripts, err = layOut(ctx, work, lock, got.Tree, verify.NewBudget(), report)
	return got, err
}

// Upload fetches what a person sent: a tar archive of a directory
// (plugin.SourcePath), or one as `npm pack` makes it (plugin.SourceArchive),
// with one directory around everything or, where archive is an io.Seeker, with
// none. Its production dependencies, if any, come from the registry, by its
// lockfile where there is one; a node_modules directory in it is ignored, but
// for an archive's bundled dependencies. Without dependencies no container is
// run. The errors are those of [Fetcher.NPM].
func (f *Fetcher) Upload(ctx context.Context, archive io.Reader, source plugin.Source, at Place, report Report) (Fetched, error) {
	got := Fetched{Tree: filepath.Join(at.Dir, treeName), Root: "."}
	budget := verify.NewBudget()
	wanted, err := unpackUpload(ctx, archive, source, got.Tree, budget)
	if err != nil || wanted.isEmpty() {
		return got, err
	}
	lock, work, err := f.resolve(ctx, at, wanted, report)
	if err != nil {
		return Fetched{}, err
	}
	got.Scripts, err = layOut(ctx, work, lock, got.Tree, budget, report)
	return got, err
}

// Remove removes a staging directory and everything in it, whoever it belongs
// to.
func (f *Fetcher) Remove(ctx context.Context, dir string) error {
	err := os.RemoveAll(dir)
	if errors.Is(err, fs.ErrPermission) {
		if err := f.Runner.Clean(ctx, filepath.Join(dir, workName)); err != nil {
			return fmt.Errorf("cannot remove %s: %w", dir, err)
		}
		err = os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("cannot remove a staging directory: %w", err)
	}
	return nil
}
