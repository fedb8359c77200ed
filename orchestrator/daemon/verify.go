package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// verifyEvery is how often the payload of every plugin is read again, beyond
// the verification before every start. A mounted image does not change under a
// running plugin unless somebody writes to the file itself.
const verifyEvery = time.Hour

// verify reads a plugin's sealed payload again. One that is not what was
// installed quarantines the plugin, and is DataLoss.
func (d *Daemon) verify(ctx context.Context, p plugin.Installed) error {
	sealed, err := seal.Open(ctx, d.home.Store(), p.Payload)
	if errdefs.IsDataLoss(err) {
		return errors.Join(err, d.supervisor.Quarantine(ctx, p.Key, err.Error()))
	}
	if err != nil {
		return err
	}
	return sealed.Close()
}

// verifyNowAndThen verifies all payloads, one after the other, every
// verifyEvery until ctx ends; those of plugins that were taken over from an
// earlier daemon, which were not verified at a start of ours, at once.
func (d *Daemon) verifyNowAndThen(ctx context.Context) {
	for _, u := range d.generations.liveUnits() {
		if u.adopted {
			d.verifyQuietly(ctx, u.installed)
		}
	}
	tick := time.NewTicker(verifyEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.verifyAll(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (d *Daemon) verifyAll(ctx context.Context) {
	for _, p := range d.catalog.list("") {
		d.verifyQuietly(ctx, p)
	}
}

func (d *Daemon) verifyQuietly(ctx context.Context, p plugin.Installed) {
	if err := d.verify(ctx, p); err != nil && ctx.Err() == nil {
		d.logger.Error("a payload does not verify", "tenant", p.Key.Tenant, "plugin", p.Key.ID, "error", err)
	}
}
