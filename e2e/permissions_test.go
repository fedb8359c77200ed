package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"

	"github.com/ocmt/ocmt/e2e/harness"
	"github.com/ocmt/ocmt/sandbox"
)

// worker is a plugin that asks for some of everything and uses what it has.
const worker = "perm-worker"

// workerCopy returns a directory with the worker, which the test may change.
func workerCopy(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), worker)
	if err := os.CopyFS(dir, os.DirFS(fixture(t, worker))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// permissions returns what a plugin may do and asks for, sorted, as "kind target
// value".
func permissions(t *testing.T, c *client.Client, id string) (granted, pending []string) {
	t.Helper()
	p, err := c.Permissions(t.Context(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	return spelled(p.Granted), spelled(p.Pending)
}

func spelled(list []v1.Permission) []string {
	out := []string{}
	for _, p := range list {
		if p.Kind != "registration" {
			out = append(out, strings.TrimSpace(p.Kind+" "+p.Target+" "+p.Value))
		}
	}
	slices.Sort(out)
	return out
}

// inspect returns what the engine says of a plugin's container.
func inspect(t *testing.T, d *harness.Daemon, id string) string {
	t.Helper()
	container, err := d.Container(t.Context(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.Engine().Inspect(t.Context(), container)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// memoryAndPIDs is what limits returns of a container that has so much.
func memoryAndPIDs(memory, pids int64) string {
	if harness.RuntimeName() == "runsc" {
		pids = sandbox.GVisorPIDs(pids)
	}
	return fmt.Sprint(memory, pids)
}

// limits returns the memory and the number of processes that the engine allows
// a plugin's container.
func limits(t *testing.T, d *harness.Daemon, id string) string {
	t.Helper()
	container, err := d.Container(t.Context(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Engine().Limits(t.Context(), container)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %d", l.Memory, l.PIDs)
}

// refusal fails the test unless err has the class and the code.
func refusal(t *testing.T, what string, err error, is func(error) bool, code string) {
	t.Helper()
	if f := fault.Of(err); err == nil || !is(err) || f.Code != code {
		t.Errorf("%s: %v (code %q), want %s", what, err, f.Code, code)
	}
}

// post sends a request to a socket of the daemon as any HTTP client does.
func post(t *testing.T, socket, path, body string, header ...string) (int, v1.Error) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://ocmt"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e v1.Error
	_ = json.Unmarshal(text, &e) // of a success there is none
	return res.StatusCode, e
}

func adminSocket(d *harness.Daemon) string { return filepath.Join(d.Home, "ocmt", "run", "admin.sock") }

// TestPermissions takes one plugin through its consent and its grants. The
// subtests share a daemon and go on where the one before ended.
func TestPermissions(t *testing.T) {
	need(t)
	daemon := harness.Options{Home: newHome(t), Env: []string{"PERM_ASKED=asked-value", "PERM_GRANTED=granted-value", "PERM_SECRET=secret-value"}}
	d := serveWith(t, daemon)
	t.Cleanup(func() { stop(t, d) })
	c := connect(t, d)
	dir := workerCopy(t)
	for _, tc := range []struct {
		name string
		test func(*testing.T)
	}{
		{"review", func(t *testing.T) { consentReview(t, d, c) }},
		{"without an answer", func(t *testing.T) { consentBasics(t, d, c) }},
		{"accepted", func(t *testing.T) { consentAll(t, d, c, dir) }},
		{"update", func(t *testing.T) { consentUpdate(t, d, c, dir) }},
		{"another tool", func(t *testing.T) { consentTool(t, d, c) }},
		{"environment", func(t *testing.T) { grantEnvironment(t, d, c) }},
		{"configuration", func(t *testing.T) { grantConfig(t, d, c) }},
		{"workspace", func(t *testing.T) { grantWorkspace(t, d, c) }},
		{"resources", func(t *testing.T) { grantResources(t, d, c) }},
		{"config.json", func(t *testing.T) { configNarrows(t, d, c) }},
		{"killed", func(t *testing.T) {
			before, asked := permissions(t, c, worker)
			d.Kill()
			d = serveWith(t, daemon)
			after, still := permissions(t, c, worker)
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("granted before and after (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(asked, still); diff != "" {
				t.Errorf("asked for before and after (-before +after):\n%s", diff)
			}
			grantsStay(t, d, c)
		}},
	} {
		if !t.Run(tc.name, tc.test) {
			return // the others begin where it ended
		}
	}
}

// upload sends a directory to the daemon as a tar.
func upload(t *testing.T, c *client.Client, dir string) v1.Upload {
	t.Helper()
	var pack bytes.Buffer
	w := tar.NewWriter(&pack)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	u, err := c.Upload(t.Context(), tenant, &pack)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// nothingInstalled fails the test if an install left anything.
func nothingInstalled(t *testing.T, d *harness.Daemon, c *client.Client) {
	t.Helper()
	list, err := c.Plugins(t.Context(), tenant)
	if err != nil || len(list) != 0 {
		t.Errorf("installed: %v, %v", list, err)
	}
	eventually(t, 10*time.Second, "nothing is left", func() bool {
		left, err := d.Containers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, pattern := range []string{"store/*", "staging/*", "tenants/default/plugins/*"} {
			found, err := filepath.Glob(filepath.Join(d.Home, "ocmt", pattern))
			if err != nil {
				t.Fatal(err)
			}
			left = append(left, found...)
		}
		return len(left) == 0
	})
}

// consentReview has a program show the review, and answer it in every way but
// yes.
func consentReview(t *testing.T, d *harness.Daemon, c *client.Client) {
	dir := fixture(t, worker)
	install := func(ctx context.Context, review client.Review) error {
		_, err := c.Install(ctx, tenant, v1.InstallRequest{Spec: dir, Source: "path", Upload: upload(t, c, dir).ID}, nil, review)
		return err
	}
	var shown v1.Review
	err := install(t.Context(), func(_ context.Context, r v1.Review) (string, error) {
		shown = r
		path := "/v1/tenants/default/reviews/" + r.ID
		status, e := post(t, adminSocket(d), path, `{"digest":"sha256:00","accept":"all"}`)
		if status != http.StatusConflict || e.Code != "review_changed" {
			t.Errorf("an answer to another digest: %d %+v, want 409 review_changed", status, e)
		}
		if status, e := post(t, adminSocket(d), "/v1/tenants/other/reviews/"+r.ID, `{"digest":"`+r.Digest+`","accept":"all"}`); status != http.StatusNotFound {
			t.Errorf("an answer in another tenant: %d %+v, want 404", status, e)
		}
		return v1.AcceptNone, nil
	})
	refusal(t, "answered with none", err, errdefs.IsPermissionDenied, "review_refused")
	want := []string{
		"config agents.defaults.model", "env PERM_ASKED", "hook llm_output observe", "network api.perm.example:443",
		"resource memory 128MiB", "resource pids 96", "workspace  rw",
	}
	if diff := cmp.Diff(want, spelled(shown.Permissions)); diff != "" || shown.Plugin != worker || shown.Update {
		t.Errorf("the review of %s (-want +got):\n%s", shown.Plugin, diff)
	}
	for _, p := range shown.Permissions {
		sensitive := p.Kind != "registration" && p.Target != "memory"
		if p.Sentence == "" || p.Sensitive != sensitive {
			t.Errorf("%s %s: sensitive %v, want %v; %q", p.Kind, p.Target, p.Sensitive, sensitive, p.Sentence)
		}
	}
	status, e := post(t, adminSocket(d), "/v1/tenants/default/reviews/"+shown.ID, `{"digest":"`+shown.Digest+`","accept":"all"}`)
	if status != http.StatusConflict || e.Code != "already_answered" {
		t.Errorf("a second answer: %d %+v, want 409 already_answered", status, e)
	}
	nothingInstalled(t, d, c)

	ctx, leave := context.WithCancel(t.Context())
	err = install(ctx, func(ctx context.Context, r v1.Review) (string, error) {
		shown = r
		leave()
		<-ctx.Done()
		return "", ctx.Err()
	})
	if err == nil {
		t.Error("an install whose client left succeeded")
	}
	eventually(t, 10*time.Second, "the review is closed", func() bool {
		status, _ := post(t, adminSocket(d), "/v1/tenants/default/reviews/"+shown.ID, `{"digest":"sha256:00","accept":"all"}`) // no answer, if it is open
		return status == http.StatusNotFound
	})
	nothingInstalled(t, d, c)
}

// consentBasics installs where nobody can answer.
func consentBasics(t *testing.T, d *harness.Daemon, c *client.Client) {
	install(t, d, worker)
	granted, pending := permissions(t, c, worker)
	if diff := cmp.Diff([]string{"resource memory 128MiB"}, granted); diff != "" {
		t.Errorf("granted unasked (-want +got):\n%s", diff)
	}
	want := []string{
		"config agents.defaults.model", "env PERM_ASKED", "hook llm_output observe", "network api.perm.example:443",
		"resource pids 96", "workspace  rw",
	}
	if diff := cmp.Diff(want, pending); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	commands := []string{
		"ocmt plugins grant perm-worker env PERM_ASKED", "ocmt plugins grant perm-worker network api.perm.example:443",
		"ocmt plugins grant perm-worker workspace rw PATH",
	}
	run(t, d, 0, commands, "plugins", "permissions", worker)
	status, err := c.Status(t.Context(), tenant)
	if err != nil || len(status.Pending) != len(want) {
		t.Errorf("the status shows %d requests, want %d (%v)", len(status.Pending), len(want), err)
	}
	run(t, d, 0, []string{"6 requests", "ocmt "}, "status")
	run(t, d, 0, []string{"PERM_ASKED", "permission"}, "approvals", "list")
	if got := limits(t, d, worker); got != memoryAndPIDs(128<<20, 64) {
		t.Errorf("memory and pids are %s, want what it asks for below the default, and the default", got)
	}
	if value := variable(t, c, "PERM_ASKED"); value != "" {
		t.Errorf("a variable that was not granted is %q", value)
	}
	run(t, d, 0, nil, "plugins", "uninstall", worker)
	nothingInstalled(t, d, c)
}

// variable returns a variable of the worker's environment.
func variable(t *testing.T, c *client.Client, name string) string {
	t.Helper()
	var got struct{ Value string }
	invoke(t, c, &got, worker, "env", `{"name":"`+name+`"}`)
	return got.Value
}

// consentAll installs with all that can be granted so.
func consentAll(t *testing.T, d *harness.Daemon, c *client.Client, dir string) {
	run(t, d, 0, nil, "plugins", "install", dir, "--link", "--accept-permissions")
	granted, pending := permissions(t, c, worker)
	want := []string{
		"config agents.defaults.model", "env PERM_ASKED", "hook llm_output observe", "network api.perm.example:443",
		"resource memory 128MiB", "resource pids 96",
	}
	if diff := cmp.Diff(want, granted); diff != "" || !slices.Equal(pending, []string{"workspace  rw"}) {
		t.Errorf("pending %q, granted (-want +got):\n%s", pending, diff)
	}
	if got := limits(t, d, worker); got != memoryAndPIDs(128<<20, 96) {
		t.Errorf("memory and pids are %s, want what was accepted", got)
	}
	if value := variable(t, c, "PERM_ASKED"); value != "asked-value" {
		t.Errorf("the accepted variable is %q", value)
	}
	p, err := c.Permissions(t.Context(), tenant, worker)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range p.Granted {
		if g.Actor != currentActor() || g.Origin != "review" || g.GrantedAt == nil {
			t.Errorf("%s %s was granted by %q (%s) at %v", g.Kind, g.Target, g.Actor, g.Origin, g.GrantedAt)
		}
	}
}

// consentUpdate installs a version that asks for more.
func consentUpdate(t *testing.T, d *harness.Daemon, c *client.Client, dir string) {
	before, _ := permissions(t, c, worker)
	path := filepath.Join(dir, "ocmt.permissions.json")
	edit(t, path, `["PERM_ASKED"]`, `["PERM_ASKED", "PERM_SECRET"]`)
	edit(t, path, `"128MiB"`, `"512MiB"`)
	run(t, d, 0, nil, "plugins", "restart", worker)
	granted, pending := permissions(t, c, worker)
	if diff := cmp.Diff(before, granted); diff != "" {
		t.Errorf("an update changed what is granted (-before +after):\n%s", diff)
	}
	if want := []string{"env PERM_SECRET", "resource memory 512MiB", "workspace  rw"}; !slices.Equal(pending, want) {
		t.Errorf("asks for %q, want %q", pending, want)
	}
	if asked, secret := variable(t, c, "PERM_ASKED"), variable(t, c, "PERM_SECRET"); asked != "asked-value" || secret != "" {
		t.Errorf("the variables are %q and %q, want the one that was granted before", asked, secret)
	}
	if got := limits(t, d, worker); got != memoryAndPIDs(128<<20, 96) {
		t.Errorf("memory and pids are %s, want what was granted before", got)
	}
	run(t, d, 0, []string{"denied"}, "approvals", "deny", requestFor(t, c, "env PERM_SECRET"))
}

// requestFor returns the id of the request for a permission.
func requestFor(t *testing.T, c *client.Client, target string) string {
	t.Helper()
	list, err := c.Approvals(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.Plugin == worker && a.Target == target {
			return a.ID
		}
	}
	t.Fatalf("nobody asks for %s: %v", target, list)
	return ""
}

// consentTool has the plugin register a tool that nobody has accepted.
func consentTool(t *testing.T, d *harness.Daemon, c *client.Client) {
	before := getInfo(t, d, worker)
	edit(t, filepath.Join(d.Home, "config.json"), `"perm-worker": {`, `"perm-worker": {"config": {"later": true},`)
	eventually(t, 20*time.Second, "a start with the new configuration", func() bool {
		i := getInfo(t, d, worker)
		return i.Generation > before.Generation && i.State == "running"
	})
	_, err := c.Call(t.Context(), tenant, worker, "later", v1.CallRequest{})
	refusal(t, "a tool that nobody accepted", err, errdefs.IsPermissionDenied, "tool_not_accepted")
	const command = "ocmt plugins grant perm-worker registration tool:later"
	if hint := fault.Of(err).Hint; !strings.Contains(hint, command) {
		t.Errorf("the hint %q does not name the command", hint)
	}
	tools, err := c.Tools(t.Context(), tenant)
	if err != nil || slices.ContainsFunc(tools, func(tool v1.Tool) bool { return tool.Name == "later" }) {
		t.Errorf("it is listed: %v, %v", tools, err)
	}
	run(t, d, 0, []string{command}, "plugins", "permissions", worker)
	run(t, d, 0, nil, "approvals", "approve", requestFor(t, c, "registration tool:later"))
	var got struct{ Later bool }
	if invoke(t, c, &got, worker, "later", `{}`); !got.Later {
		t.Error("the tool does not answer after the grant")
	}
}

// grantEnvironment grants a variable of the daemon's environment.
func grantEnvironment(t *testing.T, d *harness.Daemon, c *client.Client) {
	if value := variable(t, c, "PERM_GRANTED"); value != "" {
		t.Errorf("before the grant: %q", value)
	}
	run(t, d, 0, []string{"the plugin was restarted"}, "plugins", "grant", worker, "env", "PERM_GRANTED")
	if value := variable(t, c, "PERM_GRANTED"); value != "granted-value" {
		t.Errorf("after the grant: %q", value)
	}
	for _, value := range []string{"granted-value", "asked-value", "secret-value"} {
		if strings.Contains(inspect(t, d, worker), value) {
			t.Errorf("the engine knows the value %q", value)
		}
	}
	for _, name := range []string{"LD_PRELOAD", "NODE_OPTIONS", "PATH", "OCMT_BUS"} {
		run(t, d, 2, []string{"hint"}, "plugins", "grant", worker, "env", name)
		_, err := c.Grant(t.Context(), tenant, worker, v1.GrantRequest{Kind: "env", Target: name})
		refusal(t, "granting "+name, err, errdefs.IsInvalidArgument, "invalid_grant")
	}
}

// currentActor is how the daemon calls who runs the tests.
func currentActor() string { return "uid:" + itoa(os.Geteuid()) }

// owner returns the uid of a file's owner.
func owner(t *testing.T, path string) int {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(st.Sys().(*syscall.Stat_t).Uid) //nolint:forcetypeassert // as documented for Linux
}
