package supervisor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// walks plays random events to many units, each from a seed of its own, and
// lets check look at every step of them.
func walks(t *testing.T, prepare func(w *world, r *rand.Rand)) {
	t.Helper()
	for seed := range uint64(200) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			w, r := newWorld(t), rand.New(rand.NewPCG(seed, 0))
			prepare(w, r)
			w.step(Event{Kind: Enable})
			for range 150 {
				w.wander(r)
			}
			w.settle()
		})
	}
}

// wander is one random step, of those that get somewhere.
func (w *world) wander(r *rand.Rand) {
	attempts := w.attempts()
	switch n := r.IntN(100); {
	case n < 50 && len(attempts) > 0:
		err := failures[0]
		if r.IntN(3) == 0 {
			err = failures[r.IntN(len(failures))]
		}
		w.finish(attempts[r.IntN(len(attempts))], err, r.Float64())
	case n < 70:
		if wake := w.u.Wake(); wake.After(w.at) {
			w.at = wake
		}
		w.step(Event{Kind: Tick})
	case n < 78:
		w.at = w.at.Add(time.Duration(r.Int64N(int64(time.Minute))))
		w.exit(r.IntN(3)-1, r.IntN(4) == 0)
	case n < 84 && w.ping:
		w.ping = false
		w.step(Event{Kind: Ponged, Attempt: w.u.attempt, Err: failures[r.IntN(3)]})
	case n < 96:
		w.step(Event{Kind: []Kind{Enable, Enable, Disable, Restart, Reset, Reset, Adopt}[r.IntN(7)], ReadyAt: w.at.Add(-time.Hour)})
	case n < 98:
		w.stale(Event{Kind: results[r.IntN(len(results))]})
	case r.IntN(8) == 0:
		w.step(Event{Kind: []Kind{Tamper, Remove, Shutdown, Leave}[r.IntN(4)]})
	}
}

func has(actions []Action, what ...Do) bool {
	return slices.ContainsFunc(actions, func(a Action) bool { return slices.Contains(what, a.Do) })
}

func TestNeverTwoInstancesRun(t *testing.T) {
	overlaps := 0
	walks(t, func(w *world, _ *rand.Rand) {
		w.check = func(_ Unit, ev Event, actions []Action) {
			active := 0
			for _, th := range w.made {
				if th.active {
					active++
				}
			}
			if active > 1 {
				w.t.Fatalf("%d containers may run after %s", active, ev.Kind)
			}
			if has(actions, DoPrepare) && len(w.made) > 1 {
				overlaps++
			}
		}
	})
	if overlaps < 100 {
		t.Errorf("an instance was made while another was cleared away %d times: the walks prove little", overlaps)
	}
}

func TestAStoppedPluginNeverRuns(t *testing.T) {
	walks(t, func(w *world, _ *rand.Rand) {
		w.check = func(_ Unit, ev Event, actions []Action) {
			if has(actions, DoPrepare, DoStart, DoAdopt) && !w.u.wanted() {
				w.t.Fatalf("%s made it start", ev.Kind)
			}
		}
	}) // and settle, at the end of each walk, wants nothing to be left
}

func TestATamperedPluginNeverStarts(t *testing.T) {
	tampered := 0
	walks(t, func(w *world, _ *rand.Rand) {
		w.check = func(before Unit, ev Event, actions []Action) {
			if before.Tampered == "" || ev.Kind == Reset {
				return
			}
			tampered++
			if w.u.Tampered == "" || has(actions, DoPrepare, DoStart, DoAdopt, DoPing) || w.u.State() == StateRunning && !w.u.left {
				w.t.Fatalf("in quarantine, %s: %s, %v", ev.Kind, w.u.State(), actions)
			}
		}
	})
	if tampered < 100 {
		t.Errorf("%d steps in quarantine: the walks prove little", tampered)
	}
}

func TestSomethingWakesEveryUnit(t *testing.T) {
	walks(t, func(w *world, _ *rand.Rand) {
		w.check = func(_ Unit, ev Event, _ []Action) { w.awake(ev) }
	})
}

// awake fails if the unit wants to be woken in the past, which would make it
// spin, or waits for something that nothing brings about.
func (w *world) awake(ev Event) {
	wake := w.u.Wake()
	if !wake.IsZero() && !wake.After(w.at) {
		w.t.Fatalf("after %s it wants to be woken %v ago", ev.Kind, w.at.Sub(wake))
	}
	waits := w.u.wanted() || len(w.made) > 0
	if waits && !w.gone && wake.IsZero() && len(w.attempts()) == 0 && !w.ping {
		w.t.Fatalf("after %s nothing will wake it: %s, phase %d, remains %+v", ev.Kind, w.u.State(), w.u.phase, w.u.remains)
	}
}

// TestLateAndRepeatedEventsNeverMatter repeats every result that was heard of,
// later and again, and tells of attempts that are over. The result of an
// action that is repeated (a Close, a ping) is not repeated while the next one
// is under way: an action has one result.
func TestLateAndRepeatedEventsNeverMatter(t *testing.T) {
	walks(t, func(w *world, _ *rand.Rand) {
		var heard []Event
		w.check = func(_ Unit, ev Event, _ []Action) {
			if ev.Attempt > 0 && !slices.Contains(requests, ev.Kind) && ev.Attempt <= w.u.attempt {
				heard = append(heard[max(0, len(heard)-30):], ev)
			}
			for _, late := range heard {
				th := w.made[late.Attempt]
				underWay := late.Kind == Closed && th != nil && th.running == DoClose || late.Kind == Ponged && w.ping
				if !underWay && !w.unchanged(late) {
					w.t.Fatalf("a late %s of attempt %d, heard of again after %s, matters", late.Kind, late.Attempt, ev.Kind)
				}
			}
		}
	})
}

// TestClockSteps sets the clock again and again by up to ten years, either
// way: no start is put off for longer than TrialEvery, and nothing spins.
func TestClockSteps(t *testing.T) {
	walks(t, func(w *world, r *rand.Rand) {
		w.check = func(_ Unit, ev Event, _ []Action) {
			w.awake(ev)
			if wake := w.u.Wake(); wake.Sub(w.at) > w.p.TrialEvery {
				w.t.Fatalf("after %s it sleeps for %v", ev.Kind, wake.Sub(w.at))
			}
			if r.IntN(4) == 0 {
				w.at = w.at.AddDate(r.IntN(21)-10, 0, 0)
			}
		}
	})
}

func TestAClockSetBackPutsNothingOff(t *testing.T) {
	for _, phase := range []string{"backoff", "crashlooped", "running", "closing"} {
		t.Run(phase, func(t *testing.T) {
			w := newWorld(t)
			w.step(Event{Kind: Enable})
			w.finish(1, nil, 0)
			w.finish(1, nil, 0)
			switch phase {
			case "backoff":
				w.exit(1, false)
				w.finish(1, nil, 0)
			case "crashlooped":
				w.u.ShortRuns = w.p.MaxShortRuns
				w.exit(1, false)
				w.finish(1, nil, 0)
			case "closing":
				w.exit(1, false)
				w.finish(1, errEngine, 0)
			}
			w.at = w.at.AddDate(-10, 0, 0)
			w.step(Event{Kind: Tick})
			if wait := w.u.Wake().Sub(w.at); wait > w.p.TrialEvery {
				t.Fatalf("it sleeps for %v", wait)
			}
			w.at = w.u.Wake()
			before := w.u
			w.step(Event{Kind: Tick})
			if w.u.phase == before.phase && w.u.pinging == before.pinging && w.u.remains == before.remains {
				t.Errorf("nothing was done when the time had come: %s", w.u.State())
			}
		})
	}
}

// TestBackoffIsMonotone wants the delays of short runs in a row to double to
// their cap, each within a quarter of what it is without jitter.
func TestBackoffIsMonotone(t *testing.T) {
	p := DefaultPolicy()
	p.MaxShortRuns, p.MaxExits = 1000, 1000
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		at := epoch
		u, _ := Step(p, Unit{}, Event{Kind: Enable, At: at})
		want := p.BackoffFirst
		for n := 1; n <= 20; n++ {
			at = at.Add(time.Duration(r.Int64N(int64(p.HealthyRun))))
			for _, ev := range []Event{{Kind: Prepared}, {Kind: Started}, {Kind: Exited, Exit: Exit{Code: 1, At: at}}, {Kind: Closed}} {
				ev.At, ev.Attempt, ev.Random = at, u.attempt, r.Float64()
				u, _ = Step(p, u, ev)
			}
			delay := u.NextAttempt.Sub(at)
			if least, most := want*3/4, want*5/4; delay < least || delay > most || u.State() != StateBackoff {
				t.Fatalf("seed %d: %s for %v after short run %d, want %v to %v", seed, u.State(), delay, n, least, most)
			}
			want = min(2*want, p.BackoffMax)
			at = u.NextAttempt
			u, _ = Step(p, u, Event{Kind: Tick, At: at})
		}
	}
}
