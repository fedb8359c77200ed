package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// errSilent is the cause of a context that ended because the engine gave no
// sign of life.
var errSilent = errors.New("the engine does not answer")

// bound limits one question and its answer to the engine's timeout.
func (e *Engine) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, e.timeout, errSilent)
}

// watchdog ends a context when it is not fed for a while.
type watchdog struct {
	timer   *time.Timer
	timeout time.Duration
	cancel  context.CancelCauseFunc
}

// watch is for streams, whose length nobody knows: the context ends after a
// timeout without a feeding.
func (e *Engine) watch(ctx context.Context, timeout time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	dog := &watchdog{timeout: timeout, cancel: cancel}
	dog.timer = time.AfterFunc(timeout, func() { cancel(errSilent) })
	return ctx, dog
}

func (d *watchdog) feed()    { d.timer.Reset(d.timeout) }
func (d *watchdog) dismiss() { d.timer.Stop() } // silence is fine from now on

// close ends the context.
func (d *watchdog) close() {
	d.timer.Stop()
	d.cancel(nil)
}

// fail turns an error of the client into ours: what we wanted, what the engine
// said, and a class. ctx is the one that the call was made with.
func (e *Engine) fail(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	said := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSilent):
		return fmt.Errorf("cannot %s: docker at %s did not answer within %s: %w", what, e.client.DaemonHost(), e.timeout, errdefs.ErrUnavailable)
	case cause != nil:
		return fmt.Errorf("cannot %s: %w", what, ctx.Err())
	}
	return fmt.Errorf("cannot %s: %s: %w", what, said, classOf(err))
}

// classOf is the errdefs class of an error of the client.
func classOf(err error) error {
	var network net.Error
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, fs.ErrPermission): // of the engine's socket
		return errdefs.ErrPermissionDenied
	case client.IsErrConnectionFailed(err), errors.As(err, &network), errors.As(err, &syntax),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errdefs.ErrUnavailable
	case errdefs.IsNotFound(err):
		return errdefs.ErrNotFound
	case errdefs.IsInvalidArgument(err):
		return errdefs.ErrInvalidArgument
	case errdefs.IsConflict(err):
		return errdefs.ErrConflict
	case errdefs.IsPermissionDenied(err), errdefs.IsUnauthorized(err):
		return errdefs.ErrPermissionDenied
	case errdefs.IsUnavailable(err):
		return errdefs.ErrUnavailable
	case errdefs.IsNotImplemented(err):
		return errdefs.ErrNotImplemented
	}
	return errdefs.ErrInternal
}
