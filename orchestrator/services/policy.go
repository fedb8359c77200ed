package services

import "time"

// Policy holds the figures of the supervision of services.
type Policy struct {
	// StartTimeout and StopTimeout bound a service's start() and stop().
	StartTimeout, StopTimeout time.Duration
	// BackoffFirst is the delay after the first failure. It doubles with each
	// further one up to BackoffMax. Jitter spreads a delay by this fraction to
	// either side.
	BackoffFirst, BackoffMax time.Duration
	Jitter                   float64
	// HealthyRun is how long a service must be healthy for its earlier
	// failures to be forgotten.
	HealthyRun time.Duration
	// Every MaxFailures failures in a row the container is restarted, unless
	// that was done MaxEscalations times within EscalationWindow, counted over
	// all services of the plugin: then the service stays failed.
	MaxFailures, MaxEscalations int
	EscalationWindow            time.Duration
	// UnreachableRetry is the delay after a start that never reached the
	// plugin, which is not held against the service.
	UnreachableRetry time.Duration
}

// DefaultPolicy returns the figures that a daemon uses. The stop's is
// OpenClaw's for the replacement of a service.
func DefaultPolicy() Policy {
	return Policy{
		StartTimeout:     30 * time.Second,
		StopTimeout:      5 * time.Second,
		BackoffFirst:     250 * time.Millisecond,
		BackoffMax:       30 * time.Second,
		Jitter:           0.25,
		HealthyRun:       time.Minute,
		MaxFailures:      3,
		MaxEscalations:   2,
		EscalationWindow: 10 * time.Minute,
		UnreachableRetry: time.Second,
	}
}

// Delay returns the wait after the n-th failure in a row, before jitter. It
// never falls as n grows.
func (p Policy) Delay(n int) time.Duration {
	d := p.BackoffFirst
	for i := 1; i < n && d < p.BackoffMax; i++ {
		d *= 2
	}
	return min(d, p.BackoffMax)
}

// jitter spreads d; random is in [0, 1).
func (p Policy) jitter(d time.Duration, random float64) time.Duration {
	return time.Duration(float64(d) * (1 + p.Jitter*(2*random-1)))
}
