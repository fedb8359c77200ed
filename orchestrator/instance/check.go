package instance

import (
	"context"
	"errors"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// checkTimeout bounds a load check: create, start, import and register.
const checkTimeout = 60 * time.Second

// Check loads a sealed package once, in a container without network and state,
// and returns what it registered. Nothing of it is left. The class is
// fault.ErrPlugin when the package cannot be loaded.
func (f *Factory) Check(ctx context.Context, p plugin.Installed) (plugin.Surface, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	plan := Plan{
		Key: p.Key, Descriptor: p.Descriptor, Payload: p.Payload, Discovery: true,
		Generation: uint64(time.Now().Unix())<<16 | f.checks.Add(1)&0xffff,
	}
	if f.RuntimeOf != nil {
		plan.Runtime = f.RuntimeOf(p.Source)
	}
	if f.View != nil {
		var err error
		if plan.Config, plan.PluginConfig, err = f.View(p.Key); err != nil {
			return plugin.Surface{}, err
		}
	}
	in, err := f.Prepare(ctx, plan)
	if err != nil {
		return plugin.Surface{}, err
	}
	var surface plugin.Surface
	if err = in.Start(ctx); err == nil {
		surface = in.Surface()
	}
	return surface, errors.Join(err, in.Close(ctx))
}
