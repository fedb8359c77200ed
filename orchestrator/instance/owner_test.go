package instance

import (
	"os"
	"path/filepath"
	"testing"
)

// TestOwnerWithin finds whom the files of an install belong to.
func TestOwnerWithin(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ours"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if uid, err := ownerWithin(dir); err != nil || uid != 0 {
		t.Errorf("of our own files: %d, %v", uid, err)
	}
	theirs := filepath.Join(dir, "theirs")
	if err := os.Mkdir(theirs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(theirs, 1<<20+1, 1<<20+1); err != nil {
		t.Fatal(err)
	}
	if uid, err := ownerWithin(dir); err != nil || uid != 1<<20+1 {
		t.Errorf("of another's: %d, %v", uid, err)
	}
	if _, err := ownerWithin(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there has an owner")
	}
}
