package sandbox

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Control is one thing that confines a container.
type Control struct {
	Name    string `json:"name"`
	Setting string `json:"setting"`
	// Against is what it keeps a container from.
	Against string `json:"against"`
	// Note says what is particular to the engine, the runtime or the host; it
	// may be empty.
	Note string `json:"note,omitempty"`
}

// IsGVisor goes by the name that gVisor's own installer gives its runtime, and
// those made from it.
func IsGVisor(runtime string) bool { return strings.Contains(runtime, "runsc") }

// Table returns every control of a container that is made from spec by the
// engine that info describes, for people: the profile that [Hardened] has for
// all of them, and what this one's spec says. Names do not change from one
// release to the next.
func Table(spec Spec, info Info) []Control {
	v := view{spec: &spec, info: &info, profile: Hardened(), gVisor: IsGVisor(cmp.Or(spec.Runtime, info.Runtime))}
	return slices.Concat(v.spaces(), v.identity(), v.kernel(), v.files(), v.limits(), v.life())
}

// view is what the rows are made from.
type view struct {
	spec    *Spec
	info    *Info
	profile Profile
	gVisor  bool
}

// warned returns what the engine warns of, if a warning names the word.
func (v *view) warned(word string) string {
	at := slices.IndexFunc(v.info.Warnings, func(warning string) bool { return strings.Contains(warning, word) })
	if at < 0 {
		return ""
	}
	return v.info.Warnings[at]
}

// under returns a note for gVisor alone.
func (v *view) under(gVisor string) string {
	if v.gVisor {
		return "gVisor: " + gVisor
	}
	return ""
}

func (v *view) spaces() []Control {
	own := v.under("its processes share the host's; those of the container exist in its kernel alone")
	return []Control{
		{"network", v.profile.Network + ": a loopback device alone", "connections that no grant allows, abstract sockets of the host", ""},
		{"ipc", v.profile.IPC + ": a name space of its own, without /dev/shm", "shared memory and message queues of others", ""},
		{"processes", "a name space of its own", "seeing, tracing and signalling other processes", own},
		{"mounts", "a name space of its own, nothing propagates", "seeing what the host mounts, mounting for the host", ""},
		{"host name", "a name space of its own, named " + v.spec.Hostname(), "learning or changing the host's name", ""},
		{"control groups", v.profile.CgroupNamespace + " name space", "learning the host's groups, raising a limit", own},
		{"user name space", "not used: the ids inside are those of the host", "",
			"engines offer one mapping for all containers (Docker), or per container only lately (containerd 2 with Linux 6.3); an id of its own for every plugin, without capabilities, stands in"},
	}
}

func (v *view) identity() []Control {
	return []Control{
		{"user and group", fmt.Sprintf("%d and %d, no further groups", v.spec.UID, v.spec.GID), "reading what belongs to the host, another plugin or another tenant", ""},
		{"capabilities", cmp.Or(strings.Join(v.profile.Capabilities, ", "), "none, in any set"), "every privilege of root", ""},
		{"no new privileges", onOff(v.profile.NoNewPrivileges), "gaining rights by set-user-ID programs", ""},
		{"environment", fmt.Sprintf("only what is set: %d variables; nothing of the image's or the engine's", len(v.spec.Env)), "secrets in the environment", ""},
	}
}

func (v *view) kernel() []Control {
	sysctls := make([]string, 0, len(v.profile.Sysctls))
	for _, name := range slices.Sorted(maps.Keys(v.profile.Sysctls)) {
		sysctls = append(sysctls, name+" = "+v.profile.Sysctls[name])
	}
	const shows = "its kernel shows what is its own there, and nothing of the host's"
	filter := "a profile of our own that refuses what it does not list, for amd64 and arm64"
	if v.gVisor {
		filter = "none of ours"
	}
	return []Control{
		{"seccomp", filter, "kernel bugs in calls that Node does not need: io_uring, name spaces, BPF, key rings, AF_ALG, 32-bit calls and more",
			v.under("it ignores our profile; no call reaches the host's kernel as it is made; its own processes are confined by filters of its own")},
		v.appArmor(),
		v.seLinux(),
		{"masked paths", strings.Join(v.profile.MaskedPaths, " "), "learning about the host, its load and its neighbours", v.under(shows)},
		{"read-only paths", strings.Join(v.profile.ReadOnlyPaths, " "), "changing the kernel's settings", v.under(shows)},
		{"kernel settings", strings.Join(sysctls, "; "), "ICMP sockets; lets the forwarder use ports below 1024 without a capability", ""},
		{"devices", "null, zero, full, random, urandom, tty and pseudo terminals", "disks, memory, consoles and graphics of the host", ""},
	}
}

func (v *view) appArmor() Control {
	c := Control{Name: "AppArmor", Setting: "none", Against: "mounts and writes to the kernel's files, once more"}
	switch {
	case v.gVisor:
		c.Note = v.under("it knows no AppArmor")
	case v.info.AppArmor != "":
		c.Setting = v.info.AppArmor
	default:
		c.Note = cmp.Or(v.warned("AppArmor"), "the host has none")
	}
	return c
}

func (v *view) seLinux() Control {
	c := Control{Name: "SELinux", Setting: "none", Against: "files of the host, once more"}
	if v.info.SELinux {
		c.Setting = "the engine's label for containers"
		c.Note = "what is mounted is not labelled anew"
	} else {
		c.Note = "set only by a Docker engine that runs with --selinux-enabled"
	}
	return c
}

func (v *view) files() []Control {
	flags := "nosuid and nodev by the engine"
	if !v.info.MountFlags {
		flags = "noexec, nosuid and nodev are the source's, which the orchestrator mounts so where it runs as root"
	}
	mounts := make([]string, 0, len(v.spec.Mounts))
	for _, m := range v.spec.Mounts {
		mounts = append(mounts, m.Target+" "+m.flags())
	}
	memory := make([]string, 0, len(v.spec.Tmpfs))
	for _, t := range v.spec.Tmpfs {
		memory = append(memory, fmt.Sprintf("%s %s, noexec, nosuid, nodev", t.Target, mebibytes(t.Size)))
	}
	fromMemory := "refused: files in memory cannot be run"
	if v.gVisor {
		fromMemory = "possible"
	}
	return []Control{
		{"root file system", readOnly(v.profile.ReadOnlyRoot), "altered programs, files left for the next start", ""},
		{"mounted files", cmp.Or(strings.Join(mounts, "; "), "none"), "every other file of the host", flags},
		{"memory file systems", cmp.Or(strings.Join(memory, "; "), "none"), "a full memory, programs that were written there", "what is in them counts as memory"},
		{"programs from memory", fromMemory, "programs that no mount holds", v.under("they run in its kernel alone")},
		{"engine's socket", "refused by name as a mount, or with the directory it is in", "control of the host", ""},
	}
}

func (m *Mount) flags() string {
	words := readOnly(m.ReadOnly)
	if m.Image {
		words += ", a sealed image"
	}
	if m.NoExec {
		words += ", noexec"
	}
	return words
}

func (v *view) limits() []Control {
	l := v.spec.Limits
	heap := "none"
	for _, arg := range v.spec.Args {
		if size, ok := strings.CutPrefix(arg, "--max-old-space-size="); ok {
			heap = size + " MiB"
		}
	}
	swap := v.warned("swap")
	if swap == "" {
		swap = v.under("the limit is on its kernel too, which ends with it")
	}
	return []Control{
		{"memory", mebibytes(l.Memory) + ", swap included", "taking the host's memory", swap},
		{"heap", heap, "an end by the memory limit, where V8 can still clean up or say so", "the orchestrator gives Node the argument --max-old-space-size, a part of the memory limit"},
		{"cpu time", fmt.Sprintf("%g cores, and %d shares where time is short", l.CPUs, l.CPUShares()), "taking the host's time", ""},
		{"process count", strconv.FormatInt(l.PIDs, 10), "fork bombs", v.under(fmt.Sprintf("the limit is %d, on the threads of its kernel, which ends with them", GVisorPIDs(l.PIDs)))},
		{"open files", strconv.FormatInt(l.OpenFiles, 10) + " per process", "taking all descriptors", ""},
		{"core dumps", fmt.Sprintf("a limit of %d byte, which cannot be changed", v.profile.CoreSize), "a program of the host that runs as root for every crash, secrets on the disk", ""},
		{"message queues", fmt.Sprintf("%d bytes", v.profile.QueueSize), "kernel memory that no process holds", ""},
		{"out-of-memory score", strconv.Itoa(v.profile.OOMScoreAdj), "the host ending something else first", ""},
		{"output", fmt.Sprintf("%d files of %s", LogFiles, mebibytes(l.LogSize)), "a full disk", ""},
	}
}

func (v *view) life() []Control {
	return []Control{
		{"restart policy", v.profile.Restart, "a container that comes back past the supervisor", ""},
		{"end", fmt.Sprintf("%s, and SIGKILL after the grace; everything ends with the first process", v.profile.StopSignal), "what ignores signals or leaves children", ""},
		{"image's own settings", "command, environment, user, health check and volumes are not taken over", "what an image would start or ask for", ""},
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func readOnly(ro bool) string {
	if ro {
		return "read-only"
	}
	return "read-write"
}

// mebibytes writes a size for people; smaller ones are bytes.
func mebibytes(size int64) string {
	if size < 1<<20 {
		return strconv.FormatInt(size, 10) + " B"
	}
	return strconv.FormatFloat(float64(size)/(1<<20), 'f', -1, 64) + " MiB"
}
