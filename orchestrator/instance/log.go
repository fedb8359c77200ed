package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
)

// lastLines returns the last n lines of the container's output, or nothing
// when they cannot be had.
func (in *Instance) lastLines(ctx context.Context, n int) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	var out strings.Builder
	if err := in.engine.Logs(ctx, in.id, sandbox.LogOptions{Tail: n}, &out); err != nil {
		in.logger.Debug("cannot read the last lines", "error", err)
	}
	return strings.TrimRight(out.String(), "\n")
}

// How much of an instance's output outlives it, the newest.
const (
	keptLines = 2000
	keptBytes = 8 << 20 // of sandbox.LogLines in JSON
	keepTime  = 10 * time.Second
)

// keepLog writes the end of the container's output to path, as
// sandbox.LogLines in JSON. What cannot be kept is not worth failing for: the
// container is being removed.
func (in *Instance) keepLog(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	var kept tailLines
	err := in.engine.Logs(ctx, in.id, sandbox.LogOptions{Tail: keptLines, JSON: true}, &kept)
	if errdefs.IsNotFound(err) {
		return
	}
	if ran := err == nil && in.hasEnded(); ran || len(kept.lines) > 0 {
		err = errors.Join(err, replaceFile(path, slices.Concat(kept.lines...)))
	}
	if err != nil {
		in.logger.Warn("cannot keep the output of a container", "container", in.id, "error", err)
	}
}

// replaceFile puts a whole file in the place of another: whoever reads sees one
// or the other.
func replaceFile(path string, data []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// tailLines keeps the last lines that were written to it, one by each Write.
type tailLines struct {
	lines [][]byte
	size  int
}

func (t *tailLines) Write(line []byte) (int, error) {
	t.lines, t.size = append(t.lines, bytes.Clone(line)), t.size+len(line)
	for len(t.lines) > keptLines || t.size > keptBytes {
		t.size -= len(t.lines[0])
		t.lines = t.lines[1:]
	}
	return len(line), nil
}

// PreviousLines returns what the instance before the present one printed, as
// options.Since and Tail say: at most 2000 lines. NotFound when there was none.
func (f *Factory) PreviousLines(key plugin.Key, options sandbox.LogOptions) ([]sandbox.LogLine, error) {
	data, err := os.ReadFile(f.Home.PreviousLog(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(errdefs.ErrNotFound, "no_log", "plugin %s has no output of an earlier run", key).
			WithHint("it did not run yet, or runs for the first time: leave out --previous")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the log of plugin %s: %w", key, err)
	}
	lines := parseLines(data, options.Since)
	if options.Tail > 0 && options.Tail < len(lines) {
		lines = lines[len(lines)-options.Tail:]
	}
	return lines, nil
}

// parseLines reads what keepLog wrote. A line of another form is shown as it
// is, without a time.
func parseLines(data []byte, since time.Time) []sandbox.LogLine {
	var lines []sandbox.LogLine
	for text := range bytes.Lines(data) {
		var line sandbox.LogLine
		if err := json.Unmarshal(text, &line); err != nil || line.Stream == "" {
			line = sandbox.LogLine{Stream: sandbox.Stdout, Line: string(bytes.TrimSuffix(text, []byte("\n")))}
		}
		if !line.Time.Before(since) {
			lines = append(lines, line)
		}
	}
	return lines
}
