// Package events tells whoever watches what happens in the daemon. It keeps
// the newest events in a ring of bounded size: publishing never blocks and
// never fails, and a reader that is too slow loses the oldest and is told so.
// It is no record: that is the audit log.
package events

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// Bounds of a [Hub].
const (
	MaxEvents = 4096     // in the ring
	MaxBytes  = 8 << 20  // of all events in the ring
	MaxData   = 64 << 10 // of one event's data, bytes
	MaxName   = 256      // of a tenant, a plugin and a type, bytes
)

// Bounds of what a reader takes out of the ring at a time: while one hangs,
// this is what it keeps alive.
const (
	batchScan  = 256
	batchBytes = 256 << 10
)

// eventSize is what an event takes besides its strings and data, bytes.
const eventSize = 128

// seqShift leaves room for 2^10 events per millisecond that a daemon runs,
// so that the numbers of the next boot are larger. JavaScript reads numbers
// up to 2^53 exactly, which this reaches in the year 2248.
const seqShift = 10

// truncated stands for data that was too large or no JSON.
var truncated = json.RawMessage(`{"truncated":true}`)

// Hub holds the newest events and hands them to subscribers.
type Hub struct {
	mu      sync.Mutex
	ring    []v1.Event // by seq modulo its length
	first   uint64     // seq of the oldest event in the ring, or next
	next    uint64     // seq of the event to come
	bytes   int        // of the events in the ring
	waiting bool       // somebody waits for changed
	changed chan struct{}
}

// New returns a hub without events. boot is when the daemon was started: the
// events of a later boot have larger numbers.
func New(boot time.Time) *Hub {
	start := uint64(max(boot.UnixMilli(), 0))<<seqShift + 1
	return &Hub{ring: make([]v1.Event, MaxEvents), first: start, next: start, changed: make(chan struct{})}
}

// Publish adds an event. data is encoded as JSON at once; nil is none. What
// is larger than MaxData, or cannot be encoded, becomes {"truncated":true}.
func (h *Hub) Publish(tenant, plugin, kind string, data any) {
	ev := v1.Event{
		Tenant: bounded(tenant), Plugin: bounded(plugin), Type: bounded(kind),
		Data: encode(data),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	ev.Seq, ev.Time = h.next, time.Now().UTC()
	h.bytes += sizeOf(ev)
	for h.next-h.first >= MaxEvents || h.bytes > MaxBytes {
		oldest := h.at(h.first)
		h.bytes -= sizeOf(*oldest)
		*oldest = v1.Event{}
		h.first++
	}
	*h.at(h.next) = ev
	h.next++
	if h.waiting {
		h.waiting = false
		close(h.changed)
		h.changed = make(chan struct{})
	}
}

// Subscribe calls send for every event that q asks for, in order. It returns
// nil when there is no more, without q.Follow; the error of send; or ctx's.
//
// Where events were lost, because q.Since is older than the ring or of an
// earlier boot, or because send was too slow, an EventGap comes in their
// place, whose number is the last that was lost; the next is the oldest that
// there is. A zero q.Since asks for all there is, and is no gap.
func (h *Hub) Subscribe(ctx context.Context, q v1.EventQuery, send func(v1.Event) error) error {
	r := reader{hub: h, query: q}
	r.begin()
	for !r.done() {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch, changed := r.take()
		if changed != nil {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		for _, ev := range batch {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := send(ev); err != nil {
				return err
			}
		}
	}
	return nil
}

// reader is the place of one subscriber in the ring.
type reader struct {
	hub   *Hub
	query v1.EventQuery
	seen  uint64 // seq of the last event that it has got or passed
	end   uint64 // without Follow: the last one that it wants
	gap   bool   // events were lost before seen
}

// begin finds the place.
func (r *reader) begin() {
	h := r.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	r.seen, r.end = r.query.Since, h.next-1
	switch {
	case r.seen == 0:
		r.seen = h.first - 1
	case r.seen >= h.next: // the clock was set back since that boot
		r.seen, r.gap = h.first-1, true
	}
}

// done reports whether the reader has got all that it wants.
func (r *reader) done() bool { return !r.query.Follow && !r.gap && r.seen >= r.end }

// take returns the next events, or a channel that is closed when there is
// something new. Neither means that it has passed events of other tenants.
func (r *reader) take() (batch []v1.Event, changed <-chan struct{}) {
	h := r.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.seen+1 < h.first {
		r.seen, r.gap = h.first-1, true
	}
	if r.gap {
		r.gap = false
		return []v1.Event{{Seq: r.seen, Time: time.Now().UTC(), Tenant: r.query.Tenant, Type: v1.EventGap}}, nil
	}
	if r.seen+1 >= h.next {
		h.waiting = true
		return nil, h.changed
	}
	last := h.next - 1
	if !r.query.Follow {
		last = min(last, r.end)
	}
	size := 0
	for n := 0; n < batchScan && size < batchBytes && r.seen < last; n++ {
		r.seen++
		if ev := h.at(r.seen); r.query.Tenant == "" || ev.Tenant == r.query.Tenant {
			batch = append(batch, *ev)
			size += sizeOf(*ev)
		}
	}
	return batch, nil
}

// at returns the place of an event in the ring.
func (h *Hub) at(seq uint64) *v1.Event { return &h.ring[seq%MaxEvents] }

func sizeOf(ev v1.Event) int {
	return eventSize + len(ev.Tenant) + len(ev.Plugin) + len(ev.Type) + len(ev.Data)
}

func encode(data any) json.RawMessage {
	if data == nil {
		return nil
	}
	raw, err := json.Marshal(data)
	if err != nil || len(raw) > MaxData {
		return truncated
	}
	return raw
}

// bounded returns s, cut and copied if it is too long.
func bounded(s string) string {
	if len(s) <= MaxName {
		return s
	}
	return strings.ToValidUTF8(s[:MaxName], "") + "..."
}
