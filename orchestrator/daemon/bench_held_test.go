package daemon

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// memoryOf returns how much heap lives, in bytes, and what of this process is
// resident and no file's, in kB, after everything else was given back.
func memoryOf(t testing.TB) (heap, rssAnon int64) {
	t.Helper()
	runtime.GC() // once for what has a finalizer
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, line, found := strings.Cut(string(data), "RssAnon:")
	if !found {
		t.Fatal("this process has no RssAnon")
	}
	kb, err := strconv.ParseInt(strings.Fields(line)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return int64(m.HeapAlloc), kb
}

// BenchmarkHeld reports what the daemon holds of each plugin that runs.
func BenchmarkHeld(b *testing.B) {
	const plugins = 10
	for _, name := range realEngines {
		b.Run(fmt.Sprintf("engine=%s/plugins=%d", name, plugins), func(b *testing.B) {
			d := openReal(b, name)
			installSmall(b, d, "first") // and what is there once for all
			before, stacks := held(b)
			for i := range plugins {
				installSmall(b, d, fmt.Sprintf("p%03d", i))
			}
			for b.Loop() { // it does not depend on how often one looks
				after, now := held(b)
				each := func(was, is int) float64 { return float64(is-was) / plugins }
				b.ReportMetric(each(before.goroutines, after.goroutines), "goroutines/plugin")
				b.ReportMetric(each(before.descriptors, after.descriptors), "descriptors/plugin")
				b.ReportMetric(each(int(before.heap), int(after.heap))/1024, "heap-kB/plugin")
				b.ReportMetric(each(stacks, now)/1024, "stacks-kB/plugin")
			}
		})
	}
}

// held is what this process holds, and of that in stacks, bytes.
func held(b *testing.B) (h holding, stacks int) {
	b.Helper()
	h.process(b)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return h, int(m.StackInuse)
}
