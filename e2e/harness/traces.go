package harness

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Traces are what the host knows of a daemon's containers while they run, and
// what of it is there when they should be gone. Everything is told apart by
// what only these containers have, so that others may come and go.
type Traces struct {
	daemon    *Daemon
	ids       map[string]bool   // of containers, the engine's
	processes map[string]string // "PID START" to the command line
	mounts    map[string]bool   // that keep network name spaces
	cgroups   map[string]bool   // directories
}

// NewTraces begins without any.
func NewTraces(d *Daemon) *Traces {
	return &Traces{d, map[string]bool{}, map[string]string{}, map[string]bool{}, map[string]bool{}}
}

// Look adds what there is now, and returns the command lines of the processes
// in the containers.
func (tr *Traces) Look(ctx context.Context) ([]string, error) {
	running, err := tr.daemon.engine.Containers(ctx, map[string]string{"ocmt.home": tr.daemon.HomeID}, true)
	if err != nil {
		return nil, err
	}
	var inside []string
	for _, id := range running {
		found, err := tr.LookAt(ctx, id)
		if err != nil {
			return nil, err
		}
		inside = append(inside, found...)
	}
	return inside, nil
}

// LookAt is Look for one container.
func (tr *Traces) LookAt(ctx context.Context, id string) ([]string, error) {
	pid, err := tr.daemon.engine.PID(ctx, id)
	if err != nil {
		return nil, err
	}
	tr.ids[id] = true
	return tr.container(id, pid)
}

// container adds what belongs to a container with that first process.
func (tr *Traces) container(id string, first int) ([]string, error) {
	proc := "/proc/" + strconv.Itoa(first)
	network, err := os.Readlink(proc + "/ns/net")
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) { // its number is used again, the place is not
		if f := strings.Fields(line); len(f) > 4 && f[3] == network {
			tr.mounts[f[4]] = true
		}
	}
	groups, err := os.ReadFile(proc + "/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(groups)) { // as 4:memory:/docker/ID
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); strings.Contains(f[2], id) {
			tr.cgroups[filepath.Join("/sys/fs/cgroup", strings.TrimPrefix(f[1], "name="), f[2])] = true
		}
	}
	inside, err := os.Readlink(proc + "/ns/pid")
	if err != nil {
		return nil, err
	}
	if own, err := os.Readlink("/proc/self/ns/pid"); err != nil || own == inside { // as gVisor's, on some engines
		inside = ""
	}
	var lines []string
	for key, p := range allProcesses() {
		space, _ := os.Readlink(p.dir + "/ns/pid")
		within := inside != "" && space == inside
		if within {
			lines = append(lines, p.line)
		}
		if within || strings.Contains(p.line, id) { // a shim names its container
			tr.processes[key] = p.line
		}
	}
	return lines, nil
}

type process struct{ dir, line string }

// allProcesses are those of the host by "PID START", but for zombies.
func allProcesses() map[string]process {
	all := map[string]process{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		stat, err := os.ReadFile(dir + "/stat")
		line, lineErr := os.ReadFile(dir + "/cmdline")
		if err != nil || lineErr != nil {
			continue // it ended meanwhile
		}
		// After the name, which may hold anything: state, and 19 fields on the start.
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(f) > 19 && f[0] != "Z" {
			all[filepath.Base(dir)+" "+f[19]] = process{dir, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))}
		}
	}
	return all
}

// Left lists what is still there of what was looked at.
func (tr *Traces) Left() []string {
	var left []string
	now := allProcesses()
	for key, line := range tr.processes {
		if _, ok := now[key]; ok {
			left = append(left, fmt.Sprintf("process %s %s", key, line))
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for place := range tr.mounts {
		if strings.Contains(string(mounts), " "+place+" ") {
			left = append(left, "mount at "+place)
		}
	}
	for dir := range tr.cgroups {
		if _, err := os.Stat(dir); err == nil {
			left = append(left, "cgroup "+dir)
		}
	}
	left = append(left, tr.files("/run")...)
	slices.Sort(left)
	return left
}

// files lists what is named after the containers below a directory.
func (tr *Traces) files(dir string) []string {
	var left []string
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went away, or is not ours to look at
		}
		if !tr.names(entry.Name()) {
			return nil
		}
		left = append(left, "file "+path)
		if entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return left
}

// names says that a name is of one of the containers.
func (tr *Traces) names(name string) bool {
	for id := range tr.ids {
		if strings.Contains(name, id) {
			return true
		}
	}
	return false
}
