package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

type systemPart = httpapi.System

// telling answers with a status of its own.
type telling struct {
	systemPart
	status v1.Status
}

func (t telling) Status(context.Context, string) (v1.Status, error) { return t.status, nil }

// from has metrics, which is from a path, be from another place.
type from struct {
	pluginsPart
	source, spec string
}

func (f from) Get(ctx context.Context, tenant, ref string) (v1.PluginDetail, error) {
	p, err := f.pluginsPart.Get(ctx, tenant, ref)
	p.Source, p.Spec = f.source, f.spec
	return p, err
}

func TestReset(t *testing.T) {
	d := newDaemon(t)
	if out, _ := d.ocmt(t, 0, "plugins", "reset", "demo"); out != "demo is running\n" {
		t.Errorf("got %q", out)
	}
	_, errout := d.ocmt(t, 1, "--tenant", "acme", "plugins", "reset", "metrics")
	contains(t, errout, "ocmt: metrics cannot be reset: its payload is altered\n", "  hint: get it again: ocmt --tenant acme plugins reinstall metrics\n")
	d.ocmt(t, 3, "plugins", "reset", "nope")
}

func TestReinstall(t *testing.T) {
	d := newDaemon(t)
	out, errout := d.ocmt(t, 0, "plugins", "reinstall", "@scope/demo")
	if out != "reinstalled demo 1.2.3: the same files, running\n" || errout != "fetch: @scope/demo@latest\n" {
		t.Errorf("got %q and %q", out, errout)
	}
	out, errout = d.ocmt(t, 0, "plugins", "reinstall", "demo", "--json")
	if !strings.HasPrefix(out, "{\n  \"tenant\": \"default\"") || errout != "" {
		t.Errorf("got %q and %q", out, errout)
	}
	d.ocmt(t, 3, "plugins", "reinstall", "nope")
}

func TestReinstallFromHere(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.js"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "metrics.tar")
	if err := os.WriteFile(archive, make([]byte, 1024), 0o600); err != nil { // an empty one
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		source, spec string
		flags        []string
		code         int
		says         string
	}{
		"a directory":             {"path", dir, nil, 0, "reinstalled metrics 0.1.0: other files than before, stopped\n"},
		"the same archive":        {"archive", archive, []string{"--yes"}, 0, "reinstalled metrics 0.1.0: the same files, stopped\n"},
		"an unconfirmed archive":  {"archive", archive, nil, 4, "cannot ask whether to install"},
		"a directory that is not": {"path", dir + "/none", nil, 3, "metrics was installed from " + dir + "/none, which is not on this machine"},
		"no directory":            {"path", archive, nil, 3, "ocmt --tenant acme plugins uninstall metrics --keep-state"},
		"no archive":              {"archive", dir, []string{"--yes"}, 3, "not on this machine"},
		"a relative path":         {"path", ".", nil, 3, "not on this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			d := daemon{socket: filepath.Join(t.TempDir(), "s.sock"), backend: apitest.New()}
			parts := d.backend.Parts()
			parts.Plugins = from{parts.Plugins, tc.source, tc.spec}
			d.serve(t, parts)
			out, errout := d.ocmt(t, tc.code, append([]string{"--tenant", "acme", "plugins", "reinstall", "metrics"}, tc.flags...)...)
			contains(t, out+errout, tc.says)
		})
	}
}

func TestStatusTellsOfTrouble(t *testing.T) {
	next := apitest.Epoch.Add(time.Hour)
	exit := v1.Exit{At: apitest.Epoch, Class: "error", Code: 7, Output: "one\n\x1b[2Jtwo"}
	d := daemon{socket: filepath.Join(t.TempDir(), "s.sock"), backend: apitest.New()}
	parts := d.backend.Parts()
	parts.System = telling{parts.System, v1.Status{
		StartedAt: apitest.Epoch,
		Engine:    v1.Engine{Name: "docker", State: v1.EngineUnreachable, Since: apitest.Epoch, Error: "it \x1bhangs"},
		Plugins: []v1.Plugin{
			{Tenant: "default", ID: "loops", State: "crashlooped", ShortRuns: 6, NextAttempt: &next, LastExit: &exit},
			{Tenant: "acme", ID: "altered", State: "quarantined", Reason: "payload"},
			{Tenant: "acme", ID: "large", State: "running", LastExit: &v1.Exit{At: apitest.Epoch, Class: "oom", Code: 137, Output: "killed"}},
			{Tenant: "acme", ID: "fine", State: "running"},
		},
	}}
	d.serve(t, parts)
	out, _ := d.ocmt(t, 0, "status", "-A")
	contains(t, out,
		"! engine: docker does not answer since 2026-01-02 03:04:05 UTC: it \\u001bhangs; running plugins go on, nothing can be started or stopped\n\n",
		"crashlooped until 04:04:05", "quarantined (payload)",
		"\ndefault/loops printed before it ended:\n    one\n    \\u001b[2Jtwo\ndefault/loops is crashlooped; to start it again: ocmt plugins reset loops\n",
		"\nacme/altered is quarantined; to start it again: ocmt --tenant acme plugins reinstall altered\n",
		"\nacme/large printed before it ended:\n    killed\nacme/large ran out of memory; to give it more: ocmt --tenant acme plugins grant large resource memory SIZE\n")
	if strings.Contains(out, "fine printed") || !strings.HasPrefix(out, "! engine") {
		t.Errorf("got\n%s", out)
	}
	out, _ = d.ocmt(t, 0, "status", "--json")
	contains(t, out, `"state": "unreachable"`, `"since": "2026-01-02T03:04:05Z"`, `"output": "one\n\u001b[2Jtwo"`)
}

func TestInfoTellsOfTheEnd(t *testing.T) {
	d := newDaemon(t)
	out, _ := d.ocmt(t, 0, "plugins", "info", "demo")
	contains(t, out, "\ndemo printed before it ended:\n    loading\n    Error: no \\u001b[31mway\n")
	next := apitest.Epoch
	p := v1.Plugin{NextAttempt: &next, ShortRuns: 2}
	if got, want := nextText(p), "2026-01-02 03:04:05 UTC, after 2 short runs"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	contains(t, facts(v1.PluginDetail{Plugin: v1.Plugin{State: "running", Adopted: true}})[7][1], "an earlier process of the daemon")
}

func TestCallThatMaySucceedSoon(t *testing.T) {
	crashed := fault.New(fault.ErrPlugin, "plugin_crashed", "it ended").WithHint("it is started again").WithRetry()
	busy := fault.New(errdefs.ErrResourceExhausted, "busy", "busy").WithRetry()
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"it ended":       {crashed, "try again in a moment, if it may be done twice; it is started again"},
		"no hint":        {busy, "try again in a moment"},
		"said already":   {fault.New(errdefs.ErrUnavailable, "given_up", "x").WithHint("try again; see").WithRetry(), "try again; see"},
		"not retryable":  {fault.New(fault.ErrPlugin, "plugin_threw", "x").WithHint("see"), "see"},
		"without daemon": {fault.New(errdefs.ErrUnavailable, "daemon_unreachable", "x").WithHint("start it").WithRetry(), "start it"},
	} {
		t.Run(name, func(t *testing.T) {
			got := fault.Of(retryable(tc.err))
			if got.Hint != tc.want || got.Message != fault.Of(tc.err).Message || exitCode(got) != exitCode(tc.err) {
				t.Errorf("got %+v, want the hint %q", got, tc.want)
			}
		})
	}
	if crashed.Hint != "it is started again" {
		t.Errorf("the error itself was changed: %+v", crashed)
	}
	_, errout := newDaemon(t).ocmt(t, 5, "tools", "call", "demo", "fail", "--params", `{"class":"plugin"}`)
	contains(t, errout, "  hint: try again in a moment, if it may be done twice; ask for")
}

func TestGrantOfANegativeLimit(t *testing.T) {
	d := newDaemon(t)
	for _, number := range []string{"-1", "-5MiB", "-0.5"} {
		_, errout := d.ocmt(t, 2, "plugins", "grant", "demo", "resource", "pids", number)
		contains(t, errout, "ocmt: "+number+" is negative\n  hint: usage: ocmt plugins grant")
	}
	_, errout := d.ocmt(t, 2, "plugins", "grant", "demo", "env", "TZ", "--fro", "1h")
	contains(t, errout, "unknown flag: --fro")
}
