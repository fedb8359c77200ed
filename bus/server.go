// Package bus connects the host with the runners of the plugins. It owns the
// embedded NATS server, which listens nowhere, and one unix socket per plugin
// instance.
//
// The socket is the identity. Whoever connects to an instance's socket is that
// instance, whatever its CONNECT line says, and may use the subjects of
// [subject.RunnerPermissions] and no others. Every plugin of every tenant has
// an account of its own, in which the host has one narrow connection, so that
// neither a subject nor a reply subject reaches into another plugin.
//
// A runner is taken to be hostile. It can stall and lose its own connections;
// what it can make the host spend is bounded by [Limits], and other plugins
// do not notice it.
package bus

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/ocmt/ocmt/bus/subject"
)

const (
	startTimeout = 10 * time.Second
	authTimeout  = 5 * time.Second // from INFO to CONNECT
	infoTimeout  = 5 * time.Second // from a new connection to INFO
)

// Options of a [Server].
type Options struct {
	// Logger takes what goes wrong; nil logs nothing.
	Logger *slog.Logger
	Limits Limits
}

// Server is the bus of one host. Its methods may be called from several
// goroutines.
type Server struct {
	nats   *natsserver.Server
	log    *slog.Logger
	limits Limits
	gate   *gate

	mu       sync.Mutex
	accounts map[string]*account // by subject.Account; never deleted
	sockets  int                 // that plugins hold
	closed   bool
}

// account is a plugin's account on the server. Generations share it, because
// the server cannot delete accounts.
type account struct {
	nats   *natsserver.Account
	attach sync.Mutex           // held while a generation replaces another
	peer   atomic.Pointer[Peer] // the latest, until it is closed; stored with attach held
}

// New starts a server.
func New(opts Options) (*Server, error) {
	limits, err := opts.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	gate := &gate{grants: make(map[uint64]grant)}
	ns, err := natsserver.NewServer(natsOptions(limits, gate))
	if err != nil {
		return nil, fmt.Errorf("cannot make the bus server: %w: %w", err, errdefs.ErrInternal)
	}
	ns.SetLoggerV2(newServerLog(log), false, false, false)
	ns.Start()
	if !ns.ReadyForConnections(startTimeout) {
		ns.Shutdown()
		return nil, fmt.Errorf("cannot start the bus server within %s: %w", startTimeout, errdefs.ErrInternal)
	}
	return &Server{nats: ns, log: log, limits: limits, gate: gate, accounts: make(map[string]*account)}, nil
}

func natsOptions(l Limits, auth natsserver.Authentication) *natsserver.Options {
	return &natsserver.Options{
		ServerName:                 "ocmt",
		DontListen:                 true,
		NoSigs:                     true,
		NoLog:                      true, // the logger is set afterwards
		NoSystemAccount:            true,
		CustomClientAuthentication: auth,
		AuthTimeout:                authTimeout.Seconds(),
		MaxControlLine:             maxControlLine,
		MaxPayload:                 int32(min(l.MaxPayload, math.MaxInt32)),
		MaxPending:                 int64(l.MaxPending),
		WriteDeadline:              l.WriteDeadline,
		MaxClosedClients:           1, // the server would remember 10,000, subscriptions included
	}
}

// Shutdown closes every peer and stops the server. It is idempotent.
func (s *Server) Shutdown() {
	s.mu.Lock()
	s.closed = true
	accounts := make([]*account, 0, len(s.accounts))
	for _, a := range s.accounts {
		accounts = append(accounts, a)
	}
	s.mu.Unlock()
	for _, a := range accounts {
		a.attach.Lock()
		if p := a.peer.Load(); p != nil {
			p.Close()
		}
		a.attach.Unlock()
	}
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

// Attach makes the socket dir/bus.sock for one plugin instance and returns the
// host's end of it. dir is made if need be and gets mode 0711; its parent is
// made with mode 0700 and must have that mode. An older generation of the
// same plugin is closed first. The server keeps no hold of ctx.
//
// Errors: InvalidArgument for a bad identity, FailedPrecondition for a
// directory that others could alter or reach and for a generation that is not
// newer than the attached one, Unavailable after [Server.Shutdown] and when the
// host has no room or no descriptors left.
func (s *Server) Attach(ctx context.Context, id Identity, dir string) (*Peer, error) {
	if err := id.validate(); err != nil {
		return nil, err
	}
	acc, err := s.account(id)
	if err != nil {
		return nil, err
	}
	acc.attach.Lock()
	defer acc.attach.Unlock()
	if old := acc.peer.Load(); old != nil {
		if !old.isClosed() && old.id.Generation >= id.Generation {
			return nil, fmt.Errorf("cannot attach generation %d of plugin %q: generation %d is attached: %w",
				id.Generation, id.Plugin, old.id.Generation, errdefs.ErrFailedPrecondition)
		}
		old.Close()
	}
	p, err := s.newPeer(ctx, id, acc, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot attach plugin %q: %w", id.Plugin, err)
	}
	if s.isClosed() { // Shutdown may have passed by before there was a peer
		p.Close()
		return nil, errShutdown()
	}
	acc.peer.Store(p)
	return p, nil
}

// account returns the plugin's account and makes it the first time.
func (s *Server) account(id Identity) (*account, error) {
	name := subject.Account(id.subject())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errShutdown()
	}
	if a := s.accounts[name]; a != nil {
		return a, nil
	}
	acc, err := s.nats.RegisterAccount(name)
	if err != nil {
		return nil, fmt.Errorf("cannot make the bus account %q: %w: %w", name, err, errdefs.ErrInternal)
	}
	claims := jwt.NewAccountClaims(name)
	claims.Limits.Payload = int64(s.limits.MaxPayload)
	claims.Limits.Subs = int64(s.limits.Subscriptions)
	// The bridge counts a plugin's connections exactly. This is the second
	// line, with room for those that the server is still taking down.
	claims.Limits.Conn = int64(2 * (s.limits.Connections + 1))
	claims.Limits.LeafNodeConn = 0
	claims.Limits.Imports = 0
	claims.Limits.Exports = 0
	s.nats.UpdateAccountClaims(acc, claims)
	a := &account{nats: acc}
	s.accounts[name] = a
	return a, nil
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// takeSocket reserves one of the sockets that all plugins share.
func (s *Server) takeSocket() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sockets >= s.limits.Sockets {
		return false
	}
	s.sockets++
	return true
}

func (s *Server) releaseSocket() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets--
}

func errShutdown() error {
	return fmt.Errorf("cannot use the bus: it is shut down: %w", errdefs.ErrUnavailable)
}
