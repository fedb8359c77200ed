package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/containerd/errdefs"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Bounds of attached hosts.
const (
	hostPing     = 30 * time.Second // between two pings
	hostPong     = 10 * time.Second // for the answer to one
	maxHostQueue = 8 << 20          // bytes that wait for a host
	maxReason    = 123              // bytes of the reason of a close, by RFC 6455
)

func (a *api) hostRoutes(r *routes) {
	attach := op(AccessCall, http.MethodGet, tenantPath+"/host", "attach-host", "Attach a host, which then answers host.* calls", "hosts")
	attach.Description = "A WebSocket; its messages are HostMessages in JSON. The host sends \"attach\" within 10 s and gets \"attached\"; " +
		"then it gets \"call\" and answers each with an \"answer\" of the same id, and gets \"notice\", which needs none. " +
		"A message has at most 1 MiB. It is closed with 1008 for what the host did wrong, 1001 when the daemon stops, 1013 for a host " +
		"that may try again, and 1011 otherwise, with the reason in words. Requests with an Origin header, those of browsers, are refused."
	attach.DefaultStatus = http.StatusSwitchingProtocols
	schema := r.OpenAPI().Components.Schemas.Schema(typeOf[v1.HostMessage](), true, "HostMessage")
	attach.Extensions[eventsExtension] = map[string]*huma.Schema{"message": schema}
	attach.Responses = map[string]*huma.Response{"101": {Description: "A WebSocket of HostMessages"}}
	handle(r, attach, a.attach)
}

func (a *api) attach(ctx context.Context, in *TenantParam) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		r, w := humago.Unwrap(hctx)
		if len(r.Header.Values("Origin")) > 0 {
			writeError(w, fault.New(errdefs.ErrPermissionDenied, "browser_refused", "a page in a browser cannot attach as a host").
				WithHint("attach from a program, without the header Origin"))
			return
		}
		if r.Header.Get("Sec-WebSocket-Key") == "" {
			writeError(w, fault.New(errdefs.ErrInvalidArgument, "websocket_required", "hosts attach by WebSocket").
				WithHint("ask for an upgrade to websocket, version 13"))
			return
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // it has answered
		}
		defer conn.CloseNow() //nolint:errcheck // it is closed with a reason before, if there is one
		conn.SetReadLimit(v1.MaxHostMessage)
		h := &host{conn: conn, queue: make(chan []byte, 256), gone: make(chan struct{})}
		h.end(h.serve(ctx, a.backend.Hosts, in.Tenant))
	}}, nil
}

// host is an attached host.
type host struct {
	conn  *websocket.Conn
	queue chan []byte // what waits to be sent; closed by nobody
	gone  chan struct{}

	mu     sync.Mutex
	queued int // bytes in queue
}

// serve returns why the host is to be closed.
func (h *host) serve(ctx context.Context, hosts Hosts, tenant string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hello, err := h.hello(ctx)
	if err != nil {
		return err
	}
	defer close(h.gone)
	answer, err := hosts.Attach(ctx, tenant, hello, h.send)
	if err != nil {
		return err
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil)
	parts.Go(func() { cancel(h.write(ctx)) })
	parts.Go(func() { cancel(h.read(answer)) })
	parts.Go(func() { cancel(h.ping(ctx)) })
	<-ctx.Done()
	err = context.Cause(ctx)
	h.end(err) // which ends read
	return err
}

// hello reads the host's first message.
func (h *host) hello(ctx context.Context) (v1.HostMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, v1.HostAttachSeconds*time.Second)
	defer cancel()
	type first struct {
		message v1.HostMessage
		err     error
	}
	got := make(chan first, 1)
	go func() {
		m, err := h.next()
		if err == nil && m.Type != v1.HostAttachType {
			err = fault.New(errdefs.ErrInvalidArgument, "attach_first", "the first message must be of type %q", v1.HostAttachType)
		}
		got <- first{m, err}
	}()
	select {
	case f := <-got:
		return f.message, f.err
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return v1.HostMessage{}, fault.New(errdefs.ErrInvalidArgument, "attach_first", "no message of type %q came within %d s", v1.HostAttachType, v1.HostAttachSeconds)
	}
	return v1.HostMessage{}, ctx.Err()
}

// next reads a message. It does not end with a context, which would tear the
// connection down without a reason: closing it does.
func (h *host) next() (v1.HostMessage, error) {
	var m v1.HostMessage
	_, text, err := h.conn.Read(context.Background())
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fault.New(errdefs.ErrInvalidArgument, "bad_message", "cannot read a message: %w", err)
	}
	return m, nil
}

func (h *host) read(answer func(v1.HostMessage)) error {
	for {
		m, err := h.next()
		if err != nil {
			return err
		}
		if m.Type == v1.HostAnswerType && answer != nil { // others are of a later version
			answer(m)
		}
	}
}

// send queues a message; see [Hosts].
func (h *host) send(m v1.HostMessage) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fault.New(errdefs.ErrInvalidArgument, "bad_message", "cannot encode the message: %w", err)
	}
	if len(text) > v1.MaxHostMessage {
		return fault.New(errdefs.ErrInvalidArgument, "message_too_large", "the message has %d bytes, at most %d are sent", len(text), v1.MaxHostMessage)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.gone:
		return fault.New(errdefs.ErrUnavailable, "host_gone", "the host is gone")
	default:
	}
	slow := fault.New(errdefs.ErrResourceExhausted, "host_slow", "the host does not read what it is sent").WithRetry()
	if h.queued+len(text) > maxHostQueue {
		return slow
	}
	select {
	case h.queue <- text:
		h.queued += len(text)
		return nil
	default:
		return slow
	}
}

// write sends that the host is attached, and then what is queued.
func (h *host) write(ctx context.Context) error {
	text, err := json.Marshal(v1.HostMessage{Type: v1.HostAttachedType})
	for err == nil {
		if err = h.writeOne(text); err != nil {
			break
		}
		select {
		case text = <-h.queue:
			h.mu.Lock()
			h.queued -= len(text)
			h.mu.Unlock()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (h *host) writeOne(text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	return h.conn.Write(ctx, websocket.MessageText, text)
}

func (h *host) ping(ctx context.Context) error {
	ticker := time.NewTicker(hostPing)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		pong, cancel := context.WithTimeout(ctx, hostPong)
		err := h.conn.Ping(pong)
		cancel()
		if err != nil && ctx.Err() == nil {
			return fault.New(errdefs.ErrUnavailable, "host_gone", "the host did not answer a ping: %w", err)
		}
	}
}

// end closes the connection with the reason; a second time it does nothing.
func (h *host) end(err error) {
	status, reason := closeReason(err)
	h.conn.Close(status, reason) //nolint:errcheck // a host that is gone needs no reason
}

// closeReason returns what a host is told about why it is closed.
func closeReason(err error) (websocket.StatusCode, string) {
	if err == nil || errdefs.IsCanceled(err) || errors.Is(err, context.Canceled) {
		return websocket.StatusGoingAway, "the daemon is stopping"
	}
	e, status := v1.ErrorOf(err)
	code := websocket.StatusInternalError
	switch {
	case e.Retryable, status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		code = websocket.StatusTryAgainLater
	case status < http.StatusInternalServerError:
		code = websocket.StatusPolicyViolation
	}
	reason := e.Code + ": " + e.Message
	for len(reason) > maxReason {
		runes := []rune(reason)
		reason = string(runes[:len(runes)-1])
	}
	return code, reason
}
