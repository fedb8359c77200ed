package instance

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestRemoveTree removes a directory with mounts in it, some of them on top of
// others, and nothing that is mounted there.
func TestRemoveTree(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	outside, dir := filepath.Join(base, "outside"), filepath.Join(base, `a "new"	home\x`, "instance")
	precious := filepath.Join(outside, "precious")
	err = errors.Join(os.MkdirAll(outside, 0o700), os.MkdirAll(dir, 0o700), os.WriteFile(precious, nil, 0o600))
	for _, place := range []string{"state", "state", "a/b", "a"} {
		err = errors.Join(err, bind(outside, filepath.Join(dir, place), ownFlags))
	}
	if err != nil {
		t.Fatal(err)
	}
	if mounts, err := mountsBelow(dir); err != nil || len(mounts) != 4 {
		t.Errorf("mountsBelow() = %q, %v, want 4", mounts, err)
	}
	for range 2 {
		if err := removeTree(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what was mounted is gone: %v", err)
	}
	if mounts, err := mountsBelow(base); err != nil || len(mounts) != 0 {
		t.Errorf("left are %q, %v", mounts, err)
	}
}
