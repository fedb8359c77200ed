package hooks

import (
	"context"
	"sync"
)

// Bounds of events that nobody waits for, OpenClaw's.
const (
	MaxPosting = 16  // at one time
	MaxPosted  = 256 // waiting
)

// queue holds the events that wait. The zero queue is ready.
type queue struct {
	mu      sync.Mutex
	waiting []Request
	running int
	dropped uint64
	closed  bool
	idle    chan struct{} // closed once closed and nothing runs
}

// Post gives an event to its handlers and does not wait. It is for events
// that are observed: what becomes of others is lost. When more than MaxPosted
// wait, or after Drain, the event is dropped.
func (p *Pipeline) Post(req Request) {
	q := &p.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed || q.running == MaxPosting && len(q.waiting) == MaxPosted:
		q.dropped++
		p.cfg.Log.Warn("hook event dropped", "tenant", req.Tenant, "event", req.Event, "dropped", q.dropped)
	case q.running == MaxPosting:
		q.waiting = append(q.waiting, req)
	default:
		q.running++
		go p.work(req)
	}
}

// Dropped returns how many posted events were dropped.
func (p *Pipeline) Dropped() uint64 {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	return p.queue.dropped
}

// Drain takes no more events by Post and waits until those that were posted
// are through, or ctx ends.
func (p *Pipeline) Drain(ctx context.Context) error {
	q := &p.queue
	q.mu.Lock()
	q.closed = true
	if q.idle == nil {
		q.idle = make(chan struct{})
		if q.running == 0 {
			close(q.idle)
		}
	}
	idle := q.idle
	q.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work emits req and then what waits. Each handler has its own deadline, so
// that it ends.
func (p *Pipeline) work(req Request) {
	for more := true; more; {
		if _, err := p.Emit(context.Background(), req); err != nil {
			p.cfg.Log.Warn("cannot emit an event", "tenant", req.Tenant, "event", req.Event, "error", err)
		}
		req, more = p.queue.next()
	}
}

// next returns the event that waited longest, or ends the worker.
func (q *queue) next() (Request, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) > 0 {
		req := q.waiting[0]
		q.waiting[0] = Request{}
		q.waiting = q.waiting[1:]
		return req, true
	}
	q.running--
	if q.running == 0 && q.closed {
		close(q.idle)
	}
	return Request{}, false
}
