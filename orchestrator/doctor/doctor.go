// Package doctor looks at a host and says what is missing or weaker than it
// could be, why that matters, and the command that mends it. It changes
// nothing and needs no daemon.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/images"
	"github.com/ocmt/ocmt/orchestrator/engine"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/sandbox"
)

// engineTimeout bounds how long doctor waits for an engine that hangs.
const engineTimeout = 15 * time.Second

// firstPersonUID is where Debian, and most others, begin to number people; see
// login.defs(5), UID_MIN.
const firstPersonUID = 1000

// Statuses of a check.
const (
	OK      = "ok"
	Weaker  = "weaker"  // works, with less protection
	Missing = "missing" // ocmt does not run without it
)

// asRoot is the command that lifts what an ordinary user cannot have.
const asRoot = "sudo ocmt serve --home /var/lib/ocmt"

// Check is one finding.
type Check struct {
	Name   string
	Status string
	Detail string // what was found, and why it matters
	Fix    string // the command or step that mends it; empty if OK
}

// Options say what to look at; as in daemon.Options.
type Options struct {
	Home    string
	Engine  string
	Runtime string
}

// Run makes all checks. A check that cannot be made is a finding, not an
// error.
func Run(ctx context.Context, opts Options) []Check {
	uid := os.Geteuid()
	checks := []Check{checkUser(uid), checkHome(opts.Home), checkFileSystem(opts.Home), checkConfigs(opts.Home)}
	info, err := lookAtEngine(ctx, opts)
	checks = append(checks, checkEngine(opts.Runtime, info, err))
	checks = append(checks, checkImages()...)
	checks = append(checks, checkStore(uid, canFreeze(uid, opts.Home)), checkState(uid), checkStateSize(canBound(opts.Home)))
	if err != nil {
		return checks // the rest depends on the engine
	}
	mounts, why := canMount(uid, opts.Home)
	checks = append(checks, checkSealing(mounts, why, info), checkStateFlags(mounts, info), checkIsolation(opts.Runtime, info))
	for _, w := range info.Warnings {
		checks = append(checks, checkWarning(w))
	}
	return checks
}

// lookAtEngine asks the engine about itself. What that needs on the disk is
// removed again.
func lookAtEngine(ctx context.Context, opts Options) (sandbox.Info, error) {
	dir, err := os.MkdirTemp("", "ocmt-doctor-")
	if err != nil {
		return sandbox.Info{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	_, info, err := engine.Open(ctx, engine.Options{
		Name: opts.Engine, Runtime: opts.Runtime, Dir: dir, Logger: slog.New(slog.DiscardHandler),
	})
	return info, err
}

// checkUser asks who else acts with the rights that the daemon has.
func checkUser(uid int) Check {
	const name = "user"
	switch {
	case uid == 0:
		return Check{name, OK, "runs as root", ""}
	case uid < firstPersonUID:
		return Check{name, OK, fmt.Sprintf("runs as a user of its own, uid %d", uid), ""}
	}
	return Check{name, Weaker,
		"runs as a person's user: that user's other programs, an agent included, can write the home and use the engine's socket, which is as good as root",
		asRoot}
}

func checkEngine(runtime string, info sandbox.Info, err error) Check {
	const name = "engine"
	if err != nil {
		f := fault.Of(err)
		return Check{name, Missing, plain(f), engineFix(f)}
	}
	detail := fmt.Sprintf("%s %s, runtime %s, cgroup v%d", info.Name, info.Version, cmp.Or(runtime, info.Runtime), cgroupVersion(info))
	if info.Rootless {
		return Check{name, Weaker, detail + "; it is rootless: some limits may not hold", "DOCKER_HOST=unix:///var/run/docker.sock ocmt serve"}
	}
	return Check{name, OK, detail, ""}
}

// plain is a fault's message without the name of a class at its end.
func plain(f *fault.Error) string {
	message := f.Message
	for _, class := range []error{errdefs.ErrUnavailable, errdefs.ErrPermissionDenied, errdefs.ErrFailedPrecondition} {
		message = strings.TrimSuffix(message, ": "+class.Error())
	}
	return message
}

func engineFix(f *fault.Error) string {
	switch {
	case f.Code == "engine_denied":
		return "sudo usermod -aG docker " + userName() + ", then log in again"
	case f.Hint != "":
		return f.Hint
	}
	return "see what the engine says: docker version"
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "USER"
}

func cgroupVersion(info sandbox.Info) int {
	if info.CgroupV2 {
		return 2
	}
	return 1
}

func checkImages() []Check {
	var checks []Check
	for _, name := range []images.Name{images.Base, images.Install} {
		check := Check{Name: string(name) + " image", Status: OK}
		path, _, err := images.Locate(name)
		if err != nil {
			check.Status, check.Detail, check.Fix = Missing, err.Error(), "make build, or set OCMT_IMAGES to the directory with the images"
		} else {
			check.Detail = path
		}
		checks = append(checks, check)
	}
	return checks
}

// checkSealing asks how a sealed payload gets into a container.
func checkSealing(mounts bool, why string, info sandbox.Info) Check {
	const name = "sealed payloads"
	switch {
	case mounts:
		return Check{name, OK, "mounted by the daemon from the descriptor that was hashed", ""}
	case info.ImageMounts:
		return Check{name, OK, "mounted by the engine from the descriptor that was hashed (" + why + ")", ""}
	}
	return Check{name, Weaker,
		"nothing can mount an image here (" + why + "): payloads are directories with a digest, which shows accidents but not an attacker who changes them between the check and the start",
		"sudo modprobe erofs && " + asRoot}
}

// checkStore asks who can write to the sealed payloads.
func checkStore(uid int, freeze bool) Check {
	const name = "payload files"
	switch {
	case uid != 0:
		return Check{name, Weaker,
			"without root they belong to the daemon's user and cannot be made immutable: what runs as that user can change them, which the next start finds and refuses, but a running plugin sees",
			asRoot}
	case !freeze:
		return Check{name, Weaker,
			"root's, but the file system of the home cannot make files immutable: another program of root's can change them by accident, which the next start finds and refuses",
			"move the home to a file system with the immutable flag, for example ext4, xfs or btrfs"}
	}
	return Check{name, OK, "root's, and immutable", ""}
}

// checkState asks who can reach what a plugin keeps.
func checkState(uid int) Check {
	const name = "plugin state"
	if uid == 0 {
		return Check{name, OK, "each plugin's directory belongs to its own uid", ""}
	}
	return Check{name, Weaker,
		"without root a plugin's directory cannot be given to the plugin's uid: everybody may write to it, and only the directory around it, mode 0700, keeps them out",
		asRoot}
}

// checkStateSize asks whether a plugin that writes without end is stopped by its
// own file system, or by whoever looks at its directory now and then.
func checkStateSize(image bool, why string) Check {
	const name = "state size"
	if image {
		return Check{name, OK, "each plugin writes to a file system of its own, of the size it was granted", ""}
	}
	fix := asRoot
	if strings.Contains(why, "mkfs") {
		fix = "sudo apt-get install e2fsprogs"
	}
	return Check{name, Weaker,
		"no file system of its own for each plugin (" + why + "): ocmt looks at its directory every few seconds and ends what is over its limit, which can fill the disk meanwhile", fix}
}

// checkStateFlags asks whether a plugin can run programs that it wrote.
func checkStateFlags(mounts bool, info sandbox.Info) Check {
	const name = "noexec state"
	if info.MountFlags || mounts {
		return Check{name, OK, "/state is mounted noexec", ""}
	}
	return Check{name, Weaker, "/state cannot be mounted noexec without root: a plugin can start programs that it wrote there, inside its container", asRoot}
}

// checkIsolation asks whether a kernel bug would let a plugin out.
func checkIsolation(runtime string, info sandbox.Info) Check {
	const name = "kernel isolation"
	used := cmp.Or(runtime, info.Runtime)
	if strings.Contains(used, "runsc") || strings.Contains(used, "kata") {
		return Check{name, OK, "plugins do not share the host's kernel (" + used + "), which has system calls of its own: the seccomp profile is not what holds them", ""}
	}
	const why = "plugins share the host's kernel: a kernel bug that the seccomp profile leaves reachable lets them out"
	isGVisor := func(r string) bool { return strings.Contains(r, "runsc") }
	if i := slices.IndexFunc(info.Runtimes, isGVisor); i >= 0 {
		return Check{name, Weaker, why, "ocmt serve --runtime " + info.Runtimes[i]}
	}
	return Check{name, Weaker, why, "apt-get install runsc && runsc install && systemctl restart docker (as root, on Debian), then ocmt serve --runtime runsc"}
}

// checkWarning passes on what the engine lacks.
func checkWarning(warning string) Check {
	fix := "see what the kernel offers: docker info"
	if strings.Contains(warning, "swap") {
		fix = "sudo swapoff -a, or boot with swapaccount=1 on the kernel's command line"
	}
	return Check{"engine limits", Weaker, warning, fix}
}
