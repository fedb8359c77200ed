// Package ocmt_test holds the rules that the whole module keeps: who may
// import whom, and that every package says what it owns.
package ocmt_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/ocmt/ocmt/"

// arrows says what a folder may import of ours. The longest matching folder
// counts; a folder may always import what lies below itself.
var arrows = map[string][]string{
	"cmd/ocmt":            {"orchestrator/cli", "orchestrator/daemon", "orchestrator/doctor"},
	"cmd/ocmt-init":       {"sandbox/egress"},
	"orchestrator":        {"orchestrator", "bus", "sandbox", "images"},
	"orchestrator/plugin": {"orchestrator/fault"},
	"orchestrator/fault":  {},
	"orchestrator/policy": {"orchestrator/plugin", "orchestrator/fault"},
	"orchestrator/audit":  {"orchestrator/plugin", "orchestrator/fault"},
	"orchestrator/client": {"orchestrator/api/v1", "orchestrator/fault"},
	"orchestrator/cli": {"orchestrator/client", "orchestrator/api/v1", "orchestrator/fault", "orchestrator/home",
		"orchestrator/plugin", "orchestrator/audit"},
	"bus":     {},
	"sandbox": {},
	"images":  {},
	"e2e":     {"orchestrator", "sandbox", "bus", "images", "e2e"},
}

// sourceFile is a parsed .go file of the module.
type sourceFile struct {
	dir  string // relative to the module's root, with slashes
	name string
	ast  *ast.File
}

// sources reads the files itself: a test that asks the go command stays cached
// and green after a forbidden import.
func sources(t *testing.T) []sourceFile {
	t.Helper()
	var files []sourceFile
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); p != "." && (n == "testdata" || n == "node_modules" || strings.HasPrefix(n, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(p) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, sourceFile{filepath.ToSlash(filepath.Dir(p)), d.Name(), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestImportArrows(t *testing.T) {
	for _, f := range sources(t) {
		if strings.HasSuffix(f.name, "_test.go") {
			continue // tests may reach for what they prove
		}
		for _, spec := range f.ast.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if ours, ok := strings.CutPrefix(target, module); ok && !mayImport(f.dir, ours) {
				t.Errorf("%s/%s imports %s, which its folder may not (see ARCHITECTURE.md)", f.dir, f.name, ours)
			}
		}
	}
}

func mayImport(dir, target string) bool {
	rule := dir
	for {
		if allowed, ok := arrows[rule]; ok {
			return within(target, rule) || slices.ContainsFunc(allowed, func(a string) bool { return within(target, a) })
		}
		if rule == "." || rule == "" {
			return false
		}
		rule = path.Dir(rule)
	}
}

func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func TestMayImport(t *testing.T) {
	for _, tc := range []struct {
		dir, target string
		want        bool
	}{
		{"orchestrator/daemon", "bus", true},
		{"bus", "sandbox", false},
		{"bus", "bus/wire", true},
		{"sandbox/docker", "orchestrator/plugin", false},
		{"orchestrator/plugin", "orchestrator/fault", true},
		{"orchestrator/plugin", "orchestrator/store", false},
		{"cmd/ocmt", "bus", false},
		{"nowhere", "bus", false},
	} {
		if got := mayImport(tc.dir, tc.target); got != tc.want {
			t.Errorf("mayImport(%s, %s) = %v, want %v", tc.dir, tc.target, got, tc.want)
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	comments := map[string]int{}
	for _, f := range sources(t) {
		if strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		n := 0
		if f.ast.Doc != nil && strings.HasPrefix(f.ast.Doc.Text(), "Package ") || f.ast.Doc != nil && f.ast.Name.Name == "main" {
			n = 1
		}
		comments[f.dir] += n
	}
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("%s has %d package comments, want exactly one", dir, n)
		}
	}
}
