package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/home"
)

// fewPlugins is how many of TestScale's plugins there are in an ordinary run.
const fewPlugins = 12

// TestScale installs many plugins, stops all of them with their daemon, starts
// them together and calls each, and expects that nothing is left in the end.
// OCMT_SCALE=200 says how many; the log holds the figures of docs/benchmarks.md.
func TestScale(t *testing.T) {
	need(t)
	plugins := fewPlugins
	if text := os.Getenv("OCMT_SCALE"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("OCMT_SCALE=%s: want a number", text)
		}
		plugins = n
	}
	s := &crowd{t: t, d: serve(t, newHome(t)), ids: make([]string, plugins)}
	t.Cleanup(func() { _ = s.d.Stop() }) // which has ended, unless the test was given up
	for i := range s.ids {
		s.ids[i] = fmt.Sprintf("p%03d", i+1)
	}
	s.installAll()
	s.callAll()
	s.log("installed and called")

	s.stop("with what was installed")
	start := time.Now()
	s.d = serve(t, s.d.Home)
	t.Logf("%d plugins: the daemon answers %s after its start", plugins, rounded(time.Since(start)))
	s.awaitAll()
	took := time.Since(start)
	t.Logf("%d plugins: all run %s after the daemon's start, %s each", plugins, rounded(took), rounded(took/time.Duration(plugins)))
	s.callAll()
	s.log("started together and called")
	s.stop("with what was started together")
}

// crowd is a daemon with many small plugins.
type crowd struct {
	t   *testing.T
	d   *harness.Daemon
	ids []string
}

// scaleSteps are after how many plugins the daemon's memory is looked at.
var scaleSteps = []int{0, 1, 10, 50, 100, 200}

func (s *crowd) installAll() {
	s.t.Helper()
	src := s.t.TempDir()
	var times []time.Duration
	for i, id := range s.ids {
		if slices.Contains(scaleSteps, i) {
			s.log(fmt.Sprintf("%d plugins", i))
		}
		dir := filepath.Join(src, id)
		if err := writePlugin(dir, id); err != nil {
			s.t.Fatal(err)
		}
		times = append(times, run0(s.t, s.d, "plugins", "install", dir).Took)
		s.call(id)
	}
	slices.Sort(times)
	s.t.Logf("%d plugins: an install takes %s at the median, %s at most", len(times), rounded(times[len(times)/2]), rounded(times[len(times)-1]))
}

// run0 is run for what must succeed.
func run0(t *testing.T, d *harness.Daemon, args ...string) harness.Result {
	t.Helper()
	res := d.Run(t.Context(), args...)
	check(t, res, 0, nil, args...)
	return res
}

// api does something with a client of the daemon.
func (s *crowd) api(do func(*client.Client) error) {
	s.t.Helper()
	h, err := home.Open(s.d.Home)
	if err != nil {
		s.t.Fatal(err)
	}
	c := client.New(h.AdminSocket())
	defer c.Close()
	if err := do(c); err != nil {
		s.t.Fatalf("%v\ndaemon log:\n%s", err, s.d.Log())
	}
}

func (s *crowd) call(ids ...string) {
	s.t.Helper()
	s.api(func(c *client.Client) error {
		for _, id := range ids {
			res, err := c.Call(s.t.Context(), "default", id, "add", v1.CallRequest{Params: json.RawMessage(`{"a":1,"b":2}`)})
			if err != nil || string(res.Result) != "3" {
				return fmt.Errorf("%s answers %s, %w", id, res.Result, err)
			}
		}
		return nil
	})
}

func (s *crowd) callAll() {
	s.t.Helper()
	start := time.Now()
	s.call(s.ids...)
	s.t.Logf("%d plugins: each called once, one after the other, in %s", len(s.ids), rounded(time.Since(start)))
}

// awaitAll returns when all plugins run, none of which may have failed.
func (s *crowd) awaitAll() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute+time.Duration(len(s.ids))*5*time.Second)
	defer cancel()
	s.api(func(c *client.Client) error {
		for {
			running, restarts := 0, 0
			list, err := c.Plugins(ctx, "default")
			if err != nil {
				return err
			}
			for _, p := range list {
				restarts += p.Restarts
				if p.State == "running" {
					running++
				}
			}
			switch {
			case restarts > 0:
				return fmt.Errorf("%d starts failed", restarts)
			case running == len(s.ids):
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%d of %d plugins run: %w", running, len(s.ids), ctx.Err())
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
}

// stop ends the daemon in order, with all plugins, and looks for what is left.
func (s *crowd) stop(when string) {
	s.t.Helper()
	start := time.Now()
	if err := s.d.Stop(); err != nil {
		s.t.Fatalf("%v\ndaemon log:\n%s", err, s.d.Log())
	}
	s.t.Logf("%d plugins: stopped in %s", len(s.ids), rounded(time.Since(start)))
	s.t.Logf("looking for what is left by the stop %s", when)
	expectNothingLeft(s.t, s.d)
}

// log says what the daemon holds.
func (s *crowd) log(when string) {
	s.t.Helper()
	kb, err := rssAnon(s.d.PID())
	if err != nil {
		s.t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d/", s.d.PID())
	files, err := os.ReadDir(proc + "fd")
	if err != nil {
		s.t.Fatal(err)
	}
	threads, err := os.ReadDir(proc + "task")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%s: %.1f MB RssAnon, %d descriptors, %d threads", when, kb/1024, len(files), len(threads))
}

// rounded is a time as people read it.
func rounded(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
