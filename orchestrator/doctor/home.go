package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/instance/state"
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

// checkFileSystem asks whether the home's file system has what a home needs.
func checkFileSystem(dir string) Check {
	const name = "file system"
	found, err := probed(dir)
	if err == nil {
		err = home.CheckFileSystem(found)
	}
	if err != nil {
		f := fault.Of(err)
		return Check{name, Missing, plain(f), cmp.Or(f.Hint, otherHome)}
	}
	return Check{name, OK, "has the modes, locks and sockets that a home needs", ""}
}

// checkConfigs asks whether the configuration of every tenant can be put into
// force: limits that are no limits, for example, are found here.
func checkConfigs(dir string) Check {
	const name = "configuration"
	paths, err := filepath.Glob(filepath.Join(dir, "tenants", "*", "config.json"))
	if err != nil {
		return Check{name, Missing, err.Error(), otherHome}
	}
	for _, path := range append([]string{filepath.Join(dir, "config.json")}, paths...) {
		if _, err := config.Load(path); err != nil {
			f := fault.Of(err)
			return Check{name, Weaker, plain(f) + ": what it says is not in force", cmp.Or(f.Hint, "correct "+path)}
		}
	}
	return Check{name, OK, "every config.json can be read", ""}
}

// probed returns the directory to try things in for a home that may not be
// there yet: the store, or the nearest one that is.
func probed(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	found, _, err := nearest(storeOf(dir))
	return found, err
}

// canMount tries whether the daemon can mount images that lie in the home, by
// a directory that it removes again.
func canMount(uid int, dir string) (ok bool, why string) {
	if uid != 0 {
		return false, "only root can mount"
	}
	found, err := probed(dir)
	if err != nil {
		return false, err.Error()
	}
	return seal.CanMount(found)
}

// canBound tries whether the daemon can make and mount file systems for what
// plugins write.
func canBound(dir string) (ok bool, why string) {
	found, err := probed(dir)
	if err != nil {
		return false, err.Error()
	}
	return state.CanMount(found)
}

// canFreeze tries whether files in the home can be made immutable.
func canFreeze(uid int, dir string) bool {
	found, err := probed(dir)
	if err != nil || uid != 0 {
		return false
	}
	ok, err := seal.CanFreeze(found)
	return ok && err == nil
}
