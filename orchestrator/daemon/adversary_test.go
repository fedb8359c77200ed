package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
)

// clinging is an engine that cannot remove one container.
type clinging struct {
	sandbox.Engine
	id string
}

func (e clinging) Remove(ctx context.Context, id string) error {
	if id == e.id {
		return errors.New("device or resource busy")
	}
	return e.Engine.Remove(ctx, id)
}

// What runs goes on when a daemon cannot start, and is taken over by one that
// can.
func TestRecoverFails(t *testing.T) {
	s := newStage(t)
	sc := script{registers: []wire.Registration{tool("echo")}}
	good, off := s.install("good", sc), s.install("off", sc)
	was := s.status(good)
	engine := s.engine
	stuck := clinging{engine, s.status(off).Instance}
	s.leaving = true
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text := `{"plugins": {"entries": {"good": {}, "off": {"enabled": false}}}}`
	if err := os.WriteFile(config.PathFor(s.home.Dir(), plugin.DefaultTenant), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDaemon(Options{Home: s.home.Dir(), Stderr: io.Discard}, s.policy)
	d.engine, d.info, d.image, d.logger = stuck, s.info, fakeImage, s.logger
	var err error
	for _, step := range []func(context.Context) error{d.openHome, d.openAudit, d.openTokens, d.openBus, d.wire, d.recover} {
		if err = step(t.Context()); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "busy") {
		t.Fatalf("recover = %v, want that a container cannot be removed", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	s.open(s.home.Dir(), engine)
	s.eventually("the plugin runs", s.runs(good))
	if st := s.status(good); st.Instance != was.Instance {
		t.Errorf("the plugin runs as %s, was %s: the daemon that failed has ended it", st.Instance, was.Instance)
	}
	s.call(good)
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
	done := s.generations.make(plugin.Key{Tenant: "default", ID: "demo"})
	defer done()
	if s.isStray(&sandbox.Container{Labels: labels(sandbox.RolePlugin)}, now) {
		t.Error("a plugin's that is being made is a stray")
	}
}
