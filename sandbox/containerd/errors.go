package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"
)

// errSilent is the cause of a context that ended because the engine gave no
// sign of life.
var errSilent = errors.New("the engine does not answer")

// bound limits one question and its answer to the engine's timeout.
func (e *Engine) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, e.timeout, errSilent)
}

// cleanUp is for what must be done even when ctx has ended.
func (e *Engine) cleanUp(ctx context.Context) (context.Context, context.CancelFunc) {
	return e.bound(context.WithoutCancel(ctx))
}

// fail turns an error of the client into ours: what we wanted, what the engine
// said, and a class. ctx is the one that the call was made with.
func (e *Engine) fail(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	awaitDeadline(ctx, err)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSilent):
		return fmt.Errorf("cannot %s: containerd at %s did not answer within %s: %w", what, e.address, e.timeout, errdefs.ErrUnavailable)
	case cause != nil:
		return fmt.Errorf("cannot %s: %w", what, ctx.Err())
	}
	err = native(err)
	return fmt.Errorf("cannot %s: %s: %w", what, strings.TrimSuffix(err.Error(), ": unknown"), classOf(err))
}

// awaitDeadline is for errors that say that time is up, or that a connection
// was closed at our end, which nothing but its time does. A call's deadline goes
// to containerd, on to the shim and to the socket, and each may find it over a
// moment before our own clock does.
func awaitDeadline(ctx context.Context, err error) {
	end, limited := ctx.Deadline()
	over := strings.Contains(err.Error(), context.DeadlineExceeded.Error()) || strings.Contains(err.Error(), net.ErrClosed.Error()) || errdefs.IsDeadlineExceeded(native(err)) || errdefs.IsCanceled(native(err))
	if limited && over && time.Until(end) < time.Second {
		<-ctx.Done()
	}
}

// native gives an error of containerd's API its errdefs class, which some of
// the client's methods do and others leave to the caller.
func native(err error) error {
	if _, raw := status.FromError(err); raw {
		return errgrpc.ToNative(err)
	}
	return err
}

// classOf is the errdefs class of an error of the client.
func classOf(err error) error {
	var network net.Error
	switch {
	case errors.Is(err, fs.ErrPermission): // of the engine's socket
		return errdefs.ErrPermissionDenied
	case errors.As(err, &network), strings.Contains(err.Error(), "ttrpc: closed"): // between containerd and a shim
		return errdefs.ErrUnavailable
	case errdefs.IsCanceled(err), errdefs.IsDeadlineExceeded(err): // within the engine: not ours
		return errdefs.ErrUnavailable
	}
	if class := errdefs.Resolve(err); class != nil && !errdefs.IsUnknown(class) {
		return class
	}
	return errdefs.ErrInternal
}

// locks are held by name.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when it is given back
}

// hold returns a function that gives the lock back.
func (l *locks) hold(ctx context.Context, name string) (release func(), err error) {
	for {
		l.mu.Lock()
		taken, isTaken := l.held[name]
		if !isTaken {
			if l.held == nil {
				l.held = map[string]chan struct{}{}
			}
			l.held[name] = make(chan struct{})
			l.mu.Unlock()
			return func() { l.release(name) }, nil
		}
		l.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot wait for another call for container %s: %w", name, ctx.Err())
		}
	}
}

func (l *locks) release(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[name])
	delete(l.held, name)
}

// broadcast wakes everybody who waits.
type broadcast struct {
	mu    sync.Mutex
	waker chan struct{}
}

// next is closed by the next tell.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waker == nil {
		b.waker = make(chan struct{})
	}
	return b.waker
}

func (b *broadcast) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waker != nil {
		close(b.waker)
		b.waker = nil
	}
}

// pause waits a moment, or less.
func pause(ctx context.Context, moment time.Duration, sooner <-chan struct{}) {
	timer := time.NewTimer(moment)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-sooner:
	case <-ctx.Done():
	}
}
