package runnernode_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkStart compares a runner, from exec to ready, with Node that does
// nothing. Both take turns in one loop, so that their ratio holds on a machine
// that does other things as well.
func BenchmarkStart(b *testing.B) {
	program, runner := node(b), bundled(b)
	socket := filepath.Join(b.TempDir(), "bus.sock")
	h := newHost(b, socket, "./quiet/index.mjs")
	defer h.close()
	env := runnerEnv(b, socket)
	var nothing, ready, cpu []time.Duration
	for b.Loop() {
		start := time.Now()
		if out, err := exec.Command(program, "-e", "0").CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		nothing = append(nothing, time.Since(start))

		cmd := exec.Command(program, runner)
		cmd.Env = env
		start = time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		h.ready()
		ready = append(ready, time.Since(start))
		if err := cmd.Process.Kill(); err != nil {
			b.Fatal(err)
		}
		_ = cmd.Wait() // killed
		cpu = append(cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	b.ReportMetric(ms(nothing), "node-ms")
	b.ReportMetric(ms(ready), "ready-ms")
	b.ReportMetric(ms(cpu), "ready-cpu-ms")
	b.ReportMetric(ms(ready)/ms(nothing), "ready/node")
}

// ms is the median in milliseconds.
func ms(times []time.Duration) float64 {
	slices.Sort(times)
	return float64(times[len(times)/2].Microseconds()) / 1000
}

// BenchmarkCall is a tool call from the host's connection to its answer, one
// after the other.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{16, 16 << 10} {
		b.Run("bytes="+strconv.Itoa(size), func(b *testing.B) {
			socket := filepath.Join(b.TempDir(), "bus.sock")
			h := newHost(b, socket, "./tools/index.mjs")
			defer h.close()
			startRunner(b, socket)
			h.ready()
			params := strings.Repeat("x", size)
			for b.Loop() {
				if got := h.call("1", "sync", params)["result"]; got != params {
					b.Fatalf("the tool answers %v", got)
				}
			}
		})
	}
}
