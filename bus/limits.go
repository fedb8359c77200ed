package bus

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// Limits bounds what one plugin can make the host spend. The zero value of a
// field means its default, which [DefaultLimits] returns; nothing is ever
// unlimited.
type Limits struct {
	// MaxPayload is the size of one message, bytes.
	MaxPayload int
	// MaxPending is how many bytes wait for one connection that does not read
	// before the connection is closed. At least MaxPayload.
	MaxPending int
	// Subscriptions of one connection.
	Subscriptions int
	// Connections that one plugin holds at a time. The host's own connection
	// in the plugin's account does not count and always has its place.
	Connections int
	// Sockets that all plugins together hold at a time.
	Sockets int
	// MessagesPerSecond and BytesPerSecond are how fast one plugin may send,
	// over all its connections; the bursts are what it may send at once after
	// a pause. A plugin that sends faster is not read from meanwhile.
	MessagesPerSecond, MessageBurst int
	BytesPerSecond, ByteBurst       int
	// ConnectsPerSecond and ConnectBurst are how often one plugin may connect;
	// further attempts wait in the socket's queue.
	ConnectsPerSecond, ConnectBurst int
	// HandlerMessages and HandlerBytes are what waits for one handler of the
	// host; what comes beyond is dropped.
	HandlerMessages, HandlerBytes int
	// WriteDeadline is how long one write to a connection that does not read
	// may take before the connection is closed.
	WriteDeadline time.Duration
}

// DefaultLimits lets a plugin answer well above the 8,000 calls per second
// that the host aims at, and keeps what a hostile one can pile up in the host
// at some tens of megabytes.
func DefaultLimits() Limits {
	return Limits{
		MaxPayload:        4 << 20,
		MaxPending:        8 << 20,
		Subscriptions:     64,
		Connections:       2,
		Sockets:           2048,
		MessagesPerSecond: 50_000,
		MessageBurst:      25_000,
		BytesPerSecond:    64 << 20,
		ByteBurst:         16 << 20,
		ConnectsPerSecond: 5,
		ConnectBurst:      10,
		HandlerMessages:   1024,
		HandlerBytes:      8 << 20,
		WriteDeadline:     2 * time.Second,
	}
}

// withDefaults replaces zeros and refuses what cannot work.
func (l Limits) withDefaults() (Limits, error) {
	d := DefaultLimits()
	for _, f := range []struct {
		name       string
		value      *int
		def, least int
	}{
		{"max payload", &l.MaxPayload, d.MaxPayload, 1},
		{"max pending", &l.MaxPending, max(d.MaxPending, l.MaxPayload), 1},
		{"subscriptions", &l.Subscriptions, d.Subscriptions, hostSubscriptions},
		{"connections", &l.Connections, d.Connections, 1},
		{"sockets", &l.Sockets, d.Sockets, 1},
		{"messages per second", &l.MessagesPerSecond, d.MessagesPerSecond, 1},
		{"message burst", &l.MessageBurst, d.MessageBurst, 1},
		{"bytes per second", &l.BytesPerSecond, d.BytesPerSecond, 1},
		{"byte burst", &l.ByteBurst, d.ByteBurst, 1},
		{"connects per second", &l.ConnectsPerSecond, d.ConnectsPerSecond, 1},
		{"connect burst", &l.ConnectBurst, d.ConnectBurst, 1},
		{"handler messages", &l.HandlerMessages, d.HandlerMessages, 1},
		{"handler bytes", &l.HandlerBytes, d.HandlerBytes, 1},
	} {
		if *f.value == 0 {
			*f.value = f.def
		}
		if *f.value < f.least {
			return l, fmt.Errorf("cannot use bus limits: %s is %d, must be at least %d: %w",
				f.name, *f.value, f.least, errdefs.ErrInvalidArgument)
		}
	}
	if l.WriteDeadline == 0 {
		l.WriteDeadline = d.WriteDeadline
	}
	switch {
	case l.WriteDeadline < 0:
		return l, fmt.Errorf("cannot use bus limits: write deadline is %s: %w", l.WriteDeadline, errdefs.ErrInvalidArgument)
	case l.MaxPayload > maxMaxPayload:
		return l, fmt.Errorf("cannot use bus limits: max payload is %d, at most %d is possible: %w",
			l.MaxPayload, maxMaxPayload, errdefs.ErrInvalidArgument)
	case l.MaxPending < l.MaxPayload:
		return l, fmt.Errorf("cannot use bus limits: max pending %d is below max payload %d: %w",
			l.MaxPending, l.MaxPayload, errdefs.ErrInvalidArgument)
	}
	return l, nil
}

const (
	// maxMaxPayload is the largest payload nats-server accepts.
	maxMaxPayload = 64 << 20
	// hostSubscriptions is what the host itself may need in an account: its
	// inbox and a handler per verb.
	hostSubscriptions = 8
)
