package supervisor

import (
	"path/filepath"
	"testing"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/store"
)

// TestWithTheRealStore proves that quarantine and generations hold over a
// restart of the daemon.
func TestWithTheRealStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	m := newMemory(t)
	for round, want := range []State{StateRunning, StateQuarantined} {
		st, err := store.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.PutPlugin(t.Context(), plugin.Installed{Key: echo}); err != nil {
			t.Fatal(err)
		}
		s := New(Config{Launcher: m, Store: st, Logger: newLogger()})
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
