package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// BenchmarkMemory reports what the daemon keeps resident (RssAnon) with that
// many plugins running, after each was called once.
func BenchmarkMemory(b *testing.B) {
	if _, err := harness.Binary(); err != nil {
		b.Skip(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	dir := b.TempDir()
	home, err := os.MkdirTemp("", "ocmt-bench-")
	if err != nil {
		b.Fatal(err)
	}
	d, err := harness.Start(ctx, home)
	if err != nil {
		b.Fatal(err)
	}
	installed := 0
	defer func() {
		for i := range installed {
			d.Run(context.WithoutCancel(ctx), "plugins", "uninstall", copyName(i))
		}
		if err := d.Stop(); err != nil {
			b.Error(err)
		}
		if err := os.RemoveAll(home); err != nil {
			b.Error(err)
		}
	}()
	for _, n := range []int{0, 1, 10, 50} {
		for ; installed < n; installed++ {
			src := filepath.Join(dir, copyName(installed))
			if err := writePlugin(src, copyName(installed)); err != nil {
				b.Fatal(err)
			}
			for _, args := range [][]string{
				{"plugins", "install", src},
				{"tools", "call", copyName(installed), "add", "--params", `{"a":1,"b":2}`},
			} {
				if res := d.Run(ctx, args...); res.Code != 0 {
					b.Fatalf("ocmt %v: %s", args, res.Stderr)
				}
			}
		}
		b.Run("plugins="+strconv.Itoa(n), func(b *testing.B) {
			var kb float64
			for b.Loop() {
				if kb, err = rssAnon(d.PID()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(kb/1024, "RssAnon-MB")
		})
	}
}

func copyName(i int) string { return "copy-" + strconv.Itoa(i) }

func writePlugin(dir, name string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	const code = `exports.tools = [{ name: "add", description: "", parameters: { type: "object" }, execute: async ({ a, b }) => a + b }];`
	manifest := fmt.Sprintf(`{"name": %q, "version": "1.0.0"}`, name)
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(manifest), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "index.js"), []byte(code), 0o644)
}

// rssAnon returns the anonymous resident memory of a process in kB.
func rssAnon(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			return strconv.ParseFloat(strings.Fields(rest)[0], 64)
		}
	}
	return 0, fmt.Errorf("process %d has no RssAnon", pid)
}
