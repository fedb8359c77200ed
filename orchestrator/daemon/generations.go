package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
)

// generations holds of every plugin what its newest instance is made of, and
// that instance.
type generations struct {
	mu      sync.RWMutex
	recipes map[plugin.Key]*recipe // nil of one that is being made
	newest  map[plugin.Key]*unit   // prepared and not ended
	serving map[plugin.Key]*unit
	making  map[plugin.Key]int    // how many are being prepared
	live    map[string]*unit      // by instance: prepared, and something of it may be left
	left    map[string]plugin.Key // containers of earlier daemons that are to be removed
}

// recipe is what an instance is made of and only another one can be made
// without.
type recipe struct {
	allowed policy.Effective
	config  json.RawMessage // as the plugin sees it, without values of secrets
	secrets []string        // what it is handed of secrets, without their values
	learn   bool
}

// digest names what is in r for a later daemon: two instances with one digest
// were made alike, and with the same protections, which may be others in another
// release. The values of granted environment variables are not in it:
// they count from the next start on.
func (r recipe) digest(image, runtime string) (string, error) {
	doc, err := json.Marshal(struct {
		Workspaces     []policy.WorkspaceDir `json:",omitempty"`
		Secrets, Env   []string              `json:",omitempty"`
		Paths, Host    []string              `json:",omitempty"`
		Registered     map[string]bool       `json:",omitempty"`
		Resources      policy.Limits
		Config         json.RawMessage `json:",omitempty"`
		Handed         []string        `json:",omitempty"`
		Learn          bool            `json:",omitempty"`
		Image, Runtime string
		Profile        sandbox.Profile
		Defaults       sandbox.Spec
	}{
		r.allowed.Workspaces, r.allowed.Secrets, r.allowed.Env, r.allowed.Config, r.allowed.Host,
		r.allowed.Registered, r.allowed.Resources, r.config, r.secrets, r.learn, image, runtime,
		sandbox.Hardened(), sandbox.Harden(sandbox.Spec{Limits: sandbox.LimitsFor(sandbox.RolePlugin)}),
	})
	if err != nil {
		return "", fmt.Errorf("cannot describe what a plugin is made of: %w", err)
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:]), nil
}

func newGenerations() *generations {
	return &generations{
		recipes: map[plugin.Key]*recipe{}, newest: map[plugin.Key]*unit{}, serving: map[plugin.Key]*unit{},
		making: map[plugin.Key]int{}, live: map[string]*unit{}, left: map[string]plugin.Key{},
	}
}

// begin forgets what the generation before was made of: until made is told,
// whatever changes counts as a change. The function that it returns is called
// when the next one is prepared or taken over, or cannot be.
func (g *generations) begin(key plugin.Key) (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.recipes[key] = nil
	g.making[key]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.making[key]--; g.making[key] == 0 {
			delete(g.making, key)
		}
	}
}

func (g *generations) isMaking(key plugin.Key) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.making[key] > 0
}

// liveUnits returns the instances of which something may be left.
func (g *generations) liveUnits() []*unit {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.Collect(maps.Values(g.live))
}

func (g *generations) isLive(instance string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.live[instance] != nil
}

// closed forgets an instance of which nothing is left.
func (g *generations) closed(u *unit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live[u.ID()] == u {
		delete(g.live, u.ID())
	}
}

// leftBehind notes a container of an earlier daemon that is to be removed,
// cleared that it was.
func (g *generations) leftBehind(key plugin.Key, id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left[id] = key
}

func (g *generations) cleared(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.left, id)
}

// leftOf returns the containers that earlier daemons left of a plugin.
func (g *generations) leftOf(key plugin.Key) []string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var ids []string
	for id, of := range g.left {
		if of == key {
			ids = append(ids, id)
		}
	}
	return ids
}

func (g *generations) made(key plugin.Key, r recipe) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.recipes[key] = &r
}

// recipe returns what the newest instance is made of, nil while that is being
// read, and whether one was ever begun.
func (g *generations) recipe(key plugin.Key) (r *recipe, begun bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	r, begun = g.recipes[key]
	return r, begun
}

func (g *generations) prepared(u *unit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.newest[u.installed.Key] = u
	g.live[u.ID()] = u
}

func (g *generations) serve(u *unit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.serving[u.installed.Key] = u
}

func (g *generations) ended(u *unit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, units := range []map[plugin.Key]*unit{g.newest, g.serving} {
		if units[u.installed.Key] == u {
			delete(units, u.installed.Key)
		}
	}
}

// forget drops what is left of a plugin that was uninstalled.
func (g *generations) forget(key plugin.Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.recipes, key)
}

// running returns the serving generation of a plugin, nil if there is none.
func (d *Daemon) running(key plugin.Key) *unit {
	d.generations.mu.RLock()
	defer d.generations.mu.RUnlock()
	return d.generations.serving[key]
}

// newest returns the instance of a plugin, also one that does not serve yet;
// nil if there is none.
func (d *Daemon) newest(key plugin.Key) *unit {
	d.generations.mu.RLock()
	defer d.generations.mu.RUnlock()
	return d.generations.newest[key]
}

// stale reports whether an instance of the plugin would be made of something
// else now than the newest one was.
func (d *Daemon) stale(key plugin.Key) bool {
	have, begun := d.generations.recipe(key)
	if !begun { // what it will be made of is still to be read
		return false
	}
	if have == nil {
		return true
	}
	now, _, _, err := d.recipe(key)
	return err != nil || policy.RestartNeeded(have.allowed, now.allowed) || !bytes.Equal(have.config, now.config) ||
		!slices.Equal(have.secrets, now.secrets) || have.learn != now.learn
}

// recipe returns what an instance of the plugin would be made of now, with its
// own part of the configuration and what it is handed.
func (d *Daemon) recipe(key plugin.Key) (recipe, json.RawMessage, delivery, error) {
	allowed := d.authority.Effective(key)
	given, err := d.deliver(key, allowed)
	if err != nil {
		return recipe{}, nil, given, err
	}
	whole, own, err := d.view(key, allowed.Config, given)
	return recipe{allowed: allowed, config: whole, secrets: given.made, learn: d.learning.on(key)}, own, given, err
}

// active reports whether there is an instance that serves or is about to. What
// is read for the next one was read after it became so.
func (d *Daemon) active(key plugin.Key) bool {
	switch d.state(key) {
	case supervisor.StatePreparing, supervisor.StateStarting, supervisor.StateRunning:
		return true
	}
	return false
}

// state returns the plugin's state, empty if it is not supervised.
func (d *Daemon) state(key plugin.Key) supervisor.State {
	st, err := d.supervisor.Status(key)
	if err != nil {
		return ""
	}
	return st.State
}

// ready returns the instance of a plugin, and waits for it as
// supervisor.Ready does, but not for one that cannot be made before a person
// has mended what it is handed, such as a secret that is not set.
func (d *Daemon) ready(ctx context.Context, key plugin.Key) (supervisor.Instance, error) {
	switch d.state(key) {
	case supervisor.StateBackoff, supervisor.StatePreparing, supervisor.StateStarting, supervisor.StateStopping:
		if _, _, _, err := d.recipe(key); err != nil {
			return nil, fmt.Errorf("plugin %s cannot be started: %w", key.ID, notHanded(err))
		}
	}
	return d.supervisor.Ready(ctx, key)
}

// remake replaces the plugin's instance where it is made of something that
// does not count any more, and reports whether it did. It does not wait for
// the new one, and goes on when the caller leaves.
func (d *Daemon) remake(ctx context.Context, key plugin.Key) (bool, error) {
	if !d.active(key) || !d.stale(key) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	err := d.supervisor.Replace(ctx, key)
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		return false, nil // it was switched off or removed meanwhile
	}
	return err == nil, err
}
