package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// The report that the docs show, and the docs.
const (
	reportPath = "testdata/report.json"
	docsPath   = "../../docs/recovery.md"
)

// sections are the generated parts of the docs, each between a line
// "<!-- NAME: generated -->" and the next "<!-- end -->".
var sections = []struct {
	name  string
	write func(*strings.Builder, *report)
}{
	{"figures", writeFigures},
	{"faults", writeFaults},
	{"not run", writeNotRun},
	{"invariants", writeInvariants},
}

// TestDocs holds docs/recovery.md against the report of the run that it tells
// of, which is a full one, and against the invariants that there are.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(reportPath)
	if err != nil {
		t.Fatal(err)
	}
	var rep report
	if err := json.Unmarshal(text, &rep); err != nil {
		t.Fatal(err)
	}
	if rep.Schema != schema || rep.Form != "full" {
		t.Fatalf("the report is of schema %q and form %q, want %q and full", rep.Schema, rep.Form, schema)
	}
	old, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	want, err := generate(string(old), &rep)
	if err != nil {
		t.Fatal(err)
	}
	if want == string(old) {
		return
	}
	if !*update {
		t.Fatal("docs/recovery.md is not what was measured: run go test ./e2e/chaos -run TestDocs -update")
	}
	if err := os.WriteFile(docsPath, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// generate writes the sections of a text anew.
func generate(text string, rep *report) (string, error) {
	for _, s := range sections {
		begin := "<!-- " + s.name + ": generated -->\n"
		before, rest, ok := strings.Cut(text, begin)
		_, after, closed := strings.Cut(rest, "<!-- end -->")
		if !ok || !closed {
			return "", fmt.Errorf("no section %q, or it has no end", s.name)
		}
		var b strings.Builder
		s.write(&b, rep)
		text = before + begin + "\n" + b.String() + "\n<!-- end -->" + after
	}
	return text, nil
}

func writeFigures(b *strings.Builder, rep *report) {
	fmt.Fprintf(b, "Measured on %s with seed %d: %d processors, %d GB, Linux %s; %d violations of invariants.\n\n",
		rep.StartedAt.Format(time.DateOnly), rep.Seed, rep.Host.CPUs, (rep.Host.MemoryMB+512)/1024, rep.Host.Kernel, len(rep.Broken))
	b.WriteString("| What | Engine | Measured | Target |\n|---|---|---|---|\n")
	for _, k := range rep.Kills {
		fmt.Fprintf(b, "| %d kills of one plugin in %d s, one every %d s: time in which a call fails or waits more than 1 s | %s | %s; %d of %d calls failed, %d waited more than 1 s | 3 s |\n",
			k.Kills, k.Window/1000, k.EveryMS/1000, k.Engine, seconds(k.Down), k.Failed, k.Calls, k.Slow)
	}
	for _, d := range rep.Daemon {
		fmt.Fprintf(b, "| `kill -9` of the orchestrator with %d plugins: until all answer again | %s | %s; %d restarted | 3 s; 0 restarted |\n",
			d.Plugins, d.Engine, seconds(d.AllAnswer), d.Restarted)
	}
	for _, m := range rep.Many {
		fmt.Fprintf(b, "| %d plugins started together: until all answer | %s | %s; %d starts failed; orchestrator %d MB | 0 starts fail |\n",
			m.Plugins, m.Engine, seconds(m.AllReady), m.Failures, m.MemoryKB/1024)
	}
	for _, l := range rep.CrashLoop {
		fmt.Fprintf(b, "| a plugin that dies every second: until it is given up | %s | %s, %d exits; orchestrator %d %% of one core; %d of %d calls of its neighbours failed | no call of a neighbour fails |\n",
			l.Engine, seconds(l.OpenedMS), l.Exits, l.CPUPercent, l.Failed, l.Neighbours)
	}
	for _, h := range rep.Hang {
		fmt.Fprintf(b, "| the engine hangs for %d s: slowest `ocmt status` | %s | %s; %d of %d calls failed; the plugin that ended meanwhile answers %s after the engine | 1 s; no call fails |\n",
			h.HungMS/1000, h.Engine, seconds(h.Status), h.Failed, h.Calls, seconds(h.After))
	}
	writeBroken(b, rep)
}

// writeBroken names the faults after which something did not hold.
func writeBroken(b *strings.Builder, rep *report) {
	counts, order := map[string]int{}, []string{}
	for _, v := range rep.Broken {
		name, _, _ := strings.Cut(v, ": ")
		if counts[name]++; counts[name] == 1 {
			order = append(order, name)
		}
	}
	if len(order) == 0 {
		return
	}
	b.WriteString("\nIn this run something did not hold after:\n\n")
	for _, name := range order {
		fmt.Fprintf(b, "- %s (%d violations)\n", name, counts[name])
	}
}

func writeFaults(b *strings.Builder, rep *report) {
	b.WriteString("| Fault | Engine | Runs | Recovery p50 | max | Calls failed | Restarted | Call in flight |\n|---|---|---|---|---|---|---|---|\n")
	for _, f := range rep.Faults {
		flight := f.InFlight
		if f.Told > 0 {
			flight = fmt.Sprintf("`%s` after %d ms at most", flight, f.Told)
		}
		fmt.Fprintf(b, "| %s | %s %s | %d | %s | %s | %d of %d | %d | %s |\n",
			f.Fault, f.Engine, f.Version, f.Runs, seconds(f.P50), seconds(f.Max), f.Failed, f.Calls, f.Restarted, flight)
	}
}

func writeNotRun(b *strings.Builder, rep *report) {
	if len(rep.NotRun) == 0 {
		b.WriteString("Nothing of the suite was left out in this run.\n")
	}
	for _, o := range rep.NotRun {
		fmt.Fprintf(b, "- Not run: %s, on %s: %s\n", o.Fault, o.Engine, o.Reason)
	}
}

func writeInvariants(b *strings.Builder, _ *report) {
	b.WriteString("| Name | What must hold |\n|---|---|\n")
	for _, inv := range invariants {
		fmt.Fprintf(b, "| %s | %s |\n", inv.name, inv.says)
	}
	b.WriteString("| in flight | a call to what was ended comes back within 1 s, with a class, a code and `retryable`; a call to what goes on is answered |\n")
	b.WriteString("| untouched | a plugin that the fault does not hit keeps its processes, and no call to it fails |\n")
}

// seconds writes milliseconds for people.
func seconds(ms int64) string {
	if ms < 1000 {
		return fmt.Sprintf("%d ms", ms)
	}
	return fmt.Sprintf("%.1f s", float64(ms)/1000)
}
