package daemon

import (
	"context"
	"sync"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
)

// How the engine is watched. Between two looks, the instances' own waits tell
// how they end; the list is for what those miss.
const (
	probeEvery   = 5 * time.Second
	probeTimeout = 5 * time.Second
	listEvery    = 30 * time.Second
	listTimeout  = 20 * time.Second
)

// throwAwayAge is how old a container gets at most that checks, installs or
// cleans, amply. One that is older could not be removed when it was done.
const throwAwayAge = 30 * time.Minute

// engineHealth is whether the engine answers.
type engineHealth struct {
	mu    sync.Mutex
	since time.Time
	err   error
}

// set notes an answer, and reports whether that is news.
func (h *engineHealth) set(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	news := h.since.IsZero() || (err == nil) != (h.err == nil)
	h.err = err
	if news {
		h.since = time.Now()
	}
	return news
}

func (h *engineHealth) show(e *v1.Engine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.State, e.Since = v1.EngineOK, h.since
	if h.err != nil {
		e.State, e.Error = v1.EngineUnreachable, h.err.Error()
	}
}

// watchEngine asks the engine for a sign of life, and now and then for what it
// runs, until ctx ends.
func (d *Daemon) watchEngine(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	strays := map[string]bool{}
	listed := time.Now() // by recover
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		back := d.probeEngine(ctx)
		if due := time.Since(listed) >= listEvery || back; due && d.health.ok() {
			listed = time.Now()
			strays = d.reconcile(ctx, strays)
			if d.before != "" {
				d.leaveEngine(ctx, d.before)
			}
		}
	}
}

func (h *engineHealth) ok() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err == nil
}

// probeEngine asks the engine for a sign of life, and reports whether it came
// back.
func (d *Daemon) probeEngine(ctx context.Context) (back bool) {
	call, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := d.engine.Info(call)
	if ctx.Err() != nil || !d.health.set(err) {
		return false
	}
	if err != nil {
		d.logger.Error("the engine does not answer: running plugins go on, nothing can be started or stopped", "error", err)
	} else {
		d.logger.Info("the engine answers again")
	}
	return err == nil
}

// reconcile compares what runs with what should: each instance is told what
// the engine says of it, and a container that nobody needs, twice in a row, is
// removed. It returns those it saw for the first time.
func (d *Daemon) reconcile(ctx context.Context, before map[string]bool) map[string]bool {
	call, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	live := d.generations.liveUnits() // before the list: what is made meanwhile is not missed
	list, err := d.engine.List(call, d.ours())
	if err != nil {
		if ctx.Err() == nil {
			d.logger.Warn("cannot compare what runs with what should", "error", err)
		}
		return nil
	}
	found := map[string]*sandbox.Container{}
	for _, c := range list {
		found[c.ID] = &c
	}
	for _, u := range live {
		u.Observe(found[u.ID()])
	}
	strays := map[string]bool{}
	for id, c := range found {
		if !d.isStray(c, time.Now()) {
			continue
		}
		if strays[id] = true; before[id] {
			if err := d.discard(ctx, id); err != nil && ctx.Err() == nil {
				d.logger.Warn("cannot remove a container that nobody needs", "container", id, "error", err)
			}
		}
	}
	return strays
}

// isStray reports whether a container is a plugin's and belongs to no instance,
// or is a throw-away one that nobody waits for any more.
func (d *Daemon) isStray(c *sandbox.Container, now time.Time) bool {
	if c.Labels[sandbox.LabelRole] == sandbox.RolePlugin {
		return !d.generations.isLive(c.ID) && !d.generations.isMaking(keyOf(c))
	}
	return !c.StartedAt.IsZero() && now.Sub(c.StartedAt) > throwAwayAge
}

func keyOf(c *sandbox.Container) plugin.Key {
	return plugin.Key{Tenant: c.Labels[sandbox.LabelTenant], ID: c.Labels[sandbox.LabelPlugin]}
}
