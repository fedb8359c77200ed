package instance

import (
	"strconv"

	"github.com/ocmt/ocmt/sandbox"
)

// Where things are in the images.
const (
	socketDir  = "/run/ocmt"
	initPath   = "/ocmt/init"
	nodePath   = "/usr/bin/node"
	runnerPath = "/ocmt/runner.js"
	npmPath    = "/usr/lib/node_modules/npm/bin/npm-cli.js"
)

// heapShare is the part of the memory limit that V8's old space may take; the
// rest is for the young space, buffers, code and native add-ons.
const heapShare = 0.7

// pluginSpec is the container of a plugin, or of its load check.
func pluginSpec(f *Factory, in *Instance, uid uint32, mounts []sandbox.Mount) sandbox.Spec {
	role := sandbox.RolePlugin
	if in.plan.Discovery {
		role = sandbox.RoleCheck
	}
	limits := sandbox.LimitsFor(role).Fit(f.Info)
	heap := strconv.FormatInt(int64(float64(limits.Memory)*heapShare)>>20, 10)
	labels := f.labels(in.plan.Key.Tenant, in.id, role)
	labels[sandbox.LabelPlugin] = in.plan.Key.ID
	labels[sandbox.LabelGeneration] = strconv.FormatUint(in.plan.Generation, 10)
	home := stateDir + "/home"
	if in.plan.Discovery {
		home = "/tmp"
	}
	return sandbox.Harden(sandbox.Spec{
		ID:    in.id,
		Image: f.Image,
		Args:  []string{initPath, "run", "--", nodePath, "--max-old-space-size=" + heap, runnerPath},
		Env: []string{
			"OCMT_TENANT=" + in.plan.Key.Tenant,
			"OCMT_PLUGIN=" + in.busName(),
			"OCMT_GENERATION=" + strconv.FormatUint(in.plan.Generation, 10),
			"OCMT_BUS=" + socketDir + "/bus.sock",
			"HOME=" + home, "TMPDIR=/tmp", "PATH=/usr/bin", "LANG=C.UTF-8", "NODE_ENV=production",
		},
		UID: uid, GID: uid,
		Labels: labels, Mounts: mounts, Limits: limits, Runtime: f.Runtime,
	})
}

func (f *Factory) labels(tenant, instance, role string) map[string]string {
	return map[string]string{
		sandbox.LabelHome:     f.HomeID,
		sandbox.LabelTenant:   tenant,
		sandbox.LabelInstance: instance,
		sandbox.LabelRole:     role,
	}
}
