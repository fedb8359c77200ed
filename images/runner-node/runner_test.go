// Package runnernode_test runs the runner's own tests, with the bundle that is
// shipped, and lets the bundle talk to a real NATS server.
package runnernode_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ocmt/ocmt/images/runner-node/bundle"
)

// bundled makes the runner's file and returns its absolute path.
func bundled(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "runner.js")
	if err := bundle.Bundle("src", file); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestNode runs test/*.test.mjs.
func TestNode(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("test/*.test.mjs")
	if err != nil || len(files) == 0 {
		t.Fatalf("cannot find the tests: %d files, %v", len(files), err)
	}
	args := append([]string{"--test", "--test-timeout=60000", "--test-reporter=spec"}, files...)
	cmd := exec.CommandContext(t.Context(), node(t), args...)
	cmd.Env = append(os.Environ(), "OCMT_RUNNER="+bundled(t), "NODE_OPTIONS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("node --test: %v\n%s", err, out)
	}
}
