package verify

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// OpenFile opens a regular file of a directory that others wrote to. It waits
// on no pipe and leaves the directory by no symlink.
func OpenFile(dir *os.Root, name string) (*os.File, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open a file of the package: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fault.New(fault.ErrPlugin, "bad_file", "%s is no regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
