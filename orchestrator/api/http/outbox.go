package httpapi

import (
	"encoding/json"
	"sync"
)

// maxOutbox bounds what waits for a client that reads slowly, bytes. Interim
// results beyond it are dropped, the oldest first; the latest is kept.
const maxOutbox = 1 << 20

// outbox queues events for a client, so that who tells of them does not wait
// for it.
type outbox struct {
	mu     sync.Mutex
	queue  []outgoing
	bytes  int
	closed bool
	wake   chan struct{} // has an entry when there may be something to send
}

type outgoing struct {
	name string
	data json.RawMessage
	keep bool // not to be dropped
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// put queues an event.
func (o *outbox) put(out outgoing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.queue = append(o.queue, out)
	o.bytes += len(out.data)
	for i := 0; o.bytes > maxOutbox && i < len(o.queue)-1; {
		if o.queue[i].keep {
			i++
			continue
		}
		o.bytes -= len(o.queue[i].data)
		o.queue = append(o.queue[:i], o.queue[i+1:]...)
	}
	o.ring()
}

// close lets pump return once the queue is sent.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.ring()
}

func (o *outbox) ring() {
	select {
	case o.wake <- struct{}{}:
	default: // it rings already
	}
}

// pump sends what is queued until the outbox is closed or send fails.
func (o *outbox) pump(send func(name string, data any) error) {
	for range o.wake {
		queue, closed := o.take()
		for _, out := range queue {
			if send(out.name, out.data) != nil {
				o.close()
				return
			}
		}
		if closed {
			return
		}
	}
}

func (o *outbox) take() (queue []outgoing, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	queue, o.queue, o.bytes = o.queue, nil, 0
	return queue, o.closed
}
