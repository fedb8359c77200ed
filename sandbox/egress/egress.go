// Package egress is how a container without a network reaches the few
// destinations that were granted to it: the rules, and the broker on the host
// that resolves, checks and dials for it over a unix socket.
//
// The broker is the boundary; what the forwarder inside the container does
// (package forward) is convenience. The broker promises that
//
//   - nothing is reached without a [Rule] for that host and port, and a
//     connection is cut off when its rule goes or changes;
//   - names are resolved on the host, every address is checked, the address
//     that was checked is the one that is dialled, and it is checked again
//     when the socket is about to connect;
//   - unless the rule allows plaintext, the first bytes are a TLS ClientHello
//     for the host that was asked for, with a visible server name;
//   - what a rule inspects is HTTP, for the rule's host and for nothing else
//     behind the same address, and a request is sent only when a
//     [RequestRule] of the rule allows it;
//   - the value of a [Secret] is put in on the way to the rule's host alone,
//     in the one header or parameter that it is for, after the host's
//     certificate was verified;
//   - one container cannot use more than its [Limits];
//   - every connection is recorded by [Options.Record]: an allowed one before
//     its first byte passes and when it ends, a denied one once. So is every
//     inspected request, before it is sent. What cannot be recorded is not
//     allowed.
//
// A broker without a rule is cheap, so that every container can have one and a
// grant takes effect at once.
//
// What it cannot see is inside TLS that it does not inspect: there, a front
// that serves many names behind the granted one can be asked for another by
// the Host header. What it does not defend where it inspects: a value that the
// host sends back in an encoding (compressed, base64, escaped), in parts (a
// range, or whatever the host's own interface cuts out of it), or over an
// upgraded connection. A host that sends back, piece by piece, whatever it is
// sent lets the container find out how a value begins: that piece comes late.
//
// A program with a broker must silence the standard log (package log): net/http
// writes there what a host sends unasked, which may hold a value.
package egress

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// Code says why a connection was denied or cut off; see package link for the
// values.
type Code = link.Code

// Phase says at which point of a connection a record was made.
type Phase string

// The phases. A connection has one record of PhaseOpen and later one of
// PhaseClose, or a single one of PhaseDenied. An inspected one has a
// PhaseRequest for each request in between, and each time that the host had hung
// up and is dialled again a further PhaseOpen, or a PhaseDenied of the same ID.
const (
	PhaseOpen    Phase = "open"    // it is allowed, and nothing has passed yet
	PhaseRequest Phase = "request" // one inspected request: about to be sent, or refused
	PhaseClose   Phase = "close"   // it has ended
	PhaseDenied  Phase = "denied"  // it never came to be
)

// Connection is what is recorded of a connection.
type Connection struct {
	ID      uint64         // counts the connections of one broker; the same in all records of one; 0 of names and counts
	Phase   Phase          // which record this is
	Time    time.Time      // when it was asked for
	Host    string         // as asked for; empty when the request was not understood
	Port    uint16         // as asked for; 0 when it was not understood, or only the name was looked up
	Address netip.AddrPort // that was dialled; the zero value when none was
	SNI     string         // the TLS server name that was sent, not checked further when refused
	Rule    string         // the rule that applied, as "host:port" or "*.host:port"; empty when none did
	// Method and Path are those of a PhaseRequest: printable, cut to 32 and 512
	// bytes, the path as it was sent and without the query.
	Method, Path string
	// Secrets names those whose values are put into this request.
	Secrets []string
	// Status is what a refused request was answered; 0 of one that is sent.
	Status int
	// Allowed is true at PhaseOpen, at PhaseRequest when it is sent, and at
	// PhaseClose when bytes were let through: a wrong server name is seen only
	// after PhaseOpen.
	Allowed   bool
	Code      Code   // why it was denied or cut off; empty when it is open or just ended
	Detail    string // the same for a person; never shown inside the container
	BytesUp   int64  // from the container
	BytesDown int64  // to the container
	Duration  time.Duration
	// Count is how many denials this record is of: 1, or more when there were
	// too many in a second to record each. Host is empty then.
	Count int
}

// Stats counts what a broker did since it was made.
type Stats struct {
	Open      int64 // connections that are allowed and have not ended
	Allowed   int64 // connections that were allowed
	Denied    int64 // connections that were denied, by whatever code
	Reported  int64 // names that the inside said it was asked for and did not know
	Requests  int64 // inspected requests that were sent
	Refused   int64 // inspected requests that were refused
	BytesUp   int64 // from the container, of connections that are open too
	BytesDown int64 // to the container, likewise
}

// Limits bounds one container's use of the broker. A zero field is the field
// of [DefaultLimits]; there is no "unlimited".
type Limits struct {
	Connections int     // open at once, watchers and denied ones included
	Requests    int     // inspected requests at once, of all connections
	PerSecond   float64 // new connections per second, in the long run
	Burst       int     // new connections at once
	// RequestsPerSecond and RequestBurst are the same for inspected requests, of
	// which each is a record. They wait; what else is too much is refused.
	RequestsPerSecond float64
	RequestBurst      int
	BytesUp           int64         // of one connection, from the container
	BytesDown         int64         // of one connection, to the container
	Throughput        int64         // bytes per second of the container, both directions together
	Duration          time.Duration // of one connection
	Idle              time.Duration // without a byte in either direction
	Resolve           time.Duration // for resolving a name
	Dial              time.Duration // for connecting
	Hello             time.Duration // for the request line, again for the ClientHello, and for the head of an inspected request
}

// DefaultLimits lets an npm install of a large tree pass and stops a flood.
func DefaultLimits() Limits {
	return Limits{
		Connections:       256,
		Requests:          256,
		PerSecond:         50,
		Burst:             256,
		RequestsPerSecond: 500,
		RequestBurst:      10_000,
		BytesUp:           1 << 30,
		BytesDown:         4 << 30,
		Throughput:        256 << 20,
		Duration:          24 * time.Hour,
		Idle:              5 * time.Minute,
		Resolve:           10 * time.Second,
		Dial:              10 * time.Second,
		Hello:             10 * time.Second,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	return Limits{
		Connections:       positive(l.Connections, d.Connections),
		Requests:          positive(l.Requests, d.Requests),
		PerSecond:         positive(l.PerSecond, d.PerSecond),
		Burst:             positive(l.Burst, d.Burst),
		RequestsPerSecond: positive(l.RequestsPerSecond, d.RequestsPerSecond),
		RequestBurst:      positive(l.RequestBurst, d.RequestBurst),
		BytesUp:           positive(l.BytesUp, d.BytesUp),
		BytesDown:         positive(l.BytesDown, d.BytesDown),
		Throughput:        positive(l.Throughput, d.Throughput),
		Duration:          positive(l.Duration, d.Duration),
		Idle:              positive(l.Idle, d.Idle),
		Resolve:           positive(l.Resolve, d.Resolve),
		Dial:              positive(l.Dial, d.Dial),
		Hello:             positive(l.Hello, d.Hello),
	}
}

func positive[T int | int64 | float64 | time.Duration](value, otherwise T) T {
	if value > 0 {
		return value
	}
	return otherwise
}

// Resolver finds the addresses of a name. IPv4 addresses must come as such,
// not mapped into IPv6: mapped ones are refused.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options configures a [Broker].
type Options struct {
	// Record is told of every connection, from several goroutines at once. It
	// must not be nil. An error at PhaseOpen denies the connection with the
	// code link.Audit, and one at PhaseRequest the request; at the other phases
	// there is nothing left to deny, and it is logged.
	Record func(Connection) error
	// Resolver is the host's own when it is nil.
	Resolver Resolver
	// Dial connects to an address that was checked. When it is nil, TCP is
	// used and the address is checked once more as the socket connects.
	// The connection must have CloseWrite.
	Dial func(ctx context.Context, dst netip.AddrPort) (net.Conn, error)
	// OwnAddresses lists the host's addresses, which may not be reached; nil
	// asks the host's interfaces.
	OwnAddresses func() ([]netip.Addr, error)
	// Authority signs the certificates of hosts that are inspected. Without it
	// a rule that inspects is denied.
	Authority *Authority
	// Roots verify the certificates of hosts that are inspected; nil are the
	// system's.
	Roots  *x509.CertPool
	Logger *slog.Logger // nil discards
	Limits Limits
}

func (o Options) withDefaults() (Options, error) {
	if o.Record == nil {
		return Options{}, fmt.Errorf("cannot make an egress broker that records nothing: %w", errdefs.ErrInvalidArgument)
	}
	if o.Resolver == nil {
		o.Resolver = NewResolver(&net.Resolver{PreferGo: true})
	}
	if o.OwnAddresses == nil {
		o.OwnAddresses = interfaceAddresses
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Limits = o.Limits.withDefaults()
	return o, nil
}
