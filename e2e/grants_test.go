package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"

	"github.com/ocmt/ocmt/e2e/harness"
)

func itoa(n int) string { return strconv.Itoa(n) }

// seenConfig returns what the worker sees of config.json at a path.
func seenConfig(t *testing.T, c *client.Client, path string) any {
	t.Helper()
	var got struct{ Value any }
	invoke(t, c, &got, worker, "config", `{"path":"`+path+`"}`)
	return got.Value
}

// restarted waits for a generation after one, which serves.
func restarted(t *testing.T, d *harness.Daemon, after uint64) {
	t.Helper()
	eventually(t, 20*time.Second, "another start", func() bool {
		i := getInfo(t, d, worker)
		return i.Generation > after && i.State == "running"
	})
}

// grantConfig shows the plugin parts of config.json. The path was granted with
// the install.
func grantConfig(t *testing.T, d *harness.Daemon, c *client.Client) {
	path := filepath.Join(d.Home, "config.json")
	run(t, d, 0, []string{"the plugin was restarted"}, "plugins", "revoke", worker, "config", "agents.defaults.model")
	before := getInfo(t, d, worker)
	edit(t, path, `{`, `{"agents": {"defaults": {"model": "opus", "other": 1}}, "gateway": {"auth": {"token": "T0KEN"}},`)
	edit(t, path, `"entries": {`, `"entries": {"someone-else": {"config": {"key": "K3Y"}},`)
	edit(t, path, `{"later": true}`, `{"later": true, "mine": 7}`)
	restarted(t, d, before.Generation)
	if text := string(mustJSON(t, seenConfig(t, c, ""))); strings.Contains(text, "T0KEN") || strings.Contains(text, "K3Y") || strings.Contains(text, "opus") {
		t.Errorf("it sees %s", text)
	}
	if got := seenConfig(t, c, "plugins.entries.perm-worker.config.mine"); got != 7.0 {
		t.Errorf("of its own entry it sees %v", got)
	}
	run(t, d, 0, []string{"the plugin was restarted"}, "plugins", "grant", worker, "config", "agents.defaults.model")
	want := map[string]any{"defaults": map[string]any{"model": "opus"}}
	if diff := cmp.Diff(want, seenConfig(t, c, "agents")); diff != "" {
		t.Errorf("with a path granted (-want +got):\n%s", diff)
	}
	if text := string(mustJSON(t, seenConfig(t, c, ""))); strings.Contains(text, "T0KEN") || strings.Contains(text, "K3Y") {
		t.Errorf("with a path granted it sees %s", text)
	}
}

// attempted is the result of the worker's read and write.
type attempted struct{ Text, Error string }

func try(t *testing.T, c *client.Client, tool, path string) attempted {
	t.Helper()
	var got attempted
	params, err := json.Marshal(map[string]string{"path": path, "text": "written"})
	if err != nil {
		t.Fatal(err)
	}
	if tool == "read" {
		params, err = json.Marshal(map[string]string{"path": path})
		if err != nil {
			t.Fatal(err)
		}
	}
	invoke(t, c, &got, worker, tool, string(params))
	return got
}

// grantWorkspace grants directories at the host's own path.
func grantWorkspace(t *testing.T, d *harness.Daemon, c *client.Client) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // the way to it
			t.Fatal(err)
		}
	}
	if harness.RuntimeName() == "runsc" { // see instance.CheckWritable
		if err := os.Chmod(root, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	work := filepath.Join(root, "work")
	file := filepath.Join(work, "file")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("from the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantOwner := os.Geteuid()
	if wantOwner == 0 {
		wantOwner = ordinaryUID
		for _, p := range []string{work, file} {
			if err := os.Chown(p, ordinaryUID, ordinaryUID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := try(t, c, "read", file); got.Error != "ENOENT" {
		t.Errorf("before the grant: %+v", got)
	}
	run(t, d, 0, []string{"the plugin was restarted"}, "plugins", "grant", worker, "workspace", "ro", work)
	if got := try(t, c, "read", file); got.Text != "from the host" {
		t.Errorf("granted for reading: %+v", got)
	}
	if got := try(t, c, "write", file); got.Error != "EROFS" {
		t.Errorf("written though granted for reading: %+v", got)
	}
	run(t, d, 0, []string{"the plugin was restarted"}, "plugins", "grant", worker, "workspace", "rw", work)
	made := filepath.Join(work, "made")
	if got := try(t, c, "write", made); got.Error != "" {
		t.Errorf("granted for writing: %+v", got)
	}
	if data, err := os.ReadFile(made); err != nil || string(data) != "written" || owner(t, made) != wantOwner {
		t.Errorf("the host finds %q (%v) of uid %d, want it of uid %d", data, err, owner(t, made), wantOwner)
	}
	workspaceContext(t, c, work, root)
	refusedWorkspaces(t, d, c, root, work)

	agents := filepath.Join(d.Home, "workspace")
	if err := os.MkdirAll(agents, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, d, 0, nil, "plugins", "grant", worker, "workspace", "ro", agents)
	for _, dir := range []string{agents, work} {
		run(t, d, 0, []string{"the plugin was restarted"}, "plugins", "revoke", worker, "workspace", dir)
	}
	if got := try(t, c, "read", file); got.Error != "ENOENT" {
		t.Errorf("after the revocation: %+v", got)
	}
}

// workspaceContext has callers name directories.
func workspaceContext(t *testing.T, c *client.Client, granted, other string) {
	t.Helper()
	for _, tc := range []struct {
		dir   string
		shown bool
	}{{granted, true}, {granted + "/below", true}, {other, false}, {granted + "-other", false}, {granted + "/../x", false}, {granted + "/below/../../..", false}, {"/etc", false}} {
		result, err := c.Call(t.Context(), tenant, worker, "where", v1.CallRequest{Context: v1.CallContext{WorkspaceDir: tc.dir}})
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ WorkspaceDir string }
		if err := json.Unmarshal(result.Result, &got); err != nil {
			t.Fatal(err)
		}
		if (got.WorkspaceDir == tc.dir) != tc.shown {
			t.Errorf("a caller in %s: the plugin is told %q", tc.dir, got.WorkspaceDir)
		}
	}
}

// refusedWorkspaces tries to grant what must not be, and sees that nothing was.
func refusedWorkspaces(t *testing.T, d *harness.Daemon, c *client.Client, root, work string) {
	t.Helper()
	before, _ := permissions(t, c, worker)
	link := filepath.Join(root, "link")
	if err := os.Symlink(work, link); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path, says string
		code       int
	}{
		{link, "symlink", 2}, {filepath.Join(root, "missing"), "does not exist", 2}, {filepath.Join(work, "file"), "not a directory", 2},
		{"/", "everything", 2}, {"/etc", "system", 4}, {"/usr/lib", "system", 4}, {"/proc/self", "system", 4}, {"/var/run", "system", 4},
		{"/var/lib/docker", "system", 4}, {"/var/lib", "system", 4}, {"/tmp", "cannot be granted", 4},
		{d.Home, "home of ocmt", 4}, {filepath.Join(d.Home, "ocmt"), "home of ocmt", 4}, {filepath.Dir(d.Home), "home of ocmt", 4},
		{filepath.Join(d.Home, "tenants"), "home of ocmt", 4},
	} {
		run(t, d, tc.code, []string{tc.says, "hint"}, "plugins", "grant", worker, "workspace", "rw", tc.path)
	}
	for _, path := range []string{work + "/../work", work + "/.", "relative", "work\x00", work + "\n"} {
		_, err := c.Grant(t.Context(), tenant, worker, v1.GrantRequest{Kind: "workspace", Target: path, Value: "ro"})
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("granting %q: %v", path, err)
		}
	}
	if after, _ := permissions(t, c, worker); !slices.Equal(before, after) {
		t.Errorf("granted %q, before %q", after, before)
	}
}

// grantResources grants more and less memory.
func grantResources(t *testing.T, d *harness.Daemon, c *client.Client) {
	run(t, d, 0, []string{"granted by " + currentActor()}, "approvals", "approve", requestFor(t, c, "resource memory 512MiB"))
	if got := limits(t, d, worker); got != memoryAndPIDs(512<<20, 96) {
		t.Errorf("memory and pids are %s, want what was granted", got)
	}
	before, _ := permissions(t, c, worker)
	for _, words := range [][]string{
		{"memory", "0"}, {"memory", "-1MiB"}, {"memory", "1MiB"}, {"memory", "lots"}, {"memory", "9999TiB"}, {"cpus", "0"}, {"cpus", "1e9"},
		{"pids", "-1"}, {"pids", "0"}, {"pids", "1000000"}, {"disk", "1GiB"},
	} {
		run(t, d, 2, []string{"hint"}, append([]string{"plugins", "grant", worker, "resource", "--"}, words...)...)
	}
	if after, _ := permissions(t, c, worker); !slices.Equal(before, after) {
		t.Errorf("granted %q, before %q", after, before)
	}
}

// configNarrows edits config.json, which takes away and never gives.
func configNarrows(t *testing.T, d *harness.Daemon, c *client.Client) {
	path := filepath.Join(d.Home, "config.json")
	before, _ := permissions(t, c, worker)
	received := func(want string) {
		t.Helper()
		eventually(t, 10*time.Second, "the hook is "+want, func() bool {
			got := emit(t, c, "llm_output", `{"from":"a","content":"b"}`)
			return slices.Equal(statuses(got), []string{worker + " " + want})
		})
	}
	received("ok")
	set := func(text string) {
		t.Helper()
		generation := getInfo(t, d, worker).Generation
		edit(t, path, `"perm-worker": {`, `"perm-worker": {`+text+`,`)
		restarted(t, d, generation)
	}
	unset := func(text string) {
		t.Helper()
		generation := getInfo(t, d, worker).Generation
		edit(t, path, text+`,`, ``)
		restarted(t, d, generation)
	}

	narrow := `"permissions": {"resources": {"memory": "96MiB", "pids": 80}, "env": ["PERM_ASKED"]}, "hooks": {"allowConversationAccess": false}`
	set(narrow)
	if got := limits(t, d, worker); got != memoryAndPIDs(96<<20, 80) {
		t.Errorf("memory and pids are %s, want what config.json says", got)
	}
	if asked, granted := variable(t, c, "PERM_ASKED"), variable(t, c, "PERM_GRANTED"); asked != "asked-value" || granted != "" {
		t.Errorf("narrowed to one variable: %q and %q", asked, granted)
	}
	received("not_granted")
	run(t, d, 0, []string{"switched off by config.json"}, "plugins", "permissions", worker)
	unset(narrow)
	received("ok")
	if after, _ := permissions(t, c, worker); !slices.Equal(before, after) {
		t.Errorf("granted %q, before the file was edited %q", after, before)
	}

	// Each of these names more than was granted.
	for i, wide := range []string{
		`{"network": [{"host": "evil.perm.example", "ports": [443]}, {"host": "api.perm.example", "ports": [443], "plaintext": true}], "env": ["PERM_ASKED", "PERM_GRANTED", "PERM_WIDE"]}`,
		`{"workspace": "rw", "config": ["agents", "gateway"], "host": ["emit"], "resources": {"memory": "8GiB", "pids": 4096, "cpus": 8}}`,
	} {
		edit(t, path, `"perm-worker": {`, `"perm-worker": {"permissions": `+wide+`,`)
		want := []string{"env PERM_WIDE", "host emit"}[i]
		eventually(t, 10*time.Second, "the edit is asked for", func() bool {
			_, pending := permissions(t, c, worker)
			return slices.Contains(pending, want)
		})
		p, err := c.Permissions(t.Context(), tenant, worker)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range spelled(p.Granted) {
			if !slices.Contains(before, g) {
				t.Errorf("edit %d granted %s", i, g)
			}
		}
		if got := limits(t, d, worker); got != memoryAndPIDs(512<<20, 96) {
			t.Errorf("edit %d: memory and pids are %s, want what was granted", i, got)
		}
		if text := string(mustJSON(t, seenConfig(t, c, ""))); strings.Contains(text, "T0KEN") {
			t.Errorf("edit %d: it sees %s", i, text)
		}
		run(t, d, 0, []string{strings.Fields(want)[1]}, "status")
		edit(t, path, `"permissions": `+wide+`,`, ``)
	}
	eventually(t, 10*time.Second, "as before", func() bool {
		granted, pending := permissions(t, c, worker)
		return slices.Equal(granted, before) && !slices.Contains(pending, "host emit")
	})
	expectRecord(t, d, "permission.request", worker, func(r map[string]any) bool { return strings.Contains(fmt.Sprint(r["target"]), "host emit") })
}

// grantsStay is what is there after the daemon was killed, and ends with the
// plugin.
func grantsStay(t *testing.T, d *harness.Daemon, c *client.Client) {
	eventually(t, 20*time.Second, "it serves", func() bool { return getInfo(t, d, worker).State == "running" })
	if asked, granted := variable(t, c, "PERM_ASKED"), variable(t, c, "PERM_GRANTED"); asked != "asked-value" || granted != "granted-value" {
		t.Errorf("the variables are %q and %q, want those that were granted", asked, granted)
	}
	if got := limits(t, d, worker); got != memoryAndPIDs(512<<20, 96) {
		t.Errorf("memory and pids are %s, want what was granted", got)
	}
	if _, pending := permissions(t, c, worker); slices.Contains(pending, "env PERM_SECRET") {
		t.Error("a request that was denied is there again")
	}
	run(t, d, 0, nil, "plugins", "uninstall", worker)
	_, err := c.Permissions(t.Context(), tenant, worker)
	refusal(t, "of what is not installed", err, errdefs.IsNotFound, "plugin_not_found")
	if list, err := c.Approvals(t.Context(), tenant); err != nil || len(list) != 0 {
		t.Errorf("it still asks for %v, %v", list, err)
	}
	install(t, d, worker)
	if granted, pending := permissions(t, c, worker); !slices.Equal(granted, []string{"resource memory 128MiB"}) || !slices.Contains(pending, "env PERM_ASKED") {
		t.Errorf("installed again: granted %q, asked for %q", granted, pending)
	}
}

// expectRecord fails the test unless the audit log holds a record that fits.
func expectRecord(t *testing.T, d *harness.Daemon, action, plugin string, fits func(map[string]any) bool) map[string]any {
	t.Helper()
	found := audited(t, d, action, plugin)
	for _, r := range found {
		if fits(r) {
			return r
		}
	}
	t.Errorf("the audit log holds no such record of %s among %v", action, found)
	return nil
}
