// Package chaos breaks things on purpose while the built program runs: it
// kills plugins, containers, the daemon and its engine, fills and fails disks,
// and holds what must be true after every fault against what is. The engines
// are the suite's own, started below a temporary directory, so that nothing
// else on the host is touched.
//
//	go test ./e2e/chaos                        the short form, about a minute
//	go test ./e2e/chaos -chaos.full            all of it, ten minutes on an idle host, 14 at most
//	    -chaos.seed N                          the order, victims and moments of an earlier run
//	    -chaos.report FILE                     what was measured, as JSON
//	    -update                                keep it in testdata and write docs/recovery.md anew
//
// `make chaos` is `go test ./e2e/chaos -run TestChaos -chaos.full -timeout 15m
// -v -chaos.report FILE`. E2E_ENGINE chooses what the short form runs on,
// docker (the default) or containerd; the full form runs on both, and what takes
// minutes on the chosen one alone. It needs root, and bin/ocmt of `make build`.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

var (
	fullForm   = flag.Bool("chaos.full", false, "run all of it, not the short form")
	seedFlag   = flag.Uint64("chaos.seed", 0, "the seed of an earlier run; 0 takes a new one")
	reportFlag = flag.String("chaos.report", "", "write the report to this file")
	update     = flag.Bool("update", false, "write docs/recovery.md from the last report, and with -chaos.full that one too")
)

// The suite ends by itself before go test would end it, so that it takes away
// what it started.
const (
	shortBound = 4 * time.Minute
	fullBound  = 14 * time.Minute
)

// suite is one run.
type suite struct {
	ctx    context.Context // ends with the run's bound
	dir    string
	rand   *rand.Rand
	report *report
}

func TestChaos(t *testing.T) {
	engines := usable(t)
	seed, form, bound := *seedFlag, "short", shortBound
	if seed == 0 {
		seed = rand.Uint64() >> 11 // exact in JSON for everybody
	}
	if *fullForm {
		form, bound = "full", fullBound
	}
	t.Logf("seed %d: go test ./e2e/chaos -chaos.seed %d%s", seed, seed, map[bool]string{true: " -chaos.full"}[*fullForm])
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	s := &suite{ctx: ctx, dir: tempDir(t), rand: rand.New(rand.NewPCG(seed, 0)), report: newReport(seed, form)}
	t.Cleanup(func() { s.finish(t) })
	for _, missing := range []string{"docker", "containerd"} {
		if reason := engines[missing]; reason != "" {
			s.report.omit("everything", missing, reason)
		}
	}
	if *fullForm {
		s.full(t, engines)
		return
	}
	s.short(t)
}

// finish writes down what came of it.
func (s *suite) finish(t *testing.T) {
	if *reportFlag != "" {
		s.report.write(t, *reportFlag)
	}
	if *update && *fullForm {
		s.report.write(t, reportPath)
	}
	for _, o := range s.report.NotRun {
		t.Logf("not run: %s on %s: %s", o.Fault, o.Engine, o.Reason)
	}
}

// usable returns why each engine cannot be run, "" if it can, and skips the
// test where none can; E2E_REQUIRE makes that a failure.
func usable(t *testing.T) map[string]string {
	t.Helper()
	why := map[string]string{}
	for engine, programs := range map[string][]string{
		"docker": {"dockerd", "docker", "containerd", "runc"}, "containerd": {"containerd", "ctr", "runc"},
	} {
		for _, p := range programs {
			if _, err := exec.LookPath(p); err != nil {
				why[engine] = err.Error()
			}
		}
		if os.Geteuid() != 0 {
			why[engine] = "starting an engine needs root"
		}
		if _, err := harness.Binary(); err != nil {
			why[engine] = err.Error()
		}
		if why[engine] != "" && strings.Contains(os.Getenv("E2E_REQUIRE"), engine) {
			t.Fatalf("%s: %s", engine, why[engine])
		}
	}
	if testing.Short() {
		t.Skip("-short: it takes a minute")
	}
	wanted := wantedEngine()
	if why[wanted] != "" {
		t.Skipf("%s: %s", wanted, why[wanted])
	}
	return why
}

// wantedEngine is what the short form runs on.
func wantedEngine() string {
	if e := os.Getenv("E2E_ENGINE"); e != "" {
		return e
	}
	return "docker"
}

// newEngine starts an engine. The test's end ends it.
func (s *suite) newEngine(t *testing.T, name string) engine {
	t.Helper()
	var e engine
	switch dir := filepath.Join(s.dir, name); name {
	case "docker":
		e = newDockerd(dir)
	case "containerd":
		e = newContainerd(dir)
	default:
		t.Fatalf("E2E_ENGINE is %q, not docker or containerd", name)
	}
	t.Cleanup(e.end)
	if err := e.start(s.ctx); err != nil {
		t.Fatal(err)
	}
	return e
}

// short tries every fault that costs seconds once, on one engine.
func (s *suite) short(t *testing.T) {
	e := s.newEngine(t, wantedEngine())
	r := s.newRig(t, e, s.dir, 5)
	faults := append(killsOf(), orchestratorKill(), engineFaults(e)[0])
	for _, b := range shuffled(s.rand, faults) {
		s.try(t, r, b)
	}
	s.killAgain(t, r, 2, 16*time.Second, 16*time.Second+8*time.Second)
}

// full tries everything on every engine, the chosen one first. What there is
// no time for on a busy host is left out and reported as such.
func (s *suite) full(t *testing.T, missing map[string]string) {
	names := []string{"docker", "containerd"}
	if wantedEngine() == "containerd" {
		slices.Reverse(names)
	}
	for _, name := range names {
		if missing[name] == "" {
			t.Run(name, func(t *testing.T) { s.fullOn(t, name) })
		}
	}
}

// part runs a part of the full form that takes about so long on an idle host.
func (s *suite) part(t *testing.T, e engine, name string, about time.Duration, do func(*testing.T)) {
	if deadline, ok := s.ctx.Deadline(); ok && time.Until(deadline) < about {
		s.report.omit(name, e.title(), "the time was over")
		return
	}
	t.Run(name, do)
}

func (s *suite) fullOn(t *testing.T, name string) {
	e := s.newEngine(t, name)
	s.part(t, e, "faults", 2*time.Minute, func(t *testing.T) { s.faults(t, e) })
	s.part(t, e, "many", 2*time.Minute, func(t *testing.T) { s.many(t, e) })
	if name != wantedEngine() {
		s.report.omit("disks, the clock, and kills of one plugin again and again", name, "they cost minutes; E2E_ENGINE="+name+" tries them on this engine instead")
		return
	}
	s.part(t, e, "disk", 2*time.Minute, func(t *testing.T) { s.disk(t, e) })
	if d, ok := e.(*dockerd); ok {
		s.part(t, e, "without live-restore", time.Minute, func(t *testing.T) { s.withoutLiveRestore(t, d) })
	}
}

// withoutLiveRestore goes on with a Docker engine that ends its containers
// when it ends.
func (s *suite) withoutLiveRestore(t *testing.T, d *dockerd) {
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d.liveRestore = false
	if err := d.start(s.ctx); err != nil {
		t.Fatal(err)
	}
	r := s.newRig(t, d, s.dir, 3)
	for _, b := range shuffled(s.rand, engineFaults(d)) {
		s.try(t, r, b)
	}
}

// faults tries what can be tried over and over in one home.
func (s *suite) faults(t *testing.T, e engine) {
	r := s.newRig(t, e, s.dir, 8)
	for round := range 2 {
		s.part(t, e, fmt.Sprintf("round %d of the faults", round+1), 90*time.Second, func(t *testing.T) {
			for _, b := range shuffled(s.rand, append(append(killsOf(), orchestratorKill()), engineFaults(e)...)) {
				s.try(t, r, b)
			}
		})
	}
	s.part(t, e, "hang", time.Minute, func(t *testing.T) { s.hang(t, r) })
	s.part(t, e, "crash loop", time.Minute, func(t *testing.T) { s.crashLoop(t, r) })
	if e.Name() == wantedEngine() {
		s.part(t, e, "clock", time.Minute, func(t *testing.T) { s.clock(t, r) })
		s.part(t, e, "kills", 150*time.Second, func(t *testing.T) { s.killAgain(t, r, 6, 20*time.Second, 2*time.Minute) })
	}
}
