package supervisor

import "time"

// Policy holds the figures of supervision.
type Policy struct {
	// HealthyRun is how long an instance must have run for its end to be
	// followed by a restart at once; a shorter run backs off.
	HealthyRun time.Duration
	// BackoffFirst is the delay after the first short run. It doubles with
	// each further one up to BackoffMax. Jitter spreads a delay by this
	// fraction to either side, so that plugins which failed together do not
	// come back together.
	BackoffFirst, BackoffMax time.Duration
	Jitter                   float64
	// ResetAfter, or twice the last delay if that is longer, is how long an
	// instance must be healthy for earlier short runs to be forgotten.
	ResetAfter time.Duration
	// MaxShortRuns short runs without a reset in between, or MaxExits unasked
	// exits within ExitWindow, open the breaker. While it is open the plugin
	// is tried once every TrialEvery.
	MaxShortRuns, MaxExits int
	ExitWindow, TrialEvery time.Duration
	// HostBackoffMax bounds the delay after failures that are the host's, not
	// the plugin's: no engine, a full disk, an instance that the engine lost.
	// These never open the breaker.
	HostBackoffMax time.Duration

	// A ping is sent PingEvery after the answer to the one before and must be
	// answered within PingTimeout; PingMisses misses in a row end the instance.
	PingEvery, PingTimeout time.Duration
	PingMisses             int

	// PrepareTimeout, StartTimeout and CloseTimeout bound the actions of a
	// [Launcher] and an [Instance]. StopGrace is how long a plugin may take to
	// stop by itself, KillTimeout how long killing it may then take.
	PrepareTimeout, StartTimeout, StopGrace, KillTimeout, CloseTimeout time.Duration
	// AdoptTimeout is how long an instance that an earlier process started may
	// take to be reached.
	AdoptTimeout time.Duration
	// PrepareSlot and StartSlot are how long a Prepare, and then a Start, may
	// hold their place among those that are under way, see [Config.MaxStarts].
	PrepareSlot, StartSlot time.Duration
	// A failed Close is repeated after CloseRetry, doubling to CloseRetryMax.
	CloseRetry, CloseRetryMax time.Duration
}

// DefaultPolicy returns the figures of DESIGN decision 9.
//
// The probe's are chosen so that an event loop blocked for 8 s is left alone:
// the ping that meets it is answered, late, within its 10 s. One that blocks
// for ever is ended 15 s to 30 s after it began.
//
// The reset must be longer than Docker's 10 s, under which a program that
// dies every 11 s is restarted at full speed for ever.
func DefaultPolicy() Policy {
	return Policy{
		HealthyRun:     15 * time.Second,
		BackoffFirst:   250 * time.Millisecond,
		BackoffMax:     time.Minute,
		Jitter:         0.25,
		ResetAfter:     time.Minute,
		MaxShortRuns:   6,
		MaxExits:       20,
		ExitWindow:     10 * time.Minute,
		TrialEvery:     10 * time.Minute,
		HostBackoffMax: 15 * time.Second,
		PingEvery:      5 * time.Second,
		PingTimeout:    10 * time.Second,
		PingMisses:     2,
		PrepareTimeout: 2 * time.Minute,
		StartTimeout:   30 * time.Second,
		StopGrace:      10 * time.Second,
		KillTimeout:    10 * time.Second,
		CloseTimeout:   30 * time.Second,
		AdoptTimeout:   10 * time.Second,
		PrepareSlot:    20 * time.Second,
		StartSlot:      5 * time.Second,
		CloseRetry:     time.Second,
		CloseRetryMax:  15 * time.Second,
	}
}

// Delay returns the wait after the n-th short run in a row, before jitter.
// It never falls as n grows.
func (p Policy) Delay(n int) time.Duration { return double(p.BackoffFirst, n, p.BackoffMax) }

// resetAfter returns how long a run must last for n short runs to be forgotten.
func (p Policy) resetAfter(n int) time.Duration { return max(p.ResetAfter, 2*p.Delay(n)) }

// jitter spreads d; random is in [0, 1).
func (p Policy) jitter(d time.Duration, random float64) time.Duration {
	return time.Duration(float64(d) * (1 + p.Jitter*(2*random-1)))
}

// double returns first, doubled n-1 times, at most limit; 0 for n < 1.
func double(first time.Duration, n int, limit time.Duration) time.Duration {
	if n < 1 {
		return 0
	}
	d := first
	for i := 1; i < n && d < limit; i++ {
		d *= 2
	}
	return min(d, limit)
}
