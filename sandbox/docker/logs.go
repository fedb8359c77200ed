package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/ocmt/ocmt/sandbox"
)

// drain is how long the engine may go on sending the output of a container
// that has ended.
const drain = 5 * time.Second

// errDrained is the cause when a followed container has ended, and its output
// should have.
var errDrained = errors.New("the container has ended")

// Logs copies both output streams to w, in the engine's order.
func (e *Engine) Logs(ctx context.Context, id string, options sandbox.LogOptions, w io.Writer) error {
	c, err := e.find(ctx, id)
	if err != nil || timeOf(c.State.StartedAt).IsZero() {
		return err
	}
	options.Follow = options.Follow && stateOf(c.State) == sandbox.StateRunning
	what := "read the output of container " + id
	ctx, dog := e.watch(ctx, e.timeout)
	defer dog.close()
	body, err := e.client.ContainerLogs(ctx, c.ID, logsOptions(options))
	if err != nil {
		return e.fail(ctx, what, err)
	}
	defer body.Close()
	if options.Follow {
		dog.dismiss()
		go e.endFollow(ctx, dog.cancel, id, c.ID)
	}
	source := readerFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		if !options.Follow {
			dog.feed()
		}
		return n, err
	})
	sink := &sink{w: w}
	if _, err = stdcopy.StdCopy(sink, sink, source); sink.err != nil {
		return fmt.Errorf("cannot write the output of container %s: %w", id, sink.err)
	}
	if errors.Is(context.Cause(ctx), errDrained) {
		return nil
	}
	return e.fail(ctx, what, err)
}

// endFollow ends a stream that the engine does not end by itself.
func (e *Engine) endFollow(ctx context.Context, cancel context.CancelCauseFunc, id, cid string) {
	if _, _, err := e.waitOnce(ctx, id, cid); err != nil && ctx.Err() != nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(drain):
		cancel(errDrained)
	}
}

func logsOptions(options sandbox.LogOptions) container.LogsOptions {
	out := container.LogsOptions{
		ShowStdout: true, ShowStderr: true,
		Follow: options.Follow, Timestamps: options.Timestamps, Tail: "all",
	}
	if options.Tail > 0 {
		out.Tail = strconv.Itoa(options.Tail)
	}
	if !options.Since.IsZero() {
		out.Since = fmt.Sprintf("%d.%09d", options.Since.Unix(), options.Since.Nanosecond())
	}
	return out
}

// sink remembers whether it was the writer that failed.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}
