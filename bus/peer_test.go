package bus

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"

	"github.com/ocmt/ocmt/bus/subject"
)

func TestRequestAndHandle(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	id := identity("default", "@scope/weather.v2", 3)
	p, socket := attach(t, s, id)
	if err := p.Handle(subject.Hello, func(_ context.Context, data []byte) []byte {
		return append([]byte("load for "), data...)
	}); err != nil {
		t.Fatal(err)
	}
	progress := make(chan string, 1)
	if err := p.Handle(subject.Progress, func(_ context.Context, data []byte) []byte {
		progress <- string(data)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	nc, _ := runner(t, socket, id)
	echo(t, nc, id, subject.Tool)
	cancelled := make(chan *nats.Msg, 1)
	if _, err := nc.ChanSubscribe(subject.In(id.subject(), subject.Cancel), cancelled); err != nil {
		t.Fatal(err)
	}

	answer, err := nc.Request(subject.Out(id.subject(), subject.Hello), []byte("runner"), patience)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(answer.Data), "load for runner"; got != want {
		t.Errorf("hello: got %q, want %q", got, want)
	}
	if got, want := request(t, p, subject.Tool, "x"), "x"; got != want {
		t.Errorf("tool: got %q, want %q", got, want)
	}
	if err := nc.Publish(subject.Out(id.subject(), subject.Progress), []byte("50")); err != nil {
		t.Fatal(err)
	}
	if got, want := receive(t, "progress", progress), "50"; got != want {
		t.Errorf("progress: got %q, want %q", got, want)
	}
	if err := p.Publish(subject.Cancel, []byte("7")); err != nil {
		t.Fatal(err)
	}
	if got, want := string(receive(t, "cancel", cancelled).Data), "7"; got != want {
		t.Errorf("cancel: got %q, want %q", got, want)
	}
}

func TestRequestLargest(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	id := identity("default", "p", 1)
	p, socket := attach(t, s, id)
	nc, _ := runner(t, socket, id)
	echo(t, nc, id, subject.Tool)
	large := strings.Repeat("x", DefaultLimits().MaxPayload)
	for range 4 {
		if got := request(t, p, subject.Tool, large); got != large {
			t.Fatalf("got %d bytes, want the %d sent", len(got), len(large))
		}
	}
	if _, err := p.Request(t.Context(), subject.Tool, []byte(large+"x")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("one byte more: got %v, want InvalidArgument", err)
	}
	if err := p.Publish(subject.Tool, []byte(large+"x")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("publish of one byte more: got %v, want InvalidArgument", err)
	}
}

func TestRequestErrors(t *testing.T) {
	t.Parallel()
	id := identity("default", "p", 1)
	silent := func(t *testing.T, socket string) *nats.Conn { // listens, never answers
		nc, _ := runner(t, socket, id)
		if _, err := nc.SubscribeSync(subject.In(id.subject(), subject.Tool)); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		return nc
	}
	// During the request: what happens to the runner or to the caller.
	tests := []struct {
		name string
		act  func(t *testing.T, p *Peer, socket string) (during func(cancel func()))
		want func(error) bool
	}{
		{"no runner", func(*testing.T, *Peer, string) func(func()) {
			return nil
		}, errdefs.IsUnavailable},
		{"runner does not listen", func(t *testing.T, _ *Peer, socket string) func(func()) {
			runner(t, socket, id)
			return nil
		}, errdefs.IsUnavailable},
		{"runner hangs up", func(t *testing.T, _ *Peer, socket string) func(func()) {
			nc := silent(t, socket)
			return func(func()) { nc.Close() }
		}, errdefs.IsUnavailable},
		{"peer is closed", func(t *testing.T, p *Peer, socket string) func(func()) {
			silent(t, socket)
			return func(func()) { p.Close() }
		}, errdefs.IsUnavailable},
		{"peer was closed", func(t *testing.T, p *Peer, _ string) func(func()) {
			p.Close()
			return nil
		}, errdefs.IsUnavailable},
		{"caller gives up", func(t *testing.T, _ *Peer, socket string) func(func()) {
			silent(t, socket)
			return func(cancel func()) { cancel() }
		}, errdefs.IsCanceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, socket := attach(t, newServer(t, Limits{}), id)
			during := tt.act(t, p, socket)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			errs := make(chan error, 1)
			start := time.Now()
			go func() {
				_, err := p.Request(ctx, subject.Tool, nil)
				errs <- err
			}()
			if during != nil {
				waitFor(t, "the call waits", func() bool { return p.waiting() == 1 })
				during(cancel)
			}
			err := receive(t, "end of the request", errs)
			if !tt.want(err) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(start); took > patience {
				t.Errorf("took %s", took)
			}
			if got := p.waiting(); got != 0 {
				t.Errorf("%d calls are left behind", got)
			}
		})
	}
}

func (p *Peer) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

func TestRequestDeadline(t *testing.T) {
	t.Parallel()
	id := identity("default", "p", 1)
	p, socket := attach(t, newServer(t, Limits{}), id)
	nc, _ := runner(t, socket, id)
	if _, err := nc.SubscribeSync(subject.In(id.subject(), subject.Tool)); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Request(ctx, subject.Tool, nil); !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
	if _, err := p.Request(ctx, subject.Tool, nil); !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("with a context that is over: got %v, want DeadlineExceeded", err)
	}
}

// TestLastAnswer has a runner answer and exit in one breath, many times: the
// answer must not lose the race against the news that the runner is gone.
func TestLastAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{ConnectsPerSecond: 1000, ConnectBurst: 1000})
	id := identity("default", "p", 1)
	p, socket := attach(t, s, id)
	for i := range 100 {
		r := connectRaw(t, socket)
		r.send("SUB " + subject.In(id.subject(), subject.Stop) + " 1\r\nPING\r\n")
		r.until("PONG")
		go func() {
			line := r.until("MSG ")
			reply := strings.Fields(line)[3]
			r.send("PUB " + reply + " 7\r\nstopped\r\n")
			r.Close()
		}()
		if got, want := request(t, p, subject.Stop, "bye"), "stopped"; got != want {
			t.Fatalf("round %d: got %q, want %q", i, got, want)
		}
		waitFor(t, "the connection is gone", func() bool { return p.connections() == 0 })
	}
}

func (p *Peer) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sockets
}

func TestDisconnected(t *testing.T) {
	t.Parallel()
	id := identity("default", "p", 1)
	p, socket := attach(t, newServer(t, Limits{}), id)
	first := p.Disconnected()
	nc, _ := runner(t, socket, id)
	select {
	case <-first:
		t.Fatal("told before the runner had gone")
	default:
	}
	nc.Close()
	receive(t, "news of the end", first)
	again := p.Disconnected()
	select {
	case <-again:
		t.Fatal("told twice of one end")
	default:
	}
	p.Close()
	receive(t, "news of the close", again)
	receive(t, "news after the close", p.Disconnected())
}

// TestSlowHandler keeps one handler busy and expects the others to answer.
func TestSlowHandler(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{HandlerMessages: 8})
	id := identity("default", "p", 1)
	p, socket := attach(t, s, id)
	entered, ended := make(chan struct{}, 1), make(chan error, 1)
	if err := p.Handle(subject.Progress, func(ctx context.Context, _ []byte) []byte {
		entered <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := p.Handle(subject.Hello, func(context.Context, []byte) []byte { return []byte("load") }); err != nil {
		t.Fatal(err)
	}
	nc, _ := runner(t, socket, id)
	echo(t, nc, id, subject.Tool)
	for range 1000 { // far more than may wait
		if err := nc.Publish(subject.Out(id.subject(), subject.Progress), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, "handler", entered)
	if m, err := nc.Request(subject.Out(id.subject(), subject.Hello), nil, patience); err != nil || string(m.Data) != "load" {
		t.Errorf("other handler: got %v, %v", m, err)
	}
	if got := request(t, p, subject.Tool, "x"); got != "x" {
		t.Errorf("tool: got %q", got)
	}
	p.Close()
	if err := receive(t, "end of the handler", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("handler's context: got %v, want canceled", err)
	}
	if err := p.Handle(subject.Ready, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("handle after close: got %v, want Unavailable", err)
	}
}

// TestHandleAsync answers the second message before the first, and nothing
// after the end of the peer.
func TestHandleAsync(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	id := identity("default", "p", 1)
	p, socket := attach(t, s, id)
	first := make(chan func([]byte), 1)
	if err := p.HandleAsync(subject.Host, func(_ context.Context, data []byte, answer func([]byte)) {
		if string(data) == "first" {
			first <- answer
			return
		}
		answer(data)
	}); err != nil {
		t.Fatal(err)
	}
	nc, _ := runner(t, socket, id)
	answered := make(chan string, 1)
	go func() {
		if m, err := nc.Request(subject.Out(id.subject(), subject.Host), []byte("first"), patience); err == nil {
			answered <- string(m.Data)
		}
	}()
	answer := receive(t, "first message", first)
	if m, err := nc.Request(subject.Out(id.subject(), subject.Host), []byte("second"), patience); err != nil || string(m.Data) != "second" {
		t.Errorf("second: got %v, %v", m, err)
	}
	answer([]byte("late"))
	if got := receive(t, "late answer", answered); got != "late" {
		t.Errorf("first: got %q, want late", got)
	}
	p.Close()
	answer([]byte("too late")) // no panic, and nobody to see it
	if err := p.HandleAsync(subject.Host, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("after close: got %v, want Unavailable", err)
	}
}

// TestSettle has an answer overtake the messages before it, and waits for them.
func TestSettle(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	id := identity("default", "p", 1)
	p, socket := attach(t, s, id)
	const messages = 5
	handled, hold := make(chan string, messages), make(chan struct{})
	if err := p.Handle(subject.Progress, func(_ context.Context, data []byte) []byte {
		<-hold
		handled <- string(data)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	nc, _ := runner(t, socket, id)
	if _, err := nc.Subscribe(subject.In(id.subject(), subject.Tool), func(m *nats.Msg) {
		for range messages {
			_ = nc.Publish(subject.Out(id.subject(), subject.Progress), []byte("x"))
		}
		_ = m.Respond(nil)
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	request(t, p, subject.Tool, "x")
	brief, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Settle(brief); !errdefs.IsDeadlineExceeded(err) {
		t.Errorf("while a handler is busy: got %v, want DeadlineExceeded", err)
	}
	close(hold)
	if err := p.Settle(t.Context()); err != nil || len(handled) != messages {
		t.Errorf("%d of %d messages were handled, %v", len(handled), messages, err)
	}
	p.Close()
	if err := p.Settle(t.Context()); !errdefs.IsUnavailable(err) {
		t.Errorf("after close: got %v, want Unavailable", err)
	}
}

// TestHostReconnects has the server drop the host's connection, as it would
// drop a slow one.
func TestHostReconnects(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	id := identity("default", "p", 1)
	p, socket := attach(t, s, id)
	if err := p.Handle(subject.Hello, func(context.Context, []byte) []byte { return []byte("load") }); err != nil {
		t.Fatal(err)
	}
	nc, _ := runner(t, socket, id)
	echo(t, nc, id, subject.Tool)
	cid, err := p.host.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.nats.DisconnectClientByID(cid); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the host is back", func() bool {
		now, err := p.host.GetClientID()
		return err == nil && now != cid && p.host.IsConnected()
	})
	if got := request(t, p, subject.Tool, "x"); got != "x" {
		t.Errorf("tool: got %q", got)
	}
	waitFor(t, "the handler is back", func() bool {
		_, err := nc.Request(subject.Out(id.subject(), subject.Hello), nil, time.Second)
		return err == nil
	})
}

func TestGenerations(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	first := identity("default", "p", 1)
	p1, socket1 := attach(t, s, first)
	nc1, _ := runner(t, socket1, first)
	echo(t, nc1, first, subject.Tool)
	request(t, p1, subject.Tool, "x")
	accounts := s.nats.NumActiveAccounts()

	second := identity("default", "p", 2)
	p2, socket2 := attach(t, s, second)
	waitFor(t, "the first generation's runner is cut off", nc1.IsClosed)
	if _, err := p1.Request(t.Context(), subject.Tool, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("request to the first: got %v, want Unavailable", err)
	}
	if _, err := net.Dial("unix", socket1); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("dial of the first socket: got %v, want ENOENT", err)
	}
	nc2, _ := runner(t, socket2, second)
	echo(t, nc2, second, subject.Tool)
	request(t, p2, subject.Tool, "y")
	if got := s.nats.NumActiveAccounts(); got != accounts {
		t.Errorf("accounts: got %d, want %d", got, accounts)
	}
	for _, generation := range []uint64{1, 2} {
		_, err := s.Attach(t.Context(), identity("default", "p", generation), filepath.Join(socketParent(t), "i"))
		if !errdefs.IsFailedPrecondition(err) {
			t.Errorf("attach of generation %d: got %v, want FailedPrecondition", generation, err)
		}
	}
	request(t, p2, subject.Tool, "z")
}

func TestLimitsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		limits Limits
	}{
		{"negative", Limits{Connections: -1}},
		{"pending below payload", Limits{MaxPayload: 2, MaxPending: 1}},
		{"payload beyond the server's", Limits{MaxPayload: 1 << 30}},
		{"too few subscriptions for the host", Limits{Subscriptions: 1}},
		{"negative deadline", Limits{WriteDeadline: -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := New(Options{Limits: tt.limits}); !errdefs.IsInvalidArgument(err) {
				t.Errorf("got %v, want InvalidArgument", err)
			}
		})
	}
}

func TestServerLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newServerLog(textLogger(&out))
	for range 1000 {
		l.Errorf("text %s", strings.Repeat("é", 1000))
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) < 20 || len(lines) > 100 {
		t.Errorf("got %d lines of 1000, want about 20", len(lines))
	}
	if len(lines[0]) > 2*maxLogText {
		t.Errorf("got a line of %d bytes", len(lines[0]))
	}
}
