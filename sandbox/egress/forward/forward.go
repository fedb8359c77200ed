// Package forward is the half of egress that runs inside the container: a name
// server that knows the granted names only, and listeners on loopback that
// hand each connection to the broker on the host.
//
// Programs in the container need to know nothing of it: a granted name
// resolves to an address of 127.1.0.0/16, and a connection to its granted port
// arrives at the real host. Every other name does not exist, every other port
// refuses. The package is a convenience and no boundary: the broker decides
// again, and whoever attacks the forwarder gains what the socket gives anyway.
//
// It promises to be small and idle when there are no grants: no listener, no
// name server, one silent connection to the broker.
package forward

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	// retryFirst and retryMax bound the wait before the broker is tried again.
	retryFirst = 50 * time.Millisecond
	retryMax   = 5 * time.Second
	// answerTimeout bounds the broker's answer to a CONNECT: it resolves and
	// dials meanwhile.
	answerTimeout = time.Minute
	// acceptPause is the wait when there are no descriptors.
	acceptPause = 100 * time.Millisecond
)

// Options configures a Forwarder.
type Options struct {
	Socket string         // path of the broker's socket
	DNS    netip.AddrPort // of the name server; zero is 127.0.0.1:53
	Logger *slog.Logger   // nil discards
}

// Forwarder follows the broker's policy. Make it with New, run it once.
type Forwarder struct {
	opts  Options
	ready chan struct{}

	// Owned by Run's goroutine.
	addresses map[string]netip.Addr
	listeners map[netip.AddrPort]*listener
	names     *nameServer
}

// listener is the entrance to one grant.
type listener struct {
	grant link.Grant
	stop  context.CancelFunc
	done  sync.WaitGroup // the accept loop and its connections
}

// New makes a forwarder.
func New(opts Options) *Forwarder {
	if !opts.DNS.IsValid() {
		opts.DNS = netip.AddrPortFrom(loopback, 53)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Forwarder{
		opts:      opts,
		ready:     make(chan struct{}),
		listeners: map[netip.AddrPort]*listener{},
	}
}

// Ready is closed when the first policy is in force.
func (f *Forwarder) Ready() <-chan struct{} { return f.ready }

// Run follows the policy until ctx ends. While the broker does not answer, the
// last policy stays in force and the broker is tried again.
func (f *Forwarder) Run(ctx context.Context) {
	defer f.apply(ctx, nil)
	first := sync.OnceFunc(func() { close(f.ready) })
	wait := retryFirst
	for ctx.Err() == nil {
		err := f.follow(ctx, func(grants []link.Grant) {
			f.apply(ctx, grants)
			first()
			wait = retryFirst
		})
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			f.opts.Logger.Warn("egress broker is gone, trying again", "error", err)
		}
		pause(ctx, wait)
		wait = min(2*wait, retryMax)
	}
}

// follow hands every policy of one WATCH to apply, and returns why it ended.
func (f *Forwarder) follow(ctx context.Context, apply func([]link.Grant)) error {
	conn, err := f.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write([]byte(link.Request{Watch: true}.String())); err != nil {
		return err
	}
	policies := link.NewGrantsReader(conn)
	for {
		grants, err := policies.Read()
		if err != nil {
			return err
		}
		apply(grants)
	}
}

// apply brings name server and listeners in line with the grants. What cannot
// be bound is logged and tried again with the next policy.
func (f *Forwarder) apply(ctx context.Context, grants []link.Grant) {
	f.addresses = assign(f.addresses, grants)
	wanted := make(map[netip.AddrPort]link.Grant, len(grants))
	for _, g := range grants {
		at := netip.AddrPortFrom(f.addresses[g.Host], g.Port)
		if _, taken := wanted[at]; !taken { // localhost and 127.0.0.1 are one place
			wanted[at] = g
		}
	}
	for at, l := range f.listeners {
		if wanted[at] != l.grant {
			l.stop()
			l.done.Wait()
			delete(f.listeners, at)
		}
	}
	for at, g := range wanted {
		if f.listeners[at] == nil {
			f.open(ctx, at, g)
		}
	}
	f.applyNames(ctx)
}

func (f *Forwarder) applyNames(ctx context.Context) {
	t := table(f.addresses)
	switch {
	case len(t) == 0 && f.names != nil:
		f.names.close()
		f.names = nil
	case len(t) == 0:
	case f.names != nil:
		f.names.table.Store(&t)
	default:
		names, err := startNameServer(ctx, f.opts.DNS, t)
		if err != nil {
			f.opts.Logger.Error("cannot start the name server", "address", f.opts.DNS, "error", err)
			return
		}
		f.names = names
	}
}

// open starts to listen for one grant.
func (f *Forwarder) open(ctx context.Context, at netip.AddrPort, g link.Grant) {
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "tcp", at.String())
	if err != nil {
		f.opts.Logger.Error("cannot listen for a granted host", "host", g.Host, "port", g.Port, "error", err)
		return
	}
	ctx, stop := context.WithCancel(ctx)
	l := &listener{grant: g, stop: stop}
	f.listeners[at] = l
	context.AfterFunc(ctx, func() { ln.Close() })
	l.done.Go(func() {
		for {
			conn, ok := accept(ctx, ln)
			if !ok {
				return
			}
			l.done.Go(func() { f.forward(ctx, conn, g) })
		}
	})
}

// forward hands one connection to the broker. A refusal resets it.
func (f *Forwarder) forward(ctx context.Context, client net.Conn, g link.Grant) {
	defer client.Close()
	broker, err := f.connect(ctx, g)
	if err != nil {
		f.opts.Logger.Warn("egress connection failed", "host", g.Host, "port", g.Port, "error", err)
		reset(client)
		return
	}
	defer context.AfterFunc(ctx, func() {
		client.Close()
		broker.Close()
	})()
	// How a connection ends is the two ends' own affair.
	_, _ = link.Relay{}.Run(client.(*net.TCPConn), broker)
}

// reset makes closing a TCP connection an abort, which a client does not
// mistake for an answer's end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// connect asks the broker for a destination and returns the open stream.
func (f *Forwarder) connect(ctx context.Context, g link.Grant) (link.Stream, error) {
	conn, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(answerTimeout))
	reader := link.NewReader(conn)
	if _, err = conn.Write([]byte(link.Request{Target: g}.String())); err == nil {
		err = link.ReadAnswer(reader)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return link.Buffered(conn.(*net.UnixConn), reader), nil
}

func (f *Forwarder) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", f.opts.Socket)
}

// accept waits for a connection, with patience when descriptors are short. It
// is false when the listener was closed or ctx ended.
func accept(ctx context.Context, ln net.Listener) (net.Conn, bool) {
	for {
		conn, err := ln.Accept()
		if err == nil {
			return conn, true
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil, false
		}
		pause(ctx, acceptPause)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
