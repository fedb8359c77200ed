package forward

import (
	"context"
	"sync"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	// reportAgain is how long a name is not reported a second time.
	reportAgain = 30 * time.Second
	// reportPause is the least time between two reports.
	reportPause = 100 * time.Millisecond
	// maxReported bounds the names that are remembered, and with them those
	// that wait: a program that looks up more is not reported in full.
	maxReported = 256
)

// reporter tells the broker which names were looked up in vain. It costs
// nothing while there are none.
type reporter struct {
	send func(ctx context.Context, host string) // one report

	mu      sync.Mutex
	last    map[string]time.Time // when a name was taken
	waiting []string
	sending bool
	done    sync.WaitGroup
}

// add reports a name, unless it was a moment ago or there are too many.
func (r *reporter) add(ctx context.Context, host string) {
	if !link.ValidName(host) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if when, ok := r.last[host]; ok && now.Sub(when) < reportAgain || !r.makeRoom(now) {
		return
	}
	r.last[host] = now
	r.waiting = append(r.waiting, host)
	if !r.sending {
		r.sending = true
		r.done.Go(func() { r.run(ctx) })
	}
}

// makeRoom forgets the names that may be reported again when there are many.
func (r *reporter) makeRoom(now time.Time) bool {
	if r.last == nil {
		r.last = map[string]time.Time{}
	}
	if len(r.last) < maxReported {
		return true
	}
	for host, when := range r.last {
		if now.Sub(when) >= reportAgain {
			delete(r.last, host)
		}
	}
	return len(r.last) < maxReported
}

// run sends what waits, slowly, and ends when nothing does.
func (r *reporter) run(ctx context.Context) {
	for {
		host, ok := r.next(ctx)
		if !ok {
			return
		}
		r.send(ctx, host)
		pause(ctx, reportPause)
	}
}

func (r *reporter) next(ctx context.Context) (host string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 || ctx.Err() != nil {
		r.waiting, r.sending = nil, false
		return "", false
	}
	host = r.waiting[0]
	r.waiting = r.waiting[1:]
	return host, true
}
