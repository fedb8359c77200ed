package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	// maxAddresses is how many addresses of one name are looked at.
	maxAddresses = 16
	// stagger is the head start of an address over the next one, as in
	// RFC 8305, section 8.
	stagger = 250 * time.Millisecond
)

// denial is why a connection is denied or cut off.
type denial struct {
	code   Code
	detail string
}

// Error says code and detail.
func (d denial) Error() string { return string(d.code) + ": " + d.detail }

// streamConn is a connection that can be half-closed.
type streamConn interface {
	net.Conn
	CloseWrite() error
}

func refused(format string, args ...any) error {
	return denial{link.AddressRefused, fmt.Sprintf(format, args...)}
}

// open resolves the rule's host, drops the addresses that may not be reached
// and connects to one of the others. Every error is a denial.
func (b *Broker) open(ctx context.Context, rule Rule) (streamConn, netip.AddrPort, error) {
	addrs, err := b.resolve(ctx, rule)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	good, refusal := b.guard.filter(rule, addrs)
	if len(good) == 0 {
		return nil, netip.AddrPort{}, refusal
	}
	ctx, cancel := context.WithTimeout(ctx, b.opts.Limits.Dial)
	defer cancel()
	conn, dst, err := race(ctx, interleave(good), func(ctx context.Context, addr netip.Addr) (net.Conn, error) {
		return b.dial(ctx, rule, netip.AddrPortFrom(addr, rule.Port))
	})
	if err != nil {
		var d denial
		if errors.As(err, &d) {
			return nil, netip.AddrPort{}, d
		}
		return nil, netip.AddrPort{}, denial{link.DialFailed, err.Error()}
	}
	stream, ok := conn.(streamConn)
	if !ok {
		conn.Close()
		return nil, netip.AddrPort{}, denial{link.DialFailed, "the connection cannot be half-closed"}
	}
	return stream, netip.AddrPortFrom(dst, rule.Port), nil
}

// resolve returns the addresses of the rule's host, at least one.
func (b *Broker) resolve(ctx context.Context, rule Rule) ([]netip.Addr, error) {
	if addrs := rule.loopbackAddresses(); len(addrs) > 0 {
		return addrs, nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.opts.Limits.Resolve)
	defer cancel()
	addrs, err := b.opts.Resolver.LookupNetIP(ctx, "ip", rule.Host)
	if err != nil {
		return nil, denial{link.ResolveFailed, err.Error()}
	}
	if len(addrs) == 0 {
		return nil, denial{link.ResolveFailed, "the name has no address"}
	}
	return addrs[:min(len(addrs), maxAddresses)], nil
}

func (b *Broker) dial(ctx context.Context, rule Rule, dst netip.AddrPort) (net.Conn, error) {
	if b.opts.Dial != nil {
		return b.opts.Dial(ctx, dst)
	}
	dialer := net.Dialer{ControlContext: b.guard.control(rule, dst)}
	return dialer.DialContext(ctx, "tcp", dst.String())
}

// control returns the check of a socket that is about to connect: the address
// must be the one that was checked before, and still be good.
func (g guard) control(rule Rule, dst netip.AddrPort) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		actual, err := netip.ParseAddrPort(address)
		if err != nil || actual != dst {
			return refused("about to connect to %s instead of %s", address, dst)
		}
		return g.check(rule, actual.Addr())
	}
}

// interleave alternates between the address families, starting with that of
// the first address and keeping the order within each.
func interleave(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range addrs {
		if a.Is4() == addrs[0].Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	mixed := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			mixed = append(mixed, first[i])
		}
		if i < len(second) {
			mixed = append(mixed, second[i])
		}
	}
	return mixed
}

// attempt is how one dial of a race ended.
type attempt struct {
	conn net.Conn
	addr netip.Addr
	err  error
}

// race dials the addresses, each with a head start over the next one that a
// failure cuts short, and returns the first connection. The others are given
// up and closed.
func race(ctx context.Context, addrs []netip.Addr, dial func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, netip.Addr, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	attempts := make(chan attempt, len(addrs))
	started, ended := 0, 0
	start := func() {
		addr := addrs[started]
		started++
		go func() {
			conn, err := dial(ctx, addr)
			attempts <- attempt{conn, addr, err}
		}()
	}
	start()
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	var firstErr error
	for {
		select {
		case <-timer.C:
		case a := <-attempts:
			ended++
			if a.err == nil {
				go closeLosers(attempts, started-ended)
				return a.conn, a.addr, nil
			}
			if firstErr == nil {
				firstErr = a.err
			}
			if ended == len(addrs) {
				return nil, netip.Addr{}, firstErr
			}
		}
		if started < len(addrs) {
			start()
			timer.Reset(stagger)
		}
	}
}

// closeLosers closes what the n dials that still run bring.
func closeLosers(attempts <-chan attempt, n int) {
	for range n {
		if a := <-attempts; a.err == nil {
			a.conn.Close()
		}
	}
}
