package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/engine"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/fake"
)

// clinging is an engine that cannot remove one container, until it is let go.
type clinging struct {
	sandbox.Engine
	id    string
	loose atomic.Bool
}

func (e *clinging) Remove(ctx context.Context, id string) error {
	if id == e.id && !e.loose.Load() {
		return errors.New("device or resource busy")
	}
	return e.Engine.Remove(ctx, id)
}

// A container that cannot be removed keeps its plugin from being started as long
// as it is there, and neither another plugin nor the daemon.
func TestStuckContainer(t *testing.T) {
	s := newStage(t)
	sc := script{registers: []wire.Registration{tool("echo")}}
	good, stuck := s.install("good", sc), s.install("stuck", sc)
	was := s.status(good)
	holding := &clinging{Engine: s.engine, id: s.status(stuck).Instance}
	s.engine = holding
	s.handOver(func() {
		if err := os.Remove(filepath.Join(s.home.Instance(holding.id), "instance.json")); err != nil {
			t.Fatal(err)
		}
	})
	s.eventually("the other plugin is taken over", s.runs(good))
	if st := s.status(good); st.Instance != was.Instance {
		t.Errorf("it runs as %s, was %s", st.Instance, was.Instance)
	}
	s.eventually("the plugin waits", func() bool { return strings.Contains(s.status(stuck).LastError, "busy") })
	if st := s.status(stuck); st.State != supervisor.StateBackoff || st.ShortRuns != 0 || len(s.containers()) != 2 {
		t.Errorf("the plugin is %+v, with %d containers", st, len(s.containers()))
	}
	holding.loose.Store(true)
	s.eventually("the plugin runs", s.runs(stuck))
	s.call(stuck)
	s.eventually("two containers are left", func() bool { return len(s.containers()) == 2 })
}

// Of two containers of a plugin only the newest is taken over, if any.
func TestTakeOverTheNewest(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	was := s.status(key)
	p, err := s.catalog.get(key.Tenant, key.ID)
	if err != nil {
		t.Fatal(err)
	}
	next, err := s.store.NextGeneration(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	plan, _, err := s.plan(p, next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.factory.Prepare(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	s.handOver(func() {
		if got := len(s.containers()); got != 2 {
			t.Fatalf("%d containers, want 2", got)
		}
	})
	s.eventually("it runs", s.runs(key))
	if st := s.status(key); st.Generation <= next || st.Instance == was.Instance {
		t.Errorf("it runs as %+v, was %+v", st, was)
	}
	s.call(key)
	s.eventually("one container is left", func() bool { return len(s.containers()) == 1 })
}

// A load check that was under way is not taken for the plugin's newest container.
func TestTakeOverBesideACheck(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	was := s.status(key)
	p, err := s.catalog.get(key.Tenant, key.ID)
	if err != nil {
		t.Fatal(err)
	}
	check := instance.Plan{Key: key, Descriptor: p.Descriptor, Payload: p.Payload, Discovery: true, Generation: 1 << 60}
	in, err := s.factory.Prepare(t.Context(), check)
	if err == nil {
		err = in.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.handOver(func() {})
	s.eventually("it runs", s.runs(key))
	if st := s.status(key); st.Instance != was.Instance {
		t.Errorf("it runs as %s, was %s", st.Instance, was.Instance)
	}
	s.eventually("one container is left", func() bool { return len(s.containers()) == 1 })
}

// A database that was restored from a backup knows of fewer generations than
// were made: none of their numbers is given to a container while another has it.
func TestRestoredDatabase(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	backup := filepath.Join(t.TempDir(), "state.db")
	db := s.home.DB()
	s.handOver(func() { copyFile(t, db, backup) })
	s.eventually("it runs", s.runs(key))
	for range 2 {
		if _, err := (pluginAPI{s.Daemon}).Restart(operator(t.Context()), key.Tenant, key.ID); err != nil {
			t.Fatal(err)
		}
	}
	was := s.status(key)
	s.engine = slow{s.engine}
	s.handOver(func() {
		copyFile(t, backup, db)
		for _, suffix := range []string{"-wal", "-shm"} {
			if err := os.RemoveAll(db + suffix); err != nil {
				t.Fatal(err)
			}
		}
	})
	s.eventually("it runs under the restored database", s.runs(key))
	for range 3 {
		if _, err := (pluginAPI{s.Daemon}).Restart(operator(t.Context()), key.Tenant, key.ID); err != nil {
			t.Fatal(err)
		}
		s.call(key)
	}
	if st := s.status(key); st.ShortRuns != 0 || st.LastExit.Class != supervisor.ClassStopped {
		t.Errorf("%+v, was %+v", st, was)
	}
	s.eventually("one container is left", func() bool { return len(s.containers()) == 1 })
}

// slow is an engine that takes its time to remove a container.
type slow struct{ sandbox.Engine }

func (e slow) Remove(ctx context.Context, id string) error {
	time.Sleep(200 * time.Millisecond)
	return e.Engine.Remove(ctx, id)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The copy of a home has the same containers as the home: its daemon would end
// those of the other. A home that was moved is taken as it is.
func TestCopiedHome(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	dir := s.home.Dir()
	twin := dir + "-copy"
	t.Cleanup(func() {
		if err := os.RemoveAll(twin); err != nil {
			t.Error(err)
		}
	})
	if out, err := exec.Command("cp", "-a", dir, twin).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	claim := func(dir string) error {
		d := newDaemon(Options{Home: dir, Stderr: io.Discard}, supervisor.Policy{})
		return errors.Join(d.openHome(t.Context()), d.Close())
	}
	for range 2 { // it does not get another's by trying
		err := claim(twin)
		if !errdefs.IsFailedPrecondition(err) || fault.Of(err).Code != "home_copied" || !strings.Contains(err.Error(), dir) {
			t.Fatalf("the copy of a home that is in use: %v", err)
		}
	}
	s.handOver(func() {
		if err := claim(twin); fault.Of(err).Code != "home_copied" {
			t.Errorf("the copy of a home that is not in use: %v", err)
		}
		if err := claim(dir); err != nil {
			t.Errorf("the home itself: %v", err)
		}
		aside := dir + "-aside"
		if err := os.Rename(dir, aside); err != nil {
			t.Fatal(err)
		}
		if err := claim(twin); err != nil {
			t.Errorf("what took the place of a home: %v", err)
		}
		if err := os.RemoveAll(twin); err != nil {
			t.Fatal(err)
		}
		if err := claim(aside); err != nil {
			t.Errorf("a home that was moved: %v", err)
		}
		if err := os.Rename(aside, dir); err != nil {
			t.Fatal(err)
		}
	})
	s.eventually("the plugin runs", s.runs(key))
	s.call(key)
}

// Another home in the place that a home was moved from is no reason to refuse.
func TestMovedHome(t *testing.T) {
	claim := func(dir string) error {
		d := newDaemon(Options{Home: dir, Stderr: io.Discard}, supervisor.Policy{})
		return errors.Join(d.openHome(t.Context()), d.Close())
	}
	base := t.TempDir()
	first, second := filepath.Join(base, "first"), filepath.Join(base, "second")
	if err := claim(first); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(first, second); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{first, second, first, second} {
		if err := claim(dir); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// The engine that a home used before is asked until it has answered.
func TestLeaveEngine(t *testing.T) {
	s := newStage(t)
	s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	t.Setenv("CONTAINERD_ADDRESS", filepath.Join(t.TempDir(), "nothing.sock"))
	for range 2 {
		if s.leaveEngine(t.Context(), engine.Containerd); s.before != engine.Containerd {
			t.Fatalf("an engine that does not answer is given up: %q", s.before)
		}
	}
	stuck := &clinging{Engine: s.engine, id: s.containers()[0].ID}
	if err := s.removeOurs(t.Context(), stuck); err == nil || len(s.containers()) != 1 {
		t.Errorf("an engine that cannot remove a container: %v", err)
	}
	stuck.loose.Store(true)
	if err := s.removeOurs(t.Context(), stuck); err != nil {
		t.Error(err)
	}
	failing := fake.New(fake.Options{Fail: func(context.Context, string, string) error { return errdefs.ErrUnavailable }})
	if err := s.removeOurs(t.Context(), failing); !errdefs.IsUnavailable(err) {
		t.Errorf("an engine that goes away: %v", err)
	}
}

func TestIsStray(t *testing.T) {
	s := newStage(t)
	now := time.Now()
	labels := func(role string) map[string]string {
		return map[string]string{sandbox.LabelRole: role, sandbox.LabelTenant: "default", sandbox.LabelPlugin: "demo"}
	}
	for name, tc := range map[string]struct {
		c    sandbox.Container
		want bool
	}{
		"a plugin's that nobody made": {sandbox.Container{Labels: labels(sandbox.RolePlugin), State: sandbox.StateCreated}, true},
		"a load check":                {sandbox.Container{Labels: labels(sandbox.RoleCheck), State: sandbox.StateRunning, StartedAt: now.Add(-time.Minute)}, false},
		"a load check without an end": {sandbox.Container{Labels: labels(sandbox.RoleCheck), State: sandbox.StateRunning, StartedAt: now.Add(-time.Hour)}, true},
		"an npm":                      {sandbox.Container{Labels: labels(sandbox.RoleInstall), State: sandbox.StateRunning, StartedAt: now.Add(-15 * time.Minute)}, false},
		"an npm without an end":       {sandbox.Container{Labels: labels(sandbox.RoleInstall), State: sandbox.StateExited, StartedAt: now.Add(-time.Hour)}, true},
		"a clean that is being made":  {sandbox.Container{Labels: labels(sandbox.RoleClean), State: sandbox.StateCreated}, false},
	} {
		if got := s.isStray(&tc.c, now); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	done := s.generations.begin(plugin.Key{Tenant: "default", ID: "demo"})
	defer done()
	if s.isStray(&sandbox.Container{Labels: labels(sandbox.RolePlugin)}, now) {
		t.Error("a plugin's that is being made is a stray")
	}
}
