package supervisor

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what is generated in docs/supervision.md anew")

// page holds the blocks that are generated here.
const page = "../../docs/supervision.md"

// TestDiagram draws the states from what Step does in every situation that it
// can get into, and wants the page to show that.
func TestDiagram(t *testing.T) {
	edges, seen := explore(t)
	if seen < 500 {
		t.Errorf("%d situations were explored: too few to be all", seen)
	}
	block(t, "states", "```mermaid\nstateDiagram-v2\n"+draw(edges)+"```\n")
}

// TestFigures wants the page to show the figures of DefaultPolicy.
func TestFigures(t *testing.T) {
	block(t, "figures", figures(DefaultPolicy()))
}

// block compares a part of the page between its two marks, or writes it.
func block(t *testing.T, name, want string) {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), "<!-- "+name+" -->\n")
	got, after, ok2 := strings.Cut(rest, "<!-- end -->")
	if !ok || !ok2 {
		t.Fatalf("%s has no block %q", page, name)
	}
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date, run the tests of this package with -update:\n%s", page, gocmp.Diff(got, want))
	}
	if err := os.WriteFile(page, []byte(before+"<!-- "+name+" -->\n"+want+"<!-- end -->"+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func figures(p Policy) string {
	short := func(d time.Duration) string {
		s := d.String()
		for _, zero := range []string{"0s", "0m"} {
			if cut := strings.TrimSuffix(s, zero); cut != s && !strings.HasSuffix(cut, "0") && cut[len(cut)-1] > '9' {
				s = cut
			}
		}
		return s
	}
	var delays []string
	for n := 1; n < p.MaxShortRuns; n++ {
		delays = append(delays, short(p.Delay(n)))
	}
	var b strings.Builder
	b.WriteString("| What | Figure |\n|---|---|\n")
	for _, row := range [][2]string{
		{"A run is healthy, and followed by a restart at once, from", short(p.HealthyRun)},
		{"Delays after short runs in a row", strings.Join(delays, ", ")},
		{"Longest delay, should the breaker be closed by then", short(p.BackoffMax)},
		{"Jitter of delays", fmt.Sprintf("±%.0f %%", 100*p.Jitter)},
		{"Short runs are forgotten after a healthy run of", fmt.Sprintf("%s, or twice the last delay if that is longer", short(p.ResetAfter))},
		{"Breaker", fmt.Sprintf("%d short runs without that in between, or %d unasked exits within %s", p.MaxShortRuns, p.MaxExits, short(p.ExitWindow))},
		{"A crash-looped plugin is tried every", short(p.TrialEvery)},
		{"Longest delay after failures of the host or its engine", short(p.HostBackoffMax)},
		{"A ping is sent, after the answer to the last one,", "every " + short(p.PingEvery)},
		{"A ping must be answered within", short(p.PingTimeout)},
		{"Missed pings in a row that end an instance", fmt.Sprint(p.PingMisses)},
		{"Preparing an instance may take", short(p.PrepareTimeout)},
		{"A start, until the plugin is ready, may take", short(p.StartTimeout)},
		{"A start makes room for others after", fmt.Sprintf("%s if it is not prepared, then %s if it is not ready", short(p.PrepareSlot), short(p.StartSlot))},
		{"An adopted instance must be reached within", short(p.AdoptTimeout)},
		{"A plugin may take to stop", short(p.StopGrace)},
		{"Killing it may then take", short(p.KillTimeout)},
		{"Removing an instance may take", short(p.CloseTimeout)},
		{"A failed removal is repeated after", fmt.Sprintf("%s, doubling to %s", short(p.CloseRetry), short(p.CloseRetryMax))},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	return b.String()
}

// situation is a unit with what is under way for it.
type situation struct {
	u    Unit
	at   time.Time
	made map[uint64]thing
}

// key tells situations apart in which Step may decide differently. Times count
// by whether they have come, short runs by whether the next one is the last.
type key struct {
	phase                                                 phase
	desired, removing, closing, leaving, left             bool
	tampered, crashLooped, ending, cancelled, unasked     bool
	adopted, inert, pinging, due, wasReady                bool
	exited, exitKnown, exitLost                           bool
	remains, remainsEnded, remainsClosing, remainsCurrent bool
	shortRuns                                             int
	endClass                                              Class
	current, former                                       thing
}

func (s situation) key() key {
	u := s.u
	k := key{
		phase: u.phase, desired: u.Desired, removing: u.removing, closing: u.closing, leaving: u.leaving, left: u.left,
		tampered: u.Tampered != "", crashLooped: u.CrashLooped, unasked: u.unasked,
		due: !u.NextAttempt.After(s.at), shortRuns: min(u.ShortRuns, 2),
		remains: u.remains.exist(), remainsEnded: u.remains.ended, remainsClosing: u.remains.closing,
		remainsCurrent: u.remains.attempt == u.attempt, current: s.made[u.attempt],
	}
	if u.remains.attempt != u.attempt {
		k.former = s.made[u.remains.attempt]
	}
	if u.phase == phaseNone { // the rest is about its last instance, and decides nothing
		return k
	}
	k.ending, k.endClass, k.cancelled, k.adopted, k.inert = u.ending, u.endClass, u.cancelled, u.adopted, u.inert
	k.pinging, k.wasReady = u.pinging, !u.readyAt.IsZero()
	if u.exit != nil {
		k.exited, k.exitKnown, k.exitLost = true, u.exit.known(), u.exit.lost()
	}
	return k
}

// edge is a change of state, told apart by what brings it about.
type edge struct{ from, to, label string }

// explore plays every event in every situation that it leads to, breadth
// first, and returns the changes of state and how many situations there are.
// The breaker opens after two short runs and one ping may be missed, which
// changes no edge.
func explore(t *testing.T) (map[edge]bool, int) {
	t.Helper()
	p := DefaultPolicy()
	p.MaxShortRuns, p.MaxExits, p.PingMisses = 2, 1<<20, 1
	first := situation{u: Unit{}, at: epoch, made: map[uint64]thing{}}
	edges, seen := map[edge]bool{}, map[key]bool{first.key(): true}
	for todo := []situation{first}; len(todo) > 0; todo = todo[1:] {
		s := todo[0]
		for _, n := range s.next() {
			after, finished := s.step(p, n)
			from, to := string(s.u.State()), string(after.u.State())
			if finished {
				to = "[*]"
			}
			if n.ev.Kind == Adopt { // when ocmt starts
				from = "[*]"
			}
			if to != string(s.u.State()) {
				edges[edge{from, to, s.label(n, after)}] = true
			}
			if k := after.key(); !finished && !seen[k] {
				seen[k] = true
				todo = append(todo, after)
			}
		}
		if len(seen) > 200_000 {
			t.Fatal("the situations do not end")
		}
	}
	return edges, len(seen)
}

// label says what brings a change of state about, as an operator would.
func (s situation) label(h happening, after situation) string {
	switch {
	case after.u.left:
		return "leave"
	case h.ev.Kind == Tamper:
		return "payload altered"
	case h.ev.Kind == Started && h.ev.Err == nil && s.u.exit != nil:
		return "exited" // between getting ready and being heard of
	case s.u.State() == StateStopping && h.ev.Attempt != 0 && h.label != "payload altered":
		return "ended"
	}
	return h.label
}

// happening is something that can happen in a situation.
type happening struct {
	label string
	after time.Duration
	ev    Event
}

// next lists what can happen.
func (s situation) next() []happening {
	var list []happening
	for _, kind := range []Kind{Enable, Disable, Restart, Reset, Tamper, Remove, Shutdown, Adopt, Leave} {
		list = append(list, happening{string(kind), 0, Event{Kind: kind}})
	}
	if wake := s.u.Wake(); !wake.IsZero() {
		list = append(list, happening{"due", wake.Sub(s.at), Event{Kind: Tick}})
	}
	for attempt, th := range s.made {
		for _, err := range []error{nil, errPlain, errTamper, errEngine} {
			if ev, label := resultOf(th.running, err); label != "" {
				ev.Attempt = attempt
				list = append(list, happening{label, 0, ev})
			}
		}
		if th.active {
			for _, exit := range []Exit{{Code: 1, At: s.at.Add(time.Nanosecond)}, {Code: NoCode}} {
				for _, run := range []time.Duration{time.Second, time.Minute} {
					list = append(list, happening{"exited", run, Event{Kind: Exited, Attempt: attempt, Exit: exit}})
				}
			}
		}
	}
	if s.u.pinging {
		list = append(list, happening{"answered", time.Second, Event{Kind: Ponged, Attempt: s.u.attempt}},
			happening{"pings missed", time.Second, Event{Kind: Ponged, Attempt: s.u.attempt, Err: errPlain}})
	}
	return list
}

// resultOf returns the result of an action and its label, empty if there is
// no such result.
func resultOf(running Do, err error) (Event, string) {
	kind := map[Do]Kind{DoPrepare: Prepared, DoStart: Started, DoAdopt: Started, DoStop: Stopped, DoClose: Closed}[running]
	label := map[Do]string{DoPrepare: "prepared", DoStart: "ready", DoAdopt: "ready", DoStop: "ended", DoClose: "removed"}[running]
	switch {
	case label == "":
	case (kind == Closed || kind == Stopped) && err != nil && !errors.Is(err, errEngine):
		return Event{}, "" // as any other failure
	case errors.Is(err, errTamper):
		label = "payload altered"
	case err != nil:
		label = map[Do]string{DoPrepare: "cannot be prepared", DoStart: "cannot be started", DoAdopt: "cannot be reached", DoStop: "cannot be stopped", DoClose: "cannot be removed"}[running]
	}
	return Event{Kind: kind, Err: err}, label
}

// step returns the situation after something happened, and whether the unit
// has ended.
func (s situation) step(p Policy, h happening) (situation, bool) {
	after := situation{at: s.at.Add(h.after), made: maps.Clone(s.made)}
	h.ev.At, h.ev.Random = after.at, noJitter
	if th, ok := after.made[h.ev.Attempt]; ok {
		after.made[h.ev.Attempt] = th.heard(h.ev)
		if !after.made[h.ev.Attempt].exists {
			delete(after.made, h.ev.Attempt)
		}
	}
	var actions []Action
	after.u, actions = Step(p, s.u, h.ev)
	finished := false
	for _, a := range actions {
		th := after.made[a.Attempt]
		switch a.Do {
		case DoPrepare, DoStart, DoStop, DoClose:
			th.running = a.Do
		case DoAdopt:
			th = thing{running: a.Do, exists: true, active: true}
		case DoFinish:
			finished = true
			continue
		default:
			continue
		}
		after.made[a.Attempt] = th
	}
	return after, finished
}

// heard returns the instance after an event of its own.
func (th thing) heard(ev Event) thing {
	switch ev.Kind {
	case Prepared:
		th.exists = ev.Err == nil
	case Started:
		th.active = th.active || th.running == DoStart
	case Stopped:
		th.active = th.active && ev.Err != nil
	case Closed:
		th.exists = ev.Err != nil
	case Exited:
		th.active = false
		return th
	case Ponged:
		return th
	}
	th.running = ""
	return th
}

// draw lists the edges as Mermaid does, one line per pair of states.
func draw(edges map[edge]bool) string {
	order := []string{"[*]", string(StateStopped), string(StatePreparing), string(StateStarting), string(StateRunning),
		string(StateBackoff), string(StateCrashlooped), string(StateQuarantined), string(StateStopping)}
	labels := map[[2]string][]string{{"[*]", string(StateStopped)}: {"installed"}}
	for e := range edges {
		pair := [2]string{e.from, e.to}
		labels[pair] = append(labels[pair], e.label)
	}
	pairs := slices.SortedFunc(maps.Keys(labels), func(a, b [2]string) int {
		return cmp.Or(slices.Index(order, a[0])-slices.Index(order, b[0]), slices.Index(order, a[1])-slices.Index(order, b[1]))
	})
	var b strings.Builder
	for _, pair := range pairs {
		slices.Sort(labels[pair])
		fmt.Fprintf(&b, "    %s --> %s: %s\n", pair[0], pair[1], strings.Join(labels[pair], ", "))
	}
	return b.String()
}
