package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/ocmt/ocmt/bus/subject"
)

const (
	hostReconnectWait = 10 * time.Millisecond
	flushTimeout      = 5 * time.Second

	// maxPrefix bounds what of a subject the names take, bytes; the rest of a
	// control line is the verb's, and a second subject has to fit.
	maxPrefix = 1024
)

// Identity is who a socket belongs to.
type Identity struct {
	Tenant string
	Plugin string // the plugin id
	// Generation grows with every start of the plugin.
	Generation uint64
	Instance   string // the container's id, for logs
}

func (id Identity) subject() subject.Identity {
	return subject.Identity{Tenant: id.Tenant, Plugin: id.Plugin, Generation: id.Generation}
}

func (id Identity) validate() error {
	if id.Tenant == "" || id.Plugin == "" {
		return fmt.Errorf("cannot attach to the bus: tenant %q, plugin %q: both need a name: %w",
			id.Tenant, id.Plugin, errdefs.ErrInvalidArgument)
	}
	if n := len(subject.RunnerInbox(id.subject())); n > maxPrefix {
		return fmt.Errorf("cannot attach to the bus: the names of tenant and plugin take %d bytes of a subject, at most %d are allowed: %w",
			n, maxPrefix, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Peer is the host's end of one plugin instance's bus. Its methods may be
// called from several goroutines.
type Peer struct {
	id       Identity
	names    subject.Identity
	server   *Server
	account  *account
	log      *slog.Logger
	runner   grant
	host     *nats.Conn
	path     string
	listener *net.UnixListener
	connects *rate.Limiter
	throttle throttle
	cancel   context.CancelFunc // of every connection
	tasks    sync.WaitGroup     // the accept loop and every connection
	done     chan struct{}      // closed by Close
	noise    rate.Sometimes     // bounds the log of what a runner can provoke

	mu      sync.Mutex
	closed  bool
	sockets int
	gone    chan struct{} // closed and replaced when the runner's connection ends
	calls   map[uint64]chan *nats.Msg
	last    uint64               // number of the latest call
	stops   []context.CancelFunc // of the handlers
}

// newPeer connects the host, and only then lets the runner connect: the host's
// place in the account is taken first.
func (s *Server) newPeer(ctx context.Context, id Identity, acc *account, dir string) (*Peer, error) {
	if err := ctx.Err(); err != nil {
		return nil, contextError(err)
	}
	names := id.subject()
	p := &Peer{
		id: id, names: names, server: s, account: acc,
		log:      s.log.With("tenant", id.Tenant, "plugin", id.Plugin, "generation", id.Generation, "instance", id.Instance),
		runner:   grant{name: "runner", account: acc.nats, permissions: subject.RunnerPermissions(names)},
		path:     filepath.Join(dir, SocketName),
		connects: rate.NewLimiter(rate.Limit(s.limits.ConnectsPerSecond), s.limits.ConnectBurst),
		throttle: newThrottle(s.limits),
		done:     make(chan struct{}),
		gone:     make(chan struct{}),
		calls:    make(map[uint64]chan *nats.Msg),
		noise:    rate.Sometimes{First: 3, Interval: 10 * time.Second},
	}
	if err := p.connectHost(acc.nats); err != nil {
		return nil, err
	}
	listener, err := listen(dir)
	if err != nil {
		p.host.Close()
		return nil, err
	}
	p.listener = listener
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	p.tasks.Go(func() { p.accept(life) })
	return p, nil
}

// connectHost makes the host's own connection in the plugin's account and
// subscribes to the answers. The client reconnects should the server drop it.
func (p *Peer) connectHost(acc *natsserver.Account) error {
	as := grant{name: "host", account: acc, permissions: subject.HostPermissions(p.names)}
	host, err := nats.Connect("",
		nats.InProcessServer(dialer{p.server, as}),
		nats.Name("host"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(hostReconnectWait),
		nats.ReconnectJitter(0, 0),
		nats.ReconnectBufSize(-1), // fail rather than send late
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			p.noise.Do(func() { p.log.Warn("bus connection of the host has trouble", "error", err) })
		}),
	)
	if err != nil {
		return fmt.Errorf("cannot connect the host: %w: %w", err, errdefs.ErrUnavailable)
	}
	p.host = host
	if err := p.subscribe(subject.HostInbox(p.names)+".>", maxAnswers, p.answer); err != nil {
		host.Close()
		return err
	}
	return nil
}

// dialer lets a NATS client of the host in.
type dialer struct {
	server *Server
	as     grant
}

// InProcessConn implements what nats.InProcessServer needs.
func (d dialer) InProcessConn() (net.Conn, error) { return d.server.open(d.as) }

// subscribe returns once the server knows of the subscription.
func (p *Peer) subscribe(subj string, messages int, fn nats.MsgHandler) error {
	sub, err := p.host.Subscribe(subj, fn)
	if err == nil {
		err = sub.SetPendingLimits(messages, p.server.limits.HandlerBytes)
	}
	if err == nil {
		err = p.host.FlushTimeout(flushTimeout)
	}
	if err != nil {
		return fmt.Errorf("cannot subscribe: %w", natsError(err))
	}
	return nil
}

// accept serves connections at the rate that the limits allow. What waits
// meanwhile waits in the kernel and holds no descriptor of the host's.
func (p *Peer) accept(ctx context.Context) {
	for p.connects.Wait(ctx) == nil {
		conn, err := p.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.noise.Do(func() { p.log.Error("cannot accept a bus connection", "error", err) })
			continue
		}
		if !p.take() {
			_ = conn.Close()
			p.noise.Do(func() { p.log.Warn("bus connection refused: too many are open") })
			continue
		}
		p.tasks.Go(func() {
			defer p.release()
			p.serve(ctx, conn)
		})
	}
}

func (p *Peer) serve(ctx context.Context, conn net.Conn) {
	link, err := p.server.open(p.runner)
	if err != nil {
		conn.Close()
		p.log.Error("cannot serve a bus connection", "error", err)
		return
	}
	b := bridge{
		socket: conn, link: link,
		meter:    meter{maxPayload: p.server.limits.MaxPayload},
		throttle: p.throttle,
		deadline: p.server.limits.WriteDeadline,
	}
	if wrong := b.run(ctx); wrong != nil {
		p.noise.Do(func() { p.log.Warn("bus connection closed for a violation", "error", wrong) })
	}
	if b.meter.connected {
		p.lost()
	}
}

// take reserves a place for one more connection of the runner.
func (p *Peer) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.sockets >= p.server.limits.Connections || !p.server.takeSocket() {
		return false
	}
	p.sockets++
	return true
}

func (p *Peer) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sockets--
	p.server.releaseSocket()
}

// lost tells those who wait for the runner that a connection of it has ended.
func (p *Peer) lost() {
	if p.isClosed() {
		return // Close told them
	}
	// What the server has for the host comes first.
	_ = p.host.FlushTimeout(drainTimeout)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		close(p.gone)
		p.gone = make(chan struct{})
	}
}

// Disconnected returns a channel that is closed the next time a connection of
// the runner ends, or when the peer is closed. A closed channel stays closed;
// call again to wait for another end.
func (p *Peer) Disconnected() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// Closed returns a channel that is closed by Close.
func (p *Peer) Closed() <-chan struct{} { return p.done }

// Close revokes the identity: every connection of the runner and of the host
// is closed at once, the socket is removed, and calls that wait fail with
// Unavailable. It returns when nothing of the peer runs any more, except
// handlers that are busy: their context is cancelled. Close is idempotent.
func (p *Peer) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.tasks.Wait()
		return
	}
	p.closed = true
	close(p.done)
	close(p.gone)
	stops := p.stops
	p.mu.Unlock()

	p.cancel()
	p.listener.Close()
	if err := os.Remove(p.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.log.Warn("cannot remove the bus socket", "error", err)
	}
	for _, stop := range stops {
		stop()
	}
	p.host.Close()
	p.tasks.Wait()
	p.account.peer.CompareAndSwap(p, nil) // which lives on, and would hold its buffers
}

func (p *Peer) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}
