package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/gateway"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
)

// launcher makes the supervisor's instances out of what is installed and
// configured at that moment.
type launcher struct {
	catalog *catalog
	factory *instance.Factory
	logger  *slog.Logger
}

// Prepare implements supervisor.Launcher.
func (l *launcher) Prepare(ctx context.Context, key plugin.Key, generation uint64) (supervisor.Instance, error) {
	p, err := l.catalog.get(key.Tenant, key.ID)
	if err != nil {
		return nil, err
	}
	whole, own, err := l.catalog.view(key)
	if err != nil {
		return nil, err
	}
	in, err := l.factory.Prepare(ctx, instance.Plan{
		Key: key, Generation: generation, Descriptor: p.Descriptor, Payload: p.Payload,
		Config: whole, PluginConfig: own,
	})
	if err != nil {
		return nil, err
	}
	return &unit{Instance: in, installed: p, catalog: l.catalog, logger: l.logger}, nil
}

// unit is an instance as supervisor and gateway see it.
type unit struct {
	*instance.Instance
	installed plugin.Installed
	catalog   *catalog
	logger    *slog.Logger
}

// Start implements supervisor.Instance. What the plugin registered this time
// counts from then on: it may depend on its configuration.
func (u *unit) Start(ctx context.Context) error {
	if err := u.Instance.Start(ctx); err != nil {
		return err
	}
	surface := u.Surface()
	if err := surface.Validate(u.installed.Descriptor); err != nil {
		return err
	}
	if u.catalog.serve(u.installed, surface) {
		u.logger.Info("the plugin registers other tools than before", "tenant", u.installed.Key.Tenant, "plugin", u.installed.Key.ID)
	}
	return nil
}

// Exit implements supervisor.Instance.
func (u *unit) Exit() supervisor.Exit {
	e := u.Instance.Exit()
	return supervisor.Exit{Code: e.Code, OOM: e.OOMKilled, At: e.At}
}

// Gone implements gateway.Peer.
func (u *unit) Gone() <-chan struct{} { return u.Done() }

// CallTool implements gateway.Peer.
func (u *unit) CallTool(ctx context.Context, call wire.ToolCall, progress func(wire.Progress)) (wire.ToolResult, error) {
	result, err := u.Instance.CallTool(ctx, call, progress)
	if errors.Is(err, bus.ErrNoRunner) {
		err = fmt.Errorf("%w: %w", gateway.ErrNotDelivered, err)
	}
	return result, err
}

// served is the gateway's view of the plugins.
type served struct {
	catalog    *catalog
	supervisor *supervisor.Supervisor
}

// Surface implements gateway.Plugins.
func (s *served) Surface(key plugin.Key) (plugin.Installed, error) {
	return s.catalog.get(key.Tenant, key.ID)
}

// Ready implements gateway.Plugins.
func (s *served) Ready(ctx context.Context, key plugin.Key) (gateway.Peer, error) {
	in, err := s.supervisor.Ready(ctx, key)
	if err != nil {
		return nil, err
	}
	u, ok := in.(*unit)
	if !ok {
		return nil, fault.New(errdefs.ErrInternal, "internal", "plugin %s has an instance of a strange type", key)
	}
	return u, nil
}
