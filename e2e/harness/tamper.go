package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// FlipByte changes one byte in the middle of the first sealed payload of a
// home, as an attacker with the daemon's own rights would, and returns the
// payload's path.
func FlipByte(ctx context.Context, home string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(home, "ocmt", "store", "*.erofs"))
	if err != nil {
		return "", err
	}
	if len(paths) == 0 {
		return "", errors.New("no sealed payload in the store")
	}
	path := paths[0]
	if os.Geteuid() == 0 { // the immutable flag, where the file system has one
		_ = exec.CommandContext(ctx, "chattr", "-i", path).Run() // a path of ours
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, st.Size()/2); err != nil {
		return "", fmt.Errorf("cannot read the payload: %w", err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, st.Size()/2); err != nil {
		return "", fmt.Errorf("cannot change the payload: %w", err)
	}
	return path, f.Close()
}
