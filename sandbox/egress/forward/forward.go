// Package forward is the half of egress that runs inside the container: a name
// server that knows the granted names only, and listeners on loopback that
// hand each connection to the broker on the host.
//
// Programs in the container need to know nothing of it: a granted name
// resolves to an address of 127.1.0.0/16, and a connection to its granted port
// arrives at the real host. Names that a wildcard covers come into being when
// they are looked up. Every other name does not exist, at once, and the broker
// is told of it; every other port refuses, which only the kernel knows. The
// package is a convenience and no boundary: the broker decides
// again, and whoever attacks the forwarder gains what the socket gives anyway.
//
// It promises to follow the broker's policy at once, and to be small and idle
// when there are no grants: a name server and one silent connection to the
// broker.
package forward

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	// retryFirst and retryMax bound the wait before the broker is tried again,
	// of which up to a quarter is left out by chance: those of many containers
	// do not come at once. An attempt in vain takes about 30 µs of CPU.
	retryFirst = 20 * time.Millisecond
	retryMax   = 250 * time.Millisecond
	// brokerPatience is how long a connection waits for a broker that is being
	// replaced, before it is reset.
	brokerPatience = 3 * time.Second
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
	// Refused, unless nil, is told of each name that was looked up and is not
	// granted, with port 0, and of each connection that the broker denied, from
	// several goroutines at once. The host is a link.ValidHost.
	Refused func(target link.Grant, why link.Denied)
}

// Forwarder follows the broker's policy. Make it with New, run it once.
type Forwarder struct {
	opts      Options
	ready     chan struct{}
	directory *directory
	reporter  reporter
	names     *nameServer    // nil until it runs; owned by Run's goroutine
	tasks     sync.WaitGroup // accept loops and connections
}

// New makes a forwarder.
func New(opts Options) *Forwarder {
	if !opts.DNS.IsValid() {
		opts.DNS = netip.AddrPortFrom(loopback, 53)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Refused == nil {
		opts.Refused = func(link.Grant, link.Denied) {}
	}
	f := &Forwarder{
		opts:      opts,
		ready:     make(chan struct{}),
		directory: newDirectory(),
	}
	f.reporter.send = f.report
	return f
}

// Ready is closed when the first policy is in force.
func (f *Forwarder) Ready() <-chan struct{} { return f.ready }

// Run follows the policy until ctx ends. While the broker does not answer, the
// last policy stays in force and the broker is tried again.
func (f *Forwarder) Run(ctx context.Context) {
	f.directory.loopbacks = loopbacks(ctx)
	f.directory.open = func(at netip.AddrPort, target link.Grant, n *name) (shut func(), ok bool) {
		return f.open(ctx, at, target, n)
	}
	f.startNames(ctx)
	defer f.end()
	first := sync.OnceFunc(func() { close(f.ready) })
	wait := retryFirst
	for ctx.Err() == nil {
		err := f.follow(ctx, func(grants []link.Grant) {
			f.startNames(ctx) // in case that it could not before
			f.directory.apply(grants)
			first()
			wait = retryFirst
		})
		if ctx.Err() != nil {
			return
		}
		if !isAway(err) {
			f.opts.Logger.Warn("egress broker is gone, trying again", "error", err)
		}
		pause(ctx, wait-rand.N(wait/4))
		wait = min(2*wait, retryMax)
	}
}

// isAway says that nobody listens at the broker's socket.
func isAway(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
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

// end stops everything and waits for it.
func (f *Forwarder) end() {
	if f.names != nil {
		f.names.close()
	}
	f.directory.apply(nil)
	f.tasks.Wait()
	f.reporter.done.Wait()
}

// loopbacks returns the container's loopback addresses.
func loopbacks(ctx context.Context) []netip.Addr {
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "tcp6", "[::1]:0")
	if err != nil {
		return []netip.Addr{loopback}
	}
	ln.Close()
	return []netip.Addr{loopback, netip.IPv6Loopback()}
}

// startNames starts the name server unless it runs.
func (f *Forwarder) startNames(ctx context.Context) {
	if f.names != nil {
		return
	}
	names, err := startNameServer(ctx, f.opts.DNS, zone{
		lookup:  f.directory.lookup,
		missing: func(host string) { f.miss(ctx, host) },
	})
	if err != nil {
		f.opts.Logger.Error("cannot start the name server", "address", f.opts.DNS, "error", err)
		return
	}
	f.names = names
}

// open starts to listen for a target. What it returns ends that, and cuts off
// the connections.
func (f *Forwarder) open(ctx context.Context, at netip.AddrPort, target link.Grant, n *name) (shut func(), ok bool) {
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "tcp", at.String())
	if err != nil {
		f.opts.Logger.Error("cannot listen for a granted host", "host", target.Host, "port", target.Port, "error", err)
		return nil, false
	}
	ctx, stop := context.WithCancel(ctx)
	f.tasks.Go(func() {
		for {
			conn, ok := accept(ctx, ln)
			if !ok {
				return
			}
			n.conns.Add(1)
			f.tasks.Go(func() {
				defer n.conns.Add(-1)
				f.forward(ctx, conn, target)
			})
		}
	})
	return func() { stop(); ln.Close() }, true
}

// miss is told of a name that was looked up in vain. One that no grant could
// be for is passed over.
func (f *Forwarder) miss(ctx context.Context, host string) {
	if !link.ValidName(host) {
		return
	}
	f.reporter.add(ctx, host)
	f.opts.Refused(link.Grant{Host: host}, link.Denied{Code: link.NotGranted, Message: "this name is not granted"})
}

// report tells the broker of a name that was looked up in vain. It is lost
// when the broker does not answer.
func (f *Forwarder) report(ctx context.Context, host string) {
	conn, err := f.dial(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(reportPause))
	_, _ = conn.Write([]byte(link.Request{Report: host}.String()))
}

// forward hands one connection to the broker. A refusal resets it.
func (f *Forwarder) forward(ctx context.Context, client net.Conn, g link.Grant) {
	defer client.Close()
	broker, err := f.connect(ctx, g)
	var denied *link.Denied
	switch {
	case errors.As(err, &denied):
		f.opts.Refused(g, *denied)
	case err != nil:
		f.opts.Logger.Warn("egress connection failed", "host", g.Host, "port", g.Port, "error", err)
	}
	if err != nil {
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
	conn, err := f.dialPatiently(ctx)
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

// dialPatiently waits for a broker that is away, up to brokerPatience.
func (f *Forwarder) dialPatiently(ctx context.Context) (net.Conn, error) {
	for began := time.Now(); ; {
		conn, err := f.dial(ctx)
		if err == nil || !isAway(err) || ctx.Err() != nil || time.Since(began) >= brokerPatience {
			return conn, err
		}
		pause(ctx, retryMax-rand.N(retryMax/4))
	}
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
