package docker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

// labelContainer is on volumes: the id of the container they were made for.
const labelContainer = "ocmt.container"

// Create makes a container from a spec and the hardened profile.
func (e *Engine) Create(ctx context.Context, spec sandbox.Spec) error {
	if err := errors.Join(spec.Validate(), spec.CheckSources()); err != nil {
		return err
	}
	host, err := e.seen(ctx)
	if err != nil {
		return err
	}
	if err := spec.Limits.CheckHost(host); err != nil {
		return err
	}
	if sandbox.IsGVisor(cmp.Or(spec.Runtime, host.Runtime)) {
		spec.Limits.PIDs = spec.GVisorPIDs()
	}
	img, err := e.inspectImage(ctx, spec.Image)
	if err != nil {
		return err
	}
	mounts, err := e.mounts(ctx, &spec)
	if err == nil {
		err = e.create(ctx, &spec, config(&spec, img), hostConfig(&spec, mounts))
	}
	if err != nil {
		return errors.Join(err, e.discardVolumes(ctx, mounts))
	}
	return nil
}

// create sends the request, and takes back a container whose limits the engine
// says it ignored, or that nobody waits for any more: an engine makes what it was
// asked for when the one who asked has hung up, so the answer is waited for.
func (e *Engine) create(ctx context.Context, spec *sandbox.Spec, config *container.Config, host *container.HostConfig) error {
	if ctx.Err() != nil {
		return e.fail(ctx, "create container "+spec.ID, ctx.Err())
	}
	call, cancel := e.bound(context.WithoutCancel(ctx))
	defer cancel()
	created, err := e.client.ContainerCreate(call, config, host, nil, nil, spec.ID)
	if err != nil {
		return e.explainCreate(ctx, spec, e.fail(call, "create container "+spec.ID, err))
	}
	if ctx.Err() != nil {
		return errors.Join(e.fail(ctx, "create container "+spec.ID, ctx.Err()), e.removeContainer(ctx, spec.ID, created.ID))
	}
	for _, warning := range created.Warnings {
		if strings.Contains(strings.ToLower(warning), "discarded") {
			return errors.Join(
				fmt.Errorf("cannot create container %s: the engine does not enforce a limit: %s: %w", spec.ID, warning, errdefs.ErrFailedPrecondition),
				e.removeContainer(ctx, spec.ID, created.ID))
		}
		e.logger.Debug("the engine warns of a container", "container", spec.ID, "warning", warning)
	}
	return nil
}

// explainCreate asks what the engine's answer does not tell apart.
func (e *Engine) explainCreate(ctx context.Context, spec *sandbox.Spec, err error) error {
	if errdefs.IsConflict(err) {
		return fmt.Errorf("cannot create container %s: the name is taken: %w", spec.ID, errdefs.ErrAlreadyExists)
	}
	if errdefs.IsUnavailable(err) || ctx.Err() != nil {
		return err
	}
	host, infoErr := e.systemInfo(ctx)
	if infoErr != nil {
		return err
	}
	known := describe(host)
	if spec.Runtime != "" && !slices.Contains(known.Runtimes, spec.Runtime) {
		return fmt.Errorf("cannot use runtime %q: the engine knows %s: %w", spec.Runtime, strings.Join(known.Runtimes, ", "), errdefs.ErrInvalidArgument)
	}
	return err
}

// config is what runs. The image's own command, environment and health check
// are replaced by nothing.
func config(spec *sandbox.Spec, img image.InspectResponse) *container.Config {
	profile := sandbox.Hardened()
	grace := int(spec.StopGrace.Seconds())
	return &container.Config{
		Image:       img.ID,
		Entrypoint:  spec.Args,
		Env:         environment(spec, img),
		WorkingDir:  spec.Dir,
		User:        fmt.Sprintf("%d:%d", spec.UID, spec.GID),
		Hostname:    spec.Hostname(),
		Labels:      spec.Labels,
		StopSignal:  profile.StopSignal,
		StopTimeout: &grace,
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
}

// environment is the spec's, and for what the engine and the image would add,
// the bare name, which takes a variable out.
func environment(spec *sandbox.Spec, img image.InspectResponse) []string {
	inherited := []string{"PATH", "HOSTNAME"}
	if img.Config != nil {
		inherited = append(inherited, img.Config.Env...)
	}
	set := map[string]bool{}
	for _, kv := range spec.Env {
		key, _, _ := strings.Cut(kv, "=")
		set[key] = true
	}
	env := slices.Clone(spec.Env)
	for _, kv := range inherited {
		if key, _, _ := strings.Cut(kv, "="); !set[key] {
			env = append(env, key)
			set[key] = true
		}
	}
	return env
}

// hostConfig is the profile, field by field, with the spec's limits.
func hostConfig(spec *sandbox.Spec, mounts []mount.Mount) *container.HostConfig {
	profile, limits, off := sandbox.Hardened(), spec.Limits, false
	security := []string{"seccomp=" + string(spec.Seccomp)}
	if profile.NoNewPrivileges {
		security = append(security, "no-new-privileges")
	}
	return &container.HostConfig{
		NetworkMode:    container.NetworkMode(profile.Network),
		IpcMode:        container.IpcMode(profile.IPC),
		CgroupnsMode:   container.CgroupnsMode(profile.CgroupNamespace),
		ReadonlyRootfs: profile.ReadOnlyRoot,
		CapDrop:        []string{"ALL"},
		CapAdd:         profile.Capabilities,
		SecurityOpt:    security,
		Sysctls:        profile.Sysctls,
		MaskedPaths:    profile.MaskedPaths,
		ReadonlyPaths:  profile.ReadOnlyPaths,
		OomScoreAdj:    profile.OOMScoreAdj,
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyMode(profile.Restart)},
		AutoRemove:     false,
		Init:           &off,
		Runtime:        spec.Runtime,
		Mounts:         mounts,
		Tmpfs:          tmpfs(spec),
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{
			"max-size": strconv.FormatInt(limits.LogSize, 10),
			"max-file": strconv.Itoa(sandbox.LogFiles),
			// A flood loses lines; it does not stall on the engine.
			"mode": "non-blocking", "max-buffer-size": "1m",
		}},
		Resources: container.Resources{
			Memory:     limits.Memory,
			MemorySwap: limits.Memory, // of both together: no swap
			NanoCPUs:   int64(limits.CPUs * 1e9),
			CPUShares:  limits.CPUShares(),
			PidsLimit:  &limits.PIDs,
			Ulimits: []*container.Ulimit{
				{Name: "nofile", Soft: limits.OpenFiles, Hard: limits.OpenFiles},
				{Name: "core", Soft: profile.CoreSize, Hard: profile.CoreSize},
				{Name: "msgqueue", Soft: profile.QueueSize, Hard: profile.QueueSize},
			},
		},
	}
}

func tmpfs(spec *sandbox.Spec) map[string]string {
	all := map[string]string{}
	for _, t := range spec.Tmpfs {
		all[t.Target] = fmt.Sprintf("rw,nosuid,nodev,noexec,size=%d,mode=%o", t.Size, t.Mode)
	}
	return all
}

// mounts returns the spec's mounts, having made a volume for each image. On an
// error it returns those whose volumes exist.
func (e *Engine) mounts(ctx context.Context, spec *sandbox.Spec) ([]mount.Mount, error) {
	var mounts []mount.Mount
	for _, m := range spec.Mounts {
		if !m.Image {
			remount, err := needsReadOnly(m)
			if err != nil {
				return mounts, err
			}
			mounts = append(mounts, mount.Mount{
				Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: remount,
				// What is mounted below the source would stay writable in a
				// read-only mount.
				BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate, NonRecursive: true},
			})
			continue
		}
		name, err := e.createVolume(ctx, spec, m)
		if err != nil {
			return mounts, err
		}
		mounts = append(mounts, mount.Mount{
			// Not ReadOnly, which would take the flags off; EROFS cannot be
			// written to.
			Type: mount.TypeVolume, Source: name, Target: m.Target,
			VolumeOptions: &mount.VolumeOptions{NoCopy: true},
		})
	}
	return mounts, nil
}

// needsReadOnly says whether the engine must make a mount read-only. It does so
// by a remount that takes the source's other flags off, so it is left out
// where the source is mounted read-only, nosuid and nodev already, which a
// plain bind mount keeps. The caller keeps that mount until the container is
// gone; what it covers must not be the container's user's to write, as an
// engine with a view of its own may see that instead.
func needsReadOnly(m sandbox.Mount) (bool, error) {
	if !m.ReadOnly {
		return false, nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(m.Source, &fs); err != nil {
		return false, fmt.Errorf("cannot look at mount source %s: %w: %w", m.Source, err, errdefs.ErrInvalidArgument)
	}
	const sealed = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV
	return fs.Flags&sealed != sealed, nil
}

// createVolume names an EROFS image to the engine's local driver, which mounts
// it when the container starts. The name is never used twice, since the engine
// would answer a known name with the volume that has it.
func (e *Engine) createVolume(ctx context.Context, spec *sandbox.Spec, m sandbox.Mount) (string, error) {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	labels := maps.Clone(spec.Labels)
	labels[labelContainer] = spec.ID
	created, err := e.client.VolumeCreate(ctx, volume.CreateOptions{
		Name:   "ocmt-" + spec.ID + "-" + strings.ToLower(rand.Text()),
		Driver: "local",
		DriverOpts: map[string]string{
			"type": "erofs", "device": m.Source, "o": "ro,nosuid,nodev",
		},
		Labels: labels,
	})
	return created.Name, e.fail(ctx, "make a volume of "+m.Source, err)
}

// discardVolumes removes the volumes of a container that was not made, even
// when ctx has ended.
func (e *Engine) discardVolumes(ctx context.Context, mounts []mount.Mount) error {
	ctx, cancel := e.bound(context.WithoutCancel(ctx))
	defer cancel()
	var failed []error
	for _, m := range mounts {
		if m.Type == mount.TypeVolume {
			failed = append(failed, e.removeVolume(ctx, m.Source))
		}
	}
	return errors.Join(failed...)
}

func (e *Engine) removeVolume(ctx context.Context, name string) error {
	err := e.fail(ctx, "remove volume "+name, e.client.VolumeRemove(ctx, name, true))
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
