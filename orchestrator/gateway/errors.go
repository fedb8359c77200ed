package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Codes of the errors of [Gateway.Call], each with its errdefs class.
const (
	CodePluginNotFound = "plugin_not_found" // NotFound
	CodeToolNotFound   = "tool_not_found"   // NotFound
	CodeInvalidParams  = "invalid_params"   // InvalidArgument; Details is []Field
	CodeInvalidTimeout = "invalid_timeout"  // InvalidArgument
	CodeInvalidSchema  = "invalid_schema"   // fault.ErrPlugin
	CodePluginCrashed  = "plugin_crashed"   // fault.ErrPlugin, retryable
	CodePluginThrew    = "plugin_threw"     // fault.ErrPlugin; Details is Thrown
	CodeBadResult      = "bad_result"       // fault.ErrPlugin
	CodeTimeout        = "timeout"          // DeadlineExceeded
	CodeCancelled      = "cancelled"        // Canceled
	CodeBusy           = "busy"             // ResourceExhausted, retryable
	CodeGivenUp        = "given_up"         // Unavailable, retryable
)

// Thrown is the Details of a plugin_threw error.
type Thrown struct {
	Name    string `json:"name,omitempty"`
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
}

// maxThrown bounds each string of a thrown error, bytes.
const maxThrown = 4 << 10

// ErrNotDelivered is wrapped by errors of [Peer.CallTool] for calls that never
// reached the plugin, and so had no effect.
var ErrNotDelivered = errors.New("the plugin was not there to take the call")

// What invoke reports of itself; orEnded says it with the names.
var (
	errGone        = errors.New("the plugin ended")
	errOtherAnswer = errors.New("it is the answer to another call")
)

// orEnded says why a call ended: because of ctx, which counts first, or
// because of err. An error that is neither is passed on as it is.
func orEnded(ctx context.Context, req Request, started time.Time, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault.New(context.DeadlineExceeded, CodeTimeout,
			"tool %q of plugin %q did not answer within %s", req.Tool, req.Key.ID, time.Since(started).Round(time.Millisecond)).
			WithHint("give it more time, or see what it is doing: ocmt plugins logs %s", req.Key.ID)
	case ctx.Err() != nil:
		return fault.New(context.Canceled, CodeCancelled, "the call of tool %q of plugin %q was cancelled", req.Tool, req.Key.ID)
	case errors.Is(err, errGone):
		return fault.New(fault.ErrPlugin, CodePluginCrashed, "plugin %q ended while tool %q was running", req.Key.ID, req.Tool).
			WithHint("it is started again; its last words: ocmt plugins logs %s --previous", req.Key.ID).WithRetry()
	case errors.Is(err, errOtherAnswer):
		return badResult(req, err)
	}
	return err
}

func badResult(req Request, err error) error {
	return fault.New(fault.ErrPlugin, CodeBadResult, "cannot use the answer of tool %q of plugin %q: %w", req.Tool, req.Key.ID, err).
		WithHint("this is a fault of the plugin; tell its author")
}

// pluginError is the error that the runner reported, as ours. All of it is
// the plugin's word.
func pluginError(req Request, e wire.Error) error {
	message := cut(e.Message, maxThrown)
	switch e.Code {
	case wire.CodeUnserialised:
		return badResult(req, errors.New(message))
	case wire.CodeCancelled: // and not by us
		return fault.New(errdefs.ErrUnavailable, CodeGivenUp, "plugin %q gave up the call of tool %q, as it does when it is stopped", req.Key.ID, req.Tool).
			WithHint("try again; see how it is: ocmt plugins info %s", req.Key.ID).WithRetry()
	case wire.CodeUnknownTool:
		return fault.New(errdefs.ErrNotFound, CodeToolNotFound,
			"plugin %q registered no tool %q when it was started, though it did when it was installed", req.Key.ID, req.Tool).
			WithHint("see why: ocmt plugins logs %s", req.Key.ID)
	}
	name := cut(e.Name, 100)
	said := message
	if name != "" {
		said = name + ": " + message
	}
	return fault.New(fault.ErrPlugin, CodePluginThrew, "tool %q of plugin %q failed: %s", req.Tool, req.Key.ID, said).
		WithDetails(Thrown{Name: name, Message: message, Stack: cut(e.Stack, maxThrown)})
}

// cut shortens s to n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "..."
}
