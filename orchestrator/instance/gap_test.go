package instance_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/fake"
)

// flaky is a runner whose first connection ends with its first call. It comes
// back once back is closed.
func flaky(back <-chan struct{}) func(context.Context, sandbox.Spec, io.Writer) int {
	return func(ctx context.Context, spec sandbox.Spec, out io.Writer) int {
		hung := make(chan struct{})
		hang := func([]byte) any { close(hung); return nil }
		r, err := dial(spec, map[string]func([]byte) any{subject.Tool: hang})
		if err != nil {
			return 1
		}
		var generation uint64
		ask(ctx, r, &generation)
		<-hung
		r.conn.Close()
		select {
		case <-back:
			return answering(ctx, spec)
		case <-ctx.Done():
			return 143
		}
	}
}

// answering is a runner that answers all calls.
func answering(ctx context.Context, spec sandbox.Spec) int {
	r, err := dial(spec, map[string]func([]byte) any{
		subject.Tool: func(data []byte) any {
			var call wire.ToolCall
			_ = json.Unmarshal(data, &call) // or the id is another call's
			return wire.ToolResult{Type: wire.TypeToolResult, ID: call.ID, Result: json.RawMessage(`"again"`)}
		},
		subject.Hook: func(data []byte) any {
			var call wire.HookCall
			_ = json.Unmarshal(data, &call)
			return wire.HookResult{Type: wire.TypeHookResult, ID: call.ID}
		},
	})
	if err != nil {
		return 1
	}
	defer r.conn.Close()
	var generation uint64
	ask(ctx, r, &generation)
	<-ctx.Done()
	return 143
}

// TestCallInAGap has a plugin lose its connection, and come back while its
// container runs: what it was doing has failed, and what comes meanwhile waits.
func TestCallInAGap(t *testing.T) {
	back := make(chan struct{})
	f, h, plan := setupWith(t, fake.Options{Run: flaky(back)})
	in, err := start(t, f, plan)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = in.CallTool(ctx, wire.ToolCall{ID: "c1", Tool: "echo"}, nil)
	if !errdefs.IsUnavailable(err) || errors.Is(err, bus.ErrNoRunner) || ctx.Err() != nil {
		t.Fatalf("the call that the connection ended with = %v, want Unavailable, and that it was sent", err)
	}
	if err := in.Ping(ctx); !errors.Is(err, bus.ErrNoRunner) {
		t.Fatalf("Ping while nobody is connected = %v, want that at once", err)
	}
	tool, hook := make(chan error, 1), make(chan error, 1)
	go func() { _, err := in.CallTool(ctx, wire.ToolCall{ID: "c2", Tool: "echo"}, nil); tool <- err }()
	go func() { _, err := in.CallHook(ctx, wire.HookCall{ID: "c3"}); hook <- err }()
	time.AfterFunc(100*time.Millisecond, func() { close(back) })
	if err := errors.Join(<-tool, <-hook); err != nil {
		t.Errorf("calls while the plugin is not connected: %v", err)
	}
	must(t, in.Close(t.Context()))
	expectNothing(t, h)
}

// TestCallInTheLastGap has the plugin not come back.
func TestCallInTheLastGap(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, f *instance.Factory, in *instance.Instance, cancel context.CancelFunc){
		"it ends": func(t *testing.T, f *instance.Factory, in *instance.Instance, _ context.CancelFunc) {
			must(t, f.Engine.Stop(context.WithoutCancel(t.Context()), in.ID(), 0))
		},
		"it is given up": func(t *testing.T, _ *instance.Factory, in *instance.Instance, _ context.CancelFunc) {
			must(t, in.Detach(t.Context()))
		},
		"it is closed": func(t *testing.T, _ *instance.Factory, in *instance.Instance, _ context.CancelFunc) {
			must(t, in.Close(t.Context()))
		},
		"the caller leaves": func(_ *testing.T, _ *instance.Factory, _ *instance.Instance, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			f, _, plan := setupWith(t, fake.Options{Run: flaky(nil)})
			in, err := start(t, f, plan)
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := in.CallTool(ctx, wire.ToolCall{ID: "c1", Tool: "echo"}, nil); !errdefs.IsUnavailable(err) {
				t.Fatal(err)
			}
			began := time.Now()
			time.AfterFunc(2*time.Millisecond, func() { end(t, f, in, cancel) })
			if _, err := in.CallTool(ctx, wire.ToolCall{ID: "c2", Tool: "echo"}, nil); !errors.Is(err, bus.ErrNoRunner) && !errdefs.IsCanceled(err) {
				t.Errorf("a call = %v, want that nobody took it", err)
			}
			if took := time.Since(began); took > patience/2 {
				t.Errorf("that took %s", took)
			}
			must(t, f.Discard(t.Context(), in.ID()))
		})
	}
}

// TestIncompleteList has lists of the engine lack a container: one that runs is
// left alone, and one that is gone is noticed, whatever the first Wait does.
func TestIncompleteList(t *testing.T) {
	t.Run("of one that runs", func(t *testing.T) { incompleteList(t, true) })
	t.Run("of one that is gone", func(t *testing.T) { incompleteList(t, false) })
}

func incompleteList(t *testing.T, runs bool) {
	t.Helper()
	f, h, plan := setupWith(t, fake.Options{Run: faithful})
	stuck := &deaf{Engine: f.Engine}
	f.Engine = stuck
	in, err := start(t, f, plan)
	must(t, err)
	for range 3 {
		in.Observe(nil)
		called(t, in)
	}
	if isDone(in) {
		t.Fatal("a container that runs has ended, since lists lacked it")
	}
	must(t, stuck.Remove(t.Context(), in.ID()))
	for deadline := time.Now().Add(patience); !isDone(in); time.Sleep(5 * time.Millisecond) {
		in.Observe(nil) // again, as every list does: the first Wait may not be asked yet
		if time.Now().After(deadline) {
			t.Fatal("a container that is gone was not noticed")
		}
	}
	must(t, in.Close(t.Context()))
	expectNothing(t, h)
}

// deaf is an engine whose first Wait never tells of anything.
type deaf struct {
	sandbox.Engine
	asked atomic.Bool
}

func (e *deaf) Wait(ctx context.Context, id string) (sandbox.Exit, error) {
	if e.asked.Swap(true) {
		return e.Engine.Wait(ctx, id)
	}
	<-ctx.Done()
	return sandbox.Exit{}, ctx.Err()
}
