package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"

	"github.com/ocmt/ocmt/bus/subject"
)

const (
	// maxAnswers is how many answers of the runner may wait to be handed out.
	maxAnswers = 16 << 10
	// settleTime is how long an answer may take from the host's client to its
	// caller; an answer that has come so far is not lost when the runner
	// exits right after it.
	settleTime = 20 * time.Millisecond

	statusHeader = "Status" // set by the server on messages of its own
	noResponders = "503"
)

// ErrNoRunner is wrapped by the Unavailable errors of [Peer.Request] that mean
// that nobody got the request, so that it can safely be sent again.
var ErrNoRunner = errors.New("no runner took the request")

// Handler answers a message of the runner. data is the untrusted side's; nil
// answers nothing. ctx ends when the peer is closed.
type Handler func(ctx context.Context, data []byte) (reply []byte)

// Request sends data to the runner under verb and returns the answer, which is
// the untrusted side's. It waits as long as ctx allows and not beyond the end
// of the runner's connection.
//
// Errors: Unavailable when no runner listens, when its connection ends while
// waiting, and when the peer is closed; DeadlineExceeded; Canceled;
// InvalidArgument when data exceeds the payload limit.
func (p *Peer) Request(ctx context.Context, verb string, data []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, contextError(err)
	}
	number, answer, gone, err := p.begin()
	if err != nil {
		return nil, err
	}
	defer p.end(number)
	if err := p.host.PublishRequest(subject.In(p.names, verb), subject.Reply(p.names, number), data); err != nil {
		return nil, fmt.Errorf("cannot send to plugin %q: %w", p.id.Plugin, natsError(err))
	}
	select {
	case msg := <-answer:
		return p.open(msg)
	case <-ctx.Done():
		return nil, contextError(ctx.Err())
	case <-gone:
	}
	settle := time.NewTimer(settleTime)
	defer settle.Stop()
	select {
	case msg := <-answer:
		return p.open(msg)
	case <-p.done:
		return nil, p.errClosed()
	case <-settle.C:
		return nil, fmt.Errorf("plugin %q disconnected before it answered: %w", p.id.Plugin, errdefs.ErrUnavailable)
	}
}

// Settle returns when all has been handled that the runner sent before an
// answer which [Peer.Request] has returned: handlers work beside the answers,
// and an answer may overtake what waits for one. A handler of [Peer.HandleAsync]
// has then returned, and may not have answered.
//
// Errors: Unavailable when the peer is closed, DeadlineExceeded, Canceled.
func (p *Peer) Settle(ctx context.Context) error {
	handled := make(chan struct{})
	if err := p.host.Barrier(func() { close(handled) }); err != nil {
		return fmt.Errorf("cannot wait for what plugin %q sent: %w", p.id.Plugin, natsError(err))
	}
	select {
	case <-handled:
		return nil
	case <-ctx.Done():
		return contextError(ctx.Err())
	case <-p.done:
		return p.errClosed()
	}
}

// Publish sends data to the runner under verb. A runner that is not there
// does not get it.
//
// Errors: Unavailable when the peer is closed, InvalidArgument when data
// exceeds the payload limit.
func (p *Peer) Publish(verb string, data []byte) error {
	if err := p.host.Publish(subject.In(p.names, verb), data); err != nil {
		return fmt.Errorf("cannot send to plugin %q: %w", p.id.Plugin, natsError(err))
	}
	return nil
}

// Handle has fn answer what the runner sends under verb, one message after
// another. While fn is busy, up to [Limits].HandlerMessages wait and what
// comes beyond is dropped; other handlers are not held up. Handle returns when
// the handler is in effect.
func (p *Peer) Handle(verb string, fn Handler) error {
	return p.HandleAsync(verb, func(ctx context.Context, data []byte, answer func([]byte)) {
		answer(fn(ctx, data))
	})
}

// HandleAsync is [Peer.Handle] for a handler that may answer after it has
// returned, from any goroutine. It must not take long itself; how much work it
// starts is its own to bound. An answer after the peer was closed goes nowhere.
func (p *Peer) HandleAsync(verb string, fn func(ctx context.Context, data []byte, answer func(reply []byte))) error {
	ctx, cancel := context.WithCancel(context.Background())
	if !p.onClose(cancel) {
		cancel()
		return p.errClosed()
	}
	return p.subscribe(subject.Out(p.names, verb), p.server.limits.HandlerMessages, func(m *nats.Msg) {
		fn(ctx, m.Data, func(reply []byte) { p.reply(m.Reply, reply) })
	})
}

// reply answers a message of the runner, if it asked for an answer.
func (p *Peer) reply(subj string, reply []byte) {
	if reply == nil || subj == "" {
		return
	}
	// The server would refuse a forged reply subject as well.
	if !subject.InRunnerInbox(p.names, subj) {
		p.noise.Do(func() { p.log.Warn("runner asked for an answer on a subject that is not its own", "subject", subj) })
		return
	}
	if err := p.host.Publish(subj, reply); err != nil && !p.isClosed() {
		p.noise.Do(func() { p.log.Warn("cannot answer the runner", "error", err) })
	}
}

// begin registers a call that waits.
func (p *Peer) begin() (number uint64, answer <-chan *nats.Msg, gone <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, nil, nil, fmt.Errorf("%w: %w", ErrNoRunner, p.errClosed())
	}
	p.last++
	c := make(chan *nats.Msg, 1)
	p.calls[p.last] = c
	return p.last, c, p.gone, nil
}

func (p *Peer) end(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, number)
}

// answer hands a runner's answer to the call that waits for it; the first one
// counts, and answers that nobody waits for are dropped.
func (p *Peer) answer(m *nats.Msg) {
	number, ok := subject.ReplyNumber(p.names, m.Subject)
	if !ok {
		return
	}
	p.mu.Lock()
	c := p.calls[number]
	delete(p.calls, number)
	p.mu.Unlock()
	if c != nil {
		c <- m
	}
}

func (p *Peer) open(m *nats.Msg) ([]byte, error) {
	if len(m.Data) == 0 && m.Header.Get(statusHeader) == noResponders {
		return nil, fmt.Errorf("plugin %q is not listening: %w: %w", p.id.Plugin, ErrNoRunner, errdefs.ErrUnavailable)
	}
	return m.Data, nil
}

// onClose has Close call stop, unless the peer is closed already.
func (p *Peer) onClose(stop context.CancelFunc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.stops = append(p.stops, stop)
	}
	return !p.closed
}

func (p *Peer) errClosed() error {
	return fmt.Errorf("plugin %q is detached from the bus: %w", p.id.Plugin, errdefs.ErrUnavailable)
}

// contextError keeps the class: a context's errors are errdefs' own.
func contextError(err error) error {
	return fmt.Errorf("cannot wait any longer: %w", err)
}

func natsError(err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
}
