package docker

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/system"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/sandbox"
)

var update = flag.Bool("update", false, "write the generated table into docs/cis.md")

// found is a container that runs, as the engine tells about it.
type found struct {
	container.InspectResponse
	host      system.Info
	processes []string // command lines
}

// control is a check of the CIS Docker Benchmark 1.6.0, section 5, with the ids
// that docker-bench-security prints.
type control struct {
	id, what, verdict, how string
	ok                     func(c found) bool // nil for what is no container's
}

// Verdicts: passes, or why it need not.
const (
	passes    = "passes"
	otherwise = "met otherwise"
	operators = "the operator's"
)

var controls = []control{
	{"5.1", "swarm mode off unless needed", operators, "nothing of ours uses it", nil},
	{"5.2", "AppArmor profile", passes, "the engine's default profile, where the host has AppArmor", func(c found) bool {
		return !c.hostHas("apparmor") || c.AppArmorProfile == "docker-default"
	}},
	{"5.3", "SELinux options", passes, "the engine's label, where it runs with SELinux; never switched off", func(c found) bool {
		return !c.hostHas("selinux") || c.ProcessLabel != ""
	}},
	{"5.4", "capabilities restricted", passes, "all dropped, none added", func(c found) bool {
		return len(c.HostConfig.CapAdd) == 0 && slices.Equal(c.HostConfig.CapDrop, []string{"ALL"})
	}},
	{"5.5", "not privileged", passes, "never", func(c found) bool { return !c.HostConfig.Privileged }},
	{"5.6", "no sensitive host directory mounted", passes, "refused: the host's roots, and /proc, /sys and /dev; system paths cannot be granted", func(c found) bool {
		return !slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool {
			return slices.Contains([]string{"/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr"}, m.Source)
		})
	}},
	{"5.7", "no sshd inside", passes, "the image holds no program but Node and ours", func(c found) bool {
		return len(c.processes) == 1 && !strings.Contains(c.processes[0], "sshd")
	}},
	{"5.8", "no privileged port mapped", passes, "no port is", func(c found) bool { return len(c.HostConfig.PortBindings) == 0 }},
	{"5.9", "only needed ports open", passes, "none is", func(c found) bool { return len(c.NetworkSettings.Ports) == 0 && !c.HostConfig.PublishAllPorts }},
	{"5.10", "host's network not shared", passes, "network none", func(c found) bool { return c.HostConfig.NetworkMode == "none" }},
	{"5.11", "memory limited", passes, "with no swap beyond it", func(c found) bool {
		return c.HostConfig.Memory > 0 && c.HostConfig.MemorySwap == c.HostConfig.Memory
	}},
	{"5.12", "cpu priority set", passes, "shares and a quota", func(c found) bool { return c.HostConfig.CPUShares > 0 && c.HostConfig.NanoCPUs > 0 }},
	{"5.13", "root file system read-only", passes, "always", func(c found) bool { return c.HostConfig.ReadonlyRootfs }},
	{"5.14", "incoming traffic bound to one interface", passes, "there is none", func(c found) bool { return len(c.HostConfig.PortBindings) == 0 }},
	{"5.15", "restart policy not always", passes, "none: the supervisor restarts, with delays and a breaker", func(c found) bool {
		return c.HostConfig.RestartPolicy.IsNone()
	}},
	{"5.16", "host's processes not shared", passes, "a name space of its own", func(c found) bool { return c.HostConfig.PidMode == "" }},
	{"5.17", "host's IPC not shared", passes, "ipc none", func(c found) bool { return c.HostConfig.IpcMode == "none" }},
	{"5.18", "no host devices", passes, "none, no device requests and no rules", func(c found) bool {
		return len(c.HostConfig.Devices) == 0 && len(c.HostConfig.DeviceRequests) == 0 && len(c.HostConfig.DeviceCgroupRules) == 0
	}},
	{"5.19", "ulimits set", passes, "open files, core dumps and message queues", func(c found) bool { return len(c.HostConfig.Ulimits) == 3 }},
	{"5.20", "propagation not shared", passes, "rprivate, and nothing below a source", func(c found) bool {
		return !slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool { return m.Propagation != mount.PropagationRPrivate })
	}},
	{"5.21", "host's UTS not shared", passes, "a name space of its own", func(c found) bool { return c.HostConfig.UTSMode == "" }},
	{"5.22", "seccomp not disabled", passes, "a profile of our own, tighter than the engine's", func(c found) bool {
		return slices.ContainsFunc(c.HostConfig.SecurityOpt, func(option string) bool { return strings.HasPrefix(option, "seccomp={") })
	}},
	{"5.23", "no exec with --privileged", passes, "we never exec into a container; hold the engine's socket as root's", func(c found) bool { return len(c.ExecIDs) == 0 }},
	{"5.24", "no exec as root", passes, "the same", func(c found) bool {
		return len(c.ExecIDs) == 0 && c.Config.User != "" && !strings.HasPrefix(c.Config.User, "0")
	}},
	{"5.25", "control group confirmed", passes, "the engine's own", func(c found) bool { return c.HostConfig.CgroupParent == "" }},
	{"5.26", "no new privileges", passes, "always", func(c found) bool {
		return slices.ContainsFunc(c.HostConfig.SecurityOpt, func(option string) bool { return strings.HasPrefix(option, "no-new-privileges") })
	}},
	{"5.27", "health checked", otherwise, "the supervisor asks the runner over the bus; a health check would run a program inside for the engine, so the image's is off", func(c found) bool {
		return c.Config.Healthcheck != nil && slices.Equal(c.Config.Healthcheck.Test, []string{"NONE"})
	}},
	{"5.28", "latest image used", otherwise, "the image is named by its digest and built from pinned packages; an update of ocmt brings a new one", func(c found) bool {
		return strings.HasPrefix(c.Config.Image, "sha256:") && c.Config.Image == c.Image
	}},
	{"5.29", "process count limited", passes, "always", func(c found) bool { return c.HostConfig.PidsLimit != nil && *c.HostConfig.PidsLimit > 0 }},
	{"5.30", "docker0 not used", passes, "no network at all", func(c found) bool {
		_, none := c.NetworkSettings.Networks["none"]
		return none && len(c.NetworkSettings.Networks) == 1
	}},
	{"5.31", "host's user name space not shared by force", passes, "a daemon with userns-remap applies it", func(c found) bool { return c.HostConfig.UsernsMode == "" }},
	{"5.32", "engine's socket not mounted", passes, "refused wherever it is", func(c found) bool {
		return !slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool { return sandbox.IsEngineSocket(filepath.Base(m.Source)) })
	}},
}

func (c found) hostHas(option string) bool {
	return slices.ContainsFunc(c.host.SecurityOptions, func(o string) bool { return strings.HasPrefix(o, "name="+option) })
}

// TestCIS looks at a running container as docker-bench-security does.
func TestCIS(t *testing.T) {
	e := engine(t)
	spec := probe(t, e, "sleep", "0")
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	spec.Mounts = []sandbox.Mount{{Source: dir, Target: "/state", NoExec: true}}
	if err := e.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	defer remove(t, e, spec.ID)
	if err := e.Start(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	var c found
	if c.InspectResponse, err = e.client.ContainerInspect(t.Context(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if c.host, err = e.systemInfo(t.Context()); err != nil {
		t.Fatal(err)
	}
	top, err := e.client.ContainerTop(t.Context(), spec.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range top.Processes {
		c.processes = append(c.processes, process[len(process)-1])
	}
	if len(c.Mounts) == 0 {
		t.Error("the container has no mounts to look at")
	}
	for _, control := range controls {
		if control.ok != nil && !control.ok(c) {
			t.Errorf("%s, %s: not so: %+v\n%+v", control.id, control.what, c.HostConfig, c.Mounts)
		}
	}
}

func TestCISIsDocumented(t *testing.T) {
	const path = "../../docs/cis.md"
	var want strings.Builder
	want.WriteString("# CIS Docker Benchmark, section 5\n\n" +
		"What `docker-bench-security` (benchmark 1.6.0) asks of containers at run time, and what it finds in a plugin's. " +
		"The table is generated from `sandbox/docker/cis_test.go`, which checks each row on a real container.\n\n" +
		"| Id | Check | Verdict | How |\n|---|---|---|---|\n")
	for i, c := range controls {
		if wantID := fmt.Sprintf("5.%d", i+1); c.id != wantID || c.how == "" || (c.ok == nil) != (c.verdict == operators) {
			t.Errorf("control %+v, want %s", c, wantID)
		}
		fmt.Fprintf(&want, "| %s | %s | %s | %s |\n", c.id, c.what, c.verdict, c.how)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("%s differs; run go test ./sandbox/docker -run TestCISIsDocumented -update (-want +got):\n%s", path, diff)
	}
}
