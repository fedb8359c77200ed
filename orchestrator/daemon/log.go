package daemon

import (
	"io"
	"log/slog"
	"os"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// newLogger writes text lines of at least the level to w.
func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	if w == nil {
		w = os.Stderr
	}
	var l slog.Level
	if level != "" {
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, fault.New(errdefs.ErrInvalidArgument, "bad_log_level", "there is no log level %q", level).
				WithHint("use debug, info, warn or error")
		}
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}
