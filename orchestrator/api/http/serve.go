package httpapi

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Bounds of connections.
const (
	headerTimeout = 10 * time.Second // for a request's header, and for the TLS handshake
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10 // bytes
	drainTimeout  = 10 * time.Second
)

// ListenTLS listens on a TCP address with a certificate, both PEM files. What
// comes in is served by [Serve], to callers with a token only.
func ListenTLS(ctx context.Context, addr, certFile, keyFile string) (net.Listener, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fault.New(errdefs.ErrInvalidArgument, "bad_certificate", "cannot use the certificate %s: %w", certFile, classed(err)).
			WithHint("name a PEM file with the certificate and its chain, and one with its key")
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, classed(err))
	}
	return tls.NewListener(listener, &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"}, // hosts attach by WebSocket
	}), nil
}

// Serve serves handler on listener until ctx ends, and the contexts of the
// requests under way with it. It then waits a while for their answers, and
// closes what is left.
//
// On a unix socket every request is one of access, whose Actor is set to the
// user at the other end; over TLS access counts for nothing, and a request is
// its token's. On any other listener nobody is served.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, access Caller, log *slog.Logger) error {
	var running requests
	server := &http.Server{
		Handler:     running.count(handler),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return WithCaller(ctx, callerOn(conn, access))
		},
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("cannot serve the API: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := server.Shutdown(drain)
	if err == nil {
		err = running.wait(drain) // for the WebSockets, which the server does not know
	}
	if err != nil {
		log.Warn("requests were cut off at shutdown", "error", err)
		return server.Close()
	}
	return nil
}

func callerOn(conn net.Conn, access Caller) Caller {
	if _, ok := conn.(*net.UnixConn); !ok {
		return Caller{}
	}
	if cred := peer(conn); cred != nil {
		access.Actor = fmt.Sprintf("uid:%d", cred.Uid)
	}
	return access
}

// requests counts the requests under way.
type requests struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n is 0; nil if nobody waits
}

func (r *requests) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.add(1)
		defer r.add(-1)
		next.ServeHTTP(w, req)
	})
}

func (r *requests) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n += n; r.n == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

func (r *requests) wait(ctx context.Context) error {
	r.mu.Lock()
	if r.n == 0 {
		r.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	r.idle = idle
	r.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
