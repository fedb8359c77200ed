package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
)

// Logs implements httpapi.Plugins: the output of the present instance, or of
// the one before when that is asked for or none runs.
func (b plugins) Logs(ctx context.Context, tenant, ref string, q v1.LogQuery) (io.ReadCloser, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return nil, err
	}
	st, err := b.d.supervisor.Status(p.Key)
	if err != nil {
		return nil, err
	}
	if q.Previous || st.Instance == "" {
		return b.d.previousLog(p.Key, q.Tail)
	}
	opts := sandbox.LogOptions{Follow: q.Follow, Since: q.Since, Tail: max(q.Tail, 0)}
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		err := b.d.engine.Logs(ctx, st.Instance, opts, w)
		if errors.Is(err, context.Canceled) || errdefs.IsNotFound(err) {
			err = nil // the reader left, or the instance did
		}
		w.CloseWithError(err)
	}()
	return &logReader{r, cancel}, nil
}

// logReader ends the engine's part when the reader is closed.
type logReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (l *logReader) Close() error {
	l.cancel()
	return l.PipeReader.Close()
}

func (d *Daemon) previousLog(key plugin.Key, tail int) (io.ReadCloser, error) {
	data, err := os.ReadFile(d.home.PreviousLog(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(errdefs.ErrNotFound, "no_log", "plugin %s has no output of an earlier run", key).
			WithHint("it did not run yet, or runs for the first time: leave out --previous")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the log of plugin %s: %w", key, err)
	}
	return io.NopCloser(bytes.NewReader(lastLines(data, tail))), nil
}

// lastLines returns the last n lines of data, all for n <= 0.
func lastLines(data []byte, n int) []byte {
	if n <= 0 {
		return data
	}
	for i := len(bytes.TrimRight(data, "\n")); n > 0 && i > 0; n-- {
		if i = bytes.LastIndexByte(data[:i], '\n'); n == 1 {
			return data[i+1:]
		}
	}
	return data
}
