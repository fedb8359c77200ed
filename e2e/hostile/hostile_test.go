// Package hostile is the corpus of attacks: plugins whose author is the
// attacker and has read our code. Each is a small npm package in
// testdata/NAME and a row in one of the tables here, which says what it is
// after, what stops it, what it sees inside by runtime, and what to look at
// outside. An attack has failed when it has no effect outside its sandbox.
//
// docs/attacks.md is written from the tables.
package hostile

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// attack is one row. The plugin of testdata/NAME is installed under the id
// hostile-NAME, given what grants say, called once, looked at, and uninstalled.
type attack struct {
	name  string // the folder in testdata too
	aims  string // what the attacker wants, in one sentence
	layer string // what stops it, for people

	// only is the one runtime that the attack makes sense on, and why is the
	// reason; empty is every runtime.
	only, why string
	// varies marks what is not stopped by ocmt's own code alone: `make test` runs
	// it on every engine and runtime, and the others on the first.
	varies bool
	// raw packs the program of testdata/syscalls into the plugin, as ./syscalls.
	raw bool

	// prepare makes decoys before the install, and may set w.vars.
	prepare func(t *testing.T, w *world)
	// install and grants are arguments after `ocmt plugins install DIR` and
	// after `ocmt plugins grant ID`. "{NAME}" in them, and in params, stands for
	// w.vars[NAME]; {dir} is a directory of the host for this attack alone.
	install []string
	grants  [][]string
	// refused is a regular expression for what the install says that is refused;
	// there is nothing to call then.
	refused string
	// The tool that attacks, "attack" if empty, and its parameters. It answers
	// with an object: what became of each attempt, a code of an error or a text
	// that begins with "ok" if it succeeded within the sandbox.
	tool, params string

	// want holds regular expressions for the whole of what became of an
	// attempt; in its name, "{NAME}" stands for w.vars[NAME]. The first of these
	// keys that is there counts: "RUNTIME/ATTEMPT", "ATTEMPT", "PREFIX*", the
	// longest, "RUNTIME", "". A call that fails has the one attempt "call", with
	// "CODE: MESSAGE", and an answer that is no object the one "answer".
	want map[string]string
	// inside says why an attempt may succeed within the sandbox. Without it,
	// none does.
	inside string
	// records must be in the audit log after the attack. None: that of the call.
	records []record
	// check looks from outside, while the plugin is installed still; gone does
	// after it was uninstalled.
	check, gone func(t *testing.T, w *world)
}

// record is a record of the audit log, of the attack's plugin. Empty fields fit
// all; target and code are regular expressions.
type record struct{ action, target, outcome, code string }

// group is a table of attacks that share a daemon, and with it a neighbour.
type group struct {
	name    string
	serve   []string // arguments of serve
	attacks []attack
	// alone has the attacks run one after the other.
	alone bool
	// online gives the daemon an [internet].
	online bool
	config string // config.json of the home, before the daemon starts
	// after looks at the daemon when all attacks are over.
	after func(t *testing.T, r *rig)
}

// full has every attack run on whatever engine and runtime there is; without
// it those alone that vary, but on the first of the engines, where all are run.
var full = os.Getenv("E2E_HOSTILE") != "varying"

// TestMain lets more attacks run at a time than there are processors: most of
// an attack is waiting for an engine.
func TestMain(m *testing.M) {
	flag.Parse()
	atATime := 6
	if runtimeName() == "runsc" { // which needs more of the processors for each
		atATime = 3
	}
	if set := flag.Lookup("test.parallel"); set.Value.String() == set.DefValue && runtime.GOMAXPROCS(0) < atATime {
		_ = set.Value.Set(strconv.Itoa(atATime))
	}
	m.Run()
}

// runtimeName is the OCI runtime that the attacks meet.
func runtimeName() string { return cmp.Or(harness.RuntimeName(), "runc") }

// tally counts what became of the attacks.
type tally struct {
	mu                      sync.Mutex
	made, harmless, skipped int
}

func (c *tally) note(t *testing.T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case t.Skipped():
		c.skipped++
		return
	case !t.Failed():
		c.harmless++
	}
	c.made++
}

// report prints one line, and adds it to the file of $E2E_SUMMARY.
func (c *tally) report(t *testing.T) {
	line := fmt.Sprintf("hostile: %d attacks, %d without effect, runtime %s on %s", c.made, c.harmless, runtimeName(), harness.EngineName())
	if c.skipped > 0 {
		line += fmt.Sprintf(" (%d not for this runtime)", c.skipped)
	}
	fmt.Fprintln(os.Stdout, line)
	path := os.Getenv("E2E_SUMMARY")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, line); err != nil {
		t.Error(err)
	}
}

func TestHostile(t *testing.T) {
	need(t)
	counts, programs := &tally{}, &programs{dir: t.TempDir()}
	t.Cleanup(func() { counts.report(t) })
	for _, g := range groups() {
		g.attacks = slices.DeleteFunc(slices.Clone(g.attacks), func(a attack) bool { return !full && !a.varies })
		if len(g.attacks) == 0 {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			g.run(t, counts, programs)
		})
	}
}

func (g *group) run(t *testing.T, counts *tally, p *programs) {
	r := newRig(t, g, p)
	for _, a := range g.attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Cleanup(func() { counts.note(t) })
			if a.only != "" && a.only != runtimeName() {
				t.Skipf("only on %s: %s", a.only, a.why)
			}
			if !g.alone {
				t.Parallel()
			}
			a.run(t, r)
		})
	}
}

// run is one attack from the install to the uninstall.
func (a *attack) run(t *testing.T, r *rig) {
	w := newWorld(t, r, a)
	if a.prepare != nil {
		a.prepare(t, w)
	}
	if a.refused != "" {
		a.refusal(t, w)
		return
	}
	w.run(t, append([]string{"plugins", "install", r.pack(t, a.name, w.dir, a.raw)}, w.fill(a.install)...)...)
	t.Cleanup(func() { w.daemon.Run(context.WithoutCancel(t.Context()), "plugins", "uninstall", w.id) }) // if it fails on the way
	for _, g := range a.grants {
		w.run(t, append([]string{"plugins", "grant", w.id}, w.fill(g)...)...)
	}
	w.call(t, cmp.Or(a.tool, "attack"), w.fill([]string{cmp.Or(a.params, "{}")})[0])
	a.judge(t, w.answer)
	if strings.Contains(string(w.result), w.secret) {
		t.Errorf("it learned the host's secret: %s", w.result)
	}
	a.checkRecords(t, w)
	if a.check != nil {
		a.check(t, w)
	}
	r.victim.check(t, r)
	w.run(t, "plugins", "uninstall", w.id)
	if left, err := w.daemon.Container(t.Context(), tenant, w.id); err == nil {
		t.Errorf("container %s runs after the uninstall", left)
	}
	if a.gone != nil {
		a.gone(t, w)
	}
}

// refusal is an attack that gets no further than the install.
func (a *attack) refusal(t *testing.T, w *world) {
	t.Helper()
	res := w.daemon.Run(t.Context(), append([]string{"plugins", "install", w.pack(t, a.name, w.dir, a.raw)}, w.fill(a.install)...)...)
	if text := string(res.Stderr); res.Code == 0 || !regexp.MustCompile(a.refused).MatchString(text) {
		t.Errorf("exit code %d, want a refusal that says %s:\n%s%s", res.Code, a.refused, res.Stdout, text)
		w.daemon.Run(t.Context(), "plugins", "uninstall", w.id)
	}
	if a.check != nil {
		a.check(t, w)
	}
	w.victim.check(t, w.rig)
}

// judge compares what became of the attempts with what is wanted.
func (a *attack) judge(t *testing.T, answer map[string]string) {
	t.Helper()
	if len(answer) == 0 {
		t.Error("the plugin attempted nothing")
	}
	for attempt, got := range answer {
		want, ok := a.wanted(runtimeName(), attempt)
		switch {
		case !ok:
			t.Errorf("%s: %q, and nothing says what to expect", attempt, got)
		case !regexp.MustCompile(`(?s)^(?:` + want + `)$`).MatchString(got):
			t.Errorf("%s: %q, want %s", attempt, got, want)
		case a.inside == "" && (got == "ok" || strings.HasPrefix(got, "ok ")):
			t.Errorf("%s: %q, and the row does not say why that is harmless", attempt, got)
		}
	}
	if answer["call"] != "" { // there was no more to attempt
		return
	}
	for key := range a.want {
		runtime, attempt, ok := strings.Cut(key, "/")
		if !ok || !knownRuntimes[runtime] {
			runtime, attempt = "", key
		}
		if !made(answer, attempt) && attempt != "" && attempt != "call" && !knownRuntimes[attempt] && (runtime == "" || runtime == runtimeName()) {
			t.Errorf("%s was not attempted", attempt)
		}
	}
}

// knownRuntimes may be keys of want by themselves.
var knownRuntimes = map[string]bool{"runc": true, "runsc": true}

// made says that an attempt was made, or one of those that begin so.
func made(answer map[string]string, attempt string) bool {
	prefix, many := strings.CutSuffix(attempt, "*")
	for got := range answer {
		if got == attempt || many && strings.HasPrefix(got, prefix) {
			return true
		}
	}
	return false
}

func (a *attack) wanted(runtime, attempt string) (string, bool) {
	keys := []string{runtime + "/" + attempt, attempt}
	for n := len(attempt); n > 0; n-- {
		keys = append(keys, attempt[:n]+"*")
	}
	for _, key := range append(keys, runtime, "") {
		if want, ok := a.want[key]; ok {
			return want, true
		}
	}
	return "", false
}

// checkRecords waits for the records that the attack must leave: some follow
// the answer.
func (a *attack) checkRecords(t *testing.T, w *world) {
	t.Helper()
	records := a.records
	if len(records) == 0 {
		records = []record{{action: "tool.call", target: cmp.Or(a.tool, "attack")}}
	}
	for _, want := range records {
		if !within(10*time.Second, func() bool { return slices.ContainsFunc(w.audited(t), want.fits) }) {
			t.Errorf("the audit log holds no record %+v among:\n%s", want, mustJSON(t, w.audited(t)))
		}
	}
}

func (r record) fits(got map[string]any) bool {
	text := func(key string) string { s, _ := got[key].(string); return s }
	full := func(pattern, s string) bool {
		return pattern == "" || regexp.MustCompile(`^(?:`+pattern+`)$`).MatchString(s)
	}
	return text("action") == r.action && (r.outcome == "" || text("outcome") == r.outcome) &&
		full(r.target, text("target")) && full(r.code, text("code"))
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return text
}
