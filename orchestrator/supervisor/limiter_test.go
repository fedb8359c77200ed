package supervisor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// has reports whether the ticket was granted.
func (t *ticket) has() bool {
	select {
	case <-t.granted:
		return true
	default:
		return false
	}
}

// TestLimiterOrder names tickets by tenant and number; "!" marks urgent ones.
func TestLimiterOrder(t *testing.T) {
	tests := []struct {
		name         string
		host, tenant int
		join         string
		want         string // in which order they are granted, when each gives its place back before the next
	}{
		{"by age", 1, 0, "a1 a2 a3", "a1 a2 a3"},
		{"urgent ones first, by age", 1, 0, "a1 a2 a3! a4!", "a1 a3! a4! a2"},
		{"tenants take turns", 1, 0, "a1 a2 a3 a4 b1 b2 c1", "a1 a2 b1 c1 a3 b2 a4"},
		{"urgent ones do not overtake other tenants", 1, 0, "a1 a2! a3! b1", "a1 a2! b1 a3!"},
		{"no more than there are", 8, 0, "a1 b1", "a1 b1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLimiter(tt.host, tt.tenant)
			names, tickets := strings.Fields(tt.join), map[string]*ticket{}
			for _, name := range names {
				tickets[name] = l.join(name[:1], strings.HasSuffix(name, "!"))
			}
			var got []string
			for len(got) < len(names) {
				i := slices.IndexFunc(names, func(n string) bool { return tickets[n] != nil && tickets[n].has() })
				if i < 0 {
					t.Fatalf("after %v nothing is granted", got)
				}
				got = append(got, names[i])
				tickets[names[i]].release()
				delete(tickets, names[i])
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("granted %s, want %s", s, tt.want)
			}
			empty(t, l)
		})
	}
}

// empty fails if a limiter keeps anything.
func empty(t *testing.T, l *limiter) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken != 0 || len(l.tenants) != 0 || len(l.waiting) != 0 {
		t.Errorf("it keeps %d places, %d tenants, %d of which wait", l.taken, len(l.tenants), len(l.waiting))
	}
}

func TestLimiterBounds(t *testing.T) {
	l := newLimiter(3, 2)
	var all []*ticket
	granted := func() (n int) {
		for _, ticket := range all {
			if ticket.has() {
				n++
			}
		}
		return n
	}
	for range 5 {
		all = append(all, l.join("a", false))
	}
	if n := granted(); n != 2 {
		t.Errorf("one tenant has %d places, want its 2", n)
	}
	for range 5 {
		all = append(all, l.join("b", true))
	}
	if n := granted(); n != 3 {
		t.Errorf("%d places are taken, want the host's 3", n)
	}
	for _, ticket := range all {
		ticket.release()
		ticket.release() // which does nothing
	}
	empty(t, l)
}

func TestLimiterLeaveAndHurry(t *testing.T) {
	l := newLimiter(1, 0)
	first, second, third := l.join("a", false), l.join("a", false), l.join("a", false)
	third.hurry()
	third.hurry()
	second.release() // it does not want to start any more
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := third.wait(ctx); err == nil {
		t.Error("it has a place that nobody gave back")
	}
	fourth := l.join("a", false)
	fourth.hurry()
	first.release()
	if !third.has() || second.has() || fourth.has() {
		t.Errorf("granted: second %v, third %v, fourth %v; want the third", second.has(), third.has(), fourth.has())
	}
	third.hurry() // too late, and no harm
	third.release()
	fourth.release()
	empty(t, l)
}

// crowd adds n plugins to a tenant.
func (b *bench) crowd(tenant string, n int) (keys []plugin.Key) {
	b.m.t.Helper()
	for i := range n {
		key := plugin.Key{Tenant: tenant, ID: fmt.Sprintf("p%d", i)}
		b.add(key)
		keys = append(keys, key)
	}
	return keys
}

// crowded is a bubble with limits, in which a Prepare and a Start take a
// second in all.
func crowded(t *testing.T, cfg Config, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		m.prepare = func(context.Context) error { time.Sleep(400 * time.Millisecond); return nil }
		m.newHooks.start = func(context.Context) error { time.Sleep(600 * time.Millisecond); return nil }
		cfg.Launcher, cfg.Store, cfg.Logger = m, m, newLogger()
		b := &bench{m: m, Supervisor: New(cfg)}
		f(t, b)
		if err := b.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		empty(t, b.starts)
	})
}

// byTenant counts the plugins in a state.
func (b *bench) byTenant(state State) map[string]int {
	count := map[string]int{}
	for _, st := range b.Statuses() {
		if st.State == state {
			count[st.Key.Tenant]++
		}
	}
	return count
}

// TestABootIsNoStampede starts 200 plugins of three tenants, of which the
// first has most.
func TestABootIsNoStampede(t *testing.T) {
	crowded(t, Config{MaxStarts: 4}, func(t *testing.T, b *bench) {
		from := time.Now()
		b.crowd("big", 180)
		b.crowd("mid", 12)
		b.crowd("small", 8)
		most := 0
		for len(b.byTenant(StateRunning)) < 3 || b.byTenant(StateRunning)["big"] < 180 {
			wait(100 * time.Millisecond)
			b.starts.mu.Lock()
			most = max(most, b.starts.taken)
			b.starts.mu.Unlock()
			if running := b.byTenant(StateRunning); time.Since(from) > 7*time.Second && running["small"] < 8 {
				t.Fatalf("after %v %v run: the small tenant waits for the big one", time.Since(from), running)
			}
			if time.Since(from) > time.Minute {
				t.Fatalf("after a minute %v run", b.byTenant(StateRunning))
			}
		}
		if d := time.Since(from).Round(time.Second); d != 50*time.Second || most != 4 || b.m.maxPrepare > 4 {
			t.Errorf("200 starts of 1 s took %v, %d at a time, want 50s, 4", d, most)
		}
	})
}

func TestARestartGoesBeforeTheBoot(t *testing.T) {
	crowded(t, Config{MaxStarts: 2}, func(t *testing.T, b *bench) {
		other := plugin.Key{Tenant: "other", ID: "echo"}
		b.add(echo)
		b.add(other)
		own, others := b.ready(echo), b.ready(other)
		wait(20 * time.Second)
		b.crowd(echo.Tenant, 200)
		wait(1500 * time.Millisecond)
		from := time.Now()
		own.end(1, false)
		others.end(1, false)
		b.ready(echo)
		b.ready(other)
		// At most what is under way, and then one of the other tenant's.
		if d := time.Since(from); d > 2*time.Second {
			t.Errorf("back after %v in the middle of a boot, want at most 2s", d)
		}
	})
}

func TestACallerHurriesAStart(t *testing.T) {
	crowded(t, Config{MaxStarts: 2}, func(t *testing.T, b *bench) {
		keys := b.crowd(echo.Tenant, 200)
		from := time.Now()
		b.ready(keys[150])
		if d := time.Since(from); d > 2*time.Second {
			t.Errorf("a caller waited for %v, want at most 2s", d)
		}
		b.m.set(func() { b.m.newHooks.start = func(context.Context) error { return errPlain } })
		late := plugin.Key{Tenant: echo.Tenant, ID: "late"}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		b.add(late)
		if _, err := b.Ready(ctx, late); err == nil {
			t.Error("a plugin that cannot start is ready")
		}
		if st := b.status(late); st.ShortRuns < 3 { // also its later attempts are hurried
			t.Errorf("%d attempts while a caller waited, want more", st.ShortRuns)
		}
	})
}

func TestAStartThatHangsGivesItsPlaceBack(t *testing.T) {
	crowded(t, Config{MaxStarts: 2}, func(t *testing.T, b *bench) {
		b.m.newHooks.start = hang
		b.crowd("bad", 10)
		wait(time.Second)
		b.m.set(func() { b.m.newHooks.start = nil })
		from := time.Now()
		b.add(echo)
		b.ready(echo)
		if d := time.Since(from); d > 6*time.Second {
			t.Errorf("it waited for %v behind starts that hang, want at most 6s", d)
		}
	})
}

// TestAPrepareThatHangs has directories that do not answer, whatever its
// context says.
func TestAPrepareThatHangs(t *testing.T) {
	crowded(t, Config{MaxStarts: 2}, func(t *testing.T, b *bench) {
		release := make(chan struct{})
		b.m.prepare = func(context.Context) error { <-release; return errEngine }
		b.crowd("bad", 3)
		wait(time.Second)
		b.m.set(func() { b.m.prepare = nil })
		from := time.Now()
		b.add(echo)
		b.ready(echo)
		if d := time.Since(from); d > 20*time.Second {
			t.Errorf("it waited for %v behind two that hang, want at most 20s", d)
		}
		close(release)
	})
}

func TestTenantLimit(t *testing.T) {
	crowded(t, Config{MaxStarts: 4, MaxTenantStarts: 3}, func(t *testing.T, b *bench) {
		b.m.newHooks.start = hang
		b.crowd("bad", 10)
		wait(time.Second)
		if n := b.byTenant(StateStarting)["bad"]; n != 3 {
			t.Errorf("%d starts of one tenant are under way, want 3", n)
		}
		b.m.set(func() { b.m.newHooks.start = nil })
		from := time.Now()
		b.add(echo)
		b.ready(echo)
		if d := time.Since(from); d > 400*time.Millisecond {
			t.Errorf("another tenant waited for %v, want no wait", d-400*time.Millisecond)
		}
	})
}

func TestBoundsThatAreNone(t *testing.T) {
	for _, n := range []int{0, -1, -1 << 40} {
		s := New(Config{Logger: newLogger(), MaxStarts: n, MaxTenantStarts: n, MaxStopping: n})
		if s.starts.host < 2 || s.starts.tenant != s.starts.host || cap(s.stopping) != 16 {
			t.Errorf("%d: %d starts, %d per tenant, %d stops; want the defaults", n, s.starts.host, s.starts.tenant, cap(s.stopping))
		}
	}
}

func TestAPlaceIsNotLost(t *testing.T) {
	crowded(t, Config{MaxStarts: 2}, func(t *testing.T, b *bench) {
		b.add(echo)
		for i := range 20 { // restarted in each phase of its start
			wait(time.Duration(i) * 70 * time.Millisecond)
			if err := b.Replace(t.Context(), echo); err != nil {
				t.Fatal(err)
			}
		}
		b.ready(echo)
		b.starts.mu.Lock()
		defer b.starts.mu.Unlock()
		if b.starts.taken != 0 {
			t.Errorf("%d places are taken and nothing starts", b.starts.taken)
		}
	})
}
