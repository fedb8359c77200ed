package egress

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// counters are the live form of Stats.
type counters struct {
	open, allowed, denied, reported, requests, refused, up, down atomic.Int64
}

// Stats returns what the broker did so far.
func (b *Broker) Stats() Stats {
	return Stats{
		Open:      b.stats.open.Load(),
		Allowed:   b.stats.allowed.Load(),
		Denied:    b.stats.denied.Load(),
		Reported:  b.stats.reported.Load(),
		Requests:  b.stats.requests.Load(),
		Refused:   b.stats.refused.Load(),
		BytesUp:   b.stats.up.Load(),
		BytesDown: b.stats.down.Load(),
	}
}

// record records what has ended or was denied: a failure is only logged.
func (b *Broker) record(c Connection) {
	if err := b.opts.Record(c); err != nil {
		b.opts.Logger.Error("cannot record an egress connection", "phase", string(c.Phase), "host", c.Host, "error", err)
	}
}

// report takes down that the inside was asked for a name it does not know. It
// is the container's word and nothing more: it grants nothing and changes
// nothing, and is dropped when the name is granted after all.
func (b *Broker) report(host string, at time.Time) {
	b.stats.reported.Add(1)
	if policy, _ := b.snapshot(); policy.knows(host) {
		return
	}
	b.reports.add(Connection{Time: at, Host: host, Detail: "the name was looked up inside"})
}

const (
	// tallyRate is how many denials of one kind are recorded one by one, per
	// second.
	tallyRate = 10
	// tallyFlush is how long the others are counted before the count is
	// recorded.
	tallyFlush = time.Second
)

// tally records denials of one code that a container can cause cheaply: one by
// one while they are few, and as a count when they are many.
type tally struct {
	record func(Connection)
	phase  Phase
	code   Code
	rate   *rate.Limiter

	mu     sync.Mutex
	missed int       // not recorded yet
	since  time.Time // of the first of them
	timer  *time.Timer
}

func newTally(phase Phase, code Code, record func(Connection)) *tally {
	return &tally{record: record, phase: phase, code: code, rate: rate.NewLimiter(tallyRate, tallyRate)}
}

// add records c now, or counts it.
func (t *tally) add(c Connection) {
	c.Phase, c.Code, c.Count = t.phase, t.code, 1
	if t.rate.Allow() {
		t.record(c)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.missed++; t.missed == 1 {
		t.since = c.Time
		t.timer = time.AfterFunc(tallyFlush, t.flush)
	}
}

// flush records what was counted. When it returns, no other flush is at work.
func (t *tally) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.missed == 0 {
		return
	}
	t.timer.Stop()
	t.record(Connection{
		Phase: t.phase, Time: t.since, Code: t.code, Count: t.missed, Duration: time.Since(t.since),
		Detail: "more of the same than are recorded one by one",
	})
	t.missed = 0
}
