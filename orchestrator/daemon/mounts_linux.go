package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/ocmt/ocmt/orchestrator/install/seal"
)

// unmountBelow takes down every mount below dir, the latest first.
func unmountBelow(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("cannot read the mount table: %w", err)
	}
	defer f.Close()
	var targets []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// The fifth field is the mount point, octal escapes for white space.
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 {
			if target := unescape.Replace(fields[4]); strings.HasPrefix(target, dir+"/") {
				targets = append(targets, target)
			}
		}
	}
	var errs []error
	for i := len(targets) - 1; i >= 0; i-- {
		errs = append(errs, seal.Unmount(targets[i]))
	}
	return errors.Join(errs...)
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
