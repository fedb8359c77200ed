package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"

	"github.com/ocmt/ocmt/e2e/harness"
)

// TestServices has services started, stopped, fail and come back. Its subtests
// share a daemon.
func TestServices(t *testing.T) {
	d := start(t)
	c := connect(t, d)
	t.Run("order", func(t *testing.T) { serviceOrder(t, d, c) })
	install(t, d, beating)
	t.Run("commands", func(t *testing.T) { serviceCommands(t, d, c) })
	t.Run("failing starts", func(t *testing.T) { serviceFailingStarts(t, d, c) })
	t.Run("health", func(t *testing.T) { serviceHealth(t, d, c) })
	t.Run("killed", func(t *testing.T) { serviceKilled(t, d, c) })
	t.Run("escalation", func(t *testing.T) { serviceEscalates(t, d, c) })
}

// beating is a plugin whose only service, heart, can be told to fail.
const beating = "conformance-seed-cjs"

// noted is what the services of service-order noted.
type noted struct {
	Lines    []string
	Contexts map[string]map[string]string
}

// serviceOrder has services started in the order of their registration, with
// all that they are to be given, and stopped in reverse. The last one's start
// never returns, which holds up nobody.
func serviceOrder(t *testing.T, d *harness.Daemon, c *client.Client) {
	const id = "service-order"
	install(t, d, id)
	settled := func() bool {
		return service(t, c, id, "three").State == "running" && service(t, c, id, "never").State == "starting"
	}
	eventually(t, 10*time.Second, "three run and one is being started", settled)
	list, err := c.Services(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	states := []string{}
	for _, s := range list {
		states = append(states, s.ID+" "+s.State)
	}
	if diff := cmp.Diff([]string{"one running", "two running", "three running", "never starting"}, states); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	var got noted
	invoke(t, c, &got, id, "noted", `{}`)
	started := []string{"start one", "start two", "start three", "start never"}
	if diff := cmp.Diff(started, got.Lines); diff != "" {
		t.Errorf("noted (-want +got):\n%s", diff)
	}
	want := map[string]string{
		"state": "written", "stateDir": "/state", "workspaceDir": "string",
		"logger": "function", "reportFailure": "function", "clearFailure": "function", "emit": "function",
	}
	for _, name := range []string{"one", "two", "three"} {
		if diff := cmp.Diff(want, got.Contexts[name]); diff != "" {
			t.Errorf("context of %s (-want +got):\n%s", name, diff)
		}
	}

	// What a person stopped stays stopped when the plugin starts again.
	run(t, d, 0, nil, "services", "stop", id, "two")
	edit(t, filepath.Join(d.Home, "config.json"), `"`+id+`": {`, `"`+id+`": {"config": {"greeting": "salve"},`)
	eventually(t, 20*time.Second, "the plugin was restarted for its configuration", func() bool {
		return getInfo(t, d, id).Generation == 2 && settled()
	})
	got = noted{}
	invoke(t, c, &got, id, "noted", `{}`)
	lines := slices.Concat(started, []string{"stop two", "stop never", "stop three", "stop one", "start one", "start three", "start never"})
	if diff := cmp.Diff(lines, got.Lines); diff != "" {
		t.Errorf("noted after a restart (-want +got):\n%s", diff)
	}
	if got.Contexts["one"]["own"] != "salve" || len(got.Contexts) != 2 {
		t.Errorf("contexts %v, want the new configuration in two", got.Contexts)
	}
	if s := service(t, c, id, "two"); s.State != "stopped" || s.Desired {
		t.Errorf("what was stopped is %+v", s)
	}
	run(t, d, 0, nil, "plugins", "uninstall", id)
	if list, err := c.Services(t.Context(), tenant); err != nil || len(list) != 0 {
		t.Errorf("services after the uninstall: %+v, %v", list, err)
	}
}

// beats are how often heart was started and stopped in this generation.
func beats(t *testing.T, c *client.Client) (starts, stops int) {
	t.Helper()
	var got struct{ Starts, Stops int }
	invoke(t, c, &got, beating, "counter", `{}`)
	return got.Starts, got.Stops
}

// runs waits until heart runs, after restarts failures.
func runs(t *testing.T, c *client.Client, restarts int) {
	t.Helper()
	eventually(t, 15*time.Second, "the service runs", func() bool {
		s := service(t, c, beating, "heart")
		return s.State == "running" && s.Restarts == restarts && s.LastError == ""
	})
}

func serviceCommands(t *testing.T, d *harness.Daemon, c *client.Client) {
	runs(t, c, 0)
	run(t, d, 0, []string{beating, "heart", "running"}, "services", "list")
	for _, tc := range []struct {
		op            string
		state         string
		starts, stops int
	}{
		{"start", "running", 1, 0}, // it runs already
		{"stop", "stopped", 1, 1},
		{"stop", "stopped", 1, 1},
		{"start", "running", 2, 1},
		{"restart", "running", 3, 2},
	} {
		run(t, d, 0, nil, "services", tc.op, beating, "heart")
		starts, stops := beats(t, c)
		if s := service(t, c, beating, "heart"); s.State != tc.state || starts != tc.starts || stops != tc.stops {
			t.Errorf("%s: %s after %d starts and %d stops, want %+v", tc.op, s.State, starts, stops, tc)
		}
	}
	run(t, d, 3, []string{"no-such", "hint:"}, "services", "stop", beating, "no-such")
	run(t, d, 3, []string{"hint:"}, "services", "stop", "no-such-plugin", "heart")
	run(t, d, 2, nil, "services", "stop", beating)
	if records := audited(t, d, "service.stop", beating); len(records) < 4 || records[0]["target"] != "heart" {
		t.Errorf("the audit log holds %v", records)
	}
}

// serviceFailingStarts has start() throw twice: the third one is made without
// anybody's help.
func serviceFailingStarts(t *testing.T, d *harness.Daemon, c *client.Client) {
	invoke(t, c, nil, beating, "crash", `{"how":"fail-starts","times":2}`)
	run(t, d, 5, []string{"heart does not start, 1 more times"}, "services", "restart", beating, "heart")
	s := service(t, c, beating, "heart")
	if s.State != "backoff" || s.NextAttempt == nil || !strings.Contains(s.LastError, "does not start") {
		t.Errorf("after the first failure: %+v", s)
	}
	runs(t, c, 2)
	if starts, stops := beats(t, c); starts != 4 || stops != 3 { // one that threw is not stopped
		t.Errorf("%d starts and %d stops", starts, stops)
	}
}

// serviceHealth has the service report a failure, which is a restart. What
// failed before a person's restart does not count any more.
func serviceHealth(t *testing.T, d *harness.Daemon, c *client.Client) {
	run(t, d, 0, nil, "services", "restart", beating, "heart")
	starts, stops := beats(t, c)
	invoke(t, c, nil, beating, "crash", `{"how":"report","reason":"no pulse"}`)
	var failed v1.Service
	eventually(t, 5*time.Second, "the failure is known", func() bool {
		failed = service(t, c, beating, "heart")
		return failed.State != "running" || failed.Restarts == 3
	})
	if failed.State == "backoff" && failed.LastError != "no pulse" {
		t.Errorf("what it said is lost: %+v", failed)
	}
	runs(t, c, 3)
	if s, e := beats(t, c); s != starts+1 || e != stops+1 {
		t.Errorf("%d starts and %d stops, before %d and %d", s, e, starts, stops)
	}
}

// serviceKilled kills the container.
func serviceKilled(t *testing.T, d *harness.Daemon, c *client.Client) {
	before := getInfo(t, d, beating)
	container, err := d.Container(t.Context(), tenant, beating)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Engine().Kill(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the plugin came back", func() bool { return getInfo(t, d, beating).Generation > before.Generation })
	eventually(t, 10*time.Second, "the service came back", func() bool { return service(t, c, beating, "heart").State == "running" })
	if starts, stops := beats(t, c); starts != 1 || stops != 0 {
		t.Errorf("%d starts and %d stops in the new container", starts, stops)
	}
}

// serviceEscalates has start() throw three times, after which the container is
// replaced, as a person's restart would.
func serviceEscalates(t *testing.T, d *harness.Daemon, c *client.Client) {
	before := getInfo(t, d, beating)
	invoke(t, c, nil, beating, "crash", `{"how":"fail-starts","times":3}`)
	run(t, d, 5, nil, "services", "restart", beating, "heart")
	eventually(t, 20*time.Second, "the container was replaced and the service runs", func() bool {
		return getInfo(t, d, beating).Generation > before.Generation && service(t, c, beating, "heart").State == "running"
	})
	if starts, stops := beats(t, c); starts != 1 || stops != 0 {
		t.Errorf("%d starts and %d stops in the new container", starts, stops)
	}
	if i := getInfo(t, d, beating); i.Generation != before.Generation+1 || i.State != "running" {
		t.Errorf("generation %d, %s, before %d", i.Generation, i.State, before.Generation)
	}
	restarts := audited(t, d, "plugin.restart", beating)
	if len(restarts) == 0 || !strings.Contains(restarts[0]["target"].(string), "service heart keeps failing") || restarts[0]["actor"] != "ocmt" { //nolint:forcetypeassert // a target is a text
		t.Errorf("the audit log holds %v", restarts)
	}
}
