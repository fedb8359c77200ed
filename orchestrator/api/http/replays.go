package httpapi

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Bounds of the answers that are kept for requests with an idempotency key.
const (
	replayTTL      = 10 * time.Minute
	maxReplays     = 1000     // of a tenant
	maxReplayBytes = 64 << 20 // of all
	replayOverhead = 1 << 10  // counted for each, bytes
)

// replays answers requests with an idempotency key once, and again with the
// first answer. What it keeps is bounded; the answers that make room are the
// oldest of the tenant itself, or of the tenant with the most bytes.
type replays struct {
	mu      sync.Mutex
	tenants map[string]*tenantReplays
	bytes   int
}

type tenantReplays struct {
	byKey    map[string]*replay
	finished list.List // of *replay, the oldest first
	bytes    int
}

// replay is a request with a key: running, or finished and kept.
type replay struct {
	tenant, key string
	print       [sha256.Size]byte
	bytes       int
	kept        *list.Element // in finished

	cancel    context.CancelFunc
	waiting   int  // requests
	abandoned bool // nobody waited any more, and it was cancelled
	finished  bool

	done chan struct{} // closed when what follows is there
	outcome
}

type outcome struct {
	value    any
	err      error
	panicked any // what do panics with, if anything
}

func newReplays() *replays { return &replays{tenants: make(map[string]*tenantReplays)} }

// keyed is a request with an idempotency key.
type keyed struct {
	tenant, key string
	print       [sha256.Size]byte // of all that makes it the same request
}

// fingerprint returns the print of the parts of a request.
func fingerprint(parts ...any) [sha256.Size]byte {
	text, err := json.Marshal(parts)
	if err != nil {
		return [sha256.Size]byte{} // it was decoded from JSON
	}
	return sha256.Sum256(text)
}

// do runs a request, or waits for the same one, or returns what that one
// returned. Without a key it just runs it. When ctx ends and nobody else waits
// for the request, its context ends, and do returns when it has.
func (r *replays) do(ctx context.Context, k keyed, run func(context.Context) (any, error)) (value any, replayed bool, err error) {
	if k.key == "" {
		value, err = run(ctx)
		return value, false, err
	}
	for {
		p, first, err := r.enter(ctx, k, run)
		if err != nil {
			return nil, false, err
		}
		if p == nil {
			continue // one that was given up has ended
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			if r.leave(p) {
				<-p.done
			}
			return nil, false, ctx.Err()
		}
		if p.panicked != nil {
			panic(p.panicked)
		}
		return p.value, !first, p.err
	}
}

// enter joins the request of k, or starts it. One that was given up it waits
// for, and returns nil.
func (r *replays) enter(ctx context.Context, k keyed, run func(context.Context) (any, error)) (p *replay, first bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tenants[k.tenant]
	if t == nil {
		t = &tenantReplays{byKey: make(map[string]*replay)}
	}
	if p = t.byKey[k.key]; p == nil {
		if err := r.makeRoom(t); err != nil {
			return nil, false, err
		}
		r.tenants[k.tenant] = t
		return r.start(ctx, t, k, run), true, nil
	}
	if p.print != k.print {
		return nil, false, fault.New(errdefs.ErrConflict, "idempotency_mismatch", "another request had the idempotency key %q", shorten(k.key)).
			WithHint("use a new key for each request, and the same one only to repeat it")
	}
	if !p.abandoned || p.finished {
		p.waiting++
		return p, false, nil
	}
	r.mu.Unlock()
	defer r.mu.Lock()
	select {
	case <-p.done:
		return nil, false, nil
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// start needs the lock.
func (r *replays) start(ctx context.Context, t *tenantReplays, k keyed, run func(context.Context) (any, error)) *replay {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &replay{tenant: k.tenant, key: k.key, print: k.print, cancel: cancel, waiting: 1, done: make(chan struct{})}
	t.byKey[k.key] = p
	r.grow(t, p, replayOverhead+len(k.key))
	go func() {
		defer cancel()
		var out outcome
		defer func() {
			if caught := recover(); caught != nil { // it belongs to the requests that wait
				out.panicked = fmt.Sprintf("%v\n%s", caught, debug.Stack())
			}
			r.finish(p, out)
		}()
		out.value, out.err = run(ctx)
	}()
	return p
}

// leave reports whether nobody waits for p any more; p then ends soon.
func (r *replays) leave(p *replay) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.waiting--
	if p.waiting > 0 || p.finished {
		return false
	}
	p.abandoned = true
	p.cancel()
	return true
}

// finish keeps what came of p, if it may be given again.
func (r *replays) finish(p *replay, out outcome) {
	size, keep := out.keep()
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(p.done)
	p.outcome, p.finished = out, true
	t := r.tenants[p.tenant]
	if !keep {
		r.forget(t, p)
		return
	}
	p.kept = t.finished.PushBack(p)
	r.grow(t, p, size)
	time.AfterFunc(replayTTL, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if p.kept != nil {
			r.forget(t, p)
		}
	})
	for r.bytes > maxReplayBytes && r.evict(r.largest()) {
	}
}

// keep returns whether an outcome may be given again, and its size in bytes.
// What may well be different the next time is not.
func (o outcome) keep() (size int, keep bool) {
	answer := o.value
	if o.err != nil {
		e, status := v1.ErrorOf(o.err)
		switch {
		case e.Retryable, status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status == statusCancelled:
			return 0, false
		}
		answer = e
	}
	text, err := json.Marshal(answer)
	return len(text), err == nil && o.panicked == nil
}

// statusCancelled is the status of what its client gave up.
const statusCancelled = 499

// makeRoom makes room for one more request of t. It needs the lock.
func (r *replays) makeRoom(t *tenantReplays) error {
	for len(t.byKey) >= maxReplays || r.bytes+replayOverhead > maxReplayBytes {
		from := t
		if len(t.byKey) < maxReplays {
			from = r.largest()
		}
		if !r.evict(from) {
			return fault.New(errdefs.ErrResourceExhausted, "too_many_idempotency_keys", "too many requests with an idempotency key are running").
				WithHint("wait for some of them").WithRetry()
		}
	}
	return nil
}

// largest returns the tenant with the most bytes among those with something to
// forget, or nil.
func (r *replays) largest() *tenantReplays {
	var most *tenantReplays
	for _, t := range r.tenants {
		if t.finished.Len() > 0 && (most == nil || t.bytes > most.bytes) {
			most = t
		}
	}
	return most
}

// evict forgets the oldest answer of t, if there is one.
func (r *replays) evict(t *tenantReplays) bool {
	if t == nil || t.finished.Len() == 0 {
		return false
	}
	r.forget(t, t.finished.Front().Value.(*replay))
	return true
}

func (r *replays) forget(t *tenantReplays, p *replay) {
	if p.kept != nil {
		t.finished.Remove(p.kept)
		p.kept = nil
	}
	r.grow(t, p, -p.bytes)
	delete(t.byKey, p.key)
	if len(t.byKey) == 0 {
		delete(r.tenants, p.tenant)
	}
}

func (r *replays) grow(t *tenantReplays, p *replay, bytes int) {
	p.bytes += bytes
	t.bytes += bytes
	r.bytes += bytes
}
