package harness

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Leftovers lists what the home still has on this host: what its engine keeps,
// mounts, loop devices, sockets, directories of instances and processes. After
// a stop or an uninstall it is empty.
func (d *Daemon) Leftovers(ctx context.Context) ([]string, error) {
	left, err := d.engine.Kept(ctx, d.HomeID)
	if err != nil {
		return nil, err
	}
	settled := func(dir string) ([]string, error) { return settledLoops(ctx, dir) }
	for _, find := range []func(string) ([]string, error){Mounts, settled, instanceFiles} {
		found, err := find(d.Home)
		if err != nil {
			return nil, err
		}
		left = append(left, found...)
	}
	return append(left, processes(d.Home)...), nil
}

// Mounts lists what is mounted below a directory, or from there to elsewhere,
// in the mount namespaces of all processes that may be looked at: an engine
// can hold a mount that its host does not see.
func Mounts(dir string) ([]string, error) {
	own, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	left := mountsOf("/proc/self", string(own), dir)
	seen := map[string]bool{}
	if ns, err := os.Readlink("/proc/self/ns/mnt"); err == nil {
		seen[ns] = true
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, proc := range all {
		ns, err := os.Readlink(proc + "/ns/mnt")
		if err != nil || seen[ns] { // it ended meanwhile, or is not ours to look at
			continue
		}
		seen[ns] = true
		if data, err := os.ReadFile(proc + "/mountinfo"); err == nil {
			left = append(left, mountsOf(proc, string(data), dir)...)
		}
	}
	return left, nil
}

func mountsOf(proc, mountinfo, dir string) []string {
	var left []string
	for line := range strings.Lines(mountinfo) {
		// The fourth field is what of its file system is mounted, the fifth where.
		if f := strings.Fields(line); len(f) > 4 && strings.Contains(line, dir+"/") {
			left = append(left, "mount in "+proc+" of "+f[3]+" at "+f[4])
		}
	}
	return left
}

// settledLoops is loops, once what others hold for a moment is gone: a
// container that is being started has all mounts of its host until it leaves
// them behind.
func settledLoops(ctx context.Context, dir string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		left, err := loops(dir)
		if err != nil || len(left) == 0 {
			return left, err
		}
		select {
		case <-ctx.Done():
			return left, nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// loops lists the loop devices over files below a directory.
func loops(dir string) ([]string, error) {
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var left []string
	for _, path := range paths {
		if file, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(file), dir+"/") {
			left = append(left, "loop device "+path)
		}
	}
	return left, nil
}

// Sockets lists the unix sockets below a directory that somebody listens on or
// is connected to.
func Sockets(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil, err
	}
	var left []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(f[len(f)-1], dir+"/") {
			left = append(left, "socket "+f[len(f)-1])
		}
	}
	return left, nil
}

// instanceFiles lists what only running instances, installs and daemons have.
func instanceFiles(home string) ([]string, error) {
	left, err := Sockets(home)
	if err != nil {
		return nil, err
	}
	for _, pattern := range []string{"run/i/*", "run/*.sock", "tenants/*/call.sock", "instances/*", "staging/*"} {
		paths, err := filepath.Glob(filepath.Join(home, "ocmt", pattern))
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			left = append(left, "file "+p)
		}
	}
	return left, nil
}

// processes lists the processes that name the home on their command line, but
// for the command that looks.
func processes(home string) []string {
	var left []string
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range dirs {
		line, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(line), home) {
			continue
		}
		if args := strings.Split(string(line), "\x00"); filepath.Base(args[0]) == "ocmt" {
			left = append(left, "process "+strings.Join(args, " "))
		}
	}
	return left
}
