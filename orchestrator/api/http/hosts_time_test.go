package httpapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// pipes is a listener of connections in memory, whose time is the test's.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// anyHost attaches every host and tells when it is gone.
type anyHost struct{ gone chan time.Duration }

func (a anyHost) Attach(ctx context.Context, _ string, _ v1.HostMessage, _ func(v1.HostMessage) error) (func(v1.HostMessage), error) {
	attached := time.Now()
	context.AfterFunc(ctx, func() { a.gone <- time.Since(attached) })
	return func(v1.HostMessage) {}, nil
}

// attached runs test with the WebSocket of a host.
func attached(t *testing.T, test func(t *testing.T, conn *websocket.Conn, hosts anyHost)) {
	synctest.Test(t, func(t *testing.T) {
		listener, hosts := pipes{make(chan net.Conn)}, anyHost{make(chan time.Duration, 1)}
		handler := New(Backend{Hosts: hosts}, Options{})
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handler.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), Caller{Access: AccessAdmin})))
		})}
		done := make(chan struct{})
		go func() { defer close(done); server.Serve(listener) }()
		client := &http.Client{Transport: &http.Transport{DialContext: listener.dial}}
		conn, _, err := websocket.Dial(t.Context(), "http://ocmt/v1/tenants/default/host", &websocket.DialOptions{HTTPClient: client})
		if err != nil {
			t.Fatal(err)
		}
		test(t, conn, hosts)
		conn.CloseNow()
		close(listener.conns)
		<-done
		server.Close()
	})
}

func TestHostThatDoesNotAttach(t *testing.T) {
	attached(t, func(t *testing.T, conn *websocket.Conn, _ anyHost) {
		dialed := time.Now()
		_, _, err := conn.Read(t.Context())
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation || !strings.Contains(closed.Reason, "within 10 s") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(dialed); took != v1.HostAttachSeconds*time.Second {
			t.Errorf("closed after %s", took)
		}
	})
}

func TestHostThatDoesNotAnswerPings(t *testing.T) {
	attached(t, func(t *testing.T, conn *websocket.Conn, hosts anyHost) {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"attach"}`)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		silent, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); conn.Read(silent) }() // which answers pings
		select {
		case after := <-hosts.gone:
			t.Errorf("gone after %s, though it answers", after)
		case <-time.After(10*hostPing + time.Second):
		}
		cancel() // tears the connection down
		<-done
		if after := <-hosts.gone; after != 10*hostPing+time.Second {
			t.Errorf("gone after %s", after)
		}
	})
	attached(t, func(t *testing.T, conn *websocket.Conn, hosts anyHost) {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"attach"}`)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after := <-hosts.gone; after <= hostPing || after > hostPing+hostPong { // nobody reads, so nobody answers
			t.Errorf("gone after %s", after)
		}
	})
}

func TestCloseReasonFits(t *testing.T) {
	code, reason := closeReason(errors.New(strings.Repeat("é", 200)))
	if code != websocket.StatusInternalError || len(reason) > maxReason || strings.ContainsRune(reason, '\ufffd') {
		t.Errorf("got %d %q", code, reason)
	}
}
