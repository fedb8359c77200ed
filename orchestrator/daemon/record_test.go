package daemon

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus/wire"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/hooks"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox/egress"
	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// What an install grants is in the audit log, each by name.
func TestInstallIsRecorded(t *testing.T) {
	s := newStage(t)
	registers := []wire.Registration{hook("llm_output")}
	for _, name := range strings.Fields(strings.Repeat("x ", 70)) {
		registers = append(registers, tool(name+"_"+string(rune('a'+len(registers)%26))+string(rune('a'+len(registers)/26))))
	}
	s.install("demo", script{registers: registers})
	granted := 0
	for _, e := range s.records("permission.accept") {
		if e.Actor != "uid:0" || !strings.HasPrefix(e.Target, "sha256:") || strings.Contains(string(e.Details), `"cut"`) {
			t.Errorf("the record %s", e.Raw)
		}
		granted += strings.Count(string(e.Details), "registration tool:") + strings.Count(string(e.Details), "hook llm_output observe")
	}
	if granted != len(registers) {
		t.Errorf("%d of %d grants are on record", granted, len(registers))
	}
	done := s.records("plugin.record")
	if len(done) != 2 || done[1].Outcome != outcomeDone || done[1].Target != "demo@1.0.0" || !strings.Contains(string(done[1].Details), "sha256:") {
		t.Errorf("the install is on record as %+v", done)
	}
}

// An edit of config.json is recorded, and a request that moves the same switch
// is not recorded as one.
func TestEditIsRecorded(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	apply := func(text string) {
		t.Helper()
		if text != "" {
			if err := os.WriteFile(config.PathFor(s.home.Dir(), plugin.DefaultTenant), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.applyConfig(t.Context(), plugin.DefaultTenant)
	}
	apply("")
	if _, err := (pluginAPI{s.Daemon}).Disable(operator(t.Context()), key.Tenant, key.ID); err != nil {
		t.Fatal(err)
	}
	apply("")
	if got := s.records("config.change"); len(got) != 0 {
		t.Errorf("without an edit: %s", got[0].Raw)
	}
	apply(`{"plugins":{"entries":{"demo":{"enabled":false,"config":{"key":"s3cret"}}}}}`)
	apply("")
	got := s.records("config.change")
	if len(got) != 1 || got[0].Actor != theFile || got[0].Plugin != "demo" || !strings.Contains(string(got[0].Details), `"configChanged":true`) || strings.Contains(string(got[0].Raw), "s3cret") {
		t.Fatalf("the edit is on record as %+v", got)
	}
}

// While a config.json was never understood, the plugins are off, and with them
// the gates: no event passes.
func TestBrokenConfigStopsEvents(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{hook("agent:message:before")}})
	s.catalog.mu.Lock()
	s.catalog.files[key.Tenant] = tenantConfig{broken: errdefs.ErrInvalidArgument}
	s.catalog.mu.Unlock()
	_, emit := hookAPI{s.Daemon}.Emit(t.Context(), key.Tenant, "agent:message:before", v1.EmitRequest{}, httpapi.CallWatch{})
	_, invoke := hookAPI{s.Daemon}.Invoke(t.Context(), key.Tenant, key.ID, 0, v1.InvokeRequest{})
	_, snapshot := hookAPI{s.Daemon}.Snapshot(t.Context(), key.Tenant)
	for name, err := range map[string]error{"emit": emit, "invoke": invoke, "snapshot": snapshot} {
		if f := fault.Of(err); f.Code != "config_broken" || f.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (hookAPI{s.Daemon}).Emit(t.Context(), "other", "agent:message:before", v1.EmitRequest{}, httpapi.CallWatch{}); err != nil {
		t.Errorf("another tenant: %v", err)
	}
}

// A grant that this host cannot give is refused, whichever way it comes.
func TestGrantsBeyondTheHost(t *testing.T) {
	s := newStage(t)
	const manifest = `{"id":"big","configSchema":{"type":"object"},"ocmt":{"permissions":{"resources":{"cpus":64}}}}`
	s.play("big", script{manifest: manifest, registers: []wire.Registration{tool("echo")}})
	_, err := pluginAPI{s.Daemon}.Install(operator(t.Context()), plugin.DefaultTenant, s.request("big", v1.AcceptAll), func(v1.Progress) {})
	if err == nil || len(s.catalog.list("")) != 0 {
		t.Fatalf("installed with 64 processors on a host of 2: %v", err)
	}
	if _, err := (pluginAPI{s.Daemon}).Install(operator(t.Context()), plugin.DefaultTenant, s.request("big", v1.AcceptBasic), func(v1.Progress) {}); err != nil {
		t.Fatal(err)
	}
	waiting := s.permissionRequests(plugin.DefaultTenant)
	if len(waiting) != 1 {
		t.Fatalf("requests %+v", waiting)
	}
	if _, err := (approvalAPI{s.Daemon}).Resolve(operator(t.Context()), plugin.DefaultTenant, waiting[0].ID, v1.AllowAlways); err == nil {
		t.Error("64 processors were approved")
	}
	if got := s.records("permission.grant"); len(got) != 0 {
		t.Errorf("on record: %s", got[0].Raw)
	}
}

// A question that nobody answered has no person for its actor.
func TestUnansweredApproval(t *testing.T) {
	s := newStage(t)
	ctx, cancel := context.WithTimeout(operator(t.Context()), 20*time.Millisecond)
	defer cancel()
	ask := hooks.Approval{Tenant: demo.Tenant, Key: demo, Title: "May it?", Timeout: time.Minute, Tool: "exec", Owner: "other"}
	if decision, err := s.ask(ctx, ask); decision != hooks.TimedOut || err != nil {
		t.Errorf("ask = %s, %v", decision, err)
	}
	ask.Title = ""
	if _, err := s.ask(t.Context(), ask); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a question without words: %v", err)
	}
	got := s.records("approval.call")
	if len(got) != 2 || got[0].Actor != theDaemon || got[0].Outcome != hooks.TimedOut || got[1].Outcome != outcomeFailed || got[1].Code == "" {
		t.Errorf("on record: %+v", got)
	}
}

// What a handler threw may quote what it was given, and is in no record.
func TestThrownTextIsNotRecorded(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{
		registers: []wire.Registration{hook("llm_output")},
		hook: func(wire.HookCall) wire.HookResult {
			return wire.HookResult{Error: &wire.Error{Code: "threw", Message: "cannot read s3cret"}}
		},
	})
	if _, err := (hookAPI{s.Daemon}).Emit(operator(t.Context()), key.Tenant, "llm_output", v1.EmitRequest{}, httpapi.CallWatch{}); err != nil {
		t.Fatal(err)
	}
	got := s.records("hook.failure")
	if len(got) != 1 || strings.Contains(string(got[0].Raw), "s3cret") || !strings.HasPrefix(got[0].Params, "hmac-") {
		t.Errorf("on record: %+v", got)
	}
}

// npm's own connections are nobody's wishes.
func TestConnectionOfAnInstall(t *testing.T) {
	s := newStage(t)
	npm := plugin.Key{Tenant: plugin.DefaultTenant}
	err := s.onConnection(npm, egress.Connection{Phase: egress.PhaseDenied, Host: "evil.example.com", Port: 443, Code: link.NotGranted})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.records("network.denied"); len(got) != 1 || got[0].Actor != theDaemon || got[0].Outcome != outcomeDenied {
		t.Errorf("on record: %+v", got)
	}
	if got := s.authority.Requests(npm); len(got) != 0 {
		t.Errorf("requests %+v", got)
	}
}

// A plugin that is being updated is not switched off by an uninstall that is
// refused.
func TestUninstallDuringAnUpdate(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo"), hook("llm_output")}})
	s.play(key.ID, script{registers: []wire.Registration{tool("echo"), hook("llm_output"), hook("llm_input")}})
	asked, answer := make(chan struct{}), make(chan string)
	req := s.request(key.ID, "")
	req.Replace = true
	req.Review = func(context.Context, v1.Review) (httpapi.Answer, error) {
		close(asked)
		return httpapi.Answer{Accept: <-answer, Actor: "uid:0"}, nil
	}
	updated := make(chan error, 1)
	go func() {
		_, err := pluginAPI{s.Daemon}.Install(operator(t.Context()), key.Tenant, req, func(v1.Progress) {})
		updated <- err
	}()
	<-asked
	if err := (pluginAPI{s.Daemon}).Uninstall(operator(t.Context()), key.Tenant, key.ID, false); !errdefs.IsConflict(err) {
		t.Errorf("Uninstall = %v, want Conflict", err)
	}
	if _, err := s.supervisor.Ready(t.Context(), key); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	answer <- v1.AcceptNone
	if err := <-updated; !errdefs.IsPermissionDenied(err) {
		t.Errorf("the refused update: %v", err)
	}
	if _, err := s.supervisor.Ready(t.Context(), key); err != nil || s.running(key) == nil {
		t.Errorf("after the refused update: %v", err)
	}
}

func TestIsFailure(t *testing.T) {
	started := time.Now()
	exit := func(after time.Duration, class supervisor.Class) supervisor.Status {
		return supervisor.Status{State: supervisor.StateBackoff, Restarts: 5, LastExit: supervisor.LastExit{Class: class, At: started.Add(after)}}
	}
	given := exit(time.Second, supervisor.ClassError)
	given.State = supervisor.StateCrashlooped
	for name, tt := range map[string]struct {
		before, now supervisor.Status
		want        bool
	}{
		"of an earlier daemon":   {supervisor.Status{}, exit(-time.Second, supervisor.ClassError), false},
		"nothing ended":          {supervisor.Status{}, supervisor.Status{State: supervisor.StateRunning}, false},
		"the first end":          {supervisor.Status{}, exit(time.Second, supervisor.ClassOOM), true},
		"the same end":           {exit(time.Second, supervisor.ClassOOM), exit(time.Second, supervisor.ClassOOM), false},
		"another end":            {exit(time.Second, supervisor.ClassOOM), exit(2*time.Second, supervisor.ClassError), true},
		"as it was asked to":     {supervisor.Status{}, exit(time.Second, supervisor.ClassStopped), false},
		"given up":               {exit(time.Second, supervisor.ClassError), given, true},
		"given up, told already": {given, given, false},
	} {
		if got := isFailure(tt.before, tt.now, started); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
