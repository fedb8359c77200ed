package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// patience is how long a caller waits; a call that takes longer is as bad as
// one that fails.
const patience = time.Second

// sample is one call of a probe.
type sample struct {
	at   time.Time
	took time.Duration
	err  error
}

func (s sample) bad() bool      { return s.err != nil || s.took > patience }
func (s sample) end() time.Time { return s.at.Add(s.took) }

// probe calls plugins all the time, each at a steady pace whatever became of
// the calls before: a caller who waits for an answer would not notice how
// often it would have failed.
type probe struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	samples map[string][]sample // in order of their end
}

// startProbe calls each of the plugins once every pace.
func (r *rig) startProbe(ctx context.Context, pace time.Duration, plugins ...string) *probe {
	ctx, cancel := context.WithCancel(ctx)
	p := &probe{cancel: cancel, samples: map[string][]sample{}}
	for i, id := range plugins {
		p.running.Go(func() {
			// Spread over the pace, so that they are no burst.
			time.Sleep(pace * time.Duration(i) / time.Duration(len(plugins)))
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for {
				p.running.Go(func() { p.once(ctx, r, id) })
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	return p
}

func (p *probe) once(ctx context.Context, r *rig, id string) {
	s := sample{at: time.Now()}
	_, s.err = r.who(ctx, id, patience)
	s.took = time.Since(s.at)
	if ctx.Err() != nil { // the probe was stopped under it
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples[id] = append(p.samples[id], s)
}

// stop ends the probe. What it saw is then complete.
func (p *probe) stop() {
	p.cancel()
	p.running.Wait()
	for _, list := range p.samples {
		slices.SortFunc(list, func(a, b sample) int { return a.at.Compare(b.at) })
	}
}

// steady reports whether the last calls to a plugin, all begun after since,
// were answered.
func (p *probe) steady(id string, since time.Time) bool {
	const enough = 3
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.samples[id]
	if len(list) < enough {
		return false
	}
	for _, s := range list[len(list)-enough:] {
		if s.bad() || s.at.Before(since) {
			return false
		}
	}
	return true
}

// outcome is what a caller noticed.
type outcome struct {
	calls, failed, slow int           // slow ones were not answered within patience
	recovered           time.Duration // from the fault to the first answer after the last bad call
	down                time.Duration // in sum, from each bad call to the next good one
	longest             time.Duration // that a good call took
	firstErr            error
}

// outcome sums up the calls to one plugin that were begun after since, and
// those that it ended.
func (p *probe) outcome(id string, since time.Time) outcome {
	var o outcome
	var downSince time.Time
	last := since
	for _, s := range p.samples[id] {
		if s.end().Before(since) {
			continue
		}
		o.calls++
		if s.err != nil && o.firstErr == nil {
			o.firstErr = s.err
		}
		switch {
		case s.took > patience || errdefs.IsDeadlineExceeded(s.err):
			o.slow++
		case s.err != nil:
			o.failed++
		default:
			o.longest = max(o.longest, s.took)
		}
		switch {
		case s.bad() && downSince.IsZero():
			downSince = s.at
		case !s.bad() && !downSince.IsZero():
			o.down += s.at.Sub(downSince)
			downSince = time.Time{}
		}
		if s.bad() {
			last = s.at
		}
	}
	if !downSince.IsZero() {
		o.down += time.Since(downSince)
	}
	for _, s := range p.samples[id] {
		if !s.bad() && s.at.After(last) {
			o.recovered = s.end().Sub(since)
			break
		}
	}
	return o
}

// worst is the outcome for the caller of whom all plugins are.
func (p *probe) worst(since time.Time, plugins ...string) outcome {
	var sum outcome
	for _, id := range plugins {
		o := p.outcome(id, since)
		sum.calls += o.calls
		sum.failed += o.failed
		sum.slow += o.slow
		sum.recovered = max(sum.recovered, o.recovered)
		sum.down = max(sum.down, o.down)
		sum.longest = max(sum.longest, o.longest)
		if sum.firstErr == nil {
			sum.firstErr = o.firstErr
		}
	}
	return sum
}

// interrupted says what callers of plugins that go on should not have noticed.
// On a host that has much else to do a call may be slow; none may fail.
func (o outcome) interrupted() []string {
	const starved = 2 * time.Second
	if o.failed == 0 && o.down < starved {
		return nil
	}
	return []string{fmt.Sprintf("%d of %d calls to plugins that went on failed, %d were slow, down %s, the first: %v",
		o.failed, o.calls, o.slow, o.down, o.firstErr)}
}

// TestOutcome reads what a probe saw: calls that were good (g), failed (f),
// or waited for too long (s), one every 100 ms.
func TestOutcome(t *testing.T) {
	begun := time.Now()
	for _, tc := range []struct {
		calls           string
		since           int // the call at which the fault came
		down, recovered time.Duration
		failed, slow    int
	}{
		{calls: "ggggg", since: 2, recovered: 110 * time.Millisecond},
		{calls: "ggffg", since: 2, down: 200 * time.Millisecond, recovered: 210 * time.Millisecond, failed: 2},
		{calls: "ggfgsgg", since: 2, down: 200 * time.Millisecond, recovered: 310 * time.Millisecond, failed: 1, slow: 1},
		{calls: "fgggg", since: 1, recovered: 110 * time.Millisecond}, // from before the fault
	} {
		p := &probe{samples: map[string][]sample{}}
		for i, c := range tc.calls {
			s := sample{at: begun.Add(time.Duration(i) * 100 * time.Millisecond), took: 10 * time.Millisecond}
			switch c {
			case 'f':
				s.err = errdefs.ErrUnavailable
			case 's':
				s.took = patience + time.Second
			}
			p.samples["p"] = append(p.samples["p"], s)
		}
		o := p.worst(begun.Add(time.Duration(tc.since)*100*time.Millisecond), "p")
		if o.down != tc.down || o.recovered != tc.recovered || o.failed != tc.failed || o.slow != tc.slow {
			t.Errorf("%s: down %s, recovered %s, %d failed, %d slow; want %s, %s, %d, %d",
				tc.calls, o.down, o.recovered, o.failed, o.slow, tc.down, tc.recovered, tc.failed, tc.slow)
		}
		if broken := o.interrupted(); (len(broken) > 0) != (tc.failed > 0) {
			t.Errorf("%s: interrupted %v", tc.calls, broken)
		}
	}
}

func TestTyped(t *testing.T) {
	for _, tc := range []struct {
		err  error
		fine bool
	}{
		{fault.New(fault.ErrPlugin, "plugin_crashed", "it ended").WithRetry(), true},
		{fault.New(fault.ErrPlugin, "plugin_threw", "it threw"), false},
		{fault.New(context.DeadlineExceeded, "timeout", "too late").WithRetry(), false},
		{errors.New("anything"), false},
	} {
		if err := typed(tc.err); (err == nil) != tc.fine {
			t.Errorf("%v: %v", tc.err, err)
		}
	}
}
