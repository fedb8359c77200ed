package instance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/instance/state"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/egress"
)

// Config is what a Factory needs. All fields must be set unless said
// otherwise.
type Config struct {
	Home   home.Home
	HomeID string // random id of the home, see sandbox.LabelHome
	Engine sandbox.Engine
	Info   sandbox.Info
	Bus    *bus.Server
	// Image runs plugins, InstallImage runs npm; both by digest and already
	// in the engine.
	Image        string
	InstallImage string
	// EnsureInstallImage makes InstallImage usable; it is called before every
	// use, since plugins may run for months without one, and tells how many
	// bytes of how many are loaded.
	EnsureInstallImage func(ctx context.Context, progress func(done, total int64)) error
	// Runtime names an OCI runtime; empty is the engine's default.
	Runtime string
	// RuntimeOf names the OCI runtime that plugins of a source are loaded with
	// in a check, empty for Runtime; nil is Runtime for all.
	RuntimeOf func(plugin.Source) string
	// View returns the configuration that a load check shows the plugin: some
	// register nothing, or fail, without theirs. Optional.
	View func(plugin.Key) (whole, own json.RawMessage, err error)
	// CAFiles are PEM files of the host that plugins trust too, for an operator
	// behind a proxy that inspects TLS; see fetch.HostCAFiles. May be empty.
	CAFiles []string
	// OnConnection records a connection to the outside, allowed or denied; the
	// key of an install names its tenant alone. A connection that cannot be
	// recorded is not made. It is called from several goroutines, often.
	OnConnection func(plugin.Key, egress.Connection) error
	// Resolver finds the addresses of names for containers; nil is the host's.
	Resolver egress.Resolver
	// OnServiceHealth is told what a service of the instance with that id
	// reports of itself, in order. It must not block. Optional.
	OnServiceHealth func(key plugin.Key, instance string, health wire.ServiceHealth)
	// OnHostCall answers what a plugin asks of the host, host.log or a method
	// of its Plan.Host, and honours its context: up to 16 per instance at
	// once, in any order. The id of the result is set for it. Without it, calls
	// are refused.
	OnHostCall func(context.Context, plugin.Key, wire.HostCall) wire.HostResult
	// UID returns the user and group id that a plugin's containers run as.
	UID func(context.Context, plugin.Key) (uint32, error)
	// TenantUID returns the one that a tenant's installs run as.
	TenantUID func(context.Context, string) (uint32, error)
	Logger    *slog.Logger
}

// Factory makes instances.
type Factory struct {
	Config
	mounts  bool // this process can mount sealed images itself
	quota   bool // and file systems for what plugins write
	volumes *state.Volumes
	checks  atomic.Uint64
}

// NewFactory returns a Factory.
func NewFactory(cfg Config) *Factory {
	mounts, _ := seal.CanMount(cfg.Home.Store())
	kind, why := StateQuota(cfg.Home.Instances())
	if kind != StateImage {
		cfg.Logger.Warn("plugins have no file systems of their own: what they write is only measured now and then", "error", why)
	}
	return &Factory{Config: cfg, mounts: mounts, quota: kind == StateImage, volumes: state.New(cfg.Logger)}
}

// Prepare makes everything that the plan's container needs, and the container
// itself, without starting it. The class is DataLoss when the sealed payload
// is not what was installed. After an error nothing is left.
func (f *Factory) Prepare(ctx context.Context, plan Plan) (_ *Instance, err error) {
	in := f.newInstance(plan)
	defer func() {
		if err != nil {
			if cerr := in.Close(ctx); cerr != nil {
				in.logger.Error("cannot clean up after a failed start", "error", cerr)
			}
		}
	}()
	limits, err := f.limits(&plan)
	if err != nil {
		return nil, err
	}
	uid, err := f.UID(ctx, plan.Key)
	if err != nil {
		return nil, err
	}
	mounts, err := f.furnish(ctx, in, uid)
	if err != nil {
		return nil, err
	}
	in.spec = pluginSpec(f, in, uid, limits, mounts)
	return in, f.create(ctx, in)
}

func (f *Factory) newInstance(plan Plan) *Instance {
	return &Instance{
		id: instanceID(f.HomeID, plan), plan: plan, engine: f.Engine,
		logger: f.Logger.With("tenant", plan.Key.Tenant, "plugin", plan.Key.ID, "generation", plan.Generation),
		ready:  make(chan struct{}), done: make(chan struct{}), progress: map[string]func(wire.Progress){},
		onServiceHealth: f.OnServiceHealth, onHostCall: f.OnHostCall, hostCalls: make(chan struct{}, maxHostCalls),
	}
}

// furnish makes what is mounted into the container, side by side: the payload
// is hashed meanwhile. The record is there first, for whoever finds the rest.
func (f *Factory) furnish(ctx context.Context, in *Instance, uid uint32) ([]sandbox.Mount, error) {
	dir := f.Home.Instance(in.id)
	in.onClose(func(context.Context) error { return removeTree(dir) })
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make %s: %w", dir, err)
	}
	if err := f.writeRecord(f.recordOf(in, uid)); err != nil {
		return nil, err
	}
	if err := f.makeAuthority(in); err != nil {
		return nil, err
	}
	steps := []func(context.Context, *Instance, uint32) ([]sandbox.Mount, error){f.mountPayload, f.writeFiles, f.mountSockets, f.mountOwn}
	made := make([][]sandbox.Mount, len(steps))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, step := range steps {
		group.Go(func() (err error) {
			made[i], err = step(groupCtx, in, uid)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(made...), nil
}

// create makes the container and registers its removal, also for when Create
// fails half way.
func (f *Factory) create(ctx context.Context, in *Instance) error {
	if err := f.writeSpec(in.spec); err != nil {
		return err
	}
	in.onClose(in.removeContainer(f.Home.PreviousLog(in.plan.Key)))
	if err := f.Engine.Create(ctx, in.spec); err != nil {
		return fmt.Errorf("cannot create the container of plugin %s: %w", in.plan.Key, err)
	}
	return nil
}

// removeContainer keeps the end of what the container of a plugin printed in
// the file log, and removes it.
func (in *Instance) removeContainer(log string) func(context.Context) error {
	return func(ctx context.Context) error {
		if !in.plan.Discovery && in.hasEnded() { // it ran, and this is the first Close
			in.keepLog(ctx, log)
		}
		err := in.engine.Remove(ctx, in.id)
		if err == nil {
			in.end(unknownExit())
		}
		return err
	}
}

// instanceID names a container: readable, unique in the engine, and at most
// 63 characters long, since it is the host name inside as well.
func instanceID(homeID string, plan Plan) string {
	name := plan.Key.ID
	if len(name) > 24 {
		name = name[:24]
	}
	role := "g"
	if plan.Discovery {
		role = "check"
	}
	role += strconv.FormatUint(plan.Generation, 10)
	sum := sha256.Sum256([]byte(homeID + "/" + plan.Key.String()))
	return fmt.Sprintf("ocmt-%s-%s-%s", name, hex.EncodeToString(sum[:4]), role)
}

// writeFiles makes the instance's own /etc files, with the certificates that a
// plugin trusts besides those of its image.
func (f *Factory) writeFiles(_ context.Context, in *Instance, uid uint32) ([]sandbox.Mount, error) {
	etc := filepath.Join(f.Home.Instance(in.id), "etc")
	mounts, err := writeEtc(etc, uid)
	if err != nil {
		return nil, err
	}
	if !in.plan.Discovery {
		certificates, err := f.bundleCAs(etc, in.authority)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, certificates)
	}
	_, err = f.mountSealed(etc, etc, "/etc")
	return mounts, err
}

// mountSealed returns the mount of a directory of ours at target: read-only,
// nosuid, nodev and noexec, flags that it gets at place on the host, below the
// instance's directory, where the engine does not apply them. place may be the
// directory itself, for mounts of what is in it.
func (f *Factory) mountSealed(dir, place, target string) (sandbox.Mount, error) {
	mount := sandbox.Mount{Source: dir, Target: target, ReadOnly: true, NoExec: true}
	if !f.mounts || f.Info.MountFlags {
		return mount, nil
	}
	if err := bind(dir, place, sealedFlags); err != nil {
		return mount, err
	}
	mount.Source = place
	return mount, nil
}

// writeEtc writes the files that name the container's own user, itself and the
// resolver on its loopback, and returns their mounts.
func writeEtc(dir string, uid uint32) ([]sandbox.Mount, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make %s: %w", dir, err)
	}
	var mounts []sandbox.Mount
	for _, file := range []struct{ name, text string }{
		{"passwd", fmt.Sprintf("plugin:x:%d:%d:plugin:/state/home:/nonexistent\n", uid, uid)},
		{"group", fmt.Sprintf("plugin:x:%d:\n", uid)},
		{"hosts", "127.0.0.1 localhost\n::1 localhost\n"},
		{"resolv.conf", "nameserver 127.0.0.1\noptions timeout:2 attempts:1 ndots:1\n"},
	} {
		path := filepath.Join(dir, file.name)
		if err := writeReadable(path, file.text); err != nil {
			return nil, fmt.Errorf("cannot write %s: %w", path, err)
		}
		mounts = append(mounts, sandbox.Mount{Source: path, Target: "/etc/" + file.name, ReadOnly: true, NoExec: true})
	}
	return mounts, nil
}

// writeReadable writes a file that the container's own uid can read, whatever
// the daemon's umask is.
func writeReadable(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// mountPayload verifies the sealed payload through one descriptor and mounts
// that same descriptor: by itself where it may, else by the engine, else, for
// a payload in tree form, as the directory it is.
func (f *Factory) mountPayload(ctx context.Context, in *Instance, _ uint32) ([]sandbox.Mount, error) {
	sealed, err := seal.Open(ctx, f.Home.Store(), in.plan.Payload)
	if err != nil {
		return nil, fmt.Errorf("cannot verify the payload of plugin %s: %w", in.plan.Key, err)
	}
	mount := sandbox.Mount{Target: payloadDir, ReadOnly: true}
	if in.plan.Payload.Form != plugin.FormTree && !f.mounts { // the engine needs the descriptor
		in.onLeave(func(context.Context) error { _ = sealed.Close(); return nil })
		mount.Source, mount.Image = sealed.Path(), true
		return []sandbox.Mount{mount}, nil
	}
	defer sealed.Close() //nolint:errcheck // nothing was written through it
	if in.plan.Payload.Form == plugin.FormTree {
		mount.Source = sealed.Path()
		return []sandbox.Mount{mount}, nil
	}
	mount.Source = filepath.Join(f.Home.Instance(in.id), "payload")
	if err := os.MkdirAll(mount.Source, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make %s: %w", mount.Source, err)
	}
	return []sandbox.Mount{mount}, sealed.Mount(mount.Source)
}

// mountOwn makes what the plugin keeps or was granted: its state, and
// directories of the host. A load check has neither.
func (f *Factory) mountOwn(ctx context.Context, in *Instance, uid uint32) ([]sandbox.Mount, error) {
	if in.plan.Discovery {
		return nil, nil
	}
	written, err := f.mountState(ctx, in, uid)
	if err != nil {
		return nil, err
	}
	workspaces, err := f.mountWorkspaces(in, uid)
	if err != nil {
		return nil, err
	}
	covers, err := f.hideSecrets(ctx, in, workspaces)
	return slices.Concat([]sandbox.Mount{written}, workspaces, covers), err
}

// busName is the plugin's name on the bus. A load check has an account of its
// own, so that it neither ends nor meets a generation that serves.
func (in *Instance) busName() string {
	if in.plan.Discovery {
		return "check:" + in.plan.Key.ID
	}
	return in.plan.Key.ID
}

// mountSockets opens the socket directory and mounts it.
func (f *Factory) mountSockets(ctx context.Context, in *Instance, _ uint32) ([]sandbox.Mount, error) {
	if err := f.attachSockets(ctx, in); err != nil {
		return nil, err
	}
	mount, err := f.mountSealed(f.Home.SocketDir(in.id), filepath.Join(f.Home.Instance(in.id), "run"), socketDir)
	return []sandbox.Mount{mount}, err
}

// attachSockets listens in the socket directory, the instance's only way out:
// on the bus, and as the egress broker.
func (f *Factory) attachSockets(ctx context.Context, in *Instance) error {
	dir := f.Home.SocketDir(in.id)
	in.onClose(func(context.Context) error { return os.RemoveAll(dir) })
	peer, err := f.Bus.Attach(ctx, bus.Identity{
		Tenant: in.plan.Key.Tenant, Plugin: in.busName(),
		Generation: in.plan.Generation, Instance: in.id,
	}, dir)
	if err != nil {
		return fmt.Errorf("cannot attach plugin %s to the bus: %w", in.plan.Key, err)
	}
	in.peer = peer
	in.onLeave(func(context.Context) error { peer.Close(); return nil })
	if err := in.serveHandshake(); err != nil {
		return err
	}
	if in.plan.Discovery {
		return nil
	}
	if in.broker, err = f.serveEgress(ctx, in.plan.Key, dir, egress.Options{Logger: in.logger, Authority: in.authority}, in.onLeave); err != nil {
		return fmt.Errorf("cannot open the network of plugin %s: %w", in.plan.Key, err)
	}
	in.SetNetwork(in.plan.Network)
	return nil
}
