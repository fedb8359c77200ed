package audit

import (
	"context"
	"errors"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// unwritable says why the log at dir cannot record: ResourceExhausted where
// there is no room, otherwise Unavailable.
func unwritable(dir string, err error) error {
	if known := (*fault.Error)(nil); errors.As(err, &known) {
		return err
	}
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return fault.New(errdefs.ErrResourceExhausted, "audit_full", "cannot write the audit log: %w", err).
				WithHint("free space on the file system of %s; recording goes on by itself then", dir).WithRetry()
		}
	}
	return fault.New(errdefs.ErrUnavailable, "audit_unavailable", "cannot write the audit log: %w", err).
		WithHint("look after the file system of %s; recording goes on by itself then", dir).WithRetry()
}

func errClosed() error {
	return fault.New(errdefs.ErrUnavailable, "audit_closed", "cannot write the audit log: it is closed")
}

// waited says that a caller gave up.
func waited(ctx context.Context) error {
	class := context.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		class = context.DeadlineExceeded
	}
	return fault.New(class, "audit_slow", "gave up waiting for the audit log: %w", ctx.Err()).
		WithHint("the disk that holds it is slow or hangs")
}
