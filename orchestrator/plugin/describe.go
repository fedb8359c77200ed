package plugin

import (
	"encoding/json"
	"path"
	"regexp"
	"strings"
	"unicode"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// The names of the files that describe a plugin, in its package's root.
const (
	PackageFile  = "package.json"
	ManifestFile = "openclaw.plugin.json"
)

// MaxDescriptionFile bounds package.json and openclaw.plugin.json, in bytes.
const MaxDescriptionFile = 1 << 20

const (
	maxVersionLen     = 256 // node-semver's own limit
	maxDescriptionLen = 500
	maxEntries        = 32
)

var (
	versionPattern = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+-]*$`)
	notIDPattern   = regexp.MustCompile(`[^A-Za-z0-9_-]`)
)

// packageJSON holds what is read of a package.json.
type packageJSON struct {
	name, version, description, main, module string
	exports                                  json.RawMessage
	extensions, runtimeExtensions            []string
}

// Describe reads what a package says of itself in its files, of which it has a
// package.json or an openclaw.plugin.json at least. root is the package's
// directory relative to the payload's root, and exists says whether a
// slash-separated path relative to the payload's root is a regular file.
//
// An entry may be TypeScript where the package does not hold what it is built
// to: the runner takes it, below node_modules too.
//
// Errors are of class fault.ErrPlugin with a hint for the author.
func Describe(read Files, root string, exists func(path string) bool) (Descriptor, error) {
	packageFile := read.Package
	if len(packageFile) == 0 && read.Manifest != nil {
		packageFile = []byte("{}") // a manifest beside its entry is a plugin too
	}
	pkg, err := parsePackage(packageFile)
	if err != nil {
		return Descriptor{}, err
	}
	id, manifest, err := identify(pkg, read.Manifest)
	if err != nil {
		return Descriptor{}, err
	}
	if err := checkPackage(&pkg, id); err != nil {
		return Descriptor{}, err
	}
	files := files{root: root, exists: exists}
	entries, err := files.entries(pkg)
	if err != nil {
		return Descriptor{}, err
	}
	permissions, asks, err := FindPermissions(read)
	if err != nil {
		return Descriptor{}, err
	}
	return Descriptor{
		ID: id, Name: pkg.name, Version: pkg.version, Description: pkg.description,
		Root: root, Entries: entries, Manifest: manifest,
		Permissions: permissions, HasPermissions: asks, Wishes: wishes(id, manifest),
	}, nil
}

// parsePackage reads package.json. It compares field names exactly, as Node
// does and as encoding/json does not.
func parsePackage(data []byte) (packageJSON, error) {
	if len(data) == 0 {
		return packageJSON{}, fault.New(fault.ErrPlugin, "no_package_json", "the package has neither package.json nor %s", ManifestFile).
			WithHint("name a directory or an archive that holds one of them at its top")
	}
	fields, err := strictObject(PackageFile, data)
	if err != nil {
		return packageJSON{}, err
	}
	pkg := packageJSON{exports: fields["exports"]}
	for name, into := range map[string]*string{
		"name": &pkg.name, "version": &pkg.version, "description": &pkg.description,
		"main": &pkg.main, "module": &pkg.module,
	} {
		_ = json.Unmarshal(fields[name], into) // Node ignores these where they are no strings
	}
	pkg.description = Printable(pkg.description, maxDescriptionLen)
	return pkg, readExtensions(fields["openclaw"], &pkg)
}

func readExtensions(block json.RawMessage, pkg *packageJSON) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(block, &fields) != nil {
		return nil //nolint:nilerr // absent, or no object: other tools' business
	}
	for name, into := range map[string]*[]string{
		"extensions": &pkg.extensions, "runtimeExtensions": &pkg.runtimeExtensions,
	} {
		if fields[name] == nil {
			continue
		}
		if json.Unmarshal(fields[name], into) != nil {
			return broken(PackageFile, "openclaw."+name+" must be a list of file names")
		}
	}
	if n := len(pkg.runtimeExtensions); n > 0 && n != len(pkg.extensions) {
		return fault.New(fault.ErrPlugin, "bad_package_json",
			"openclaw.runtimeExtensions names %d files and openclaw.extensions %d", n, len(pkg.extensions)).
			WithHint("give every entry of openclaw.extensions its built file at the same place in openclaw.runtimeExtensions")
	}
	if len(pkg.extensions) > maxEntries {
		return broken(PackageFile, "openclaw.extensions names too many files")
	}
	return nil
}

// identify returns the plugin's id, and its manifest as strict JSON.
func identify(pkg packageJSON, manifestFile []byte) (string, json.RawMessage, error) {
	if manifestFile == nil {
		return idFromName(pkg.name), nil, nil
	}
	manifest, err := parseManifest(manifestFile)
	if err != nil {
		return "", nil, err
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(manifest, &fields) != nil {
		return "", nil, broken(ManifestFile, "it must be an object")
	}
	var id string
	if json.Unmarshal(fields["id"], &id) != nil || id == "" {
		return "", nil, broken(ManifestFile, `it must have an "id"`)
	}
	return id, manifest, nil
}

// idFromName is the id of a package without a manifest: its unscoped name,
// what does not fit the alphabet of ids replaced by "-".
func idFromName(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	return strings.TrimLeft(notIDPattern.ReplaceAllString(name, "-"), "-_")
}

// checkPackage validates the id, the name and the version, and fills in the
// name and the version of a package that never was published.
func checkPackage(pkg *packageJSON, id string) error {
	if err := CheckID(id); err != nil {
		return fault.New(fault.ErrPlugin, "bad_plugin_id", "cannot use the package's plugin id: %w", err).
			WithHint(`set "id" in %s to letters, digits, "-" and "_" (at most %d)`, ManifestFile, MaxIDLen)
	}
	if pkg.name == "" {
		pkg.name = id
	}
	if CheckPackageName(pkg.name) != nil {
		return broken(PackageFile, `"name" is no npm package name`)
	}
	if pkg.version == "" {
		pkg.version = "0.0.0"
	}
	if len(pkg.version) > maxVersionLen || !versionPattern.MatchString(pkg.version) {
		return broken(PackageFile, `"version" is no version`)
	}
	return nil
}

func broken(file, why string) error {
	return fault.New(fault.ErrPlugin, "bad_"+codeOf(file), "cannot use %s: %s", file, why).
		WithHint("this is for the plugin's author to mend")
}

func codeOf(file string) string {
	if file == ManifestFile {
		return "manifest"
	}
	return "package_json"
}

// Printable returns s fit for a terminal and a log: without control and
// format characters, white space folded, and cut to limit bytes.
func Printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}

// inside returns file, relative to a package's root, in its shortest form, or
// false when it leaves the root.
func inside(file string) (string, bool) {
	if file == "" || strings.ContainsAny(file, "\x00\\") || path.IsAbs(file) {
		return "", false
	}
	clean := path.Clean(file)
	return clean, clean != "." && clean != ".." && !strings.HasPrefix(clean, "../")
}
