package daemon

import (
	"os"
	"testing"

	"github.com/ocmt/ocmt/bus/wire"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
)

func (s *stage) status(key plugin.Key) supervisor.Status {
	s.t.Helper()
	st, err := s.supervisor.Status(key)
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

func (s *stage) runs(key plugin.Key) func() bool {
	return func() bool { return s.status(key).State == supervisor.StateRunning }
}

func (s *stage) containers() []sandbox.Container {
	s.t.Helper()
	list, err := s.engine.List(s.t.Context(), s.ours())
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// call calls echo and fails the test unless the answer is what was sent.
func (s *stage) call(key plugin.Key) {
	s.t.Helper()
	result, err := toolAPI{s.Daemon}.Call(operator(s.t.Context()), key.Tenant, key.ID, "echo", v1.CallRequest{Params: []byte(`{"n":1}`)}, httpapi.CallWatch{})
	if err != nil || string(result.Result) != `{"n":1}` {
		s.t.Errorf("call of %s = %s, %v", key, result.Result, err)
	}
}

// Plugins that run go on under the next daemon: the same containers, and no
// start is counted. What was switched off meanwhile, and what changed, does not.
func TestTakeOver(t *testing.T) {
	s := newStage(t)
	sc := script{registers: []wire.Registration{tool("echo")}}
	same, off, changed := s.install("same", sc), s.install("off", sc), s.install("changed", sc)
	before := map[plugin.Key]supervisor.Status{}
	for _, key := range []plugin.Key{same, off, changed} {
		before[key] = s.status(key)
	}
	s.handOver(func() {
		if got := len(s.containers()); got != 3 {
			t.Errorf("%d containers run while no daemon does, want 3", got)
		}
		text := `{"plugins": {"entries": {"same": {}, "off": {"enabled": false}, "changed": {"config": {"n": 1}}}}}`
		if err := os.WriteFile(config.PathFor(s.home.Dir(), plugin.DefaultTenant), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	s.eventually("the plugin is taken over", s.runs(same))
	if st, was := s.status(same), before[same]; st.Instance != was.Instance || st.Generation != was.Generation || st.Restarts != 0 {
		t.Errorf("taken over as %+v, was %+v", st, was)
	}
	s.call(same)
	if shown, err := (pluginAPI{s.Daemon}).Get(t.Context(), same.Tenant, same.ID); err != nil || !shown.Adopted || shown.State != "running" {
		t.Errorf("shown as %+v, %v", shown.Plugin, err)
	}
	if got := s.outcomes("plugin.adopt"); len(got) < 2 || got[0] != outcomeBegun {
		t.Errorf("records of the take-over: %v", got)
	}
	s.eventually("the changed plugin is made anew", func() bool {
		st := s.status(changed)
		return st.State == supervisor.StateRunning && st.Generation > before[changed].Generation
	})
	s.call(changed)
	if st := s.status(off); st.State != supervisor.StateStopped {
		t.Errorf("the plugin that was switched off is %s", st.State)
	}
	s.eventually("two containers are left", func() bool { return len(s.containers()) == 2 })
}

// A container that belongs to nobody is removed when it was seen twice, one
// that somebody removed is noticed, and an engine that does not answer is told.
func TestReconcile(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	was := s.status(key)
	u := s.running(key)
	s.generations.closed(u) // as if it were not ours
	strays := s.reconcile(t.Context(), nil)
	if !strays[was.Instance] || len(s.containers()) != 1 {
		t.Fatalf("strays %v after the first look, %d containers", strays, len(s.containers()))
	}
	s.reconcile(t.Context(), strays)
	s.eventually("the plugin runs in another container", func() bool {
		st := s.status(key)
		return st.State == supervisor.StateRunning && st.Instance != was.Instance
	})
	if got := len(s.containers()); got != 1 {
		t.Errorf("%d containers, want 1", got)
	}
}
