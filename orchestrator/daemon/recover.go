package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/ocmt/ocmt/orchestrator/engine"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
)

// discards is how many leftovers are removed at a time.
const discards = 8

// recover takes over the plugins that an earlier daemon of this home left
// running, and removes everything else that it left: containers with this
// home's label, mounts, files and sockets. Installs that were under way were
// rolled back by the installer. What cannot be removed keeps its own plugin from
// being started, and no other.
func (d *Daemon) recover(ctx context.Context) error {
	list, err := d.engine.List(ctx, d.ours())
	if err != nil {
		return fmt.Errorf("cannot look for containers of an earlier run: %w", err)
	}
	records, err := d.factory.Records()
	if err != nil {
		return err
	}
	left, err := d.factory.Leftovers()
	if err != nil {
		return err
	}
	// The newest generation first: a plugin has one instance.
	slices.SortFunc(list, func(a, b sandbox.Container) int {
		return cmp.Compare(records[b.ID].Generation, records[a.ID].Generation)
	})
	seen := map[plugin.Key]bool{}
	for _, c := range list {
		if c.Labels[sandbox.LabelRole] != sandbox.RolePlugin {
			left = append(left, c.ID)
			continue
		}
		key := keyOf(&c)
		if rec, ok := records[c.ID]; ok && !seen[key] && d.adopt(ctx, c, rec) {
			left = slices.DeleteFunc(left, func(id string) bool { return id == c.ID })
		} else {
			left = append(left, c.ID)
			d.generations.leftBehind(key, c.ID)
		}
		seen[key] = true
	}
	slices.Sort(left)
	return d.discardAll(ctx, slices.Compact(left))
}

// ours are the labels of this home's containers.
func (d *Daemon) ours() map[string]string {
	return map[string]string{sandbox.LabelHome: d.store.HomeID()}
}

// discardAll removes what is left of instances that nobody takes over, as far as
// that can be removed now. The error is that of ctx.
func (d *Daemon) discardAll(ctx context.Context, ids []string) error {
	var group errgroup.Group
	group.SetLimit(discards)
	for _, id := range ids {
		d.logger.Warn("removing what an earlier run left", "container", id)
		group.Go(func() error {
			if err := d.discard(ctx, id); err != nil && ctx.Err() == nil {
				d.logger.Error("cannot remove what an earlier run left", "container", id, "error", err)
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

// discard removes a container that nobody needs, and what belongs to it.
func (d *Daemon) discard(ctx context.Context, id string) error {
	err := d.factory.Discard(ctx, id)
	if err == nil {
		d.generations.cleared(id)
	}
	return err
}

// clearAway removes what an earlier run left of a plugin and could not be
// removed so far. Unavailable when it still cannot: it may run, and a plugin has
// one instance.
func (d *Daemon) clearAway(ctx context.Context, key plugin.Key) error {
	for _, id := range d.generations.leftOf(key) {
		if err := d.discard(ctx, id); err != nil {
			return fault.New(errdefs.ErrUnavailable, "container_left", "container %s of an earlier run cannot be removed: %w", id, err).
				WithHint("see what holds it, and remove it with the container engine's own command; ocmt tries again by itself").WithRetry()
		}
	}
	return nil
}

// adopt hands a running container to the supervisor and reports whether it
// took it. One whose plugin was switched off, removed or replaced meanwhile,
// is in quarantine, or has an instance already, is not taken.
func (d *Daemon) adopt(ctx context.Context, c sandbox.Container, rec instance.Record) bool {
	p, ok := d.catalog.Installed(rec.Key)
	switch {
	case !ok, rec.Discovery, c.State != sandbox.StateRunning:
		return false
	case !d.catalog.enabled(p.Key), rec.Payload != p.Payload.Digest:
		return false
	}
	err := d.checkGeneration(ctx, rec)
	if err == nil {
		err = d.adoptAs(ctx, p, c, rec)
	}
	if err != nil {
		d.logger.Warn("cannot take over a running plugin; it is started anew", "tenant", p.Key.Tenant, "plugin", p.Key.ID, "container", c.ID, "error", err)
		return false
	}
	return true
}

// checkGeneration refuses an instance of a generation that was not counted yet,
// as after the database was restored from a backup: its number, and with it its
// name, would be given to another one.
func (d *Daemon) checkGeneration(ctx context.Context, rec instance.Record) error {
	counted, err := d.store.Generation(ctx, rec.Key)
	if err == nil && rec.Generation > counted {
		err = fmt.Errorf("it is generation %d of %d: %w", rec.Generation, counted, errdefs.ErrFailedPrecondition)
	}
	return err
}

func (d *Daemon) adoptAs(ctx context.Context, p plugin.Installed, c sandbox.Container, rec instance.Record) error {
	defer d.generations.begin(p.Key)()
	plan, made, err := d.plan(p, rec.Generation)
	if err != nil {
		return err
	}
	in, err := d.factory.Adopt(ctx, plan, c)
	if err != nil {
		return err
	}
	u := &unit{Instance: in, installed: p, made: made, d: d, adopted: true}
	if rec.Recipe == plan.Recipe { // else it is made of something that does not count any more
		d.generations.made(p.Key, made)
	}
	d.generations.prepared(u)
	found := supervisor.Found{Instance: u, Generation: rec.Generation, ReadyAt: c.StartedAt}
	if err := d.supervisor.Adopt(ctx, p.Key, found); err != nil {
		return errors.Join(err, u.Close(ctx))
	}
	return nil
}

// leavePlugins gives up the plugins that run, for the next daemon.
func (d *Daemon) leavePlugins(ctx context.Context) error {
	errs := []error{d.supervisor.Leave(ctx)}
	for _, u := range d.generations.liveUnits() {
		errs = append(errs, u.Detach(ctx))
	}
	return errors.Join(errs...)
}

// leaveEngine removes this home's containers from the engine that it used
// before. What runs there is not this daemon's to know any more, but as long as
// it has not answered once, it is asked again now and then.
func (d *Daemon) leaveEngine(ctx context.Context, name string) {
	first := d.before == ""
	d.before = name
	old, _, err := engine.Open(ctx, engine.Options{Name: name, HomeID: d.store.HomeID(), Dir: d.home.Run(), Logger: d.logger})
	if err == nil {
		err = d.removeOurs(ctx, old)
	}
	switch {
	case err == nil:
		d.before = ""
	case first && ctx.Err() == nil:
		d.logger.Warn("cannot remove what the engine that was used before may still run; it is tried again", "engine", name, "error", err)
	}
}

// removeOurs removes this home's containers from an engine.
func (d *Daemon) removeOurs(ctx context.Context, old sandbox.Engine) error {
	list, err := old.List(ctx, d.ours())
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range list {
		d.logger.Warn("removing a container of the engine that was used before", "container", c.ID)
		errs = append(errs, old.Remove(ctx, c.ID))
	}
	return errors.Join(errs...)
}
