package supervisor

import (
	"context"
	"slices"
	"sync"
)

// limiter bounds how many starts are under way on this host and in each
// tenant, and shares them out: a place that becomes free goes to the tenants
// that wait in turn, and within a tenant to urgent starts first, then by age.
// So a tenant with many plugins delays another's by no more than what is under
// way and one start per tenant that waits as well.
type limiter struct {
	host, tenant int // the bounds

	mu      sync.Mutex
	taken   int
	tenants map[string]*queue // of those with a ticket
	waiting []*queue          // those with one that waits, next first
}

// queue is one tenant's share.
type queue struct {
	tenant       string
	taken        int
	urgent, rest []*ticket
}

// ticket is one start, from when it wants a place until it needs none.
type ticket struct {
	limiter *limiter
	queue   *queue
	granted chan struct{} // closed when it has a place
	over    bool          // guarded by limiter.mu
}

// newLimiter returns a limiter; a tenant may take all places of the host if
// its own bound is not positive.
func newLimiter(host, tenant int) *limiter {
	if tenant <= 0 || tenant > host {
		tenant = host
	}
	return &limiter{host: host, tenant: tenant, tenants: map[string]*queue{}}
}

// join queues a start. Its release must follow.
func (l *limiter) join(tenant string, urgent bool) *ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.tenants[tenant]
	if q == nil {
		q = &queue{tenant: tenant}
		l.tenants[tenant] = q
	}
	if q.idle() {
		l.waiting = append(l.waiting, q)
	}
	t := &ticket{limiter: l, queue: q, granted: make(chan struct{})}
	if urgent {
		q.urgent = append(q.urgent, t)
	} else {
		q.rest = append(q.rest, t)
	}
	l.grant()
	return t
}

// wait returns when the start may go on, or the error of ctx.
func (t *ticket) wait(ctx context.Context) error {
	select {
	case <-t.granted:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hurry makes a start that still waits an urgent one.
func (t *ticket) hurry() {
	t.limiter.mu.Lock()
	defer t.limiter.mu.Unlock()
	q := t.queue
	if i := slices.Index(q.rest, t); i >= 0 {
		q.rest = slices.Delete(q.rest, i, i+1)
		q.urgent = append(q.urgent, t)
	}
}

// release gives the place back, or the one in the queue. Only the first call
// has an effect.
func (t *ticket) release() {
	l, q := t.limiter, t.queue
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.over {
		return
	}
	t.over = true
	select {
	case <-t.granted:
		l.taken--
		q.taken--
	default:
		l.remove(t)
	}
	if q.idle() && q.taken == 0 {
		delete(l.tenants, q.tenant)
	}
	l.grant()
}

// remove takes a start that waits out of its queue.
func (l *limiter) remove(t *ticket) {
	q := t.queue
	is := func(other *ticket) bool { return other == t }
	q.urgent, q.rest = slices.DeleteFunc(q.urgent, is), slices.DeleteFunc(q.rest, is)
	if q.idle() {
		l.waiting = slices.DeleteFunc(l.waiting, func(other *queue) bool { return other == q })
	}
}

// grant gives away the places that are free.
func (l *limiter) grant() {
	for l.taken < l.host {
		i := slices.IndexFunc(l.waiting, func(q *queue) bool { return q.taken < l.tenant })
		if i < 0 {
			return
		}
		q := l.waiting[i]
		l.waiting = slices.Delete(l.waiting, i, i+1)
		t := q.pop()
		if !q.idle() {
			l.waiting = append(l.waiting, q)
		}
		q.taken++
		l.taken++
		close(t.granted)
	}
}

// idle reports that nothing of the tenant waits.
func (q *queue) idle() bool { return len(q.urgent)+len(q.rest) == 0 }

// pop takes the next start of the tenant out; there must be one.
func (q *queue) pop() *ticket {
	from := &q.urgent
	if len(q.urgent) == 0 {
		from = &q.rest
	}
	t := (*from)[0]
	*from = slices.Delete(*from, 0, 1)
	return t
}
