package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
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

// tenant is the only tenant of these tests.
const tenant = "default"

// connect returns a host's client of the daemon's admin socket.
func connect(t *testing.T, d *harness.Daemon) *client.Client {
	t.Helper()
	c := client.New(filepath.Join(d.Home, "ocmt", "run", "admin.sock"))
	t.Cleanup(c.Close)
	return c
}

// emit gives an event to the hooks.
func emit(t *testing.T, c *client.Client, event, payload string) v1.EmitResult {
	t.Helper()
	result, err := c.Emit(t.Context(), tenant, event, v1.EmitRequest{Payload: json.RawMessage(payload)})
	if err != nil {
		t.Fatalf("emitting %s %s: %v", event, payload, err)
	}
	return result
}

// statuses are the handlers of an event in the order of the pipeline, each as
// "plugin status".
func statuses(r v1.EmitResult) []string {
	list := []string{}
	for _, h := range r.Handlers {
		list = append(list, h.Plugin+" "+h.Status)
	}
	return list
}

// textOf returns a field of a JSON object that holds a text.
func textOf(t *testing.T, object json.RawMessage, field string) string {
	t.Helper()
	var fields map[string]json.RawMessage
	var text string
	if err := json.Unmarshal(object, &fields); err != nil {
		t.Fatalf("%v: %s", err, object)
	}
	if err := json.Unmarshal(fields[field], &text); err != nil {
		t.Fatalf("%s of %s: %v", field, object, err)
	}
	return text
}

// invoke calls a tool over the API and decodes what it returned.
func invoke(t *testing.T, c *client.Client, into any, plugin, tool, params string) v1.CallResult {
	t.Helper()
	result, err := c.Call(t.Context(), tenant, plugin, tool, v1.CallRequest{Params: json.RawMessage(params)})
	if err != nil {
		t.Fatalf("calling %s of %s: %v", tool, plugin, err)
	}
	if into != nil {
		if err := json.Unmarshal(result.Result, into); err != nil {
			t.Fatalf("calling %s of %s: %v: %s", tool, plugin, err, result.Result)
		}
	}
	return result
}

// service returns a service of a plugin.
func service(t *testing.T, c *client.Client, plugin, id string) v1.Service {
	t.Helper()
	list, err := c.Services(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(s v1.Service) bool { return s.Plugin == plugin && s.ID == id })
	if i < 0 {
		t.Fatalf("no service %s of %s in %+v", id, plugin, list)
	}
	return list[i]
}

// audited returns the records of the audit log with that action, of a plugin.
func audited(t *testing.T, d *harness.Daemon, action, plugin string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(run(t, d, 0, nil, "audit", "tail", "-n", "0", "--json")) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if record["action"] == action && record["plugin"] == plugin {
			found = append(found, record)
		}
	}
	return found
}

// conformance is one of the four plugins that do all that a plugin can, and
// what its form makes of it.
type conformance struct {
	id, form string
	// event is the gate that it has on messages, and field what it marks there.
	event, field string
	// hooks are all of its hooks.
	hooks []string
	// updates is how often its slow tool tells of itself: the document's form
	// gives tools neither a way to do so nor a signal.
	updates int
}

func conformancePlugins() []conformance {
	var list []conformance
	for _, module := range []string{"esm", "cjs"} {
		list = append(list,
			conformance{"conformance-seed-" + module, "export", "agent:message:before", "text", []string{"agent:message:before"}, 0},
			conformance{"conformance-register-" + module, "register", "message_sending", "content",
				[]string{"message_sending", "before_tool_call", "message_received"}, 4})
	}
	return list
}

// TestConformance has plugins of both forms and both module systems do all
// that a plugin can do, each of them alone.
func TestConformance(t *testing.T) {
	need(t)
	for _, p := range conformancePlugins() {
		t.Run(p.id, func(t *testing.T) {
			d := start(t)
			c := connect(t, d)
			install(t, d, p.id, "--accept-permissions")
			t.Run("registrations", func(t *testing.T) { p.registrations(t, c) })
			t.Run("tools", func(t *testing.T) { p.tools(t, c) })
			t.Run("progress", func(t *testing.T) { p.progress(t, c) })
			t.Run("configuration", func(t *testing.T) { p.configuration(t, d, c) })
			t.Run("hook", func(t *testing.T) { p.hook(t, c) })
			t.Run("emit", func(t *testing.T) { p.emit(t, c) })
			t.Run("service", func(t *testing.T) { p.service(t, d, c) })
			t.Run("crash", func(t *testing.T) { p.crash(t, d, c) })
			run(t, d, 0, nil, "plugins", "uninstall", p.id)
			if snapshot, err := c.Registrations(t.Context(), tenant); err != nil || len(snapshot.Registrations) != 0 {
				t.Errorf("registered after the uninstall: %+v, %v", snapshot.Registrations, err)
			}
		})
	}
}

func (p conformance) registrations(t *testing.T, c *client.Client) {
	snapshot, err := c.Registrations(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{}
	for _, tool := range []string{"echo", "slow", "fetch", "read", "env", "config", "counter", "seen", "emit", "crash"} {
		want = append(want, "tool "+tool+" "+p.form)
	}
	for _, hook := range p.hooks {
		want = append(want, "hook "+hook+" "+p.form)
	}
	want = append(want, "service heart "+p.form)
	got := []string{}
	for i, r := range snapshot.Registrations {
		if r.Plugin != p.id || r.Handler != i || r.Shadowed != "" {
			t.Errorf("registration %d is %+v", i, r)
		}
		got = append(got, r.Kind+" "+r.Name+" "+r.Form)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("registered (-want +got):\n%s", diff)
	}
	if again, err := c.Registrations(t.Context(), tenant); err != nil || again.Digest != snapshot.Digest || !strings.HasPrefix(again.Digest, "sha256:") {
		t.Errorf("the digest is %s and then %s, %v", snapshot.Digest, again.Digest, err)
	}
}

func (p conformance) tools(t *testing.T, c *client.Client) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil { //nolint:gosec // everybody on the host may read it
		t.Fatal(err)
	}
	for _, tc := range []struct{ tool, params, want string }{
		{"echo", `{"text":"<é>"}`, `{"text":"<é>"}`},
		{"slow", `{"ms":40}`, `{"waited":40}`},
		{"fetch", `{"url":"http://127.0.0.1:54321/"}`, `{"error":"ECONNREFUSED"}`},
		{"fetch", `{"url":"http://ocmt-e2e.test/"}`, `{"error":"ENOTFOUND"}`}, // it was not granted
		{"read", `{"path":"` + secret + `"}`, `{"error":"ENOENT"}`},
		{"read", `{"path":"/state/service.log"}`, `{"text":"start\n"}`},
		{"env", `{"name":"HOME"}`, `{"value":"/state/home"}`},
		{"env", `{"name":"OCMT_PLUGIN"}`, `{"value":"` + p.id + `"}`},
		{"env", `{"name":"OCMT_HOME"}`, `{"value":null}`},
		{"config", `{"path":"plugins.installs"}`, `{"value":null}`},
		{"counter", `{}`, `{"starts":1,"stops":0,"running":true}`},
		{"seen", `{}`, `{"events":[],"resolutions":[]}`},
	} {
		var got, want any
		invoke(t, c, &got, p.id, tc.tool, tc.params)
		if err := json.Unmarshal([]byte(tc.want), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tc.tool, tc.params, diff)
		}
	}
}

func (p conformance) progress(t *testing.T, c *client.Client) {
	var updates []string
	result, err := c.Stream(t.Context(), tenant, p.id, "slow", v1.CallRequest{Params: json.RawMessage(`{"ms":80}`)},
		client.Watch{Update: func(u json.RawMessage) { updates = append(updates, string(u)) }})
	if err != nil || string(result.Result) != `{"waited":80}` {
		t.Errorf("got %s, %v", result.Result, err)
	}
	want := make([]string, p.updates)
	for i := range want {
		want[i] = fmt.Sprintf(`{"step":%d,"steps":4}`, i+1)
	}
	if !slices.Equal(updates, want) {
		t.Errorf("updates %v, want %v", updates, want)
	}
}

// configuration is a person's edit of config.json: the plugin sees its own
// entry, after a restart that the edit causes.
func (p conformance) configuration(t *testing.T, d *harness.Daemon, c *client.Client) {
	edit(t, filepath.Join(d.Home, "config.json"), `"`+p.id+`": {`, `"`+p.id+`": {"config": {"greeting": "salve"},`)
	path := json.RawMessage(`{"path":"plugins.entries.` + p.id + `.config.greeting"}`)
	eventually(t, 20*time.Second, "the new configuration", func() bool {
		result, err := c.Call(t.Context(), tenant, p.id, "config", v1.CallRequest{Params: path})
		// Its own gate denies calls while it is being replaced.
		return err == nil && string(result.Result) == `{"value":"salve"}`
	})
	eventually(t, 10*time.Second, "the service runs again", func() bool { return service(t, c, p.id, "heart").State == "running" })
}

func (p conformance) hook(t *testing.T, c *client.Client) {
	changed := emit(t, c, p.event, `{"`+p.field+`":"hello","other":1}`)
	want := "hello [seen by " + p.id + "]"
	if changed.Outcome != v1.OutcomePass || textOf(t, changed.Payload, p.field) != want {
		t.Errorf("got %s %s, want it to pass with %q", changed.Outcome, changed.Payload, want)
	}
	if len(changed.Changes) != 1 {
		t.Fatalf("changes %+v, want one", changed.Changes)
	}
	change := changed.Changes[0]
	if change.Plugin != p.id || change.Path != "/"+p.field || string(change.Before) != `"hello"` || string(change.After) != `"`+want+`"` {
		t.Errorf("change %+v", change)
	}
	blocked := emit(t, c, p.event, `{"`+p.field+`":"forbidden"}`)
	if diff := cmp.Diff(&v1.HookBlock{Plugin: p.id, Reason: p.id + " forbids this text"}, blocked.BlockedBy); blocked.Outcome != v1.OutcomeBlock || diff != "" {
		t.Errorf("got %s (-want +got):\n%s", blocked.Outcome, diff)
	}
	if got := textOf(t, blocked.Payload, p.field); got != "forbidden" || len(blocked.Changes) != 0 {
		t.Errorf("what was blocked became %q, %+v", got, blocked.Changes)
	}
	one, err := c.Invoke(t.Context(), tenant, p.id, changed.Handlers[0].Handler, v1.InvokeRequest{Payload: json.RawMessage(`{"` + p.field + `":"alone"}`)})
	if err != nil || textOf(t, one.Payload, p.field) != "alone [seen by "+p.id+"]" {
		t.Errorf("invoked alone: %s, %v", one.Payload, err)
	}
}

// emit has the plugin send an event of its own, which those see who watch and
// the host that is attached.
func (p conformance) emit(t *testing.T, c *client.Client) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	heard, logged := make(chan v1.HostMessage, 10), make(chan v1.HostMessage, 100)
	host, err := c.Attach(ctx, tenant, "e2e", []string{v1.HostEmit, v1.HostLog}, func(_ context.Context, m v1.HostMessage) (json.RawMessage, error) {
		switch m.Method {
		case v1.HostEmit:
			heard <- m
		case v1.HostLog:
			logged <- m
		}
		return json.RawMessage("null"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan v1.PluginEvent, 10)
	watching := make(chan error, 1)
	go func() {
		watching <- c.Events(ctx, v1.EventQuery{Tenant: tenant, Follow: true}, func(e v1.Event) error {
			var sent v1.PluginEvent
			if e.Type == v1.EventPlugin && e.Plugin == p.id && json.Unmarshal(e.Data, &sent) == nil {
				seen <- sent
			}
			return nil
		})
	}()
	invoke(t, c, nil, p.id, "emit", `{"event":"pulse","payload":{"n":1}}`)
	select {
	case m := <-heard:
		if m.Plugin != p.id || textOf(t, m.Params, "event") != "pulse" {
			t.Errorf("the host heard %+v %s", m, m.Params)
		}
	case <-ctx.Done():
		t.Error("the host heard nothing")
	}
	select {
	case e := <-seen:
		if e.Event != "plugin."+p.id+".pulse" || string(e.Payload) != `{"n":1}` {
			t.Errorf("those who watch saw %+v", e)
		}
	case <-ctx.Done():
		t.Error("those who watch saw nothing")
	}
	if _, err := c.ChangeService(ctx, tenant, p.id, "heart", "restart"); err != nil { // it logs that
		t.Error(err)
	}
	for stop := ""; stop != "heart stop"; { // after what it logged of a start before, perhaps
		select {
		case m := <-logged:
			stop = textOf(t, m.Params, "message")
			if m.Plugin != p.id || textOf(t, m.Params, "level") != "info" || stop != "heart start" && stop != "heart stop" {
				t.Errorf("the host was told that %s logged %s", m.Plugin, m.Params)
			}
		case <-ctx.Done():
			t.Fatal("the host was not told what the plugin logged")
		}
	}
	cancel()
	if err := host.Wait(); err != nil {
		t.Errorf("the host was detached: %v", err)
	}
	if err := <-watching; err != nil {
		t.Errorf("the events ended: %v", err)
	}
}

// service restarts the plugin, which stops its service once and starts it
// again, and has the service report a failure.
func (p conformance) service(t *testing.T, d *harness.Daemon, c *client.Client) {
	running := func() bool { return service(t, c, p.id, "heart").State == "running" }
	run(t, d, 0, nil, "plugins", "restart", p.id)
	eventually(t, 10*time.Second, "the service runs again", running)
	var log struct{ Text string }
	invoke(t, c, &log, p.id, "read", `{"path":"/state/service.log"}`)
	if want := "start\nstop\nstart\nstop\nstart\nstop\nstart\n"; log.Text != want { // the configuration was changed, and it was restarted for its log, before
		t.Errorf("the service noted %q, want %q", log.Text, want)
	}
	invoke(t, c, nil, p.id, "crash", `{"how":"report","reason":"no pulse"}`)
	eventually(t, 10*time.Second, "the service was started again", func() bool {
		return service(t, c, p.id, "heart").Restarts == 1 && running()
	})
	var beats struct {
		Starts, Stops int
		Running       bool
	}
	invoke(t, c, &beats, p.id, "counter", `{}`)
	if beats.Starts != 2 || beats.Stops != 1 || !beats.Running {
		t.Errorf("after a failure that it reported: %+v", beats)
	}
}

// crash ends the plugin in the two ways that it can by itself; it comes back
// with its service.
func (p conformance) crash(t *testing.T, d *harness.Daemon, c *client.Client) {
	for _, params := range []string{`{"how":"exit","code":9}`, `{"how":"reject","reason":"nobody catches this"}`} {
		before := getInfo(t, d, p.id)
		invoke(t, c, nil, p.id, "crash", params)
		eventually(t, 20*time.Second, "the plugin and its service run again", func() bool {
			i := getInfo(t, d, p.id)
			return i.Generation > before.Generation && i.State == "running" && service(t, c, p.id, "heart").State == "running"
		})
		if i := getInfo(t, d, p.id); i.Restarts != before.Restarts+1 || i.LastExit.Class != "error" {
			t.Errorf("after %s: %d restarts, last exit %+v", params, i.Restarts, i.LastExit)
		}
	}
	run(t, d, 0, []string{"nobody catches this"}, "plugins", "logs", p.id, "--previous")
}
