package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/logfile"
)

// drainTime is how long the output of a container that has ended may take to
// be read to its end.
const drainTime = 5 * time.Second

// output reads what a container prints, from its FIFOs into its log.
type output struct {
	stdout, stderr *os.File
	log            *logfile.Writer
	begin          sync.Once
	copies         sync.WaitGroup
	done           chan struct{} // closed when all was read, or by close
}

// openOutput opens a container's FIFOs. They are not read before its shim has
// opened them too: without a writer, a FIFO seems to be at its end.
func (e *Engine) openOutput(id string, logSize int64) (*output, error) {
	out := &output{done: make(chan struct{})}
	var err error
	if out.stdout, err = e.openFIFO(id, sandbox.Stdout); err == nil {
		out.stderr, err = e.openFIFO(id, sandbox.Stderr)
	}
	if err == nil {
		out.log, err = logfile.Open(e.path(id, logDir), logSize, sandbox.LogFiles)
	}
	if err != nil {
		out.close()
		return nil, fmt.Errorf("cannot read the output of container %s: %w: %w", id, err, errdefs.ErrUnavailable)
	}
	out.log.Logger = e.logger
	return out, nil
}

func (e *Engine) openFIFO(id, stream string) (*os.File, error) {
	return os.OpenFile(e.path(id, stream), os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// keepOutput begins to read.
func (e *Engine) keepOutput(id string, out *output) {
	e.mu.Lock()
	e.outputs[id] = out
	e.mu.Unlock()
	out.read(func(err error) {
		e.logger.Warn("cannot read the output of a container", "container", id, "error", err)
	})
}

func (o *output) read(report func(error)) {
	for stream, fifo := range map[string]io.Reader{sandbox.Stdout: o.stdout, sandbox.Stderr: o.stderr} {
		o.copies.Go(func() {
			if err := o.log.Copy(stream, fifo); err != nil && !errors.Is(err, os.ErrClosed) {
				report(err)
			}
		})
	}
	go func() {
		o.copies.Wait()
		o.close()
	}()
}

// close ends the reading, whatever is unread; what waits in the FIFOs stays
// there while the container's shim has them open.
func (o *output) close() {
	o.begin.Do(func() {
		for _, fifo := range []*os.File{o.stdout, o.stderr} {
			if fifo != nil {
				fifo.Close()
			}
		}
		o.copies.Wait()
		if o.log != nil {
			_ = o.log.Close() // what was lost is in the log
		}
		close(o.done)
	})
}

func (e *Engine) outputOf(id string) *output {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.outputs[id]
}

// drain waits until the output of a container that has ended is read.
func (e *Engine) drain(ctx context.Context, id string) {
	if out := e.outputOf(id); out != nil {
		pause(ctx, drainTime, out.done)
	}
}

// endOutput forgets the output of a container that has no task.
func (e *Engine) endOutput(id string) {
	e.mu.Lock()
	out := e.outputs[id]
	delete(e.outputs, id)
	e.mu.Unlock()
	if out != nil {
		out.close()
	}
}

// takeOver goes on reading the output of the home's running containers, and
// removes the files of containers that are gone.
func (e *Engine) takeOver(ctx context.Context) error {
	all, err := e.List(ctx, map[string]string{sandbox.LabelHome: e.home})
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.State != sandbox.StateRunning {
			continue
		}
		out, err := e.openOutput(c.ID, e.readRecord(c.ID).LogSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was started with another directory
		}
		if err != nil {
			e.logger.Warn("cannot read the output of a container", "container", c.ID, "error", err)
			continue
		}
		e.keepOutput(c.ID, out)
	}
	return e.sweep(ctx)
}

// sweep removes what was left by a process that died within Remove.
func (e *Engine) sweep(ctx context.Context) error {
	entries, err := os.ReadDir(e.path(""))
	if err != nil {
		return fmt.Errorf("cannot look for files of containers: %w: %w", err, errdefs.ErrUnavailable)
	}
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := e.bound(ctx)
	defer cancel()
	all, err := e.client.ContainerService().List(ctx)
	if err != nil {
		return e.fail(ctx, "list containers", err)
	}
	known := map[string]bool{}
	for _, c := range all {
		known[c.ID] = true
	}
	for _, entry := range entries {
		if !known[entry.Name()] {
			err = errors.Join(err, e.removeFiles(entry.Name()))
		}
	}
	return err
}

// Logs reads the container's log.
func (e *Engine) Logs(ctx context.Context, id string, options sandbox.LogOptions, w io.Writer) error {
	c, err := e.look(ctx, id)
	if err != nil || c.State == sandbox.StateCreated {
		return err
	}
	ended := make(chan struct{})
	follow, cancel := context.WithCancel(ctx)
	defer cancel()
	switch {
	case c.State == sandbox.StateExited:
		e.drain(ctx, id)
		close(ended)
	case options.Follow:
		go func() {
			if _, err := e.Wait(follow, id); err == nil || follow.Err() == nil { // else Read ends by itself
				close(ended)
			}
		}()
	}
	return logfile.Read(ctx, e.path(id, logDir), options, ended, w)
}
