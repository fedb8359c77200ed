// Package gateway carries a tool call from a caller to a plugin and the answer
// back: it finds the tool, checks the parameters against the tool's schema,
// bounds the time, the size and the number of calls, and tells every way in
// which a call can fail apart by a stable code.
//
// It promises that a call ends when its deadline passes, when its caller goes
// away or when the plugin dies, whatever the plugin does; that nothing which a
// plugin supplies (schema, result, error) costs the host more than a stated
// bound; and that a plugin never sees parameters that do not fit its schema,
// as far as it can be checked here: see [Unchecked].
package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// envelope is what a message holds besides parameters or result, bytes,
// amply: the context's strings are bounded by the API.
const envelope = 64 << 10

// Bounds that hold where [Config] sets none.
const (
	DefaultTimeout     = 30 * time.Second
	MaxTimeout         = 10 * time.Minute
	DefaultMaxParams   = wire.MaxSize - envelope // bytes
	DefaultMaxResult   = wire.MaxSize - envelope // bytes
	DefaultMaxInFlight = 64                      // calls per plugin
)

// runnerGrace is how much later than the host the runner gives a call up by
// itself, so that it is the host which says that time was up.
const runnerGrace = 250 * time.Millisecond

// noticePause is what the supervisor takes, amply, to see that a plugin has
// ended.
const noticePause = 5 * time.Millisecond

// Plugins is what the gateway needs to know of the installed plugins.
type Plugins interface {
	// Surface returns the plugin with what of its registrations may be
	// called, or NotFound.
	Surface(key plugin.Key) (plugin.Installed, error)
	// Ready returns the peer of the plugin's serving generation and may wait
	// for one to start, no longer than ctx. A plugin that will not serve soon
	// (disabled, crashlooped, quarantined) is an error at once.
	Ready(ctx context.Context, key plugin.Key) (Peer, error)
}

// Peer is one generation of a plugin that serves calls.
type Peer interface {
	// CallTool sends the call and waits for its result, no longer than ctx
	// and not beyond the end of the generation, which is Unavailable. It calls
	// progress, if that is not nil, in order for every interim result, before
	// it returns. An error that wraps ErrNotDelivered says that the plugin
	// never got the call.
	CallTool(ctx context.Context, call wire.ToolCall, progress func(wire.Progress)) (wire.ToolResult, error)
	// Cancel asks the plugin to abort the call; it does not wait.
	Cancel(id string)
	// Gone is closed when the generation has ended.
	Gone() <-chan struct{}
}

// Config is what a [Gateway] is made of. Zero limits are the defaults.
type Config struct {
	Plugins        Plugins
	MaxParams      int // bytes
	MaxResult      int // bytes
	MaxInFlight    int // calls per plugin at one time
	DefaultTimeout time.Duration
	MaxTimeout     time.Duration
}

// Gateway carries tool calls. It is safe for concurrent use.
type Gateway struct {
	cfg   Config
	tools *toolCache

	mu       sync.Mutex
	inFlight map[plugin.Key]int
}

// New returns a gateway to the plugins of cfg.
func New(cfg Config) *Gateway {
	setDefault(&cfg.MaxParams, DefaultMaxParams)
	setDefault(&cfg.MaxResult, DefaultMaxResult)
	setDefault(&cfg.MaxInFlight, DefaultMaxInFlight)
	setDefault(&cfg.DefaultTimeout, DefaultTimeout)
	setDefault(&cfg.MaxTimeout, MaxTimeout)
	return &Gateway{cfg: cfg, tools: newToolCache(), inFlight: make(map[plugin.Key]int)}
}

func setDefault[T int | time.Duration](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

// Request is one tool call.
type Request struct {
	Key  plugin.Key
	Tool string
	// Params is a JSON object; empty and null mean {}.
	Params json.RawMessage
	// Context is told to the tool. An empty ToolCallID becomes the call's id.
	Context wire.Context
	// Timeout bounds the whole call, the wait for the plugin included; 0 is
	// the default.
	Timeout time.Duration
	// Progress, if set, is called for every interim result, one at a time and
	// never after Call has returned. It must not block.
	Progress func(json.RawMessage)
}

// Call calls a tool and returns its result as JSON. Its errors carry one of
// the codes in this package's errors.go, or are the error of [Plugins.Ready].
func (g *Gateway) Call(ctx context.Context, req Request) (json.RawMessage, error) {
	ctx, cancel, err := g.withDeadline(ctx, req.Timeout)
	if err != nil {
		return nil, err
	}
	defer cancel()
	tool, err := g.findTool(req.Key, req.Tool)
	if err != nil {
		return nil, err
	}
	leave, err := g.enter(req.Key)
	if err != nil {
		return nil, err
	}
	defer leave()
	params, err := g.checkParams(tool, req)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	result, err := g.deliver(ctx, req, params)
	if err != nil {
		return nil, orEnded(ctx, req, started, err)
	}
	return g.checkResult(req, result)
}

// Check reports why a call would be refused before the plugin gets it: there
// is no such tool, or the parameters do not fit its schema. Errors are those
// of [Gateway.Call].
func (g *Gateway) Check(key plugin.Key, tool string, params json.RawMessage) error {
	compiled, err := g.findTool(key, tool)
	if err != nil {
		return err
	}
	_, err = g.checkParams(compiled, Request{Key: key, Tool: tool, Params: params})
	return err
}

// deliver sends the call to the serving generation. One that is dying takes no
// more calls: then the call, which had no effect yet, goes to the next one.
func (g *Gateway) deliver(ctx context.Context, req Request, params json.RawMessage) (wire.ToolResult, error) {
	for {
		peer, err := g.cfg.Plugins.Ready(ctx, req.Key)
		if err != nil {
			return wire.ToolResult{}, err
		}
		result, err := invoke(ctx, peer, newCall(ctx, req, params), req.Progress)
		if !errors.Is(err, ErrNotDelivered) {
			return result, err
		}
		if err := awaitEnd(ctx, peer); err != nil {
			return wire.ToolResult{}, err
		}
	}
}

// awaitEnd returns when the generation has ended, and leaves whoever watches
// it the time to notice.
func awaitEnd(ctx context.Context, peer Peer) error {
	select {
	case <-peer.Gone():
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-time.After(noticePause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// withDeadline bounds ctx by the caller's timeout.
func (g *Gateway) withDeadline(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc, error) {
	if timeout < 0 || timeout > g.cfg.MaxTimeout {
		return nil, nil, fault.New(errdefs.ErrInvalidArgument, CodeInvalidTimeout,
			"the timeout %s is not between 0 and %s", timeout, g.cfg.MaxTimeout)
	}
	if timeout == 0 {
		timeout = g.cfg.DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, cancel, nil
}

// enter takes one of the plugin's places for calls in flight; leave gives it
// back.
func (g *Gateway) enter(key plugin.Key) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inFlight[key] >= g.cfg.MaxInFlight {
		return nil, fault.New(errdefs.ErrResourceExhausted, CodeBusy,
			"plugin %q has %d calls in flight, no more are taken", key.ID, g.cfg.MaxInFlight).
			WithHint("try again when some of them have ended").WithRetry()
	}
	g.inFlight[key]++
	return func() { g.leave(key) }, nil
}

func (g *Gateway) leave(key plugin.Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inFlight[key]--; g.inFlight[key] == 0 {
		delete(g.inFlight, key)
	}
}

func newCall(ctx context.Context, req Request, params json.RawMessage) wire.ToolCall {
	id := rand.Text()
	if req.Context.ToolCallID == "" {
		req.Context.ToolCallID = id
	}
	call := wire.ToolCall{Type: "tool.call", ID: id, Tool: req.Tool, Params: params, Context: req.Context}
	if deadline, ok := ctx.Deadline(); ok {
		call.TimeoutMillis = (max(0, time.Until(deadline)) + runnerGrace).Milliseconds()
	}
	return call
}

// invoke sends the call, waits for the answer, and tells the plugin when it
// waits no longer. It starts no goroutine: on a machine that is otherwise idle
// the switch to one costs more than all checks of a call.
func invoke(ctx context.Context, peer Peer, call wire.ToolCall, progress func(json.RawMessage)) (wire.ToolResult, error) {
	if progress == nil {
		result, err := peer.CallTool(ctx, call, nil)
		return settle(ctx, peer, call.ID, result, err)
	}
	updates := &updates{deliver: progress, id: call.ID}
	defer updates.stop()
	result, err := peer.CallTool(ctx, call, updates.put)
	return settle(ctx, peer, call.ID, result, err)
}

// settle says what the end of CallTool means.
func settle(ctx context.Context, peer Peer, id string, result wire.ToolResult, err error) (wire.ToolResult, error) {
	switch {
	case err == nil && result.ID != id:
		return wire.ToolResult{}, errOtherAnswer
	case err == nil:
		return result, nil
	case ctx.Err() != nil:
		peer.Cancel(id)
		return wire.ToolResult{}, ctx.Err()
	case errors.Is(err, ErrNotDelivered):
		return wire.ToolResult{}, err
	case isClosed(peer.Gone()) || errdefs.IsUnavailable(err):
		return wire.ToolResult{}, errGone
	}
	return wire.ToolResult{}, err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// updates passes interim results on, until stop.
type updates struct {
	deliver func(json.RawMessage)
	id      string

	mu      sync.Mutex
	stopped bool
}

func (u *updates) put(p wire.Progress) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.stopped && p.ID == u.id {
		u.deliver(p.Update)
	}
}

func (u *updates) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stopped = true
}

// checkResult turns what the plugin answered into the caller's result.
func (g *Gateway) checkResult(req Request, res wire.ToolResult) (json.RawMessage, error) {
	switch {
	case res.Error != nil:
		return nil, pluginError(req, *res.Error)
	case len(res.Result) == 0:
		return nil, badResult(req, errors.New("it holds neither a result nor an error"))
	case len(res.Result) > g.cfg.MaxResult:
		return nil, badResult(req, fmt.Errorf("it has %d bytes, at most %d are allowed", len(res.Result), g.cfg.MaxResult))
	case !json.Valid(res.Result):
		return nil, badResult(req, errors.New("it is no JSON"))
	}
	return res.Result, nil
}
