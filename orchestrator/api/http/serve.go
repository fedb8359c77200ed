package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/net/netutil"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Bounds of connections.
const (
	headerTimeout = 10 * time.Second // for a request's header, and for the TLS handshake
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10 // bytes
	drainTimeout  = 10 * time.Second
	maxConns      = 512 // over TLS at a time, so that strangers cannot use up the daemon's files
)

// ListenTLS listens on a TCP address with a certificate, both PEM files, which
// are read again when they change. What comes in is served by [Serve], to
// callers with a token only. More connections than it takes at a time wait.
func ListenTLS(ctx context.Context, addr, certFile, keyFile string, log *slog.Logger) (net.Listener, error) {
	cert, err := openCertificate(certFile, keyFile, log)
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fault.New(listenClass(err), "cannot_listen", "cannot listen on %s: %w", addr, err).
			WithHint("name another address of this host with --listen")
	}
	return tls.NewListener(netutil.LimitListener(listener, maxConns), &tls.Config{
		GetCertificate: cert.get,
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"}, // hosts attach by WebSocket
	}), nil
}

func listenClass(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return errdefs.ErrConflict
	case errors.Is(err, fs.ErrPermission):
		return errdefs.ErrPermissionDenied
	}
	return errdefs.ErrInvalidArgument
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
