package cli

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra/doc"
)

var update = flag.Bool("update", false, "write what is generated")

// docs/cli is generated from the commands: go test ./orchestrator/cli -run TestDocs -update
func TestDocs(t *testing.T) {
	committed := filepath.Join("..", "..", "docs", "cli")
	root := NewRoot(Env{})
	root.DisableAutoGenTag = true
	fresh := t.TempDir()
	if err := doc.GenMarkdownTree(root, fresh); err != nil {
		t.Fatal(err)
	}
	want := readDir(t, fresh)
	if *update {
		if err := os.RemoveAll(committed); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(committed, os.DirFS(fresh)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, readDir(t, committed)); diff != "" {
		t.Errorf("docs/cli is not what the commands say (-commands +docs); see TestDocs:\n%s", diff)
	}
}

// readDir returns the files of a directory by name.
func readDir(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string, len(entries))
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}
