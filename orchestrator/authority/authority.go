// Package authority knows what every installed plugin may do at this moment,
// and what it would like to: it keeps the grants of the store in memory,
// narrows them by what config.json says, lets them expire, and collects the
// requests that wait for a person.
//
// It promises that nothing is acknowledged before it is on disk, that a call
// which asks reads no file, and that whoever put a grant into force is told of
// every change.
package authority

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// lookAgain is how often at least the clock is looked at while there are grants
// that end: it may be set, or have stood still while the machine slept.
const lookAgain = time.Minute

// maxWishes is how many requests of a running plugin are kept; the oldest go.
const maxWishes = 64

// Store keeps grants and denials; what a method has returned is on disk.
type Store interface {
	PutGrants(ctx context.Context, key plugin.Key, grants []policy.Grant) error
	DeleteGrant(ctx context.Context, key plugin.Key, kind policy.Kind, target string) (found bool, err error)
	AllGrants(ctx context.Context) (map[plugin.Key][]policy.Grant, error)
	PutDenial(ctx context.Context, key plugin.Key, request, actor string, at time.Time) error
	AllDenials(ctx context.Context) (map[plugin.Key]map[string]bool, error)
}

// Plugins tells of what is installed and configured.
type Plugins interface {
	// Installed returns the plugin, with what it registered last.
	Installed(key plugin.Key) (plugin.Installed, bool)
	// Narrowing returns what config.json says of the plugin's permissions.
	Narrowing(key plugin.Key) policy.Narrowing
}

// Config is what an Authority needs. All fields must be set.
type Config struct {
	Store   Store
	Plugins Plugins
	Limits  func(plugin.Source) policy.Limits // those that need no grant
	// Changed is told when what a plugin may do has changed, with the lock of
	// nothing held, one call at a time per plugin.
	Changed func(key plugin.Key, before, after policy.Effective)
	// Expired is told of grants that ended by themselves, after Changed.
	Expired func(key plugin.Key, ended []policy.Grant)
}

// Authority is safe for concurrent use.
type Authority struct {
	cfg Config

	mu    sync.RWMutex
	units map[plugin.Key]*unit
	wake  chan struct{} // has room for one: the next expiry may be another
}

// unit is what is known of one plugin.
type unit struct {
	changing sync.Mutex // held while a change is written and told

	grants    []policy.Grant
	run       []policy.Grant  // allowed until an instance ends; on no disk
	instance  string          // that one
	denied    map[string]bool // ids of requests; never altered in place
	wishes    []policy.Ask    // what it tried while it ran
	effective policy.Effective
}

// Load reads the grants.
func Load(ctx context.Context, cfg Config) (*Authority, error) {
	grants, err := cfg.Store.AllGrants(ctx)
	if err != nil {
		return nil, err
	}
	denials, err := cfg.Store.AllDenials(ctx)
	if err != nil {
		return nil, err
	}
	a := &Authority{cfg: cfg, units: map[plugin.Key]*unit{}, wake: make(chan struct{}, 1)}
	for key, list := range grants {
		a.unit(key).grants = list
	}
	for key, ids := range denials {
		a.unit(key).denied = ids
	}
	for key, u := range a.units {
		u.effective = policy.Resolve(time.Now(), u.grants, cfg.Plugins.Narrowing(key), a.limits(key))
	}
	return a, nil
}

// limits returns those of a plugin that needs no grant for them.
func (a *Authority) limits(key plugin.Key) policy.Limits {
	installed, _ := a.cfg.Plugins.Installed(key)
	return a.cfg.Limits(installed.Source)
}

// unit returns the plugin's unit and makes it if need be.
func (a *Authority) unit(key plugin.Key) *unit {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.units[key]
	if u == nil {
		u = &unit{}
		a.units[key] = u
	}
	return u
}

// hold returns the plugin's unit with its lock held: what is done until it is
// let go happens before or after every other change of the plugin.
func (a *Authority) hold(key plugin.Key) *unit {
	for {
		u := a.unit(key)
		u.changing.Lock()
		a.mu.RLock()
		current := a.units[key] == u
		a.mu.RUnlock()
		if current {
			return u
		}
		u.changing.Unlock() // the plugin was forgotten meanwhile
	}
}

// Effective returns what the plugin may do now: nothing, if it is not known.
// The caller must not alter it.
func (a *Authority) Effective(key plugin.Key) policy.Effective {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if u := a.units[key]; u != nil {
		return u.effective
	}
	return policy.Effective{}
}

// Grants returns what was granted to the plugin, in force or narrowed away.
func (a *Authority) Grants(key plugin.Key) []policy.Grant {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if u := a.units[key]; u != nil {
		return slices.Clone(u.grants)
	}
	return nil
}

// Grant puts grants into force, in place of those about the same.
func (a *Authority) Grant(ctx context.Context, key plugin.Key, grants ...policy.Grant) error {
	u := a.hold(key)
	defer u.changing.Unlock()
	if err := a.cfg.Store.PutGrants(ctx, key, grants); err != nil {
		return err
	}
	a.update(key, u, func() { u.put(grants) })
	return nil
}

// put takes grants in place of those about the same, also of those for one run.
func (u *unit) put(grants []policy.Grant) {
	u.grants = policy.Merge(u.grants, grants)
	u.run = slices.DeleteFunc(slices.Clone(u.run), func(run policy.Grant) bool {
		return slices.ContainsFunc(grants, func(g policy.Grant) bool { return g.Kind == run.Kind && g.Target == run.Target })
	})
}

// Adopt puts the grants of an install into force, in place of those about the
// same. write puts them on disk, with whatever belongs to them; if it fails,
// nothing has changed.
func (a *Authority) Adopt(key plugin.Key, grants []policy.Grant, write func() error) error {
	u := a.hold(key)
	defer u.changing.Unlock()
	if err := write(); err != nil {
		return err
	}
	a.update(key, u, func() {
		u.put(grants)
		u.wishes = nil
	})
	return nil
}

// Revoke takes a grant back, and what is allowed for one run about the same.
// NotFound if there is neither.
func (a *Authority) Revoke(ctx context.Context, key plugin.Key, kind policy.Kind, target string) (policy.Grant, error) {
	u := a.hold(key)
	defer u.changing.Unlock()
	about := func(g policy.Grant) bool { return g.Kind == kind && g.Target == target }
	list := slices.Concat(a.Grants(key), a.RunGrants(key))
	i := slices.IndexFunc(list, about)
	if i < 0 {
		return policy.Grant{}, fault.New(errdefs.ErrNotFound, "not_granted", "plugin %s was not granted %s %s", key.ID, kind, plugin.Printable(target, 200)).
			WithHint("see what was: ocmt plugins permissions %s", key.ID)
	}
	if list[i].Origin != policy.OriginRun { // else it is on no disk
		if _, err := a.cfg.Store.DeleteGrant(ctx, key, kind, target); err != nil {
			return policy.Grant{}, err
		}
	}
	a.update(key, u, func() {
		u.grants = slices.DeleteFunc(slices.Clone(u.grants), about)
		u.run = slices.DeleteFunc(slices.Clone(u.run), about)
	})
	return list[i], nil
}

// Refresh takes a changed configuration, and the time, into account.
func (a *Authority) Refresh(key plugin.Key) {
	if _, ok := a.cfg.Plugins.Installed(key); !ok {
		return
	}
	u := a.hold(key)
	defer u.changing.Unlock()
	a.update(key, u, func() {})
}

// Forget drops what is known of a plugin that was uninstalled. Nothing is told
// of it afterwards.
func (a *Authority) Forget(key plugin.Key) {
	u := a.hold(key)
	defer u.changing.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.units, key)
}

// update applies a change, and tells of what follows from it. The caller
// holds u.changing.
func (a *Authority) update(key plugin.Key, u *unit, change func()) {
	narrowing, limits := a.cfg.Plugins.Narrowing(key), a.limits(key)
	a.mu.Lock()
	before := u.effective
	change()
	u.effective = policy.Resolve(time.Now(), policy.Merge(u.grants, u.run), narrowing, limits)
	after := u.effective
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
	a.cfg.Changed(key, before, after)
}

// Run lets grants expire until ctx ends.
func (a *Authority) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
			a.expire(ctx)
		}
		if next := a.nextExpiry(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(min(max(time.Until(next), 0), lookAgain))
		}
	}
}

// nextExpiry returns when the next grant ends, the zero time if none does.
func (a *Authority) nextExpiry() time.Time {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var next time.Time
	for _, u := range a.units {
		for _, g := range u.grants {
			if !g.ExpiresAt.IsZero() && (next.IsZero() || g.ExpiresAt.Before(next)) {
				next = g.ExpiresAt
			}
		}
	}
	return next
}

// expire removes the grants whose time is over. One that the store cannot
// remove is out of force all the same.
func (a *Authority) expire(ctx context.Context) {
	for _, key := range a.keys() {
		u := a.hold(key)
		a.expireUnit(ctx, key, u)
		u.changing.Unlock()
	}
}

// expireUnit is expire for one plugin. The caller holds u.changing: a grant
// that is being renewed has not ended.
func (a *Authority) expireUnit(ctx context.Context, key plugin.Key, u *unit) {
	now := time.Now()
	var ended, left []policy.Grant
	for _, g := range a.Grants(key) {
		if g.Expired(now) {
			ended = append(ended, g)
		} else {
			left = append(left, g)
		}
	}
	if ended == nil {
		return
	}
	a.update(key, u, func() { u.grants = left }) // before anything that may wait
	for _, g := range ended {
		_, _ = a.cfg.Store.DeleteGrant(ctx, key, g.Kind, g.Target) // it has no effect any more; the next start tries again
	}
	a.cfg.Expired(key, ended)
}

func (a *Authority) keys() []plugin.Key {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Collect(maps.Keys(a.units))
}

// with returns set with id in it, and leaves set alone.
func with(set map[string]bool, id string) map[string]bool {
	out := maps.Clone(set)
	if out == nil {
		out = map[string]bool{}
	}
	out[id] = true
	return out
}
