package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/gateway"
	"github.com/ocmt/ocmt/orchestrator/hooks"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
)

// launcher makes the supervisor's instances out of what is installed,
// configured and granted at that moment.
type launcher struct{ d *Daemon }

// Prepare implements supervisor.Launcher. What is granted, revoked or
// configured meanwhile is noticed: the network is set once more when there is
// something to set it of, and the rest is compared by [Daemon.stale].
func (l *launcher) Prepare(ctx context.Context, key plugin.Key, generation uint64) (supervisor.Instance, error) {
	p, err := l.d.catalog.get(key.Tenant, key.ID)
	if err != nil {
		return nil, err
	}
	if err := l.d.clearAway(ctx, key); err != nil {
		return nil, err
	}
	defer l.d.generations.begin(key)() // before anything is read
	l.d.authority.EndRun(key, "")      // nothing of the plugin runs
	plan, made, err := l.d.plan(p, generation)
	if err != nil {
		return nil, err
	}
	l.d.generations.made(key, made)
	in, err := l.d.factory.Prepare(ctx, plan)
	if err != nil {
		return nil, blameHost(err)
	}
	u := &unit{Instance: in, installed: p, made: made, d: l.d}
	l.d.generations.prepared(u)
	l.d.authority.Refresh(key) // sets the network of u
	return u, nil
}

// blameHost gives what no part of ours has classed the class Unavailable: no
// code of the plugin runs yet, so that a full disk, for example, is not held
// against it.
func blameHost(err error) error {
	if class := errdefs.Resolve(err); !errdefs.IsUnknown(class) && !errdefs.IsInternal(class) {
		return err
	}
	return fault.New(errdefs.ErrUnavailable, "host_failed", "%w", err).
		WithHint("ocmt tries again by itself; see that the home has room and can be written to").WithRetry()
}

// notHanded is why a plugin cannot be handed what it was granted, a secret that
// is not set or cannot be read for example: that is for a person to mend and is
// tried again, but nothing that the plugin did, and says nothing of its payload.
func notHanded(err error) error {
	f := fault.Of(err)
	return fault.New(errdefs.ErrUnavailable, f.Code, "%s", f.Message).WithHint("%s", f.Hint).WithRetry()
}

// plan says what an instance of a plugin is made of now.
func (d *Daemon) plan(p plugin.Installed, generation uint64) (instance.Plan, recipe, error) {
	made, own, given, err := d.recipe(p.Key)
	if err != nil {
		return instance.Plan{}, recipe{}, notHanded(err)
	}
	for _, dir := range made.allowed.Workspaces {
		if err := d.checkOwnSockets(dir.Path); err != nil {
			return instance.Plan{}, recipe{}, err
		}
	}
	runtime := d.runtimeOf(p.Source)
	digest, err := made.digest(d.image, cmp.Or(runtime, d.runtime()))
	if err != nil {
		return instance.Plan{}, recipe{}, err
	}
	whole, own, err := fill(made.config, own, given.plain)
	allowed := made.allowed
	return instance.Plan{
		Key: p.Key, Generation: generation, Descriptor: p.Descriptor, Payload: p.Payload, Recipe: digest,
		Config: whole, PluginConfig: own, Learn: made.learn, Runtime: runtime,
		Env: given.env, Host: hostMethods(allowed.Host, made.learn), State: allowed.Resources.State,
		Network: d.networkOf(p.Key, allowed), Workspaces: workspaces(allowed.Workspaces), WorkspaceDir: defaultWorkspace(allowed.Workspaces),
		Limits: sandbox.Limits{Memory: allowed.Resources.Memory, CPUs: allowed.Resources.CPUs, PIDs: allowed.Resources.PIDs},
	}, made, err
}

// hostMethods are the methods that a plugin may call: in learn mode its runner
// tells what it wishes for.
func hostMethods(names []string, learn bool) []string {
	methods := make([]string, 0, len(names)+1)
	for _, name := range names {
		methods = append(methods, "host."+name)
	}
	if learn {
		methods = append(methods, wire.HostWish)
	}
	return methods
}

func workspaces(dirs []policy.WorkspaceDir) []instance.Workspace {
	list := make([]instance.Workspace, len(dirs))
	for i, dir := range dirs {
		list[i] = instance.Workspace(dir)
	}
	return list
}

// defaultWorkspace is the directory of a plugin that was granted one.
func defaultWorkspace(dirs []policy.WorkspaceDir) string {
	if len(dirs) != 1 {
		return ""
	}
	return dirs[0].Path
}

// unit is an instance as supervisor, gateway and pipeline see it.
type unit struct {
	*instance.Instance
	installed plugin.Installed
	made      recipe
	events    map[int]string // of its hooks, by handler; set by Start
	adopted   bool           // an earlier daemon started it
	d         *Daemon
}

// Start implements supervisor.Instance. What the plugin registered this time
// counts from then on, as far as it was accepted: it may depend on its
// configuration. Nothing is started that cannot be recorded.
func (u *unit) Start(ctx context.Context) error {
	action := "plugin.start"
	if u.adopted {
		action = "plugin.adopt"
	}
	rec := audit.Record{Tenant: u.installed.Key.Tenant, Plugin: u.installed.Key.ID, Action: action, Target: u.ID()}
	if len(u.made.secrets) > 0 || u.made.learn {
		rec.Details = startDetails{u.made.secrets, u.made.learn}
	}
	return u.d.auditedAs(ctx, rec, func() error {
		if err := u.Instance.Start(ctx); err != nil {
			return err
		}
		surface := u.Surface()
		if err := surface.Validate(u.installed.Descriptor); err != nil {
			return err
		}
		u.events = hooks.EventsOf(surface)
		u.d.served(u, surface)
		return nil
	})
}

// startDetails are what the record of a start says besides: the secrets that
// the plugin is handed, those in plain with their version.
type startDetails struct {
	Secrets []string `json:"secrets,omitempty"`
	Learn   bool     `json:"learn,omitempty"`
}

// served puts a generation that is ready into service.
func (d *Daemon) served(u *unit, surface plugin.Surface) {
	key := u.installed.Key
	d.catalog.serve(u.installed, surface)
	d.generations.serve(u)
	d.authority.Refresh(key) // what it registered counts from now on
	d.startServices(u)
	d.learnHooks(u.installed)
	if u.adopted && d.stale(key) {
		go d.renew(key)
	}
	go func() {
		<-u.Done()
		d.services.Ended(key, u.ID())
		d.ended(u)
	}()
}

// ended forgets an instance, and takes back what was allowed until its end.
func (d *Daemon) ended(u *unit) {
	d.generations.ended(u)
	d.authority.EndRun(u.installed.Key, u.ID())
}

// renew replaces an instance that was taken over and is made of what does not
// count any more: another configuration, or the image of an older release.
func (d *Daemon) renew(key plugin.Key) {
	if _, err := d.remake(context.Background(), key); err != nil {
		d.logger.Error("cannot replace an instance that was taken over", "tenant", key.Tenant, "plugin", key.ID, "error", err)
	}
}

// Close implements supervisor.Instance.
func (u *unit) Close(ctx context.Context) error {
	u.d.ended(u)
	err := u.Instance.Close(ctx)
	if err == nil {
		u.d.generations.closed(u)
	}
	return err
}

// Exit implements supervisor.Instance.
func (u *unit) Exit() supervisor.Exit {
	e := u.Instance.Exit()
	return supervisor.Exit{Code: e.Code, OOM: e.OOMKilled, At: e.At}
}

// Gone implements gateway.Peer.
func (u *unit) Gone() <-chan struct{} { return u.Done() }

// CallTool implements gateway.Peer. A directory that the plugin was not
// granted is not told to it as the caller's.
func (u *unit) CallTool(ctx context.Context, call wire.ToolCall, progress func(wire.Progress)) (wire.ToolResult, error) {
	call.Context.WorkspaceDir = u.workspace(call.Context.WorkspaceDir)
	result, err := u.Instance.CallTool(ctx, call, progress)
	if errors.Is(err, bus.ErrNoRunner) {
		err = fmt.Errorf("%w: %w", gateway.ErrNotDelivered, err)
	}
	return result, err
}

// CallHook gives an event to one handler, and tells it of no other directories
// than CallTool does. A handler has another number, or is not there, where the
// event began with another generation that registered other things: then the
// plugin as the event knows it is gone, which is Unavailable.
func (u *unit) CallHook(ctx context.Context, call wire.HookCall) (wire.HookResult, error) {
	if u.events[call.Handler] != call.Event {
		return wire.HookResult{}, fault.New(errdefs.ErrUnavailable, "handler_gone", "plugin %s has no handler %d of %s any more", u.installed.Key, call.Handler, call.Event).
			WithRetry()
	}
	call.Context.WorkspaceDir = u.workspace(call.Context.WorkspaceDir)
	return u.Instance.CallHook(ctx, call)
}

// workspace returns dir if the plugin has it, and nothing otherwise.
func (u *unit) workspace(dir string) string {
	dir = filepath.Clean(dir) // or ".." would lead out of a granted one
	for _, w := range u.made.allowed.Workspaces {
		if policy.Within(dir, w.Path) {
			return dir
		}
	}
	return ""
}

// servedPlugins is the gateway's view of the plugins.
type servedPlugins struct{ d *Daemon }

// Surface implements gateway.Plugins.
func (s servedPlugins) Surface(key plugin.Key) (plugin.Installed, error) {
	p, err := s.d.catalog.get(key.Tenant, key.ID)
	if err != nil {
		return plugin.Installed{}, err
	}
	return s.d.catalog.offered(p), nil
}

// Ready implements gateway.Plugins.
func (s servedPlugins) Ready(ctx context.Context, key plugin.Key) (gateway.Peer, error) {
	in, err := s.d.ready(ctx, key)
	if err != nil {
		return nil, err
	}
	u, ok := in.(*unit)
	if !ok {
		return nil, errStrange(key)
	}
	return u, nil
}

func errStrange(key plugin.Key) error {
	return fault.New(errdefs.ErrInternal, "internal", "plugin %s has an instance of a strange type", key)
}
