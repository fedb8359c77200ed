package httpapi

import (
	"hash/maphash"
	"net"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/time/rate"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Bounds of requests without a valid token, for each remote address.
const (
	guessRate  = 10 // a second
	guessBurst = 10
	// guessSlots bounds what is remembered: addresses share this many counts.
	guessSlots = 1024
	// guessLogEvery bounds the lines of the log about it.
	guessLogEvery = time.Minute
)

// guesses slows down who sends tokens that are none. Which addresses share a
// count is chosen at random when the daemon starts, so that nobody can use up
// the count of a certain other.
type guesses struct {
	seed  maphash.Seed
	slots [guessSlots]*rate.Limiter
	log   rate.Sometimes
}

func newGuesses() *guesses {
	g := &guesses{seed: maphash.MakeSeed(), log: rate.Sometimes{Interval: guessLogEvery}}
	for i := range g.slots {
		g.slots[i] = rate.NewLimiter(guessRate, guessBurst)
	}
	return g
}

// of returns the count of a remote address, "host:port".
func (g *guesses) of(remote string) *rate.Limiter {
	return g.slots[maphash.String(g.seed, network(remote))%guessSlots]
}

// network returns who is behind a remote address: an IPv4 address, or the /64
// network that one IPv6 host can choose its addresses from.
func network(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr.String()
	}
	return prefix.String()
}

func errTooManyGuesses() error {
	return fault.New(errdefs.ErrResourceExhausted, "too_many_failures", "too many requests without a valid token came from this address").
		WithHint("wait a second, and check the token").WithRetry()
}
