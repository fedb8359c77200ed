package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"

	"github.com/ocmt/ocmt/e2e/harness"
)

// marker stands in parameters and payloads, and must not be in any log.
const marker = "MARKER-7f3a-of-what-people-say"

var keyedDigest = regexp.MustCompile(`^hmac-sha256:[0-9a-f]{64}$`)

// TestAudit does one of everything and finds it in the audit log.
func TestAudit(t *testing.T) {
	need(t)
	d := serve(t, newHome(t))
	running := true
	t.Cleanup(func() {
		if running {
			stop(t, d)
		}
	})
	c := connect(t, d)
	const gate = "conformance-register-esm"
	install(t, d, worker)
	install(t, d, gate, "--accept-permissions")
	hasRecord(t, d, "plugin.start", worker, map[string]string{"outcome": "done"})

	invoke(t, c, nil, worker, "echo", `{"text":"`+marker+`"}`)
	call := hasRecord(t, d, "tool.call", worker, map[string]string{"target": "echo", "outcome": "done", "actor": currentActor()})
	if params := fmt.Sprint(call["params"]); !keyedDigest.MatchString(params) {
		t.Errorf("the parameters are recorded as %q", params)
	}
	invoke(t, c, nil, worker, "echo", `{"text":"rewrite-me `+marker+`"}`)
	changed := hasRecord(t, d, "hook.change", gate, map[string]string{"target": "before_tool_call", "actor": "plugin:" + gate})
	if text := string(mustJSON(t, changed["details"])); !strings.Contains(text, `/params/text`) || !strings.Contains(text, "hmac-sha256:") {
		t.Errorf("the change is recorded as %s", text)
	}
	run(t, d, 4, []string{"blocks this call"}, "tools", "call", worker, "echo", "--params", `{"text":"block-me `+marker+`"}`)
	hasRecord(t, d, "hook.block", gate, map[string]string{"target": "before_tool_call"})
	hasRecord(t, d, "tool.call", worker, map[string]string{"outcome": "denied", "code": "blocked_by_hook", "actor": currentActor()})
	emit(t, c, "message_sending", `{"to":"x","content":"`+marker+`"}`)
	hasRecord(t, d, "hook.emit", "", map[string]string{"target": "message_sending", "actor": currentActor(), "outcome": "pass"})

	if _, err := c.Stream(t.Context(), tenant, worker, "echo", v1.CallRequest{Params: json.RawMessage(`{"text":"ask-me ` + marker + `"}`)}, client.Watch{Ask: func(a v1.Approval) {
		if a.Decision == "" {
			go func() {
				if _, err := c.Resolve(t.Context(), tenant, a.ID, v1.AllowOnce); err != nil {
					t.Error(err)
				}
			}()
		}
	}}); err != nil {
		t.Error(err)
	}
	hasRecord(t, d, "approval.call", gate, map[string]string{"outcome": v1.AllowOnce, "actor": currentActor()})

	invoke(t, c, nil, gate, "crash", `{"how":"report","reason":"on purpose"}`)
	eventually(t, 10*time.Second, "the service's failure is recorded", func() bool {
		return slices.ContainsFunc(audited(t, d, "service.state", gate), func(r map[string]any) bool {
			return r["target"] == "heart" && r["actor"] == "ocmt" && strings.Contains(string(mustJSON(t, r["details"])), "on purpose")
		})
	})
	run(t, d, 0, nil, "plugins", "grant", worker, "hook", "llm_output", "observe")
	hasRecord(t, d, "permission.grant", worker, map[string]string{"target": "hook llm_output observe", "actor": currentActor(), "outcome": "done"})
	run(t, d, 0, nil, "approvals", "deny", requestFor(t, c, "env PERM_ASKED"))
	hasRecord(t, d, "permission.deny", worker, map[string]string{"target": "env PERM_ASKED", "actor": currentActor(), "outcome": "done"})
	run(t, d, 3, nil, "plugins", "revoke", worker, "env", "NOT_GRANTED")
	hasRecord(t, d, "permission.revoke", worker, map[string]string{"outcome": "failed", "code": "not_granted"})
	run(t, d, 0, nil, "plugins", "uninstall", worker)
	hasRecord(t, d, "plugin.uninstall", worker, map[string]string{"actor": currentActor(), "outcome": "done"})
	hasRecord(t, d, "plugin.install", "", map[string]string{"target": "path " + fixture(t, worker), "actor": currentActor(), "outcome": "done"})

	verifies(t, d.Home)
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	running = false
	expectNothingLeft(t, d)
	noMarker(t, d)
	verifies(t, d.Home)
	findsOneByte(t, d)
}

// hasRecord returns the newest record with those fields.
func hasRecord(t *testing.T, d *harness.Daemon, action, plugin string, fields map[string]string) map[string]any {
	t.Helper()
	found := records(t, d, action, plugin)
	slices.Reverse(found)
	for _, r := range found {
		fits := true
		for name, want := range fields {
			fits = fits && fmt.Sprint(r[name]) == want
		}
		if fits {
			return r
		}
	}
	t.Errorf("the audit log holds no record of %s with %v, but %v", action, fields, found)
	return nil
}

// records is audited for records of no plugin too.
func records(t *testing.T, d *harness.Daemon, action, plugin string) []map[string]any {
	t.Helper()
	if plugin != "" {
		return audited(t, d, action, plugin)
	}
	var found []map[string]any
	for line := range strings.Lines(run(t, d, 0, nil, "audit", "tail", "-A", "-n", "0", "--json")) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if record["action"] == action && record["plugin"] == nil {
			found = append(found, record)
		}
	}
	return found
}

// verifies has the program verify the log of a home, with a daemon or without.
func verifies(t *testing.T, home string, args ...string) {
	t.Helper()
	res := harness.Run(t.Context(), nil, append([]string{"audit", "verify", "--home", home}, args...)...)
	if res.Code != 0 || !strings.Contains(string(res.Stdout), "intact") {
		t.Errorf("audit verify: exit code %d: %s%s", res.Code, res.Stdout, res.Stderr)
	}
}

// noMarker looks for the marker in everything that the daemon wrote but the
// plugins' own state.
func noMarker(t *testing.T, d *harness.Daemon) {
	t.Helper()
	if strings.Contains(d.Log(), marker) {
		t.Error("the daemon's log holds the marker")
	}
	files := 0
	err := filepath.WalkDir(filepath.Join(d.Home, "ocmt"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		if strings.Contains(string(data), marker) {
			t.Errorf("%s holds the marker", path)
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("looked into %d files, %v", files, err)
	}
}

// findsOneByte changes one byte of a copy of the log, at several places, and
// each time a digit for another, so that all lines stay records.
func findsOneByte(t *testing.T, d *harness.Daemon) {
	t.Helper()
	dir := filepath.Join(d.Home, "ocmt", "audit")
	segments, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	whole, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(d.Home, "ocmt", "keys", "audit.pub")
	for i := range 4 {
		copied := filepath.Join(t.TempDir(), "audit")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		verifies(t, d.Home, "--dir", copied, "--key", key)
		at := len(whole) * (2*i + 1) / 8
		for whole[at] < '0' || whole[at] > '9' {
			at++
		}
		changed := slices.Clone(whole)
		changed[at] = '0' + (changed[at]-'0'+1)%10
		if err := os.WriteFile(filepath.Join(copied, filepath.Base(segments[0])), changed, 0o600); err != nil {
			t.Fatal(err)
		}
		res := harness.Run(t.Context(), nil, "audit", "verify", "--home", d.Home, "--dir", copied, "--key", key)
		if res.Code != 1 || !strings.Contains(string(res.Stdout), "CHANGED") {
			t.Errorf("byte %d changed: exit code %d: %s%s", at, res.Code, res.Stdout, res.Stderr)
		}
	}
}

// TestFullDisk fills the disk that holds the home.
func TestFullDisk(t *testing.T) {
	need(t)
	home := smallHome(t)
	d := serve(t, home)
	t.Cleanup(func() { stop(t, d) })
	c := connect(t, d)
	install(t, d, worker)
	counted := func() int {
		var got struct{ N int }
		invoke(t, c, &got, worker, "count", `{}`)
		return got.N
	}
	counted()
	before, _ := permissions(t, c, worker)

	filler := filepath.Join(filepath.Dir(home), "filler")
	fill(t, filler)
	eventually(t, 20*time.Second, "calls are refused", func() bool {
		res := d.Run(t.Context(), "tools", "call", worker, "echo", "--params", `{"text":"x"}`)
		if res.Code == 0 {
			fill(t, filler) // something else made room
		}
		return res.Code == 7 && strings.Contains(string(res.Stderr), "cannot be recorded")
	})
	for _, args := range [][]string{
		{"tools", "call", worker, "echo", "--params", `{"text":"x"}`},
		{"plugins", "grant", worker, "hook", "llm_output"},
		{"plugins", "revoke", worker, "resource", "memory"},
		{"plugins", "uninstall", worker},
		{"hooks", "emit", "llm_output"},
	} {
		res := d.Run(t.Context(), args...)
		if res.Code == 0 || !strings.Contains(string(res.Stderr), "make room") {
			t.Errorf("ocmt %s on a full disk: exit code %d: %s", strings.Join(args, " "), res.Code, res.Stderr)
		}
	}
	if res := d.Run(t.Context(), "plugins", "install", fixture(t, "seed-cjs")); res.Code == 0 {
		t.Error("installed on a full disk")
	}
	if after, _ := permissions(t, c, worker); !slices.Equal(before, after) {
		t.Errorf("granted %q, before %q", after, before)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "calls go on by themselves", func() bool {
		return d.Run(t.Context(), "tools", "call", worker, "echo", "--params", `{"text":"x"}`).Code == 0
	})
	if n := counted(); n != 2 {
		t.Errorf("the tool was called %d times, want 2: none that was refused", n)
	}
	run(t, d, 0, nil, "plugins", "grant", worker, "hook", "llm_output")
	list, err := c.Plugins(t.Context(), tenant)
	if err != nil || len(list) != 1 {
		t.Errorf("installed: %v, %v", list, err)
	}
	verifies(t, home)
	if len(records(t, d, "audit.resumed", "")) == 0 {
		t.Error("the log does not say that it was interrupted")
	}
}

// smallHome returns a home on a disk of its own, of a few megabytes.
func smallHome(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir := filepath.Dir(newHome(t))
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "ocmt-e2e", dir).CombinedOutput(); err != nil { // a directory of ours
		if required(harness.EngineName()) {
			t.Fatalf("cannot mount a small disk: %v: %s", err, out)
		}
		t.Skipf("cannot mount a small disk: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "umount", dir).CombinedOutput(); err != nil { // see above
			t.Errorf("%v: %s", err, out)
		}
	})
	return filepath.Join(dir, "home")
}

// fill writes until there is no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		chunk := make([]byte, size)
		for {
			if _, err := f.Write(chunk); err != nil {
				break
			}
		}
	}
}
