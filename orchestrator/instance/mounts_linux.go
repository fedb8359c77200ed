package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/install/seal"
)

// mountsBelow returns where something is mounted below dir, the latest last.
func mountsBelow(dir string) ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot read the mount table: %w", err)
	}
	var targets []string
	for line := range strings.Lines(string(table)) {
		// The fifth field is the mount point, octal escapes for white space.
		if fields := strings.Fields(line); len(fields) > 4 {
			if target := unescape.Replace(fields[4]); strings.HasPrefix(target, dir+"/") {
				targets = append(targets, target)
			}
		}
	}
	return targets, nil
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// removeTree takes down what is mounted below a directory of ours, and removes
// it. It removes nothing while anything is mounted there: through a mount it
// would remove what outlives the instance.
func removeTree(dir string) error {
	targets, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(targets) > 0 {
		var errs []error
		for _, target := range slices.Backward(targets) {
			errs = append(errs, seal.Unmount(target))
		}
		left, err := mountsBelow(dir)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("cannot remove %s: %s is still mounted: %w", dir, left[0], errdefs.ErrFailedPrecondition)
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return os.RemoveAll(dir)
}

// linked says that a file has several names.
func linked(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink > 1
}
