package hooks

import (
	"context"
	"sync"
)

// Bounds of the events of one tenant that nobody waits for; the first two are
// OpenClaw's.
const (
	MaxPosting     = 16       // at one time
	MaxPosted      = 256      // waiting
	MaxPostedBytes = 16 << 20 // of their payloads
)

// posts holds the events that nobody waits for. The zero posts is ready.
type posts struct {
	mu      sync.Mutex
	tenants map[string]*queue // those with events
	dropped uint64
	closed  bool
	idle    chan struct{} // closed once closed and nothing runs
}

// queue holds the events of one tenant.
type queue struct {
	waiting []Request
	bytes   int
	running int
}

// full reports whether an event would be too much.
func (q *queue) full(req Request) bool {
	return len(q.waiting) == MaxPosted || q.bytes+len(req.Payload) > MaxPostedBytes
}

// Post gives an event to its handlers and does not wait. It is for events
// that are observed: what becomes of others is lost. When too many of the
// tenant wait, or after Drain, the event is dropped.
func (p *Pipeline) Post(req Request) {
	b := &p.posts
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.tenants[req.Tenant]
	if q == nil {
		q = &queue{}
	}
	switch {
	case b.closed || q.running == MaxPosting && q.full(req):
		b.dropped++
		p.cfg.Log.Warn("hook event dropped", "tenant", req.Tenant, "event", req.Event, "dropped", b.dropped)
		return
	case q.running == MaxPosting:
		q.waiting = append(q.waiting, req)
		q.bytes += len(req.Payload)
		return
	}
	if b.tenants == nil {
		b.tenants = map[string]*queue{}
	}
	b.tenants[req.Tenant] = q
	q.running++
	go p.work(q, req)
}

// Dropped returns how many posted events were dropped.
func (p *Pipeline) Dropped() uint64 {
	p.posts.mu.Lock()
	defer p.posts.mu.Unlock()
	return p.posts.dropped
}

// Drain takes no more events by Post and waits until those that were posted
// are through, or ctx ends.
func (p *Pipeline) Drain(ctx context.Context) error {
	b := &p.posts
	b.mu.Lock()
	b.closed = true
	if b.idle == nil {
		b.idle = make(chan struct{})
		if len(b.tenants) == 0 {
			close(b.idle)
		}
	}
	idle := b.idle
	b.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work emits req and then what waits in its queue. Each handler has its own
// deadline, so that it ends.
func (p *Pipeline) work(q *queue, req Request) {
	for more := true; more; {
		if _, err := p.Emit(context.Background(), req); err != nil {
			p.cfg.Log.Warn("cannot emit an event", "tenant", req.Tenant, "event", req.Event, "error", err)
		}
		req, more = p.posts.next(q, req.Tenant)
	}
}

// next returns the event that waited longest, or ends the worker.
func (b *posts) next(q *queue, tenant string) (Request, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(q.waiting) > 0 {
		req := q.waiting[0]
		q.waiting[0] = Request{}
		q.waiting = q.waiting[1:]
		q.bytes -= len(req.Payload)
		return req, true
	}
	q.running--
	if q.running == 0 {
		delete(b.tenants, tenant)
	}
	if len(b.tenants) == 0 && b.closed {
		close(b.idle)
	}
	return Request{}, false
}
