package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// maxHookValue bounds what a hook returns, bytes, so that the next handler can
// be given it: a message holds an envelope too.
const maxHookValue = wire.MaxSize - 64<<10

// A call that found no runner, which may be about to connect again, is sent anew
// after a pause that grows: one that stays away must not cost much.
const (
	redeliverFirst = 20 * time.Millisecond
	redeliverMax   = time.Second
)

// CallTool sends the call and returns the runner's answer. progress, which may
// be nil, gets its interim results. A runner that is not there, but whose
// container runs, is waited for: it connects again. As soon as the connection
// ends that the call went over, the error is Unavailable and says that the call
// may be tried again; it wraps bus.ErrNoRunner for a call that the plugin never
// got.
func (in *Instance) CallTool(ctx context.Context, call wire.ToolCall, progress func(wire.Progress)) (wire.ToolResult, error) {
	defer in.inFlight.begin()()
	if progress != nil {
		in.progressMu.Lock()
		in.progress[call.ID] = progress
		in.progressMu.Unlock()
		defer func() {
			in.progressMu.Lock()
			delete(in.progress, call.ID)
			in.progressMu.Unlock()
		}()
	}
	var result wire.ToolResult
	err := in.exchange(ctx, in.deliver, subject.Tool, &call, &result)
	if err == nil && progress != nil {
		_ = in.peer.Settle(ctx) // the last interim results are wanted too, but not more than the answer
	}
	return result, err
}

// Cancel aborts the signal of a running call.
func (in *Instance) Cancel(id string) {
	if data, err := wire.Encode(&wire.Cancel{ID: id}); err == nil {
		if err := in.peer.Publish(subject.Cancel, data); err != nil {
			in.logger.Debug("cannot send cancel", "error", err)
		}
	}
}

// CallHook gives an event to one handler and returns its answer. When ctx ends
// first, the runner is told to abort the handler. The class is fault.ErrPlugin
// for an answer that is none; a runner that is not there and a connection that
// ends are as in CallTool.
func (in *Instance) CallHook(ctx context.Context, call wire.HookCall) (wire.HookResult, error) {
	defer in.inFlight.begin()()
	var result wire.HookResult
	if err := in.exchange(ctx, in.deliver, subject.Hook, &call, &result); err != nil {
		if ctx.Err() != nil {
			in.Cancel(call.ID)
		}
		return wire.HookResult{}, err
	}
	if err := in.checkAnswer(call.ID, result.ID, result.Error); err != nil {
		return wire.HookResult{}, err
	}
	for _, part := range []json.RawMessage{result.Result, result.Payload} {
		if len(part) > maxHookValue {
			return wire.HookResult{}, in.badResult(fmt.Errorf("a value of %d bytes, at most %d are possible", len(part), maxHookValue))
		}
	}
	return result, nil
}

// CallService starts or stops a service. Errors are as those of CallHook; what
// the service itself failed with is in the result.
func (in *Instance) CallService(ctx context.Context, call wire.ServiceCall) (wire.ServiceResult, error) {
	var result wire.ServiceResult
	if err := in.request(ctx, subject.Service, &call, &result); err != nil {
		return wire.ServiceResult{}, err
	}
	if err := in.checkAnswer(call.ID, result.ID, result.Error); err != nil {
		return wire.ServiceResult{}, err
	}
	return result, nil
}

// Resolved tells the runner how an approval ended. A runner that is gone does
// not hear it, which is no error.
func (in *Instance) Resolved(resolved wire.Resolved) error {
	data, err := wire.Encode(&resolved)
	if err != nil {
		return err
	}
	return in.peer.Publish(subject.Resolved, data)
}

// Ping asks whether the plugin's event loop turns.
func (in *Instance) Ping(ctx context.Context) error {
	var pong wire.Pong
	return in.request(ctx, subject.Ping, &wire.Ping{}, &pong)
}

// Request sends an encoded message to the runner and returns its encoded
// answer, which is the untrusted side's; see bus.Peer.Request.
func (in *Instance) Request(ctx context.Context, verb string, data []byte) ([]byte, error) {
	return in.peer.Request(ctx, verb, data)
}

// deliver is Request, sent again as long as no runner took it and one may come
// back.
func (in *Instance) deliver(ctx context.Context, verb string, data []byte) ([]byte, error) {
	for pause := redeliverFirst; ; pause = min(2*pause, redeliverMax) {
		answer, err := in.Request(ctx, verb, data)
		if !errors.Is(err, bus.ErrNoRunner) {
			return answer, err
		}
		select {
		case <-time.After(pause):
			continue
		case <-in.done:
		case <-in.peer.Closed():
		case <-ctx.Done():
		}
		return nil, err
	}
}

func (in *Instance) request(ctx context.Context, verb string, msg, into wire.Message) error {
	return in.exchange(ctx, in.Request, verb, msg, into)
}

// sender is Request or deliver.
type sender func(ctx context.Context, verb string, data []byte) ([]byte, error)

// exchange encodes a message, sends it, and decodes the answer.
func (in *Instance) exchange(ctx context.Context, send sender, verb string, msg, into wire.Message) error {
	data, err := wire.Encode(msg)
	if err != nil {
		return err
	}
	answer, err := send(ctx, verb, data)
	if errdefs.IsUnavailable(err) {
		return fault.New(errdefs.ErrUnavailable, "plugin_gone", "cannot reach plugin %s: %w", in.plan.Key, err).
			WithHint("it is started again; try again in a moment, and see why: ocmt plugins logs %s --previous", in.plan.Key.ID).WithRetry()
	}
	if err != nil {
		return err
	}
	if err := wire.Decode(answer, into); err != nil {
		return in.badResult(err)
	}
	return nil
}

// checkAnswer refuses the answer to another call and shortens the error that
// came with it.
func (in *Instance) checkAnswer(want, got string, thrown *wire.Error) error {
	if got != want {
		return in.badResult(fmt.Errorf("the answer is to call %.64q, not %.64q", got, want))
	}
	if thrown != nil {
		thrown.Code, thrown.Name = clip(thrown.Code, 64), clip(thrown.Name, 256)
		thrown.Message, thrown.Stack = clip(thrown.Message, wire.MaxReason), clip(thrown.Stack, wire.MaxReason)
	}
	return nil
}

func (in *Instance) badResult(err error) error {
	return fault.New(fault.ErrPlugin, "bad_result", "plugin %s answered nonsense: %w", in.plan.Key, err).
		WithHint("report it to the plugin's author")
}

// clip cuts text to n bytes, and not within a character.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}
