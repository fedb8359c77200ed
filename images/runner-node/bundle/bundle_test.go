package bundle_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/images/runner-node/bundle"
)

const src = "../src"

func TestBundleIsReproducible(t *testing.T) {
	t.Parallel()
	copied := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(copied, os.DirFS(src)); err != nil {
		t.Fatal(err)
	}
	first, err := bundle.Code(src)
	if err != nil {
		t.Fatal(err)
	}
	second, err := bundle.Code(copied)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two directories with the same sources give different bundles")
	}
	if size := len(first); size > 128<<10 {
		t.Errorf("the bundle has %d bytes; it is read at every start", size)
	}
}

func TestBundleImportsNodeOnly(t *testing.T) {
	t.Parallel()
	code, err := bundle.Code(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\brequire\("([^"]*)"\)`).FindAllSubmatch(code, -1) {
		if !strings.HasPrefix(string(m[1]), "node:") {
			t.Errorf("the bundle requires %s", m[1])
		}
	}
}

// TestBundleHoldsTheSDK looks for the shim, which is put in as a text.
func TestBundleHoldsTheSDK(t *testing.T) {
	t.Parallel()
	code, err := bundle.Code(src)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(code, []byte("function definePluginEntry(")); n != 1 {
		t.Errorf("the bundle defines definePluginEntry %d times, want once", n)
	}
	if bytes.Contains(code, []byte("OCMT_SDK_SOURCE")) {
		t.Error("the bundle looks for the shim elsewhere")
	}
}

func TestBundleWritesItsFile(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "new", "runner.js")
	if err := bundle.Bundle(src, out); err != nil {
		t.Fatal(err)
	}
	want, err := bundle.Code(src)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file has %d bytes, want %d: %v", len(got), len(want), err)
	}
}

func TestBundleRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ source, want string }{
		"a syntax error": {"export const = 1;\n", "main.mjs:1"},
		"a package":      {`import "left-pad";`, "left-pad"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "main.mjs"), []byte(tc.source), 0o600); err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(dir, "out.js")
			err := bundle.Bundle(dir, out)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an invalid argument that names %s", err, tc.want)
			}
			if _, err := os.Stat(out); !os.IsNotExist(err) {
				t.Errorf("a file was written: %v", err)
			}
		})
	}
	if err := bundle.Bundle(t.TempDir(), filepath.Join(t.TempDir(), "out.js")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an empty directory gives %v, want an invalid argument", err)
	}
}
