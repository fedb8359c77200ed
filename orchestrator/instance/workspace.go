package instance

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/sandbox"
)

// Workspace is a directory of the host that a plugin was granted. It is mounted
// at its own path, so that paths in parameters mean the same on both sides.
type Workspace struct {
	Path     string // see [CheckWorkspace]
	ReadOnly bool
}

var (
	// systemTrees belong to the host, to its engines or to the container: none
	// is granted, nor what lies below or above one.
	systemTrees = []string{
		"/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/etc", "/usr", "/bin", "/sbin",
		"/lib", "/lib32", "/lib64", "/libx32", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers",
		"/var/lib/kubelet", "/var/spool", payloadDir, stateDir, "/ocmt",
	}
	// sharedPlaces are too wide by themselves; directories in them are not.
	sharedPlaces = []string{"/tmp", "/var/tmp", "/home", "/root", "/var/home"}
)

// CheckWorkspace says why a directory cannot be granted, as InvalidArgument or
// PermissionDenied with a hint: it must be a clean absolute path without a
// symlink in it, of a directory that exists, and neither the system's, nor a
// whole home directory, nor in or above our own home, nor hold a container
// engine's socket. It is asked when the grant is made, and at every start.
func CheckWorkspace(path string, h home.Home) error {
	if err := checkForm(path); err != nil {
		return err
	}
	if err := checkPlace(path, h); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return badWorkspace("workspace_missing", "the directory %s does not exist", path).
			WithHint("make it, or revoke the grant")
	case err != nil:
		return badWorkspace("workspace_unreadable", "cannot look at %s: %w", path, err).
			WithHint("the daemon's user must be able to get there")
	case real != path:
		return badWorkspace("workspace_symlink", "%s leads through a symlink to %s", path, real).
			WithHint("grant %s, if that is what you mean", real)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return badWorkspace("workspace_unreadable", "cannot look at %s: %w", path, err).
			WithHint("the daemon's user must be able to get there")
	}
	if !info.IsDir() {
		return badWorkspace("workspace_no_directory", "%s is not a directory", path).
			WithHint("grant the directory that it is in")
	}
	return checkSockets(path)
}

// CheckWritable says why a directory cannot be granted for writing under an OCI
// runtime, as CheckWorkspace does. What a plugin writes there belongs to the
// directory's owner, and our seccomp profile keeps it from making programs that
// give that owner's rights to whoever runs them (set-user-ID). Where a runtime
// ignores the profile, nobody else may get to such a program: its file system
// is mounted nosuid, or a directory above, which the plugin cannot change, lets
// no other users in.
func CheckWritable(path, runtime string) error {
	if !sandbox.IsGVisor(runtime) {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err == nil && fs.Flags&unix.ST_NOSUID != 0 {
		return nil
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return badWorkspace("workspace_unreadable", "cannot look at %s: %w", dir, err).WithHint("the daemon's user must be able to get there")
		}
		if info.Mode().Perm()&0o001 == 0 {
			return nil
		}
		if dir == "/" {
			return refusedWorkspace("%s cannot be granted for writing under %s: a plugin could leave programs there that run with its owner's rights", path, runtime).
				WithHint("keep other users out of a directory above it (chmod o-x), mount its file system nosuid, grant it ro, or use another runtime")
		}
	}
}

func badWorkspace(code, format string, args ...any) *fault.Error {
	return fault.New(errdefs.ErrInvalidArgument, code, format, args...)
}

func refusedWorkspace(format string, args ...any) *fault.Error {
	return fault.New(errdefs.ErrPermissionDenied, "workspace_refused", format, args...)
}

// checkForm looks at the text of the path alone.
func checkForm(path string) error {
	switch {
	case strings.ContainsFunc(path, unicode.IsControl):
		return badWorkspace("bad_workspace", "the path %q holds a control character", path).
			WithHint("rename the directory")
	case !filepath.IsAbs(path):
		return badWorkspace("bad_workspace", "%q is not an absolute path", path).
			WithHint("write the whole path, beginning with /")
	case filepath.Clean(path) != path:
		return badWorkspace("bad_workspace", "%q is not a plain path", path).
			WithHint("write %s, if that is what you mean", filepath.Clean(path))
	}
	return nil
}

// checkPlace refuses directories that would give away the host, other people's
// things, or ours.
func checkPlace(path string, h home.Home) error {
	const narrower = "grant a directory of a project instead"
	if path == "/" {
		return refusedWorkspace("the root directory cannot be granted").WithHint(narrower)
	}
	for _, tree := range systemTrees {
		if within(path, tree) || within(tree, path) {
			return refusedWorkspace("%s cannot be granted: %s belongs to the system", path, tree).WithHint(narrower)
		}
	}
	if (within(path, h.Dir()) || within(h.Dir(), path)) && !isAgentWorkspace(path, h) {
		return refusedWorkspace("%s cannot be granted: the home of ocmt, %s, is in one place with it", path, h.Dir()).WithHint(narrower)
	}
	for _, place := range slices.Concat(sharedPlaces, homeDirectories()) {
		if within(place, path) {
			return refusedWorkspace("%s cannot be granted: all of %s is too wide", path, place).WithHint(narrower)
		}
	}
	if parent := filepath.Dir(path); parent == "/home" || parent == "/var/home" {
		return refusedWorkspace("%s cannot be granted: a whole home directory is too wide", path).WithHint(narrower)
	}
	return nil
}

// isAgentWorkspace says that path is, or lies in, a workspace of an agent:
// OpenClaw keeps them in the home that ocmt shares with it, as "workspace" and
// "workspace-<agent>".
func isAgentWorkspace(path string, h home.Home) bool {
	rest, ok := strings.CutPrefix(path, h.Dir()+"/")
	name, _, _ := strings.Cut(rest, "/")
	return ok && (name == "workspace" || strings.HasPrefix(name, "workspace-"))
}

// within says that path is root or below it.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/")
}

// firstPerson is the lowest uid that distributions give to people.
const firstPerson = 1000

// homeDirectories returns the home directories of root, of people, and of the
// user that the daemon runs as, as far as this host's own files tell.
func homeDirectories() []string {
	var dirs []string
	add := func(dir string) {
		if real, err := filepath.EvalSymlinks(dir); err == nil && filepath.IsAbs(real) && real != "/" {
			dirs = append(dirs, real)
		}
	}
	if own, err := os.UserHomeDir(); err == nil {
		add(own)
	}
	passwd, err := os.Open("/etc/passwd")
	if err != nil {
		return dirs
	}
	defer passwd.Close()
	for lines := bufio.NewScanner(passwd); lines.Scan(); {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) < 7 {
			continue
		}
		if uid, err := strconv.Atoi(fields[2]); err == nil && (uid == 0 || uid >= firstPerson) {
			add(fields[5])
		}
	}
	return dirs
}

// How far checkSockets looks: a large tree must not hold up a start.
const (
	socketDepth   = 3
	socketEntries = 20_000
)

// checkSockets refuses a directory with a container engine's socket in its
// upper levels: connecting to a socket does not need a writable mount.
func checkSockets(path string) error {
	seen := 0
	depth := strings.Count(path, "/")
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		seen++
		switch {
		case seen > socketEntries:
			return fs.SkipAll
		case err != nil: // not ours to read, nor the plugin's
			return fs.SkipDir
		case d.Type()&fs.ModeSocket != 0 && sandbox.IsEngineSocket(d.Name()):
			return refusedWorkspace("%s cannot be granted: it holds %s, the socket of a container engine", path, p).
				WithHint("whoever reaches that socket is root on this host: grant another directory")
		case d.IsDir() && strings.Count(p, "/")-depth >= socketDepth:
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot grant a workspace: %w", err)
	}
	return nil
}

// mountWorkspaces mounts the granted directories, each by the descriptor that
// was checked, and so that the plugin has the rights of the directory's owner
// in it. One that lies in another comes after it.
func (f *Factory) mountWorkspaces(in *Instance, uid uint32) ([]sandbox.Mount, error) {
	var mounts []sandbox.Mount
	for i, w := range in.plan.Workspaces {
		if err := CheckWorkspace(w.Path, f.Home); err != nil {
			return nil, fmt.Errorf("cannot give plugin %s its workspace: %w", in.plan.Key, err)
		}
		if err := CheckWritable(w.Path, cmp.Or(f.runtimeOf(&in.plan), f.Info.Runtime)); err != nil && !w.ReadOnly {
			return nil, fmt.Errorf("cannot give plugin %s its workspace: %w", in.plan.Key, err)
		}
		source := w.Path
		if f.mounts {
			source = filepath.Join(f.Home.Instance(in.id), "workspace-"+strconv.Itoa(i))
			unmapped, err := bindWorkspace(w, source, uid)
			if err != nil {
				return nil, fmt.Errorf("cannot give plugin %s its workspace: %w", in.plan.Key, err)
			}
			if unmapped != nil {
				in.logger.Warn("the plugin has the rights of any other user in its workspace, not the owner's", "workspace", w.Path, "error", unmapped)
			}
		} else {
			in.logger.Warn("the plugin has the rights of any other user in its workspace, and may start programs from it: only root can mount it otherwise", "workspace", w.Path)
		}
		mounts = append(mounts, sandbox.Mount{Source: source, Target: w.Path, ReadOnly: w.ReadOnly, NoExec: true})
	}
	slices.SortFunc(mounts, func(a, b sandbox.Mount) int { return cmp.Compare(a.Target, b.Target) })
	return mounts, nil
}

// bindWorkspace mounts the directory at target, with its owner mapped to uid
// where kernel and file system can; unmapped says why they cannot.
func bindWorkspace(w Workspace, target string, uid uint32) (unmapped, err error) {
	dir, err := openReal(w.Path)
	if err != nil {
		return nil, badWorkspace("workspace_changed", "cannot open a directory that was there a moment ago: %w", err).
			WithHint("see what moves parts of %s about; Linux 5.6 or newer is needed too", w.Path)
	}
	defer dir.Close()
	flags := uintptr(ownFlags)
	if w.ReadOnly {
		flags = sealedFlags
	}
	if unmapped = bindMapped(dir, target, flags, uid); unmapped == nil {
		return nil, nil
	}
	return unmapped, bind("/proc/self/fd/"+strconv.Itoa(int(dir.Fd())), target, flags)
}
