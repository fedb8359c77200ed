package instance

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/install/fetch"
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

// role is what the plan's container is for.
func (p *Plan) role() string {
	if p.Discovery {
		return sandbox.RoleCheck
	}
	return sandbox.RolePlugin
}

// limits returns the plan's limits, with the defaults for those it leaves out.
func (f *Factory) limits(plan *Plan) (sandbox.Limits, error) {
	limits := sandbox.LimitsFor(plan.role()).Fit(f.Info)
	if plan.Discovery {
		return limits, nil
	}
	named := plan.Limits
	limits = sandbox.Limits{
		Memory: cmp.Or(named.Memory, limits.Memory), CPUs: cmp.Or(named.CPUs, limits.CPUs), PIDs: cmp.Or(named.PIDs, limits.PIDs),
		OpenFiles: cmp.Or(named.OpenFiles, limits.OpenFiles), LogSize: cmp.Or(named.LogSize, limits.LogSize),
	}
	if err := checkLimits(limits); err != nil {
		return limits, fault.New(errdefs.ErrInvalidArgument, "limits_invalid", "plugin %s is granted limits that no container can have: %w", plan.Key, err).
			WithHint("see `ocmt plugins permissions %s` and grant it others", plan.Key.ID)
	}
	if err := limits.CheckHost(f.Info); err != nil {
		return limits, fault.New(errdefs.ErrInvalidArgument, "limits_too_large", "plugin %s is granted more than this host has: %w", plan.Key, err).
			WithHint("see `ocmt plugins permissions %s` and grant it less", plan.Key.ID)
	}
	return limits, checkState(plan)
}

// checkLimits says which limit is too little for any process to start, or none
// at all.
func checkLimits(l sandbox.Limits) error {
	var errs []error
	for _, bound := range []struct {
		name           string
		got, low, high int64
	}{
		{"memory", l.Memory, sandbox.MinMemory, sandbox.MaxMemory},
		{"pids", l.PIDs, sandbox.MinPIDs, sandbox.MaxPIDs},
		{"open files", l.OpenFiles, sandbox.MinOpenFiles, sandbox.MaxOpenFiles},
		{"log size", l.LogSize, sandbox.MinLogSize, sandbox.MaxLogSize},
	} {
		if bound.got < bound.low || bound.got > bound.high {
			errs = append(errs, fmt.Errorf("%s is %d, must be %d to %d", bound.name, bound.got, bound.low, bound.high))
		}
	}
	if !(l.CPUs >= sandbox.MinCPUs && l.CPUs <= sandbox.MaxCPUs) { // NaN is neither
		errs = append(errs, fmt.Errorf("cpus is %v, must be %v to %v", l.CPUs, sandbox.MinCPUs, sandbox.MaxCPUs))
	}
	return errors.Join(errs...)
}

// pluginSpec is the container of a plugin, or of its load check.
func pluginSpec(f *Factory, in *Instance, uid uint32, limits sandbox.Limits, mounts []sandbox.Mount) sandbox.Spec {
	role := in.plan.role()
	heap := strconv.FormatInt(int64(float64(limits.Memory)*heapShare)>>20, 10)
	labels := f.labels(in.plan.Key.Tenant, in.id, role)
	labels[sandbox.LabelPlugin] = in.plan.Key.ID
	labels[sandbox.LabelGeneration] = strconv.FormatUint(in.plan.Generation, 10)
	home := stateDir + "/home"
	if in.plan.Discovery {
		home = "/tmp"
	}
	env := []string{
		"OCMT_TENANT=" + in.plan.Key.Tenant,
		"OCMT_PLUGIN=" + in.busName(),
		"OCMT_GENERATION=" + strconv.FormatUint(in.plan.Generation, 10),
		"OCMT_BUS=" + socketDir + "/bus.sock",
		"HOME=" + home, "TMPDIR=/tmp", "PATH=/usr/bin", "LANG=C.UTF-8", "NODE_ENV=production",
	}
	if slices.ContainsFunc(mounts, func(m sandbox.Mount) bool { return m.Target == fetch.CATarget }) {
		env = append(env, "NODE_EXTRA_CA_CERTS="+fetch.CATarget)
	}
	return sandbox.Harden(sandbox.Spec{
		ID:    in.id,
		Image: f.Image,
		Args:  []string{initPath, "run", "--", nodePath, "--max-old-space-size=" + heap, runnerPath},
		Env:   env,
		UID:   uid, GID: uid,
		Labels: labels, Mounts: mounts, Limits: limits, Runtime: f.runtimeOf(&in.plan),
	})
}

// runtimeOf names the OCI runtime that a plan's container runs with; empty is
// the engine's default.
func (f *Factory) runtimeOf(plan *Plan) string { return cmp.Or(plan.Runtime, f.Runtime) }

func (f *Factory) labels(tenant, instance, role string) map[string]string {
	return map[string]string{
		sandbox.LabelHome:     f.HomeID,
		sandbox.LabelTenant:   tenant,
		sandbox.LabelInstance: instance,
		sandbox.LabelRole:     role,
	}
}
