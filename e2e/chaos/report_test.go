package chaos

import (
	"encoding/json"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// schema names the form of a report. A field is added without a new name,
// never removed or given another meaning.
const schema = "ocmt-chaos/1"

// report is what a run writes with -chaos.report. Times are milliseconds.
type report struct {
	Schema    string     `json:"schema"`
	Seed      uint64     `json:"seed"` // with the same seed: the same order, victims and moments
	Form      string     `json:"form"` // short or full
	StartedAt time.Time  `json:"startedAt"`
	TookMS    int64      `json:"tookMs"`
	Host      host       `json:"host"`
	Faults    []*tally   `json:"faults"`
	Kills     []kills    `json:"kills"`             // of one plugin, again and again
	Daemon    []daemon   `json:"orchestratorKills"` // of a daemon with many plugins
	Many      []many     `json:"startedTogether"`   // many plugins at once
	CrashLoop []loop     `json:"crashLoops"`        // a plugin that dies every second
	Hang      []hang     `json:"engineHangs"`       // an engine that hangs
	NotRun    []omission `json:"notRun"`            // with the reason
	Broken    []string   `json:"violations"`        // of invariants, each with its fault

	mu sync.Mutex
}

type host struct {
	CPUs     int    `json:"cpus"`
	MemoryMB int64  `json:"memoryMb"`
	Kernel   string `json:"kernel"`
}

// tally is what all runs of one fault on one engine came to.
type tally struct {
	Fault     string   `json:"fault"`
	Engine    string   `json:"engine"`  // as the suite ran it
	Version   string   `json:"version"` // of the engine
	Runs      int      `json:"runs"`
	Recovery  []int64  `json:"recoveryMs"` // of each run: from the fault until everybody answered again
	P50       int64    `json:"recoveryP50Ms"`
	Max       int64    `json:"recoveryMaxMs"`
	Down      int64    `json:"downMaxMs"`    // longest time in a run that calls to one plugin failed or waited more than 1 s
	Calls     int      `json:"calls"`        // by the probe, from the fault to the end of the run
	Failed    int      `json:"callsFailed"`  // of those
	Restarted int      `json:"restarted"`    // plugins, in all runs
	InFlight  string   `json:"callInFlight"` // what became of the call that a victim was answering
	Told      int64    `json:"toldMaxMs"`    // until that call ended, from the end of the plugin's process
	Broken    []string `json:"violations"`
}

type kills struct {
	Engine  string `json:"engine"`
	Kills   int    `json:"kills"`
	EveryMS int64  `json:"everyMs"`
	Window  int64  `json:"windowMs"`
	Down    int64  `json:"downMs"` // in which a call fails or waits more than 1 s
	Calls   int    `json:"calls"`
	Failed  int    `json:"callsFailed"`
	Slow    int    `json:"callsSlow"` // answered after more than 1 s
	Longest int64  `json:"longestMs"` // wait of a call that was answered
}

type daemon struct {
	Engine    string `json:"engine"`
	Plugins   int    `json:"plugins"`
	AllAnswer int64  `json:"allAnswerMs"`
	Restarted int    `json:"restarted"`
	Failed    int    `json:"callsFailed"`
}

type many struct {
	Engine   string `json:"engine"`
	Plugins  int    `json:"plugins"`
	AllReady int64  `json:"allReadyMs"` // from the start of the daemon
	Failures int    `json:"startFailures"`
	MemoryKB int64  `json:"daemonRssAnonKb"`
}

type loop struct {
	Engine     string `json:"engine"`
	Exits      int    `json:"exits"` // until the breaker opened
	OpenedMS   int64  `json:"openedMs"`
	CPUPercent int64  `json:"daemonCpuPercent"` // of one core, with the probe's calls
	Neighbours int    `json:"neighbourCalls"`
	Failed     int    `json:"neighbourCallsFailed"`
}

type hang struct {
	Engine string `json:"engine"`
	HungMS int64  `json:"hungMs"`
	Status int64  `json:"statusMaxMs"` // of `ocmt status`, the command, meanwhile
	Calls  int    `json:"calls"`
	Failed int    `json:"callsFailed"`
	After  int64  `json:"usableAfterMs"` // from the engine's return until a plugin was restarted by command
}

type omission struct {
	Fault  string `json:"fault"`
	Engine string `json:"engine"`
	Reason string `json:"reason"`
}

func newReport(seed uint64, form string) *report {
	var memory syscall.Sysinfo_t
	_ = syscall.Sysinfo(&memory)
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	version, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-")
	return &report{
		Schema: schema, Seed: seed, Form: form, StartedAt: time.Now().UTC().Truncate(time.Second),
		Host: host{CPUs: runtime.NumCPU(), MemoryMB: int64(memory.Totalram) >> 20, Kernel: version},
	}
}

// add adds one run of a fault.
func (rep *report) add(e engine, version string, name string, run tally) {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	i := slices.IndexFunc(rep.Faults, func(t *tally) bool { return t.Fault == name && t.Engine == e.title() })
	if i < 0 {
		i = len(rep.Faults)
		rep.Faults = append(rep.Faults, &tally{Fault: name, Engine: e.title(), Version: version, InFlight: run.InFlight})
	}
	t := rep.Faults[i]
	t.Runs++
	t.Recovery = append(t.Recovery, run.Recovery...)
	sorted := slices.Sorted(slices.Values(t.Recovery))
	t.P50, t.Max = sorted[(len(sorted)-1)/2], sorted[len(sorted)-1]
	t.Down = max(t.Down, run.Down)
	t.Told = max(t.Told, run.Told)
	t.Calls += run.Calls
	t.Failed += run.Failed
	t.Restarted += run.Restarted
	if !strings.Contains(t.InFlight, run.InFlight) {
		t.InFlight += ", " + run.InFlight
	}
	t.Broken = append(t.Broken, run.Broken...)
	for _, b := range run.Broken {
		rep.Broken = append(rep.Broken, name+" on "+e.title()+": "+b)
	}
}

func (rep *report) omit(fault string, e string, reason string) {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	rep.NotRun = append(rep.NotRun, omission{fault, e, reason})
}

// write writes the report, whatever the tests came to.
func (rep *report) write(t *testing.T, path string) {
	t.Helper()
	rep.TookMS = time.Since(rep.StartedAt).Milliseconds()
	slices.SortStableFunc(rep.Faults, func(a, b *tally) int { return strings.Compare(a.Engine, b.Engine) })
	text, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Error(err)
	}
}
