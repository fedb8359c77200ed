package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/bus/wire"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
)

// tamper alters the sealed payload of a plugin, has that noticed, and returns
// the function that puts back what was there.
func (s *stage) tamper(key plugin.Key) (restore func()) {
	s.t.Helper()
	p, err := s.catalog.get(key.Tenant, key.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	if p.Payload.Form != plugin.FormEROFS {
		s.t.Skip("nothing can mount an image here")
	}
	place := filepath.Join(s.home.Store(), strings.TrimPrefix(p.Payload.Digest, "sha256:")+".erofs")
	sealed, err := os.ReadFile(place)
	if err != nil {
		s.t.Fatal(err)
	}
	write := func(data []byte) {
		s.t.Helper()
		if err := errors.Join(seal.Remove(s.home.Store(), p.Payload), os.WriteFile(place, data, 0o444)); err != nil {
			s.t.Fatal(err)
		}
	}
	write([]byte("altered"))
	if _, err := (pluginAPI{s.Daemon}).Verify(operator(s.t.Context()), key.Tenant, key.ID); !errdefs.IsDataLoss(err) || !strings.HasSuffix(fault.Of(err).Hint, "ocmt plugins reinstall "+key.ID) {
		s.t.Fatalf("verify of an altered payload: %v", err)
	}
	s.eventually("in quarantine", func() bool { return s.state(key) == supervisor.StateQuarantined })
	return func() { write(sealed) }
}

func (s *stage) state(key plugin.Key) supervisor.State {
	s.t.Helper()
	st, err := s.supervisor.Status(key)
	if err != nil {
		s.t.Fatal(err)
	}
	return st.State
}

func (s *stage) reset(key plugin.Key) (v1.Plugin, error) {
	return pluginAPI{s.Daemon}.Reset(operator(s.t.Context()), key.Tenant, key.ID)
}

// reinstall reinstalls a plugin from the files of one named id.
func (s *stage) reinstall(key plugin.Key, id string) (v1.PluginDetail, error) {
	req := httpapi.Install{Package: tarOf(s.t, id, s.script(id).manifest)}
	req.Review = func(context.Context, v1.Review) (httpapi.Answer, error) {
		return httpapi.Answer{}, errors.New("it was reviewed")
	}
	return pluginAPI{s.Daemon}.Reinstall(operator(s.t.Context()), key.Tenant, key.ID, req, func(v1.Progress) {})
}

func (s *stage) calls(key plugin.Key) {
	s.t.Helper()
	if _, err := (toolAPI{s.Daemon}).Call(s.t.Context(), key.Tenant, key.ID, "echo", v1.CallRequest{}, httpapi.CallWatch{}); err != nil {
		s.t.Error(err)
	}
}

// The way out of quarantine is the same payload, and no other.
func TestReinstallEndsQuarantine(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	s.grant(key, policy.Host, "emit", "")
	before, err := s.catalog.get(key.Tenant, key.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.tamper(key)

	_, err = s.reset(key)
	if f := fault.Of(err); !errdefs.IsFailedPrecondition(err) || f.Code != "payload_altered" || !strings.Contains(f.Hint, "ocmt plugins reinstall demo") {
		t.Errorf("reset of an altered payload: %v, hint %q", err, f.Hint)
	}
	if _, err := s.reinstall(key, "other"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("reinstall from another plugin's files: %v", err)
	}
	if got := s.state(key); got != supervisor.StateQuarantined {
		t.Fatalf("after what was refused it is %s", got)
	}
	got, err := s.reinstall(key, "demo")
	if err != nil || got.State != string(supervisor.StateRunning) || got.Digest != before.Payload.Digest {
		t.Fatalf("reinstalled %+v, %v", got, err)
	}
	s.calls(key)
	after, err := s.catalog.get(key.Tenant, key.ID)
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Errorf("%v: the record changed:\n%s", err, diff)
	}
	if e := s.authority.Effective(key); len(e.Host) != 1 {
		t.Errorf("the grant is gone: %+v", e)
	}
	for action, want := range map[string][]string{
		"plugin.reset":     {outcomeBegun, outcomeFailed},
		"plugin.reinstall": {outcomeBegun, outcomeFailed, outcomeBegun, outcomeDone},
	} {
		if diff := cmp.Diff(want, s.outcomes(action)); diff != "" {
			t.Errorf("%s is recorded as %s", action, diff)
		}
	}
}

func TestResetEndsQuarantineOfWhatVerifiesAgain(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	s.tamper(key)()
	got, err := s.reset(key)
	if err != nil || got.State != string(supervisor.StateRunning) || got.Reason != "" {
		t.Errorf("reset: %+v, %v", got, err)
	}
	s.calls(key)
}

// What is switched off is mended and stays off.
func TestResetAndReinstallOfWhatIsOff(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	restore := s.tamper(key)
	if _, err := (pluginAPI{s.Daemon}).Disable(operator(t.Context()), key.Tenant, key.ID); err != nil {
		t.Fatal(err)
	}
	restore()
	if got, err := s.reset(key); err != nil || got.State != string(supervisor.StateStopped) || got.Enabled {
		t.Errorf("reset: %+v, %v", got, err)
	}
	s.tamper(key)
	if got, err := s.reinstall(key, "demo"); err != nil || got.State != string(supervisor.StateStopped) || got.Enabled {
		t.Errorf("reinstall: %+v, %v", got, err)
	}
	if _, err := (pluginAPI{s.Daemon}).Enable(operator(t.Context()), key.Tenant, key.ID); err != nil {
		t.Fatal(err)
	}
	s.calls(key)
}

func TestReinstallOfAnEditedPlugin(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	s.tamper(key)
	before := s.records("plugin.record")
	s.play("demo", script{registers: []wire.Registration{tool("echo"), tool("more")}, manifest: `{"id":"demo","configSchema":{}}`})
	if _, err := s.reinstall(key, "demo"); err == nil || !strings.Contains(err.Error(), "it was reviewed") {
		t.Errorf("what registers more was reinstalled with %v", err)
	}
	if got := s.state(key); got != supervisor.StateQuarantined {
		t.Errorf("after a review without an answer it is %s", got)
	}
	if got := s.records("plugin.record"); len(got) != len(before) {
		t.Errorf("%d records of installs, want %d", len(got), len(before))
	}
	req := httpapi.Install{Package: tarOf(t, "demo", s.script("demo").manifest), Accept: v1.AcceptBasic}
	got, err := pluginAPI{s.Daemon}.Reinstall(operator(t.Context()), key.Tenant, key.ID, req, func(v1.Progress) {})
	if err != nil || got.State != string(supervisor.StateRunning) || len(got.ToolList) != 2 || got.Spec != "/src/demo" {
		t.Errorf("got %+v, %v", got, err)
	}
	s.calls(key)
}

func TestLastWords(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	output := func() string {
		t.Helper()
		list, err := pluginAPI{s.Daemon}.List(t.Context(), key.Tenant)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		if list[0].LastExit == nil {
			return ""
		}
		return list[0].LastExit.Output
	}
	st, err := s.supervisor.Status(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.engine.Stop(t.Context(), st.Instance, 0); err != nil { // not as we end it
		t.Fatal(err)
	}
	s.eventually("restarted", func() bool {
		now, err := s.supervisor.Status(key)
		return err == nil && now.Restarts == 1 && now.State == supervisor.StateRunning
	})
	var kept []byte
	for _, text := range []string{"one", "two", "three", "", "four", "five", "si\x1bx", "    at f (x.js:1)", "", "Node.js v24.0.0", "ocmt-init: node ended: exit code 1"} {
		line, err := json.Marshal(sandbox.LogLine{Time: time.Now(), Stream: sandbox.Stderr, Line: text})
		if err != nil {
			t.Fatal(err)
		}
		kept = append(append(kept, line...), '\n')
	}
	if err := os.WriteFile(s.home.PreviousLog(key), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := output(), "two\nthree\nfour\nfive\nsi\x1bx"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.WriteFile(s.home.PreviousLog(key), []byte("\n    at f (x.js:1)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := output(), "\n    at f (x.js:1)"; got != want {
		t.Errorf("where no line says more: got %q, want %q", got, want)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(s.home.PreviousLog(key), old, old); err != nil {
		t.Fatal(err)
	}
	if got := output(); got != "" {
		t.Errorf("the words of an earlier instance: %q", got)
	}
	if _, err := (pluginAPI{s.Daemon}).Restart(operator(t.Context()), key.Tenant, key.ID); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.home.PreviousLog(key), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := output(); got != "" {
		t.Errorf("after an end that was asked for: %q", got)
	}
}

func TestTail(t *testing.T) {
	long := strings.Repeat("x", 6)
	for name, tc := range map[string]struct {
		lines []string
		want  string
	}{
		"none":                  {nil, ""},
		"all":                   {[]string{"ab", "cd"}, "ab\ncd"},
		"the last":              {[]string{long, "ab", "cd"}, "ab\ncd"},
		"what fits exactly":     {[]string{"abc", "cd"}, "abc\ncd"},
		"a long last one":       {[]string{"ab", long + long}, long},
		"a character cut apart": {[]string{"abcdeé"}, "abcde"},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []sandbox.LogLine
			for _, text := range tc.lines {
				lines = append(lines, sandbox.LogLine{Line: text})
			}
			if got := tail(lines, 6); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// The API's document names every class and every state that there is.
func TestDocumentedClasses(t *testing.T) {
	doc := func(of any, field string) string {
		f, ok := reflect.TypeOf(of).FieldByName(field)
		if !ok {
			t.Fatalf("no field %s", field)
		}
		return f.Tag.Get("doc")
	}
	for _, class := range []supervisor.Class{
		supervisor.ClassClean, supervisor.ClassError, supervisor.ClassOOM, supervisor.ClassStartFailure,
		supervisor.ClassProbeFailure, supervisor.ClassTamper, supervisor.ClassStopped,
	} {
		if text := doc(v1.Exit{}, "Class"); !strings.Contains(text, string(class)+":") {
			t.Errorf("%q does not name %s", text, class)
		}
	}
	for _, state := range []supervisor.State{
		supervisor.StateStopped, supervisor.StatePreparing, supervisor.StateStarting, supervisor.StateRunning, supervisor.StateBackoff,
		supervisor.StateStopping, supervisor.StateCrashlooped, supervisor.StateQuarantined,
	} {
		if text := doc(v1.Plugin{}, "State"); !strings.Contains(text, string(state)) {
			t.Errorf("%q does not name %s", text, state)
		}
	}
}
