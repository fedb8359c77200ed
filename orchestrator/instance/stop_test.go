package instance

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A stop waits for calls under way, and for none longer than it may.
func TestDrain(t *testing.T) {
	for _, tt := range []struct {
		name        string
		gone, ended bool // the caller, the container
		calls       []time.Duration
		want        time.Duration
	}{
		{"nothing is under way", false, false, nil, 0},
		{"until the last is answered", false, false, []time.Duration{time.Second, 3 * time.Second}, 3 * time.Second},
		{"no longer than it may", false, false, []time.Duration{time.Second, time.Hour}, 5 * time.Second},
		{"the container has ended", false, true, []time.Duration{time.Hour}, 0},
		{"the caller has gone", true, false, []time.Duration{time.Hour}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ended := make(chan struct{})
				if tt.gone {
					cancel()
				}
				if tt.ended {
					close(ended)
				}
				var f inFlight
				for _, d := range tt.calls {
					time.AfterFunc(d, f.begin())
				}
				start := time.Now()
				f.drain(ctx, ended, 5*time.Second)
				if got := time.Since(start); got != tt.want {
					t.Errorf("drained for %s, want %s", got, tt.want)
				}
				time.Sleep(2 * time.Hour) // all end: an end nobody waits for is fine
				start = time.Now()
				if f.drain(ctx, ended, time.Hour); time.Since(start) != 0 {
					t.Error("something is still under way")
				}
			})
		})
	}
}
