package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/sandbox"
)

// LogLines implements httpapi.Plugins: the output of the present instance, or
// of the one before when that is asked for or none runs.
func (b pluginAPI) LogLines(ctx context.Context, tenant, ref string, q v1.LogQuery, send func(v1.LogLine) error) error {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return err
	}
	st, err := b.d.supervisor.Status(p.Key)
	if err != nil {
		return err
	}
	opts := sandbox.LogOptions{Follow: q.Follow, Since: q.Since, Tail: max(q.Tail, 0), JSON: true}
	if q.Previous || st.Instance == "" {
		lines, err := b.d.factory.PreviousLines(p.Key, opts)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if err := send(v1.LogLine{Time: line.Time, Stream: line.Stream, Line: line.Line}); err != nil {
				return err
			}
		}
		return nil
	}
	out := lineSender{send: send}
	err = b.d.engine.Logs(ctx, st.Instance, opts, &out)
	if out.err != nil {
		return out.err
	}
	if errors.Is(err, context.Canceled) || errdefs.IsNotFound(err) {
		return nil // the reader left, or the instance did
	}
	return err
}

// lineSender passes on what an engine writes: one line in JSON a time.
type lineSender struct {
	send func(v1.LogLine) error
	err  error // of send
}

// Write implements io.Writer.
func (s *lineSender) Write(data []byte) (int, error) {
	var line v1.LogLine
	if err := json.Unmarshal(bytes.TrimSpace(data), &line); err != nil {
		return 0, fmt.Errorf("cannot read a line of a log: %w", err)
	}
	if s.err = s.send(line); s.err != nil {
		return 0, s.err
	}
	return len(data), nil
}
