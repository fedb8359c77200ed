package supervisor

import (
	"context"
	"sync"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// subscriber holds at most one status per plugin, the newest, so that a slow
// reader costs a bounded amount of memory and never slows a plugin down.
type subscriber struct {
	mu      sync.Mutex
	order   []plugin.Key
	pending map[plugin.Key]Status
	wake    chan struct{} // has room for one
}

// Subscribe returns a channel of the statuses that change from now on. A slow
// reader misses intermediate ones but always gets the last of each plugin.
// The channel is closed when ctx ends, and after Shutdown once what is
// pending was read.
func (s *Supervisor) Subscribe(ctx context.Context) <-chan Status {
	sub := &subscriber{pending: map[plugin.Key]Status{}, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	s.subscribers[sub] = struct{}{}
	s.mu.Unlock()
	out := make(chan Status)
	go func() {
		defer close(out)
		defer s.unsubscribe(sub)
		sub.forward(ctx, s.aborted, out)
	}()
	return out
}

func (s *Supervisor) unsubscribe(sub *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subscribers, sub)
}

func (s *Supervisor) notify(st Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subscribers {
		sub.put(st)
	}
}

func (b *subscriber) put(st Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, waiting := b.pending[st.Key]; !waiting {
		b.order = append(b.order, st.Key)
	}
	b.pending[st.Key] = st
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *subscriber) take() (Status, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.order) == 0 {
		return Status{}, false
	}
	key := b.order[0]
	b.order = b.order[1:]
	st := b.pending[key]
	delete(b.pending, key)
	return st, true
}

func (b *subscriber) forward(ctx context.Context, ended <-chan struct{}, out chan<- Status) {
	for last := false; !last; {
		select {
		case <-b.wake:
		case <-ended:
			last = true
		case <-ctx.Done():
			return
		}
		for st, ok := b.take(); ok; st, ok = b.take() {
			select {
			case out <- st:
			case <-ctx.Done():
				return
			}
		}
	}
}
