package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// makeState makes a plugin's state directory. As root it belongs to the
// plugin's uid alone; otherwise only its parent keeps other users out, and
// the directory itself is open to the uid that the daemon cannot give it to.
func makeState(dir string, uid uint32) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("cannot make the state directory's parent: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make the state directory: %w", err)
	}
	if os.Geteuid() != 0 {
		return os.Chmod(dir, 0o777) // its parent is 0700
	}
	if err := os.Lchown(dir, int(uid), int(uid)); err != nil {
		return fmt.Errorf("cannot give the state directory to uid %d: %w", uid, err)
	}
	return nil
}
