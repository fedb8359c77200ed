// Package doctor looks at a host and says what is missing or weaker than it
// could be, why that matters, and the command that mends it. It changes
// nothing and needs no daemon.
package doctor

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocmt/ocmt/images"
	"github.com/ocmt/ocmt/orchestrator/engine"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/sandbox"
)

// engineTimeout bounds how long doctor waits for an engine that hangs.
const engineTimeout = 15 * time.Second

// Statuses of a check.
const (
	OK      = "ok"
	Weaker  = "weaker"  // works, with less protection
	Missing = "missing" // ocmt does not run without it
)

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
	checks := []Check{checkUser(), checkHome(opts.Home)}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	_, info, err := engine.Open(ctx, engine.Options{
		Name: opts.Engine, Runtime: opts.Runtime, Logger: slog.New(slog.DiscardHandler),
	})
	checks = append(checks, checkEngine(info, err))
	checks = append(checks, checkImages()...)
	checks = append(checks, checkSealing(opts.Home, info, err == nil))
	if err != nil {
		return checks
	}
	checks = append(checks, checkIsolation(opts.Runtime, info), checkStateFlags(info))
	for _, w := range info.Warnings {
		checks = append(checks, Check{"engine limits", Weaker, w, "enable what is named in the kernel or the engine's configuration"})
	}
	return checks
}

func checkEngine(info sandbox.Info, err error) Check {
	if err != nil {
		f := fault.Of(err)
		return Check{"engine", Missing, f.Message, f.Hint}
	}
	detail := fmt.Sprintf("%s %s, runtime %s, cgroup v%d", info.Name, info.Version, info.Runtime, cgroupVersion(info))
	if info.Rootless {
		return Check{"engine", Weaker, detail + "; it is rootless, so that some limits may not hold", "use a system-wide engine"}
	}
	return Check{"engine", OK, detail, ""}
}

func cgroupVersion(info sandbox.Info) int {
	if info.CgroupV2 {
		return 2
	}
	return 1
}

// checkIsolation asks whether a kernel bug would let a plugin out.
func checkIsolation(runtime string, info sandbox.Info) Check {
	used := runtime
	if used == "" {
		used = info.Runtime
	}
	if strings.Contains(used, "runsc") || strings.Contains(used, "kata") {
		return Check{"kernel isolation", OK, "plugins do not share the host's kernel (" + used + ")", ""}
	}
	const why = "plugins share the host's kernel: a kernel bug that the seccomp profile leaves reachable lets them out"
	if slices.ContainsFunc(info.Runtimes, func(r string) bool { return strings.Contains(r, "runsc") }) {
		return Check{"kernel isolation", Weaker, why, "ocmt serve --runtime runsc"}
	}
	return Check{"kernel isolation", Weaker, why, "install gVisor (Debian: apt-get install runsc), add it to the engine's runtimes, then: ocmt serve --runtime runsc"}
}

func checkUser() Check {
	uid := os.Geteuid()
	switch {
	case uid == 0:
		return Check{"user", OK, "runs as root: mounts payloads itself, gives every plugin's state to its own uid", ""}
	case uid >= 1000:
		return Check{"user", Weaker,
			"runs as a person's user: other programs of that user, an agent included, can write the home and use the engine's socket",
			"run ocmt serve as root or as a user of its own, with --home /var/lib/ocmt"}
	}
	return Check{"user", Weaker, "runs without root: a plugin's state directory cannot be given to the plugin's own uid; only its private parent protects it", "run ocmt serve as root"}
}

func checkHome(dir string) Check {
	h, err := home.Open(dir)
	if err != nil {
		f := fault.Of(err)
		return Check{"home", Missing, f.Message, f.Hint}
	}
	st, err := os.Stat(h.Dir())
	if err != nil {
		return Check{"home", Missing, err.Error(), "make the directory, or name another with --home"}
	}
	if st.Mode().Perm()&0o022 != 0 {
		return Check{"home", Weaker, fmt.Sprintf("%s can be written by others (mode %04o): they can enable and configure plugins", h.Dir(), st.Mode().Perm()),
			"chmod go-w " + h.Dir()}
	}
	return Check{"home", OK, h.Dir(), ""}
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
func checkSealing(dir string, info sandbox.Info, engineAnswers bool) Check {
	const name = "sealed payloads"
	ok, why := seal.CanMount(filepath.Join(dir, "ocmt", "store"))
	switch {
	case ok:
		return Check{name, OK, "mounted by this process from the descriptor that was hashed", ""}
	case engineAnswers && info.ImageMounts:
		return Check{name, OK, "mounted by the engine from the descriptor that was hashed (" + why + ")", ""}
	}
	return Check{name, Weaker,
		"nothing can mount an image here (" + why + "): payloads are directories with a digest, which shows accidents but not an attacker who changes them between the check and the start",
		"run ocmt serve as root, with the kernel module erofs"}
}

// checkStateFlags asks whether a plugin can run programs that it wrote.
func checkStateFlags(info sandbox.Info) Check {
	const name = "noexec state"
	if info.MountFlags || os.Geteuid() == 0 {
		return Check{name, OK, "/state is mounted noexec", ""}
	}
	return Check{name, Weaker, "/state cannot be mounted noexec without root: a plugin can start programs that it wrote there, inside its container", "run ocmt serve as root"}
}

// Worst returns the gravest status of the checks.
func Worst(checks []Check) string {
	worst := OK
	for _, c := range checks {
		if c.Status == Missing || c.Status == Weaker && worst == OK {
			worst = c.Status
		}
	}
	return worst
}
