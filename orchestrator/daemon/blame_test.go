package daemon

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// What goes wrong before any code of the plugin runs is held against it only
// where it is its own.
func TestBlameHost(t *testing.T) {
	for _, tt := range []struct {
		err  error
		host bool
	}{
		{fmt.Errorf("cannot write ca.pem: %w", syscall.ENOSPC), true},
		{errors.Join(syscall.EROFS, errors.New("more")), true},
		{fmt.Errorf("strange: %w", errdefs.ErrInternal), true},
		{fmt.Errorf("no engine: %w", errdefs.ErrUnavailable), true},
		{fmt.Errorf("altered: %w", errdefs.ErrDataLoss), false},
		{fault.New(errdefs.ErrInvalidArgument, "limits_too_large", "too much"), false},
		{fault.New(fault.ErrPlugin, "load", "it throws"), false},
	} {
		got := blameHost(tt.err)
		if errdefs.IsUnavailable(got) != tt.host || !errors.Is(got, tt.err) {
			t.Errorf("%v became %v", tt.err, got)
		}
		if tt.host && fault.Of(got).Message == "" {
			t.Errorf("%v says nothing", got)
		}
	}
}
