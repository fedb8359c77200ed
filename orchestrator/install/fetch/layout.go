package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/install/verify"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

const (
	lockName   = "package-lock.json"
	modulesDir = "node_modules"
)

// readLock returns the packages that npm's lockfile says to lay out.
func (f *Fetcher) readLock(work *os.Root) ([]verify.Package, error) {
	data, err := verify.ReadFile(work, lockName, verify.MaxLock)
	if err != nil {
		return nil, err
	}
	if data == nil {
		return nil, fault.New(fault.ErrPlugin, "no_lockfile", "npm wrote no lockfile")
	}
	lock, err := verify.ParseLock(data)
	if err != nil {
		return nil, err
	}
	packages, err := lock.Select(f.Platform, f.Registry.allows)
	if err != nil {
		return nil, err
	}
	for _, p := range packages {
		if err := f.Registry.serves(p.Name); err != nil {
			return nil, err
		}
	}
	return packages, nil
}

// layOut unpacks verified tarballs below tree, and returns the names of the
// packages whose install scripts did not run. It closes work.
func layOut(ctx context.Context, work *os.Root, packages []verify.Package, tree string, budget *verify.Budget, report Report) (scripts []string, err error) {
	defer work.Close()
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, fmt.Errorf("cannot lay out the packages: %w", err)
	}
	defer root.Close()
	tarballs := cache{work: work}
	for i, p := range packages {
		report("verifying "+p.Name, int64(i+1), int64(len(packages)))
		tarball, err := tarballs.open(ctx, p.Integrity)
		if errors.Is(err, fs.ErrNotExist) && p.Optional {
			continue // npm goes on without it as well
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.ErrPlugin, "not_downloaded", "npm did not download %s@%s", p.Name, p.Version).WithHint("try again")
		}
		if err != nil {
			return nil, err
		}
		err = unpackVerified(ctx, tarball, p, root, budget)
		tarball.Close()
		if err != nil {
			return nil, fmt.Errorf("cannot use %s@%s: %w", p.Name, p.Version, err)
		}
		if p.HasInstallScript {
			scripts = append(scripts, p.Name)
		}
	}
	return scripts, nil
}

// unpackVerified unpacks a tarball and fails when the bytes that it read are
// not those that the lockfile names. It hashes what it unpacks, so that
// nothing can change in between.
func unpackVerified(ctx context.Context, tarball io.Reader, p verify.Package, root *os.Root, budget *verify.Budget) error {
	integrity, err := verify.ParseIntegrity(p.Integrity)
	if err != nil {
		return err
	}
	// A package above may have brought the directory along in its tarball.
	if err := root.RemoveAll(p.Path); err != nil {
		return err
	}
	if err := root.MkdirAll(p.Path, 0o755); err != nil {
		return err
	}
	dir, err := root.OpenRoot(p.Path)
	if err != nil {
		return err
	}
	defer dir.Close()
	verifier := integrity.NewVerifier()
	bytes := io.TeeReader(tarball, verifier)
	unpackErr := verify.Tar(ctx, bytes, dir, verify.Unpack{Strip: 1, SkipLinks: true, Budget: budget})
	if _, err := io.Copy(io.Discard, bytes); err != nil {
		return err
	}
	if err := verifier.Verify(); err != nil { // the likelier reason for any other error
		return err
	}
	if unpackErr != nil {
		return unpackErr
	}
	return verify.MarkExecutables(dir)
}

// unpackUpload unpacks what a person sent, and returns what its dependencies
// ask npm for.
func unpackUpload(ctx context.Context, archive io.Reader, source plugin.Source, tree string, budget *verify.Budget) (resolution, error) {
	if err := os.Mkdir(tree, 0o755); err != nil {
		return resolution{}, fmt.Errorf("cannot unpack the upload: %w", err)
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return resolution{}, fmt.Errorf("cannot unpack the upload: %w", err)
	}
	defer root.Close()
	how := verify.Unpack{Budget: budget, Skip: isModules}
	if source == plugin.SourceArchive {
		if err := readOutline(ctx, archive, &how); err != nil {
			return resolution{}, err
		}
	}
	if err := verify.Tar(ctx, archive, root, how); err != nil {
		return resolution{}, err
	}
	if err := verify.MarkExecutables(root); err != nil {
		return resolution{}, err
	}
	return dependencies(root)
}

// readOutline says how an archive is unpacked: one that can be read twice may
// have its files at the top, and modules that it bundles stay in it.
func readOutline(ctx context.Context, archive io.Reader, how *verify.Unpack) error {
	how.Strip = 1
	again, ok := archive.(io.ReadSeeker)
	if !ok {
		return nil
	}
	outline, err := verify.Scan(ctx, archive, *how.Budget)
	if err != nil {
		return err
	}
	if outline.Flat {
		how.Strip = 0
	}
	if len(bundled(outline.Package)) > 0 {
		how.Skip = nil
	}
	_, err = again.Seek(0, io.SeekStart)
	return err
}

// bundled lists the dependencies that a package.json says to be in the package
// itself. "true" means all of them to npm, and is not supported.
func bundled(packageJSON []byte) []string {
	var fields struct {
		Bundle  []string `json:"bundleDependencies"`
		Bundled []string `json:"bundledDependencies"`
	}
	_ = json.Unmarshal(packageJSON, &fields) // who reads it for its content complains
	return append(fields.Bundle, fields.Bundled...)
}

// isModules says that a name lies in the upload's own node_modules: what is
// installed is what was verified.
func isModules(name string) bool {
	return name == modulesDir || strings.HasPrefix(name, modulesDir+"/")
}

// dependencies reads what npm needs of an upload's package.json: nothing else
// of it, and no script, gets to npm.
func dependencies(root *os.Root) (resolution, error) {
	data, err := verify.ReadFile(root, plugin.PackageFile, plugin.MaxDescriptionFile)
	if err != nil {
		return resolution{}, err
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return resolution{}, nil //nolint:nilerr // the package's description will be refused, with the place
	}
	r := resolution{}
	for _, key := range []string{"dependencies", "optionalDependencies"} {
		var specs map[string]string
		if fields[key] == nil || json.Unmarshal(fields[key], &specs) != nil || len(specs) == 0 {
			continue
		}
		for _, name := range bundled(data) {
			if _, err := root.Stat(modulesDir + "/" + name); err == nil {
				delete(specs, name)
			}
		}
		if err := checkDependencies(specs); err != nil {
			return resolution{}, err
		}
		if len(specs) == 0 {
			continue
		}
		if r.manifest == nil {
			r.manifest = map[string]json.RawMessage{}
		}
		if r.manifest[key], err = json.Marshal(specs); err != nil {
			return resolution{}, err
		}
	}
	if r.manifest == nil {
		return r, nil
	}
	if fields["overrides"] != nil {
		r.manifest["overrides"] = fields["overrides"]
	}
	for _, name := range []string{"npm-shrinkwrap.json", lockName} {
		if r.lock == nil && err == nil {
			r.lock, err = verify.ReadFile(root, name, verify.MaxLock)
		}
	}
	if len(bundled(data)) > 0 {
		r.lock = unbundled(r.lock)
	}
	return r, err
}

// unbundled takes out of a lockfile what its root bundles: no source is noted
// there for that, and what the upload does not hold of it npm has to look up.
func unbundled(lock []byte) []byte {
	var file map[string]json.RawMessage
	var packages map[string]json.RawMessage
	if json.Unmarshal(lock, &file) != nil || json.Unmarshal(file["packages"], &packages) != nil {
		return lock // which will be refused, with the reason
	}
	for _, where := range slices.Sorted(maps.Keys(packages)) { // parents first
		var entry struct {
			InBundle bool `json:"inBundle"`
		}
		up := strings.LastIndex(where, "/"+modulesDir+"/")
		_, inside := packages[where[:max(up, 0)]] // of another package than the root
		if json.Unmarshal(packages[where], &entry) == nil && entry.InBundle && (up < 0 || !inside) {
			delete(packages, where)
		}
	}
	data, err := json.Marshal(packages)
	if err != nil {
		return lock
	}
	file["packages"] = data
	if data, err = json.Marshal(file); err != nil {
		return lock
	}
	return data
}

func checkDependencies(specs map[string]string) error {
	for name, spec := range specs {
		if err := plugin.CheckPackageName(name); err != nil {
			return fault.New(fault.ErrPlugin, "bad_package_json", "cannot install a dependency: %w", err).WithHint("mend package.json")
		}
		if !strings.HasPrefix(spec, "npm:") && strings.ContainsAny(spec, ":/") {
			return fault.New(fault.ErrPlugin, "unsafe_dependency", "the dependency %s comes from %q", name, plugin.Printable(spec, 100)).
				WithHint("only packages of the configured registry can be installed")
		}
	}
	return nil
}
