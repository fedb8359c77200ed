package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/install/seal"
)

// checkHome asks whether the daemon may write to the home, and who else may.
// It makes nothing, unlike home.Open.
func checkHome(dir string) Check {
	const name = "home"
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Check{name, Missing, err.Error(), "name the home by its absolute path with --home"}
	}
	found, st, err := nearest(dir)
	if err != nil {
		return Check{name, Missing, fmt.Sprintf("cannot look at the home %s: %v", dir, err), otherHome}
	}
	switch {
	case !st.IsDir():
		return Check{name, Missing, found + " is no directory", otherHome}
	case found != dir && !writable(found):
		return Check{name, Missing, fmt.Sprintf("cannot make the home %s: %s is not writable", dir, found), otherHome}
	case found != dir:
		return Check{name, OK, dir + ", made by the first ocmt serve", ""}
	}
	for _, d := range []string{dir, filepath.Join(dir, "ocmt"), filepath.Join(dir, "ocmt", "run"), storeOf(dir)} {
		if _, err := os.Lstat(d); err == nil && !writable(d) {
			return Check{name, Missing, d + " is not writable by this user", fmt.Sprintf("sudo chown -R %s %s, or choose another with --home or OCMT_HOME", userName(), dir)}
		}
	}
	if st.Mode().Perm()&0o022 != 0 {
		return Check{name, Weaker, fmt.Sprintf("%s can be written by others (mode %04o): they can enable and configure plugins", dir, st.Mode().Perm()),
			"chmod go-w " + dir}
	}
	return Check{name, OK, dir, ""}
}

const otherHome = "choose a directory that you may write to with --home or OCMT_HOME"

// nearest returns dir, or the first of the directories around it that exists.
func nearest(dir string) (string, os.FileInfo, error) {
	for {
		st, err := os.Stat(dir)
		if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
			dir = parent
			continue
		}
		return dir, st, err
	}
}

func writable(dir string) bool { return unix.Access(dir, unix.W_OK|unix.X_OK) == nil }

func storeOf(home string) string { return filepath.Join(home, "ocmt", "store") }

// canMount tries whether the daemon can mount images itself, in the home's
// store or, where there is none yet, in a directory that it removes again.
func canMount(uid int, home string) (ok bool, why string) {
	if uid != 0 {
		return false, "only root can mount"
	}
	if _, err := os.Stat(storeOf(home)); err == nil {
		return seal.CanMount(storeOf(home))
	}
	dir, err := os.MkdirTemp("", "ocmt-doctor-")
	if err != nil {
		return false, err.Error()
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	return seal.CanMount(dir)
}
