package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// TestFaultyPlugin has a plugin do what ends a host that runs plugins in its
// own process. Meanwhile the daemon answers, another plugin serves, the caller
// in flight gets a typed error, and the plugin comes back.
func TestFaultyPlugin(t *testing.T) {
	d := start(t)
	install(t, d, "faulty")
	install(t, d, "seed-cjs")
	for _, tc := range []struct {
		tool    string
		code    int    // of the caller in flight
		word    string // of its message
		class   string // of the exit; empty if the process lives on
		restart bool
	}{
		{"reject", 5, "ended while", "error", true},
		{"throw_in_timer", 5, "ended while", "error", true},
		{"exit_7", 5, "ended while", "error", true},
		{"eat_memory", 5, "ended while", "oom", true},
		{"loop_8s", 6, "did not answer", "", false},
		{"throws", 5, "wrong on purpose", "", false},
	} {
		t.Run(tc.tool, func(t *testing.T) {
			before := getInfo(t, d, "faulty")
			inFlight := make(chan harness.Result, 1)
			go func() {
				inFlight <- d.Run(context.WithoutCancel(t.Context()), "tools", "call", "faulty", tc.tool, "--timeout", timeoutFor(tc.code))
			}()
			// Others go on at once, whatever the faulty plugin does.
			for range 5 {
				run(t, d, 0, nil, "status")
				var sum struct{ Sum int }
				call(t, d, &sum, "seed-cjs", "cjs_add", `{"a":1,"b":1}`, "--timeout", "5s")
				if sum.Sum != 2 {
					t.Errorf("sum %d, want 2", sum.Sum)
				}
			}
			res := <-inFlight
			if res.Code != tc.code || !strings.Contains(string(res.Stderr), tc.word) {
				t.Errorf("the caller got exit code %d, want %d with %q: %s", res.Code, tc.code, tc.word, res.Stderr)
			}
			var fine struct{ PID int }
			call(t, d, &fine, "faulty", "fine", `{}`, "--timeout", "30s")
			after := getInfo(t, d, "faulty")
			if (after.Generation > before.Generation) != tc.restart {
				t.Errorf("generation %d -> %d, want a restart: %v", before.Generation, after.Generation, tc.restart)
			}
			if tc.restart && after.LastExit.Class != tc.class {
				t.Errorf("the exit is of class %q, want %q", after.LastExit.Class, tc.class)
			}
		})
	}
}

// timeoutFor is longer than every crash takes, and shorter than the loop.
func timeoutFor(code int) string {
	if code == 6 {
		return "2s"
	}
	return "20s"
}

func TestTamperedPayload(t *testing.T) {
	d := start(t)
	install(t, d, "seed-esm")
	run(t, d, 0, []string{"sha256:"}, "plugins", "verify", "seed-esm")
	run(t, d, 0, nil, "plugins", "disable", "seed-esm")
	if _, err := harness.FlipByte(t.Context(), d.Home); err != nil {
		t.Fatal(err)
	}
	run(t, d, 1, []string{"quarantine"}, "plugins", "enable", "seed-esm")
	if state := getInfo(t, d, "seed-esm").State; state != "quarantined" {
		t.Errorf("state %s, want quarantined", state)
	}
	run(t, d, 1, []string{"quarantine", "hint:"}, "tools", "call", "seed-esm", "seed_echo", "--params", `{"text":"x"}`)
	run(t, d, 1, []string{"quarantine"}, "plugins", "restart", "seed-esm")
	if _, err := d.Container(t.Context(), "default", "seed-esm"); err == nil {
		t.Error("the tampered plugin runs")
	}
	run(t, d, 0, nil, "plugins", "uninstall", "seed-esm")
	install(t, d, "seed-esm")
	if state := getInfo(t, d, "seed-esm").State; state != "running" {
		t.Errorf("after a new installation: state %s, want running", state)
	}
}

// TestKilledDaemon kills the daemon and expects the next one to take over what
// runs, to clean up the rest, and to serve everything again.
func TestKilledDaemon(t *testing.T) {
	need(t)
	home := newHome(t)
	d := serve(t, home)
	install(t, d, "seed-esm")
	install(t, d, "register-cjs")
	run(t, d, 0, nil, "plugins", "disable", "register-cjs")
	before := getInfo(t, d, "seed-esm")
	container, pid := processOf(t, d, "seed-esm")
	d.Kill()
	// What a crash in the middle of an install leaves.
	if err := os.MkdirAll(filepath.Join(home, "ocmt", "staging", "half", "work"), 0o700); err != nil {
		t.Fatal(err)
	}
	if res := d.Run(t.Context(), "status"); res.Code != 7 || !strings.Contains(string(res.Stderr), "ocmt serve") {
		t.Errorf("without a daemon: exit code %d, want 7 and what to do: %s", res.Code, res.Stderr)
	}
	// And one between the record of an install and its note in config.json.
	path := filepath.Join(home, "config.json")
	edit(t, path, `"seed-esm"`, `"gone"`)
	edit(t, path, `"seed-esm": {`, `"gone": {`)
	d = serve(t, home)
	if data, err := os.ReadFile(path); err != nil || !strings.Contains(string(data), `"seed-esm": {`) {
		t.Errorf("the install is not noted again: %s, %v", data, err)
	}
	var got struct{ Text string }
	call(t, d, &got, "seed-esm", "seed_echo", `{"text":"back"}`)
	if got.Text != "back" {
		t.Errorf("got %+v", got)
	}
	if i := getInfo(t, d, "seed-esm"); i.Generation != before.Generation || i.Restarts != before.Restarts {
		t.Errorf("generation %d after %d, %d restarts after %d", i.Generation, before.Generation, i.Restarts, before.Restarts)
	}
	if c, p := processOf(t, d, "seed-esm"); c != container || p != pid {
		t.Errorf("process %d of container %s, before %d of %s", p, c, pid, container)
	}
	if i := getInfo(t, d, "register-cjs"); i.Enabled || i.State != "stopped" {
		t.Errorf("the disabled plugin is %s", i.State)
	}
	if left, _ := filepath.Glob(filepath.Join(home, "ocmt", "staging", "*")); len(left) > 0 {
		t.Errorf("the half-done install is still there: %v", left)
	}
	stop(t, d)
}

// processOf returns the engine's id of a plugin's container, and the process id
// of its first process on the host.
func processOf(t *testing.T, d *harness.Daemon, id string) (container string, pid int) {
	t.Helper()
	container, err := d.Container(t.Context(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	if pid, err = d.Engine().PID(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	return container, pid
}

func TestUninstall(t *testing.T) {
	d := start(t)
	install(t, d, "register-cjs")
	var got struct{ N int }
	call(t, d, &got, "register-cjs", "count", `{}`)
	run(t, d, 0, nil, "plugins", "uninstall", "register-cjs", "--keep-state")
	install(t, d, "register-cjs")
	call(t, d, &got, "register-cjs", "count", `{}`)
	if got.N != 2 {
		t.Errorf("count %d, want 2: --keep-state lost the state", got.N)
	}
	run(t, d, 0, nil, "plugins", "uninstall", "register-cjs")
	for _, dir := range []string{"store/*", "instances/*", "staging/*", "run/i/*", "tenants/*/plugins/*"} {
		if left, _ := filepath.Glob(filepath.Join(d.Home, "ocmt", dir)); len(left) > 0 {
			t.Errorf("uninstall left %v", left)
		}
	}
	config, err := os.ReadFile(filepath.Join(d.Home, "config.json"))
	if err != nil || strings.Contains(string(config), "register-cjs") {
		t.Errorf("config.json after uninstall: %s, %v", config, err)
	}
	run(t, d, 3, nil, "plugins", "uninstall", "register-cjs")
}

func TestConfigFile(t *testing.T) {
	need(t)
	home := newHome(t)
	path := filepath.Join(home, "config.json")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	const own = `{
  // mine
  "agents": {"defaults": {"model": "x"}},
  "plugins": {"entries": {"other": {"enabled": false, "note": 1}}}
}
`
	if err := os.WriteFile(path, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	d := serve(t, home)
	defer func() { stop(t, d) }()
	install(t, d, "seed-esm")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"// mine", `"model": "x"`, `"note": 1`, `"source": "path"`, `"installedAt"`, `"seed-esm"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("config.json does not hold %s:\n%s", want, data)
		}
	}
	t.Run("broken by hand", func(t *testing.T) {
		broken := strings.Replace(string(data), `"plugins": {`, `"plugins": {{`, 1)
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, d, 2, []string{"config.json:4:"}, "plugins", "disable", "seed-esm")
		run(t, d, 2, []string{"config.json:4:"}, "plugins", "install", fixture(t, "seed-cjs"))
		if now, _ := os.ReadFile(path); string(now) != broken {
			t.Error("the broken file was overwritten")
		}
		if i := getInfo(t, d, "seed-esm"); i.State != "running" {
			t.Errorf("a broken config.json made the plugin %s", i.State)
		}
		eventually(t, 10*time.Second, "a note in status", func() bool {
			return strings.Contains(string(d.Run(t.Context(), "status", "--json").Stdout), "not in force")
		})
	})
	t.Run("switched off by hand", func(t *testing.T) {
		off := strings.Replace(string(data), `"enabled": true`, `"enabled": false`, 1)
		if err := os.WriteFile(path, []byte(off), 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the plugin off", func() bool { return getInfo(t, d, "seed-esm").State == "stopped" })
		run(t, d, 1, []string{"hint:"}, "tools", "call", "seed-esm", "seed_echo", "--params", `{"text":"x"}`)
	})
}

// TestTenants installs the same plugin for two tenants.
func TestTenants(t *testing.T) {
	d := start(t)
	for _, tenant := range []string{"alpha", "beta"} {
		install(t, d, "register-cjs", "--tenant", tenant)
	}
	var got struct{ N int }
	for range 2 {
		call(t, d, &got, "register-cjs", "count", `{}`, "--tenant", "alpha")
	}
	call(t, d, &got, "register-cjs", "count", `{}`, "--tenant", "beta")
	if got.N != 1 {
		t.Errorf("beta's first count is %d: the tenants share state", got.N)
	}
	run(t, d, 3, nil, "tools", "call", "register-cjs", "count")
	run(t, d, 3, nil, "plugins", "info", "register-cjs", "--tenant", "gamma")
	run(t, d, 2, nil, "plugins", "install", fixture(t, "seed-esm"), "--tenant", "No Tenant")
	var all []info
	if err := d.JSON(t.Context(), &all, "plugins", "list", "-A"); err != nil || len(all) != 2 {
		t.Errorf("list -A: %+v, %v", all, err)
	}
	run(t, d, 0, nil, "plugins", "uninstall", "register-cjs", "--tenant", "alpha")
	call(t, d, &got, "register-cjs", "count", `{}`, "--tenant", "beta")
	if got.N != 2 {
		t.Errorf("beta's count is %d after alpha uninstalled, want 2", got.N)
	}
}

func TestDoctor(t *testing.T) {
	d := start(t)
	var report struct {
		Checks []struct{ Name, Status, Detail, Fix string }
	}
	res := d.Run(t.Context(), append([]string{"doctor", "--json"}, harness.EngineFlags()...)...)
	if err := json.Unmarshal(res.Stdout, &report); err != nil || res.Code != 0 {
		t.Fatalf("exit code %d, %v: %s", res.Code, err, res.Stderr)
	}
	for _, c := range report.Checks {
		if c.Status == "missing" || c.Status != "ok" && c.Fix == "" {
			t.Errorf("%+v: nothing may be missing here, and what is weaker needs a fix", c)
		}
	}
	if len(report.Checks) < 7 {
		t.Errorf("only %d checks", len(report.Checks))
	}
}

// TestConfigEditWaitsForNobody edits several entries at once, of which one
// makes its plugin hang: the others follow at once.
func TestConfigEditWaitsForNobody(t *testing.T) {
	d := start(t)
	install(t, d, "hanging")
	install(t, d, "seed-esm")
	path := filepath.Join(d.Home, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), `"hanging": {`, `"hanging": {"config": {"hang": true},`, 1)
	before, after, _ := strings.Cut(text, `"seed-esm": {`)
	text = before + `"seed-esm": {` + strings.Replace(after, "true", "false", 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the other plugin off", func() bool { return getInfo(t, d, "seed-esm").State == "stopped" })
	eventually(t, 10*time.Second, "the hanging plugin replaced", func() bool { return getInfo(t, d, "hanging").Generation > 1 })
	run(t, d, 6, nil, "tools", "call", "hanging", "noop", "--timeout", "1s")
}

func TestLogs(t *testing.T) {
	d := start(t)
	install(t, d, "faulty")
	run(t, d, 3, []string{"hint:"}, "plugins", "logs", "faulty", "--previous")
	run(t, d, 5, nil, "tools", "call", "faulty", "throw_in_timer")
	var fine struct{ PID int }
	call(t, d, &fine, "faulty", "fine", `{}`)
	run(t, d, 0, []string{"thrown in a timer", "ended: exit code"}, "plugins", "logs", "faulty", "--previous")
	if text := run(t, d, 0, nil, "plugins", "logs", "faulty", "--previous", "--tail", "1"); strings.Contains(text, "thrown in a timer") {
		t.Errorf("--tail 1 printed more than the last line: %s", text)
	}
	if text := run(t, d, 0, nil, "plugins", "logs", "faulty"); strings.Contains(text, "thrown in a timer") {
		t.Errorf("the new instance's log holds the old one's: %s", text)
	}
	following := make(chan harness.Result, 1)
	go func() {
		following <- d.Run(context.WithoutCancel(t.Context()), "plugins", "logs", "faulty", "-f")
	}()
	run(t, d, 0, nil, "plugins", "uninstall", "faulty")
	select {
	case res := <-following:
		if res.Code != 0 && res.Code != 3 {
			t.Errorf("logs -f ended with %d: %s", res.Code, res.Stderr)
		}
	case <-time.After(20 * time.Second):
		t.Error("logs -f goes on after the plugin was uninstalled")
	}
}

// TestShutdownWithACallInFlight stops the daemon under a caller, who is told.
func TestShutdownWithACallInFlight(t *testing.T) {
	need(t)
	d := serve(t, newHome(t))
	install(t, d, "register-esm")
	inFlight := make(chan harness.Result, 1)
	go func() {
		inFlight <- d.Run(context.WithoutCancel(t.Context()), "tools", "call", "register-esm", "reg_progress")
	}()
	time.Sleep(500 * time.Millisecond)
	begun := time.Now()
	stop(t, d)
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if res := <-inFlight; res.Code != 7 || !strings.Contains(string(res.Stderr), "stopping") {
		t.Errorf("the caller got %d: %s", res.Code, res.Stderr)
	}
}
