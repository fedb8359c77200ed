package daemon

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

const (
	defaultLearn = time.Hour
	// maxLearned is how many wishes of a plugin are kept while it is learned
	// about.
	maxLearned = 256
)

// learning holds what plugins in learn mode wished for. It is in memory alone:
// learn mode ends with the daemon.
type learning struct {
	mu    sync.Mutex
	units map[plugin.Key]*lesson
}

// lesson is what was learned about one plugin.
type lesson struct {
	active       bool
	since, until time.Time
	timer        *time.Timer // ends it
	wishes       []policy.Ask
}

func newLearning() *learning { return &learning{units: map[plugin.Key]*lesson{}} }

// on reports whether the plugin is to run in learn mode.
func (l *learning) on(key plugin.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.units[key]
	return u != nil && u.active
}

// begin begins anew; end is called when the time is over, unless it ended
// before.
func (l *learning) begin(key plugin.Key, length time.Duration, end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.units[key]; u != nil {
		u.timer.Stop()
	}
	now := time.Now().UTC()
	l.units[key] = &lesson{active: true, since: now, until: now.Add(length), timer: time.AfterFunc(length, end)}
}

// end ends learn mode and reports whether it was on. What was learned is kept.
func (l *learning) end(key plugin.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.units[key]
	if u == nil || !u.active {
		return false
	}
	u.timer.Stop()
	u.active, u.until = false, time.Now().UTC()
	return true
}

// forget drops what was learned about a plugin that is gone.
func (l *learning) forget(key plugin.Key) {
	l.end(key)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.units, key)
}

// wish notes what a plugin in learn mode wished for, and reports whether it is
// news.
func (l *learning) wish(key plugin.Key, ask policy.Ask) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.units[key]
	if u == nil || !u.active || len(u.wishes) >= maxLearned {
		return false
	}
	if slices.ContainsFunc(u.wishes, func(w policy.Ask) bool { return w.Kind == ask.Kind && w.Target == ask.Target }) {
		return false
	}
	u.wishes = append(u.wishes, ask)
	return true
}

// lesson returns what was learned about a plugin.
func (l *learning) lesson(key plugin.Key) lesson {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.units[key]
	if u == nil {
		return lesson{}
	}
	out := *u
	out.wishes = slices.Clone(u.wishes)
	return out
}

// learnAPI implements httpapi.Learning.
type learnAPI struct{ d *Daemon }

func (b learnAPI) Learn(ctx context.Context, tenant, ref string, req v1.LearnRequest) (v1.Learning, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.Learning{}, err
	}
	if req.On && !b.d.catalog.enabled(p.Key) {
		return v1.Learning{}, fault.New(errdefs.ErrFailedPrecondition, "not_enabled", "plugin %s is not enabled", p.Key.ID).
			WithHint("enable it first: ocmt plugins enable %s%s", p.Key.ID, tenantFlag(tenant))
	}
	action := "plugin.learn.end"
	if req.On {
		action = "plugin.learn"
	}
	err = b.d.audited(ctx, p.Key, action, "", func() error { return b.d.learn(ctx, p, req) })
	if err != nil {
		return v1.Learning{}, err
	}
	return b.d.learned(p)
}

// learn switches learn mode on or off. The plugin is restarted for it.
func (d *Daemon) learn(ctx context.Context, p plugin.Installed, req v1.LearnRequest) error {
	if !req.On {
		if !d.learning.end(p.Key) {
			return nil
		}
		return d.restartStale(ctx, p.Key)
	}
	length := time.Duration(req.ForSeconds) * time.Second
	if length == 0 {
		length = defaultLearn
	}
	d.learning.begin(p.Key, length, func() { d.learnedEnough(p) })
	for _, ask := range d.unaccepted(p) {
		d.learning.wish(p.Key, ask)
	}
	return d.restartStale(ctx, p.Key)
}

// learnedEnough ends learn mode when its time is over.
func (d *Daemon) learnedEnough(p plugin.Installed) {
	err := d.audited(context.Background(), p.Key, "plugin.learn.end", "", func() error {
		return d.learn(context.Background(), p, v1.LearnRequest{})
	})
	if err != nil {
		d.logger.Error("cannot end learn mode", "tenant", p.Key.Tenant, "plugin", p.Key.ID, "error", err)
	}
}

// unaccepted returns the hooks that a plugin registers and was not granted.
func (d *Daemon) unaccepted(p plugin.Installed) []policy.Ask {
	var asks []policy.Ask
	for _, r := range d.authority.Requests(p.Key) {
		if r.Kind == policy.Hook {
			asks = append(asks, r.Ask)
		}
	}
	return asks
}

func (b learnAPI) Learning(_ context.Context, tenant, ref string) (v1.Learning, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.Learning{}, err
	}
	return b.d.learned(p)
}

// learned is what was learned about a plugin, as the API shows it.
func (d *Daemon) learned(p plugin.Installed) (v1.Learning, error) {
	l := d.learning.lesson(p.Key)
	out := v1.Learning{On: l.active, Wishes: []v1.Permission{}}
	if l.since.IsZero() {
		return out, nil
	}
	out.Since, out.Until = &l.since, &l.until
	for _, ask := range l.wishes {
		out.Wishes = append(out.Wishes, d.permissionOfWish(p.Key, ask))
	}
	var err error
	out.Manifest, err = json.Marshal(policy.Smallest(p.Descriptor, l.wishes))
	return out, err
}

// permissionOfWish is a wish with the request that it is, if it waits for an
// answer.
func (d *Daemon) permissionOfWish(key plugin.Key, ask policy.Ask) v1.Permission {
	for _, r := range d.authority.Requests(key) {
		if r.Kind == ask.Kind && r.Target == ask.Target {
			return permissionOfRequest(r)
		}
	}
	return permissionOfAsk(ask)
}

// wish notes what a running plugin tried and may not: as a request, and as
// learned if it is in learn mode.
func (d *Daemon) wish(key plugin.Key, ask policy.Ask) {
	d.authority.Wish(key, ask)
	if d.learning.wish(key, ask) {
		d.events.Publish(key.Tenant, key.ID, v1.EventWish, d.permissionOfWish(key, ask))
	}
}

// wished takes down what the runner of a plugin in learn mode reports. It is
// the plugin's word: it grants nothing.
func (d *Daemon) wished(key plugin.Key, call wire.HostCall) wire.HostResult {
	var params struct{ Kind, Target string }
	if !d.learning.on(key) {
		return wire.HostResult{Error: &wire.Error{Code: "not_granted", Message: "the plugin is not in learn mode"}}
	}
	if err := json.Unmarshal(call.Params, &params); err != nil {
		return wire.HostResult{Error: &wire.Error{Code: "invalid_params", Message: `host.wish needs {"kind", "target"}`}}
	}
	ask, err := policy.WishedBy(params.Kind, params.Target)
	if err != nil {
		return hostResult(nil, err)
	}
	if !d.mayAlready(key, ask) {
		d.wish(key, ask)
	}
	return wire.HostResult{Result: json.RawMessage("null")}
}

// mayAlready reports whether what was wished for is granted.
func (d *Daemon) mayAlready(key plugin.Key, ask policy.Ask) bool {
	return slices.ContainsFunc(d.authority.Effective(key).Granted, func(g policy.Grant) bool { return g.Covers(ask) })
}
