package daemon

import (
	"context"
	"encoding/json"
	"fmt"
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
	mu      sync.Mutex
	units   map[plugin.Key]*lesson
	running sync.WaitGroup // ends of lessons whose time is over
	closed  context.Context
	shut    context.CancelFunc
}

// lesson is what was learned about one plugin.
type lesson struct {
	active       bool
	since, until time.Time
	timer        *time.Timer // ends it
	wishes       []policy.Ask
}

func newLearning() *learning {
	l := &learning{units: map[plugin.Key]*lesson{}}
	l.closed, l.shut = context.WithCancel(context.Background())
	return l
}

// close lets no lesson end by itself any more, and waits for those that do.
func (l *learning) close() error {
	l.mu.Lock()
	l.shut()
	for _, u := range l.units {
		u.timer.Stop()
	}
	l.mu.Unlock()
	l.running.Wait()
	return nil
}

// on reports whether the plugin is to run in learn mode.
func (l *learning) on(key plugin.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.units[key]
	return u != nil && u.active
}

// begin begins anew; over is called when the time is over, unless learn mode
// ended or began anew before.
func (l *learning) begin(key plugin.Key, length time.Duration, over func(context.Context)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.units[key]; u != nil {
		u.timer.Stop()
	}
	now := time.Now().UTC()
	u := &lesson{active: true, since: now, until: now.Add(length)}
	u.timer = time.AfterFunc(length, func() {
		if l.endTimed(key, u) {
			defer l.running.Done()
			over(l.closed)
		}
	})
	l.units[key] = u
}

// endTimed ends learn mode if it is still that lesson. The caller then tells
// l.running when it is through.
func (l *learning) endTimed(key plugin.Key, u *lesson) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.units[key] != u || !u.active || l.closed.Err() != nil {
		return false
	}
	u.active = false
	l.running.Add(1)
	return true
}

// end ends learn mode. What was learned is kept.
func (l *learning) end(key plugin.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.units[key]; u != nil && u.active {
		u.timer.Stop()
		u.active, u.until = false, time.Now().UTC()
	}
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
	same := func(w policy.Ask) bool { return w.Kind == ask.Kind && w.Target == ask.Target && w.Value == ask.Value }
	if slices.ContainsFunc(u.wishes, same) {
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
	if err := b.d.learn(ctx, p, req); err != nil {
		return v1.Learning{}, err
	}
	return b.d.learned(p)
}

// learn switches learn mode on or off. The plugin is restarted for it.
func (d *Daemon) learn(ctx context.Context, p plugin.Installed, req v1.LearnRequest) error {
	action, mode := "plugin.learn.end", "off"
	if req.On {
		action, mode = "plugin.learn", "on"
	}
	err := d.audited(ctx, p.Key, action, "", func() error { d.switchLearning(p, req); return nil })
	if err != nil {
		return err
	}
	if err := d.restartStale(ctx, p.Key); err != nil {
		return fmt.Errorf("learn mode is %s, but plugin %s does not run so: %w", mode, p.Key.ID, err)
	}
	return nil
}

func (d *Daemon) switchLearning(p plugin.Installed, req v1.LearnRequest) {
	if !req.On {
		d.learning.end(p.Key)
		return
	}
	length := time.Duration(req.ForSeconds) * time.Second
	if length <= 0 {
		length = defaultLearn
	}
	d.learning.begin(p.Key, length, func(ctx context.Context) { d.learnedEnough(ctx, p) })
	d.learnHooks(p)
}

// learnedEnough restarts a plugin whose time in learn mode is over.
func (d *Daemon) learnedEnough(ctx context.Context, p plugin.Installed) {
	if err := d.audited(ctx, p.Key, "plugin.learn.end", "", func() error { return d.restartStale(ctx, p.Key) }); err != nil {
		d.logger.Error("cannot end learn mode", "tenant", p.Key.Tenant, "plugin", p.Key.ID, "error", err)
	}
}

// learnHooks notes the hooks that a plugin in learn mode registers and was not
// granted.
func (d *Daemon) learnHooks(p plugin.Installed) {
	if !d.learning.on(p.Key) {
		return
	}
	for _, r := range d.authority.Requests(p.Key) {
		if r.Kind == policy.Hook {
			d.learning.wish(p.Key, r.Ask)
		}
	}
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
	requests := d.authority.Requests(p.Key)
	for _, ask := range l.wishes {
		out.Wishes = append(out.Wishes, d.permissionOfWish(requests, p.Key, ask))
	}
	var err error
	out.Manifest, err = json.Marshal(policy.Smallest(p.Descriptor, l.wishes))
	return out, err
}

// permissionOfWish is a wish with the request that it is, if it waits for an
// answer, and what would grant it.
func (d *Daemon) permissionOfWish(requests []policy.Request, key plugin.Key, ask policy.Ask) v1.Permission {
	id := policy.RequestID(key, ask)
	if i := slices.IndexFunc(requests, func(r policy.Request) bool { return r.ID == id }); i >= 0 {
		return permissionOfRequest(requests[i])
	}
	out := permissionOfAsk(ask)
	if !d.mayAlready(key, ask) { // it was denied, or is one of too many requests
		out.Command = policy.Command(key, ask)
	}
	return out
}

// wish notes what a running plugin tried and may not: as a request, and as
// learned if it is in learn mode.
func (d *Daemon) wish(key plugin.Key, ask policy.Ask) {
	d.authority.Wish(key, ask)
	if d.learning.wish(key, ask) {
		d.events.Publish(key.Tenant, key.ID, v1.EventWish, d.permissionOfWish(d.authority.Requests(key), key, ask))
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
