package instance

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/instance/state"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
)

// stopping is an engine that ends the instance it is asked to stop.
type stopping struct {
	sandbox.Engine
	in    *Instance
	fails int // at first
}

func (e *stopping) Stop(context.Context, string, time.Duration) error {
	if e.fails--; e.fails >= 0 {
		return errdefs.ErrUnavailable
	}
	e.in.end(sandbox.Exit{Code: 137})
	return nil
}

// watched is an instance of a factory that cannot mount, and its state.
func watched(t *testing.T, size int64) (*Factory, *Instance, string) {
	t.Helper()
	h, err := home.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &Factory{Config: Config{Home: h, Logger: slog.New(slog.DiscardHandler)}, volumes: state.New(slog.New(slog.DiscardHandler))}
	in := f.newInstance(Plan{Key: plugin.Key{Tenant: "default", ID: "demo"}, State: size})
	return f, in, h.State(in.plan.Key)
}

// TestWatchedState: where nothing can be mounted, who writes too much is ended,
// and not started again until that is mended.
func TestWatchedState(t *testing.T) {
	f, in, dir := watched(t, 1<<20)
	if err := f.keepState(t.Context(), in, 1<<20); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large")
	synctest.Test(t, func(t *testing.T) {
		in.done = make(chan struct{})
		in.engine = &stopping{in: in, fails: 1}
		go in.watchState(t.Context())
		write := func(size int) {
			if err := os.WriteFile(large, make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(900 << 10)
		time.Sleep(5 * stateInterval)
		if in.hasEnded() {
			t.Fatal("a plugin was ended within its bounds")
		}
		write(1100 << 10)
		time.Sleep(2*stateInterval + time.Second) // the engine is away at first
		if !in.hasEnded() || in.Exit().Code != 137 {
			t.Error("a plugin that wrote too much runs on")
		}
		synctest.Wait()
	})
	err := f.keepState(t.Context(), in, 1<<20)
	if got := fault.Of(err); got.Code != "state_full" || !errdefs.IsFailedPrecondition(err) || got.Hint == "" {
		t.Errorf("keepState() = %v, want state_full", err)
	}
	in.plan.State = 2 << 20
	if err := f.keepState(t.Context(), in, 1<<20); err != nil {
		t.Errorf("keepState() = %v of a larger state", err)
	}
	if f.stateKind() != StateWatched {
		t.Errorf("the state is a %s", f.stateKind())
	}
}

// TestWatchedStateHasAnImage: an empty directory in its place would look as if
// everything was lost.
func TestWatchedStateHasAnImage(t *testing.T) {
	f, in, dir := watched(t, 0)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.Home.StateImage(in.plan.Key), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := f.keepState(t.Context(), in, 1<<20)
	if got := fault.Of(err); got.Code != "state_in_image" || !errdefs.IsFailedPrecondition(err) || got.Hint == "" {
		t.Errorf("keepState() = %v, want state_in_image", err)
	}
}
