package supervisor

import (
	"testing"
	"time"
)

// A clock that was set back while nobody supervised makes nobody wait for
// longer than what went wrong is ever followed by.
func TestRestoreAfterTheClockWasSet(t *testing.T) {
	p := DefaultPolicy()
	ahead := epoch.Add(365 * 24 * time.Hour)
	for _, tt := range []struct {
		name     string
		counters Counters
		want     time.Duration
	}{
		{"healthy", Counters{}, 0},
		{"after three short runs", Counters{ShortRuns: 3}, p.jitter(p.Delay(3), 1)},
		{"crashlooped", Counters{ShortRuns: 6, CrashLooped: true}, p.TrialEvery},
	} {
		tt.counters.NextAttempt = ahead
		u := Restore(p, tt.counters, true, epoch)
		if got := u.NextAttempt.Sub(epoch); got != tt.want {
			t.Errorf("%s: it waits for %s, want %s", tt.name, got, tt.want)
		}
	}
}
