package docker

import (
	"bytes"
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
//
// With options.JSON it relies on what the engine does since it has timestamps:
// one frame per message of its log, each with the time before it, and a line
// that is longer than a message in several.
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
	if err = copyLogs(sink, source, options.JSON); sink.err != nil {
		return fmt.Errorf("cannot write the output of container %s: %w", id, sink.err)
	}
	if errors.Is(context.Cause(ctx), errDrained) {
		return nil
	}
	return e.fail(ctx, what, err)
}

// copyLogs takes the engine's stream apart. What is left of a line when it
// ends is written too, whatever ended it.
func copyLogs(w io.Writer, source io.Reader, structured bool) error {
	if !structured {
		_, err := stdcopy.StdCopy(w, w, source)
		return err
	}
	stdout, stderr := frames{sandbox.NewLogEncoder(w, sandbox.Stdout)}, frames{sandbox.NewLogEncoder(w, sandbox.Stderr)}
	_, err := stdcopy.StdCopy(stdout, stderr, source)
	return errors.Join(err, stdout.Flush(), stderr.Flush())
}

// frames takes the time off the beginning of every frame.
type frames struct{ *sandbox.LogEncoder }

func (f frames) Write(p []byte) (int, error) {
	stamp, text, _ := bytes.Cut(p, []byte(" "))
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return 0, fmt.Errorf("the engine sent output without its time: %w", err)
	}
	if err := f.Add(at, text); err != nil {
		return 0, err
	}
	return len(p), nil
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
		Follow: options.Follow, Timestamps: options.JSON, Tail: "all",
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
