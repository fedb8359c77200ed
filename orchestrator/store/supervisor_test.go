package store_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/store"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
)

var echo = plugin.Key{Tenant: plugin.DefaultTenant, ID: "echo"}

// launcher makes instances that are ready at once and end when told.
type launcher struct{}

func (launcher) Prepare(context.Context, plugin.Key, uint64) (supervisor.Instance, error) {
	return &instance{done: make(chan struct{})}, nil
}

type instance struct{ done chan struct{} }

func (i *instance) ID() string                                { return "echo" }
func (i *instance) Start(context.Context) error               { return nil }
func (i *instance) Done() <-chan struct{}                     { return i.done }
func (i *instance) Exit() supervisor.Exit                     { return supervisor.Exit{} }
func (i *instance) Ping(context.Context) error                { return nil }
func (i *instance) Stop(context.Context, time.Duration) error { close(i.done); return nil }
func (i *instance) Close(context.Context) error               { return nil }

// TestUnderTheSupervisor proves that quarantine and generations hold over a
// restart of the daemon. It is here so that the supervisor's own tests, and
// what its fuzzing instruments, stay free of SQLite.
func TestUnderTheSupervisor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	for round, want := range []supervisor.State{supervisor.StateRunning, supervisor.StateQuarantined} {
		st, err := store.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.PutPlugin(t.Context(), plugin.Installed{Key: echo}); err != nil {
			t.Fatal(err)
		}
		s := supervisor.New(supervisor.Config{Launcher: launcher{}, Store: st, Logger: slog.New(slog.DiscardHandler)})
		if err := s.Add(t.Context(), echo, true); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if _, err := s.Ready(t.Context(), echo); err != nil {
				t.Fatal(err)
			}
		}
		status, err := s.Status(echo)
		if err != nil || status.State != want {
			t.Errorf("round %d: status %+v, %v, want %s", round, status, err, want)
		}
		if err := s.Quarantine(t.Context(), echo, "the digest differs"); err != nil {
			t.Error(err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if n, err := st.Generation(t.Context(), echo); err != nil || n != 1 {
			t.Errorf("round %d: generation %d, %v, want 1", round, n, err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}
