package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Bounds of a host. The daemon's pings are answered by whoever reads, so that
// reading never waits for a handler.
const (
	maxHostCalls   = 64   // that are answered at once; others are ResourceExhausted
	maxHostNotices = 1024 // that wait for their turn; others are lost
)

// Handler answers a plugin's call of a host method. It is called for calls at
// the same time, and for notices, whose result and error nobody gets, one after
// the other. Its ctx ends with the attachment.
type Handler func(ctx context.Context, m v1.HostMessage) (json.RawMessage, error)

// Host is an attached host.
type Host struct {
	conn   *websocket.Conn
	handle Handler
	calls  chan struct{} // a place for each call under way
	queue  chan v1.HostMessage
	done   chan struct{}
	err    error // once done is closed
}

// Attach attaches to tenant as a host of that name which answers the methods,
// v1's Host*, with handle. It returns when plugins can call; the attachment
// lasts until ctx ends or the daemon ends it.
func (c *Client) Attach(ctx context.Context, tenant, name string, methods []string, handle Handler) (*Host, error) {
	request := gen.AttachHost(tenant)
	if err := checkNames(request.Path); err != nil {
		return nil, err
	}
	conn, response, err := websocket.Dial(ctx, origin+request.Path, &websocket.DialOptions{HTTPClient: c.http}) //nolint:bodyclose // Dial has read it
	if err != nil {
		if response != nil && response.StatusCode != http.StatusSwitchingProtocols && response.Body != nil {
			return nil, readError(response)
		}
		return nil, c.unreachable(ctx, err)
	}
	conn.SetReadLimit(v1.MaxHostMessage)
	h := &Host{
		conn: conn, handle: handle, done: make(chan struct{}),
		calls: make(chan struct{}, maxHostCalls), queue: make(chan v1.HostMessage, maxHostNotices),
	}
	if err := h.hello(ctx, v1.HostMessage{Type: v1.HostAttachType, Name: name, Methods: methods}); err != nil {
		conn.CloseNow() //nolint:errcheck // why is known
		return nil, err
	}
	go h.serve(ctx)
	return h, nil
}

// Wait returns when the host is no longer attached: nil if its ctx ended, else
// why the daemon ended it, Unavailable if the host may attach again.
func (h *Host) Wait() error {
	<-h.done
	return h.err
}

// hello attaches.
func (h *Host) hello(ctx context.Context, hello v1.HostMessage) error {
	if err := wsjson.Write(ctx, h.conn, hello); err != nil {
		return hostEnded(ctx, err)
	}
	for {
		var m v1.HostMessage
		if err := wsjson.Read(ctx, h.conn, &m); err != nil {
			return hostEnded(ctx, err)
		}
		if m.Type == v1.HostAttachedType {
			return nil
		}
	}
}

func (h *Host) serve(ctx context.Context) {
	defer close(h.done)
	working, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	workers.Go(func() {
		for m := range h.queue {
			if working.Err() == nil {
				h.handle(working, m) //nolint:errcheck // a notice has no answer
			}
		}
	})
	err := h.read(working, &workers)
	if h.err = hostEnded(ctx, err); ctx.Err() != nil {
		h.err = nil
	}
	h.conn.Close(websocket.StatusNormalClosure, "") //nolint:errcheck // it may be closed
	cancel()
	close(h.queue)
	workers.Wait()
}

// read reads messages until there are no more.
func (h *Host) read(ctx context.Context, workers *sync.WaitGroup) error {
	for {
		var m v1.HostMessage
		if err := wsjson.Read(ctx, h.conn, &m); err != nil {
			return err
		}
		switch m.Type {
		case v1.HostNoticeType:
			select {
			case h.queue <- m:
			default:
			}
		case v1.HostCallType:
			select {
			case h.calls <- struct{}{}:
				workers.Go(func() {
					defer func() { <-h.calls }()
					h.answer(ctx, m)
				})
			default:
				workers.Go(func() {
					h.send(ctx, m.ID, nil, fault.New(errdefs.ErrResourceExhausted, "host_busy", "the host is busy").WithRetry())
				})
			}
		}
	}
}

// answer answers a call.
func (h *Host) answer(ctx context.Context, m v1.HostMessage) {
	result, err := h.handle(ctx, m)
	h.send(ctx, m.ID, result, err)
}

// send sends an answer. If it cannot, reading fails too.
func (h *Host) send(ctx context.Context, id string, result json.RawMessage, failure error) {
	text, err := json.Marshal(hostAnswer(id, result, failure))
	if err == nil && len(text) > v1.MaxHostMessage {
		err = fault.New(errdefs.ErrInvalidArgument, "message_too_large", "the host's answer has %d bytes, at most %d are sent", len(text), v1.MaxHostMessage)
	}
	if err != nil {
		text, err = json.Marshal(hostAnswer(id, nil, err))
	}
	if err == nil {
		h.conn.Write(ctx, websocket.MessageText, text) //nolint:errcheck // see above
	}
}

func hostAnswer(id string, result json.RawMessage, failure error) v1.HostMessage {
	m := v1.HostMessage{Type: v1.HostAnswerType, ID: id, Result: result}
	if failure != nil {
		e, _ := v1.ErrorOf(failure)
		m.Result, m.Error = nil, &e
	}
	return m
}

// hostEnded says why a host is not attached. The reason of a close is
// "code: message".
func hostEnded(ctx context.Context, err error) error {
	var closed websocket.CloseError
	if ctx.Err() != nil || !errors.As(err, &closed) {
		return ended(ctx, err)
	}
	code, message, found := strings.Cut(closed.Reason, ": ")
	if !found {
		code, message = "host_detached", closed.Reason
	}
	switch closed.Code {
	case websocket.StatusPolicyViolation:
		return fault.New(errdefs.ErrPermissionDenied, code, "%s", message)
	case websocket.StatusInternalError:
		return fault.New(errdefs.ErrInternal, code, "%s", message)
	}
	return fault.New(errdefs.ErrUnavailable, code, "%s", message).WithRetry()
}
