package plugin

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// maxConditions bounds how deep the conditions of "exports" may nest.
const maxConditions = 16

// What Node looks for in "exports", first as an ES module, then as CommonJS.
var (
	importConditions  = []string{"node", "import", "module-sync", "node-addons", "default"}
	requireConditions = []string{"node", "require", "module-sync", "node-addons", "default"}
)

// files answers which files a package at root holds.
type files struct {
	root   string
	exists func(path string) bool
}

// entries returns a package's entry modules, relative to its root.
func (f files) entries(pkg packageJSON) ([]string, error) {
	if len(pkg.extensions) == 0 {
		entry, err := f.mainEntry(pkg)
		if err != nil {
			return nil, err
		}
		return []string{entry}, nil
	}
	var entries []string
	for i, source := range pkg.extensions {
		declared := []string{source}
		if i < len(pkg.runtimeExtensions) {
			declared = []string{pkg.runtimeExtensions[i], source}
		}
		entry, err := f.extension(declared)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(entries, entry) {
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

// extension finds the file of one entry: the built file that is declared, the
// one that the source is usually built to, the source.
func (f files) extension(declared []string) (string, error) {
	var candidates []string
	for _, name := range declared {
		clean, ok := inside(name)
		if !ok {
			return "", outside(name)
		}
		candidates = append(append(candidates, builtFrom(clean)...), variants(clean)...)
	}
	return f.pick(declared[0], candidates)
}

// mainEntry finds the entry of a package that declares no extensions as Node
// finds it: exports["."], then main, then index. "module" is no field of
// Node's, but bundlers leave packages that have nothing else.
func (f files) mainEntry(pkg packageJSON) (string, error) {
	if target := exported(pkg.exports); target != "" {
		clean, ok := inside(target)
		if !ok {
			return "", outside(target)
		}
		return f.pick(target, []string{clean})
	}
	var declared string
	var candidates []string
	for _, name := range []string{pkg.main, pkg.module} {
		if name == "" || path.Clean(name) == "." {
			continue
		}
		clean, ok := inside(name)
		if !ok {
			return "", outside(name)
		}
		if declared == "" {
			declared = name
		}
		candidates = append(candidates, variants(clean)...)
	}
	candidates = append(candidates, "index.js", "index.mjs", "index.cjs", "index.ts")
	return f.pick(declared, candidates)
}

// pick returns the first candidate that is there.
func (f files) pick(declared string, candidates []string) (string, error) {
	for _, c := range candidates {
		if f.exists(path.Join(f.root, c)) {
			return c, nil
		}
	}
	if declared != "" {
		return "", fault.New(fault.ErrPlugin, "entry_missing", "the package does not hold its entry %q", Printable(declared, 200)).
			WithHint(`build the package if that has not been done, and see that "files" in package.json includes the entry`)
	}
	return "", fault.New(fault.ErrPlugin, "no_entry", "the package has no entry: no openclaw.extensions, exports, main or index.js").
		WithHint("name the entry in package.json: \"openclaw\": {\"extensions\": [\"./index.js\"]}")
}

func outside(entry string) error {
	return fault.New(fault.ErrPlugin, "entry_outside", "the entry %q is not inside the package", Printable(entry, 200)).
		WithHint("name a file below the package's directory, with forward slashes, like ./dist/index.js")
}

// variants are the files that Node tries for the name of a main file.
func variants(name string) []string {
	return []string{name, name + ".js", path.Join(name, "index.js")}
}

// builtFrom lists where JavaScript built from a TypeScript file usually is:
// beside it, or below dist.
func builtFrom(source string) []string {
	if !isTypeScript(source) {
		return nil
	}
	stem := strings.TrimSuffix(source, path.Ext(source))
	var list []string
	for _, s := range []string{stem, path.Join("dist", strings.TrimPrefix(stem, "src/"))} {
		list = append(list, s+".js", s+".mjs", s+".cjs")
	}
	return list
}

func isTypeScript(name string) bool {
	return slices.Contains([]string{".ts", ".mts", ".cts"}, path.Ext(name))
}

// exported returns the target of exports["."], or "".
func exported(exports json.RawMessage) string {
	if list, ok := members(exports); ok {
		for _, m := range list {
			if m.key == "." {
				exports = m.value
				break
			}
			if strings.HasPrefix(m.key, "./") {
				exports = nil // sub-paths only, unless "." follows
			}
		}
	}
	for _, conditions := range [][]string{importConditions, requireConditions} {
		if target, _ := resolveTarget(exports, conditions, maxConditions); target != "" {
			return target
		}
	}
	return ""
}

// resolveTarget is Node's PACKAGE_TARGET_RESOLVE. The second result says that
// the search ends here; with an empty target nothing is exported.
func resolveTarget(raw json.RawMessage, conditions []string, depth int) (string, bool) {
	if depth == 0 || len(raw) == 0 {
		return "", false
	}
	if string(raw) == "null" {
		return "", true
	}
	var target string
	if json.Unmarshal(raw, &target) == nil {
		return target, true
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		for _, alternative := range list {
			if target, _ := resolveTarget(alternative, conditions, depth-1); target != "" {
				return target, true
			}
		}
		return "", false
	}
	object, _ := members(raw)
	for _, m := range object {
		if !slices.Contains(conditions, m.key) {
			continue
		}
		if target, found := resolveTarget(m.value, conditions, depth-1); found {
			return target, true
		}
	}
	return "", false
}
