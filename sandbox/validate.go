package sandbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Bounds of what [Limits] may say. Outside of them a value is a mistake: too
// little for any process to start, or no limit at all.
const (
	MinMemory, MaxMemory       = 8 << 20, 4 << 40 // bytes; Docker refuses less than 6 MiB
	MinCPUs, MaxCPUs           = 0.01, 1024.0     // Docker's smallest quota
	MinPIDs, MaxPIDs           = 2, 65536
	MinOpenFiles, MaxOpenFiles = 16, 1 << 20
	MinLogSize, MaxLogSize     = 4 << 10, 1 << 30 // bytes
	MaxStopGrace               = 10 * time.Minute
)

var (
	idPattern      = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{1,62}$`)
	digestPattern  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	runtimePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)
	envPattern     = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*=`)
	fdPattern      = regexp.MustCompile(`^/proc/[0-9]+/fd/[0-9]+$`)
)

// engineSockets are the base names that give away the host, wherever they are.
var engineSockets = []string{
	"docker.sock", "containerd.sock", "containerd.sock.ttrpc", "podman.sock",
	"crio.sock", "cri-dockerd.sock", "buildkitd.sock",
}

// hostRoots are directories that hold the engine's socket, the host's devices
// or all of its files. What lies below them may be mounted, except below the
// kernel's own, in kernelTrees.
var (
	hostRoots   = []string{"/", "/run", "/var", "/var/run", "/var/lib", "/run/docker", "/run/containerd", "/var/run/docker", "/var/run/containerd", "/run/podman"}
	kernelTrees = []string{"/proc", "/sys", "/dev"}
)

// Validate reports everything that is wrong with the spec, as one
// InvalidArgument error. It does no I/O: see also [Spec.CheckSources] and
// [Limits.CheckHost].
func (s *Spec) Validate() error {
	var p problems
	p.check(idPattern.MatchString(s.ID), "id %q must be 2 to 63 letters, digits, '_' or '-', a letter or digit first", s.ID)
	p.check(digestPattern.MatchString(s.Image), "image %q must be a digest, sha256:<64 hex digits>", s.Image)
	p.check(s.UID != 0, "uid must not be 0")
	// Its files would be the container's own, and its processes open to signals.
	p.check(int64(s.UID) != int64(os.Geteuid()) || s.UID == 0, "uid must not be %d, which is the orchestrator's own", s.UID)
	p.check(s.GID != 0, "gid must not be 0")
	p.check(s.Runtime == "" || runtimePattern.MatchString(s.Runtime), "runtime %q is not a name", s.Runtime)
	p.check(s.StopGrace >= 0 && s.StopGrace <= MaxStopGrace, "stop grace %s must be 0 to %s", s.StopGrace, MaxStopGrace)
	s.validateProcess(&p)
	s.validateLabels(&p)
	s.validateSeccomp(&p)
	s.validateMounts(&p)
	s.Limits.validate(&p)
	return p.err("sandbox " + s.ID)
}

func (s *Spec) validateProcess(p *problems) {
	p.check(len(s.Args) > 0 && cleanAbs(s.Args[0]), "args must begin with the clean absolute path of a program")
	for _, arg := range s.Args {
		p.check(!strings.ContainsRune(arg, 0), "an argument holds a zero byte")
	}
	p.check(cleanAbs(s.Dir), "working directory %q must be a clean absolute path", s.Dir)
	seen := map[string]bool{}
	for _, kv := range s.Env {
		key, _, _ := strings.Cut(kv, "=")
		p.check(envPattern.MatchString(kv), "environment entry %q must be KEY=value", key)
		p.check(!strings.ContainsRune(kv, 0), "environment variable %q holds a zero byte", key)
		p.check(!seen[key], "environment variable %q is set twice", key)
		seen[key] = true
	}
	p.check(seen["HOME"], "environment must set HOME")
}

func (s *Spec) validateLabels(p *problems) {
	for _, key := range []string{LabelHome, LabelTenant, LabelInstance, LabelRole} {
		p.check(s.Labels[key] != "", "label %s must be set", key)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
		p.check(key != "" && !strings.ContainsAny(key, "=\x00\n"), "label %q must not hold '=', a zero byte or a new line", key)
		p.check(!strings.ContainsAny(s.Labels[key], "\x00\n"), "label %s must not hold a zero byte or a new line", key)
	}
}

// validateSeccomp refuses what is no profile and what allows by default.
func (s *Spec) validateSeccomp(p *problems) {
	if len(s.Seccomp) == 0 {
		p.add("seccomp profile must be set")
		return
	}
	var profile struct {
		DefaultAction string `json:"defaultAction"`
	}
	if err := json.Unmarshal(s.Seccomp, &profile); err != nil {
		p.add("seccomp profile is not valid: %v", err)
		return
	}
	refusing := []string{"SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS"}
	p.check(slices.Contains(refusing, profile.DefaultAction), "seccomp profile must refuse by default, its default action is %q", profile.DefaultAction)
}

func (s *Spec) validateMounts(p *problems) {
	targets := map[string]bool{}
	target := func(kind, path string) {
		switch {
		case !cleanAbs(path):
			p.add("%s target %q must be a clean absolute path", kind, path)
		case path == "/" || within(path, kernelTrees...):
			p.add("%s target %s belongs to the container's own file systems", kind, path)
		case targets[path]:
			p.add("target %s is used twice", path)
		}
		targets[path] = true
	}
	for _, m := range s.Mounts {
		target("mount", m.Target)
		m.validateSource(p)
		p.check(!m.Image || m.ReadOnly, "mount %s: an image is always read-only", m.Target)
	}
	for _, t := range s.Tmpfs {
		target("tmpfs", t.Target)
		p.check(t.Size >= 4096, "tmpfs %s: size %d must be at least 4096 bytes", t.Target, t.Size)
		p.check(t.Size <= s.Limits.Memory, "tmpfs %s: size %d exceeds the memory limit %d, which it counts against", t.Target, t.Size, s.Limits.Memory)
		p.check(t.Mode != 0 && t.Mode <= 0o1777, "tmpfs %s: mode %#o must be 1 to 01777", t.Target, t.Mode)
	}
}

func (m *Mount) validateSource(p *problems) {
	switch {
	case !cleanAbs(m.Source):
		p.add("mount %s: source %q must be a clean absolute path", m.Target, m.Source)
	case m.Image && fdPattern.MatchString(m.Source):
	case slices.Contains(hostRoots, m.Source) || within(m.Source, kernelTrees...):
		p.add("mount %s: source %s would give away the host", m.Target, m.Source)
	case holdsEngineSocket(m.Source):
		p.add("mount %s: source %s is a container engine's socket", m.Target, m.Source)
	}
}

// holdsEngineSocket says that a part of path is named as an engine's socket.
func holdsEngineSocket(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), IsEngineSocket)
}

// IsEngineSocket says that a file of that name, without its directory, would be
// taken for a container engine's socket, which gives away the host.
func IsEngineSocket(name string) bool { return slices.Contains(engineSockets, name) }

func (l *Limits) validate(p *problems) {
	bound := func(name string, got, low, high int64) {
		p.check(got >= low && got <= high, "limit %s: %d must be %d to %d", name, got, low, high)
	}
	bound("memory", l.Memory, MinMemory, MaxMemory)
	bound("pids", l.PIDs, MinPIDs, MaxPIDs)
	bound("open files", l.OpenFiles, MinOpenFiles, MaxOpenFiles)
	bound("log size", l.LogSize, MinLogSize, MaxLogSize)
	// Written so that NaN, which compares false with everything, is refused.
	p.check(l.CPUs >= MinCPUs && l.CPUs <= MaxCPUs, "limit cpus: %v must be %v to %v", l.CPUs, MinCPUs, MaxCPUs)
}

// CheckHost reports limits that exceed what the engine's host has, as an
// InvalidArgument error: such a limit would protect nothing.
func (l *Limits) CheckHost(host Info) error {
	var p problems
	p.check(host.Memory == 0 || l.Memory <= host.Memory, "limit memory: %d MiB exceeds the host's %d MiB", l.Memory>>20, host.Memory>>20)
	p.check(host.CPUs == 0 || l.CPUs <= float64(host.CPUs), "limit cpus: %v exceeds the host's %d", l.CPUs, host.CPUs)
	return p.err("limits")
}

// CheckSources reports mount sources that are missing or are not what
// [Mount] asks for, as an InvalidArgument error. It looks at this host's files
// and is a second line: names are compared before they are mounted, so whoever
// may rename them in between must not be able to write there.
func (s *Spec) CheckSources() error {
	var p problems
	for _, m := range s.Mounts {
		if err := m.checkSource(); err != nil {
			p.add("mount %s: %v", m.Target, err)
		}
	}
	return p.err("sandbox " + s.ID)
}

func (m *Mount) checkSource() error {
	if !m.Image || !fdPattern.MatchString(m.Source) {
		real, err := filepath.EvalSymlinks(m.Source)
		if err != nil {
			return fmt.Errorf("cannot look at the source: %w", err)
		}
		if real != m.Source {
			return fmt.Errorf("source %s leads through a symlink to %s", m.Source, real)
		}
	}
	info, err := os.Stat(m.Source)
	switch {
	case err != nil:
		return fmt.Errorf("cannot look at the source: %w", err)
	case info.Mode().IsRegular(), info.IsDir() && !m.Image:
		return nil
	case m.Image:
		return fmt.Errorf("source %s is not an image file", m.Source)
	}
	return fmt.Errorf("source %s is neither a file nor a directory", m.Source)
}

// Hostname is the host name inside: the ID as a valid one.
func (s *Spec) Hostname() string {
	return strings.TrimRight(strings.ToLower(strings.ReplaceAll(s.ID, "_", "-")), "-")
}

func cleanAbs(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && !strings.ContainsAny(path, "\x00\n")
}

// within says that path is one of roots or below one.
func within(path string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

// problems collects what is wrong, so that a person sees all of it at once.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

func (p *problems) check(ok bool, format string, args ...any) {
	if !ok {
		p.add(format, args...)
	}
}

func (p problems) err(what string) error {
	if len(p) == 0 {
		return nil
	}
	return fmt.Errorf("cannot accept %s: %s: %w", what, strings.Join(p, "; "), errdefs.ErrInvalidArgument)
}
