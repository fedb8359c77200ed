package daemon

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// readyTimeout bounds how long enable, install and restart wait for the
// plugin; what they began goes on after it.
const readyTimeout = 60 * time.Second

// plugins answers the API's questions about plugins.
type pluginAPI struct{ d *Daemon }

// List implements httpapi.Plugins.
func (b pluginAPI) List(_ context.Context, tenant string) ([]v1.Plugin, error) {
	list := []v1.Plugin{}
	for _, p := range b.d.catalog.list(tenant) {
		list = append(list, b.d.describeFully(p))
	}
	return list, nil
}

// Get implements httpapi.Plugins.
func (b pluginAPI) Get(ctx context.Context, tenant, ref string) (v1.PluginDetail, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.PluginDetail{}, err
	}
	return b.d.detail(ctx, p), nil
}

// Enable implements httpapi.Plugins: it switches the plugin on in config.json
// and waits until it serves, or says why it does not.
func (b pluginAPI) Enable(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return b.change(ctx, "enable", tenant, ref, func(ctx context.Context, key plugin.Key) error {
		b.d.hooks.Reset(key)
		if err := b.d.setEnabled(ctx, key, true); err != nil {
			return err
		}
		_, err := b.d.ready(ctx, key)
		return err
	})
}

// Disable implements httpapi.Plugins: it returns when nothing of the plugin
// runs any more.
func (b pluginAPI) Disable(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return b.change(ctx, "disable", tenant, ref, func(ctx context.Context, key plugin.Key) error {
		if err := b.d.setEnabled(ctx, key, false); err != nil {
			return err
		}
		return b.d.supervisor.Gone(ctx, key)
	})
}

// Restart implements httpapi.Plugins.
func (b pluginAPI) Restart(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return b.change(ctx, "restart", tenant, ref, func(ctx context.Context, key plugin.Key) error {
		b.d.hooks.Reset(key)
		return b.d.supervisor.Restart(ctx, key)
	})
}

// Reset implements httpapi.Plugins. The payload is verified before what went
// wrong is forgotten, and once more before the start.
func (b pluginAPI) Reset(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return b.change(ctx, "reset", tenant, ref, func(ctx context.Context, key plugin.Key) error {
		if err := b.d.resettable(ctx, key); err != nil {
			return err
		}
		b.d.hooks.Reset(key)
		if err := b.d.supervisor.Reset(ctx, key); err != nil || !b.d.catalog.enabled(key) {
			return err
		}
		_, err := b.d.ready(ctx, key)
		return err
	})
}

// resettable refuses a plugin whose payload is not what was installed.
func (d *Daemon) resettable(ctx context.Context, key plugin.Key) error {
	p, err := d.catalog.get(key.Tenant, key.ID)
	if err != nil {
		return err
	}
	err = d.verify(ctx, p)
	if !errdefs.IsDataLoss(err) && !errdefs.IsNotFound(err) {
		return err
	}
	return fault.New(errdefs.ErrFailedPrecondition, "payload_altered", "plugin %s cannot be reset: %s", key.ID, fault.Of(err).Message).
		WithHint(reinstallHint, key.ID)
}

// reinstallHint is what to do about an altered payload.
const reinstallHint = "find out who wrote to the store, then get the plugin again: ocmt plugins reinstall %s"

func (b pluginAPI) change(ctx context.Context, action, tenant, ref string, do func(context.Context, plugin.Key) error) (v1.Plugin, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.Plugin{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err = b.d.audited(ctx, p.Key, "plugin."+action, "", func() error { return do(ctx, p.Key) })
	if err != nil {
		return v1.Plugin{}, err
	}
	return b.d.describeFully(p), nil
}

// setEnabled writes the switch to config.json and puts it into effect.
func (d *Daemon) setEnabled(ctx context.Context, key plugin.Key, on bool) error {
	err := d.editConfig(ctx, key.Tenant, func(e *config.Edit) error { return e.SetEnabled(key.ID, on) })
	if err != nil {
		return err
	}
	d.catalog.switched(key)
	d.refreshHandlers(key) // from now on, not from when the edit is noticed
	return d.supervisor.SetDesired(ctx, key, on)
}

// Verify implements httpapi.Plugins. A payload that is not what was installed
// quarantines the plugin.
func (b pluginAPI) Verify(ctx context.Context, tenant, ref string) (v1.Verification, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.Verification{}, err
	}
	start := time.Now()
	err = b.d.audited(ctx, p.Key, "plugin.verify", p.Payload.Digest, func() error { return b.d.verify(ctx, p) })
	if errdefs.IsDataLoss(err) || errdefs.IsNotFound(err) {
		told := *fault.Of(err) // the store does not know whose payload it is
		return v1.Verification{}, told.WithHint(reinstallHint, p.Key.ID)
	}
	if err != nil {
		return v1.Verification{}, err
	}
	took := time.Since(start)
	return v1.Verification{
		Digest: p.Payload.Digest, Form: p.Payload.Form, Size: p.Payload.Size,
		Millis: float64(took.Microseconds()) / 1000,
	}, nil
}
