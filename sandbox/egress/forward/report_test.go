package forward

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// sent is a reporter that keeps what it sends.
func sent(hosts *[]string) *reporter {
	return &reporter{send: func(_ context.Context, host string) { *hosts = append(*hosts, host) }}
}

func TestReporterAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		r := sent(&got)
		for _, host := range []string{"a.test", "a.test", "b.test", "bad name", "", "A.test", "a.test"} {
			r.add(t.Context(), host)
		}
		r.done.Wait()
		if want := []string{"a.test", "b.test"}; !slices.Equal(got, want) {
			t.Errorf("reported %v, want %v", got, want)
		}
		<-time.After(reportAgain - time.Second)
		r.add(t.Context(), "a.test")
		<-time.After(2 * time.Second)
		r.add(t.Context(), "a.test")
		r.done.Wait()
		if want := []string{"a.test", "b.test", "a.test"}; !slices.Equal(got, want) {
			t.Errorf("reported %v, want %v", got, want)
		}
	})
}

func TestReporterLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		r := sent(&got)
		began := time.Now()
		for i := range 2 * maxReported {
			r.add(t.Context(), fmt.Sprintf("h%d.test", i))
		}
		r.done.Wait()
		if len(got) != maxReported {
			t.Errorf("%d names were reported at once, want %d", len(got), maxReported)
		}
		if took, want := time.Since(began), maxReported*reportPause; took != want {
			t.Errorf("%d reports took %v, want %v", len(got), took, want)
		}
		<-time.After(reportAgain)
		r.add(t.Context(), "late.test")
		r.done.Wait()
		if len(got) != maxReported+1 || len(r.last) != 1 {
			t.Errorf("later %d names were reported and %d are remembered", len(got)-maxReported, len(r.last))
		}
	})
}

func TestReporterEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		r := sent(&got)
		for i := range 100 {
			r.add(ctx, fmt.Sprintf("h%d.test", i))
		}
		<-time.After(reportPause / 2)
		cancel()
		r.done.Wait()
		if len(got) != 1 || len(r.waiting) != 0 {
			t.Errorf("%d were reported and %d wait", len(got), len(r.waiting))
		}
	})
}
