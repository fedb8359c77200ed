package audit

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func benchRecord() Record {
	r := call(1)
	r.Details = map[string]string{"note": strings.Repeat("x", 60)}
	return r
}

func BenchmarkWrite(b *testing.B) {
	l := newDirs(b).open(b)
	r := benchRecord()
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := l.Write(b.Context(), r); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}

func BenchmarkEncode(b *testing.B) {
	r := benchRecord()
	for b.Loop() {
		encode(r, "00000000000000000000000000000000")
	}
}

func BenchmarkWriteSync(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			l := newDirs(b).open(b)
			r := benchRecord()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var group sync.WaitGroup
			for range callers {
				group.Go(func() {
					for left.Add(-1) >= 0 {
						if err := l.WriteSync(b.Context(), r); err != nil {
							b.Error(err)
						}
					}
				})
			}
			group.Wait()
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	d := newDirs(b)
	l := d.open(b)
	write(b, l, 0, 20000)
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for b.Loop() {
		d.mustVerify(b)
	}
	b.ReportMetric(20000*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
