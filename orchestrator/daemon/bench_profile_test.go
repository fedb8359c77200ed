package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/engine"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/seccomp"
)

// echoes is a server on a unix socket and a client of it in one Node: what a
// call is made of in the container. It prints the microseconds of a round trip.
const echoes = `
const net = require("node:net"), n = 20000, text = Buffer.alloc(256, 120), path = "/tmp/echo.sock";
const server = net.createServer((s) => s.pipe(s)).listen(path, () => {
  const s = net.connect(path), begun = process.hrtime.bigint();
  let left = n, have = 0;
  s.on("connect", () => s.write(text)).on("data", (d) => {
    if ((have += d.length) < text.length) return;
    have = 0;
    if (--left > 0) return s.write(text);
    console.log(Number(process.hrtime.bigint() - begun) / 1000 / n);
    process.exit(0);
  });
});`

// BenchmarkProfile compares containers with our profile and without any, on
// Docker, by its own command, in turn: the whole life of one that runs nothing,
// and a round trip within one.
func BenchmarkProfile(b *testing.B) {
	d := openBenchOn(b, engine.Docker)
	file := filepath.Join(b.TempDir(), "seccomp.json")
	if err := os.WriteFile(file, seccomp.Profile(), 0o600); err != nil {
		b.Fatal(err)
	}
	p := sandbox.Hardened()
	with := []string{
		"--ipc", p.IPC, "--cgroupns", p.CgroupNamespace, "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--security-opt", "seccomp=" + file,
		"--user", "64000:64000", "--read-only", "--memory", "256m", "--memory-swap", "256m", "--pids-limit", "64",
		"--ulimit", "core=" + strconv.FormatInt(p.CoreSize, 10), "--ulimit", "nofile=1024",
	}
	for name, value := range p.Sysctls {
		with = append(with, "--sysctl", name+"="+value)
	}
	without := []string{"--security-opt", "seccomp=unconfined"}
	run := func(flags []string, script string) string {
		args := append([]string{"run", "--rm", "--network", "none", "--tmpfs", "/tmp:size=16m,mode=1777"}, flags...)
		out, err := exec.CommandContext(b.Context(), "docker", append(args, d.image, "/usr/bin/node", "-e", script)...).CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	b.Run("what=start", func(b *testing.B) {
		inTurn(b, with, without, "ms", func(flags []string) float64 {
			begun := time.Now()
			run(flags, "0")
			return float64(time.Since(begun).Microseconds()) / 1000
		})
	})
	b.Run("what=round-trip", func(b *testing.B) {
		inTurn(b, with, without, "us", func(flags []string) float64 {
			out := run(flags, echoes)
			took, err := strconv.ParseFloat(out, 64)
			if err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			return took
		})
	})
}

// inTurn reports the medians of two ways of doing something, and their ratio.
func inTurn(b *testing.B, with, without []string, unit string, do func([]string) float64) {
	b.Helper()
	var a, z []float64
	for b.Loop() {
		a, z = append(a, do(with)), append(z, do(without))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(middle(a), "with-"+unit)
	b.ReportMetric(middle(z), "without-"+unit)
	b.ReportMetric(middle(a)/middle(z), "ratio")
}

func middle(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
