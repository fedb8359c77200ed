package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"

	"github.com/ocmt/ocmt/e2e/harness"
)

// asking is a plugin whose hook asks a person about calls whose text says so.
const asking = "conformance-register-esm"

// TestCallSockets uses the sockets that tenants' hosts are given: the home's
// own of the default tenant, and one in another place of the tenant beta.
func TestCallSockets(t *testing.T) {
	placed := filepath.Join(t.TempDir(), "beta.sock")
	d := start(t, "--call-socket", "beta="+placed)
	admin := connect(t, d)
	install(t, d, worker)
	install(t, d, asking, "--accept-permissions")
	install(t, d, worker, "--tenant", "beta")
	own := filepath.Join(d.Home, "ocmt", "tenants", tenant, "call.sock")
	for path, mode := range map[string]os.FileMode{own: 0o600, placed: 0o660} {
		eventually(t, 5*time.Second, "the socket "+path, func() bool { _, err := os.Stat(path); return err == nil })
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode || st.Mode()&os.ModeSocket == 0 {
			t.Errorf("%s has the mode %v, want %o of a socket", path, st.Mode(), mode)
		}
	}
	host, beta := client.New(own), client.New(placed)
	t.Cleanup(host.Close)
	t.Cleanup(beta.Close)

	t.Run("may", func(t *testing.T) { hostMay(t, host, beta) })
	t.Run("may not", func(t *testing.T) { hostMayNot(t, d, admin, host, beta, own) })
	t.Run("approvals", func(t *testing.T) { hostApprovals(t, admin, host, beta) })
	t.Run("idempotency", func(t *testing.T) { hostIdempotency(t, host, own) })
}

// hostMay does what a tenant's host is there for.
func hostMay(t *testing.T, host, beta *client.Client) {
	for _, tc := range []struct {
		c       *client.Client
		tenant  string
		plugins []string
	}{{host, tenant, []string{asking, worker}}, {beta, "beta", []string{worker}}} {
		tools, err := tc.c.Tools(t.Context(), tc.tenant)
		var plugins []string
		for _, tool := range tools {
			if tool.Tenant != tc.tenant {
				t.Errorf("a host of %s sees a tool of %s", tc.tenant, tool.Tenant)
			}
			plugins = append(plugins, tool.Plugin)
		}
		slices.Sort(plugins)
		if plugins = slices.Compact(plugins); err != nil || !slices.Equal(plugins, tc.plugins) {
			t.Errorf("a host of %s sees tools of %v, want %v (%v)", tc.tenant, plugins, tc.plugins, err)
		}
		result, err := tc.c.Call(t.Context(), tc.tenant, worker, "echo", v1.CallRequest{Params: json.RawMessage(`{"text":"hello"}`)})
		if err != nil || string(result.Result) != `{"text":"hello"}` {
			t.Errorf("a call from a host of %s: %s, %v", tc.tenant, result.Result, err)
		}
		got, err := tc.c.Emit(t.Context(), tc.tenant, "message_sending", v1.EmitRequest{Payload: json.RawMessage(`{"to":"x","content":"hello"}`)})
		changed := tc.tenant == tenant // where the plugin is that marks messages
		if err != nil || strings.Contains(string(got.Payload)+string(got.Result), "seen by") != changed {
			t.Errorf("an event from a host of %s: %+v, %v", tc.tenant, got, err)
		}
		if _, err := tc.c.Hooks(t.Context(), tc.tenant); err != nil {
			t.Error(err)
		}
		if _, err := tc.c.Registrations(t.Context(), tc.tenant); err != nil {
			t.Error(err)
		}
	}
	// Both plugins have a tool of that name: a plugin's name says which is meant.
	for _, id := range []string{worker, asking} {
		result, err := host.Call(t.Context(), tenant, id, "slow", v1.CallRequest{Params: json.RawMessage(`{"ms":0}`)})
		if id == worker {
			refusal(t, "a tool that only the other plugin has", err, errdefs.IsNotFound, "tool_not_found")
		} else if err != nil || string(result.Result) != `{"waited":0}` {
			t.Errorf("a tool of %s: %s, %v", id, result.Result, err)
		}
		if result, err := host.Call(t.Context(), tenant, id, "echo", v1.CallRequest{Params: json.RawMessage(`{"text":"x"}`)}); err != nil || string(result.Result) != `{"text":"x"}` {
			t.Errorf("the tool of %s: %s, %v", id, result.Result, err)
		}
	}
}

// hostMayNot does what is the operator's, and what is another tenant's.
func hostMayNot(t *testing.T, d *harness.Daemon, admin, host, beta *client.Client, socket string) {
	before, _ := permissions(t, admin, worker)
	refused := func(what string, err error) {
		t.Helper()
		refusal(t, what, err, errdefs.IsPermissionDenied, "permission_denied")
	}
	ctx := t.Context()
	_, err := host.Grant(ctx, tenant, worker, v1.GrantRequest{Kind: "env", Target: "PERM_ASKED"})
	refused("granting", err)
	_, err = host.Revoke(ctx, tenant, worker, v1.RevokeRequest{Kind: "resource", Target: "memory"})
	refused("revoking", err)
	_, err = host.Upload(ctx, tenant, strings.NewReader("x"))
	refused("uploading", err)
	_, err = host.Install(ctx, tenant, v1.InstallRequest{Spec: "is-number", Source: "npm", Confirmed: true, Accept: v1.AcceptAll}, nil, nil)
	refused("installing", err)
	_, err = host.Disable(ctx, tenant, worker)
	refused("disabling", err)
	_, err = host.Restart(ctx, tenant, worker)
	refused("restarting", err)
	refused("uninstalling", host.Uninstall(ctx, tenant, worker, false))
	_, err = host.ChangeService(ctx, tenant, asking, "heart", "stop")
	refused("stopping a service", err)
	if status, e := post(t, socket, "/v1/tenants/default/reviews/x", `{"digest":"sha256:00","accept":"all"}`); status != http.StatusForbidden {
		t.Errorf("answering a review: %d %+v, want 403", status, e)
	}
	for _, other := range []struct {
		c      *client.Client
		tenant string
	}{{host, "beta"}, {beta, tenant}, {host, "nobody"}} {
		_, err = other.c.Tools(ctx, other.tenant)
		refused("listing the tools of "+other.tenant, err)
		_, err = other.c.Call(ctx, other.tenant, worker, "echo", v1.CallRequest{Params: json.RawMessage(`{"text":"x"}`)})
		refused("calling a tool of "+other.tenant, err)
		_, err = other.c.Emit(ctx, other.tenant, "message_sending", v1.EmitRequest{})
		refused("emitting in "+other.tenant, err)
		_, err = other.c.Approvals(ctx, other.tenant)
		refused("listing the approvals of "+other.tenant, err)
		refused("the events of "+other.tenant, other.c.Events(ctx, v1.EventQuery{Tenant: other.tenant}, func(v1.Event) error { return nil }))
	}
	for what, list := range map[string]func() error{
		"tools":     func() error { _, err := host.Tools(ctx, ""); return err },
		"approvals": func() error { _, err := host.Approvals(ctx, ""); return err },
		"events":    func() error { return host.Events(ctx, v1.EventQuery{}, func(v1.Event) error { return nil }) },
	} {
		refused("listing all "+what, list())
	}
	request := requestFor(t, admin, "env PERM_ASKED")
	for _, decision := range []string{v1.AllowOnce, v1.AllowAlways, v1.Deny} {
		_, err = host.Resolve(ctx, tenant, request, decision)
		refused("resolving a request for a permission", err)
	}
	_, err = beta.Resolve(ctx, tenant, request, v1.AllowOnce)
	refused("resolving a request of another tenant", err)
	if after, _ := permissions(t, admin, worker); !slices.Equal(before, after) {
		t.Errorf("granted %q, before %q", after, before)
	}
	if requestFor(t, admin, "env PERM_ASKED") != request {
		t.Error("the request is gone")
	}
	if i := getInfo(t, d, worker); i.State != "running" || !i.Enabled {
		t.Errorf("the plugin is %+v", i)
	}
}

// ask calls a tool whose call waits for a person, and returns the approval and
// how the call ends.
func ask(t *testing.T, c *client.Client) (v1.Approval, <-chan error) {
	t.Helper()
	asked, ended := make(chan v1.Approval, 2), make(chan error, 1)
	go func() {
		_, err := c.Stream(t.Context(), tenant, worker, "echo", v1.CallRequest{Params: json.RawMessage(`{"text":"ask-me"}`)},
			client.Watch{Ask: func(a v1.Approval) { asked <- a }})
		ended <- err
	}()
	select {
	case a := <-asked:
		return a, ended
	case err := <-ended:
		t.Fatalf("the call ended without being asked about: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was asked")
	}
	panic("unreachable")
}

// hostApprovals resolves calls in every wrong way, and in the right one.
func hostApprovals(t *testing.T, admin, host, beta *client.Client) {
	ctx := t.Context()
	a, ended := ask(t, host)
	_, err := beta.Resolve(ctx, "beta", a.ID, v1.AllowOnce)
	refusal(t, "resolving another tenant's call in one's own", err, errdefs.IsNotFound, "approval_not_found")
	_, err = host.Resolve(ctx, tenant, a.ID, "maybe")
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("resolving with a word that is no decision: %v", err)
	}
	if got, err := host.Resolve(ctx, tenant, a.ID, v1.AllowOnce); err != nil || got.Decision != v1.AllowOnce || got.Actor != currentActor() {
		t.Errorf("resolving: %+v, %v", got, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the call that was allowed: %v", err)
	}
	for _, decision := range []string{v1.AllowOnce, v1.Deny} {
		_, err = host.Resolve(ctx, tenant, a.ID, decision)
		refusal(t, "resolving twice", err, errdefs.IsConflict, "already_resolved")
	}

	a, ended = ask(t, host)
	if _, err := host.Resolve(ctx, tenant, a.ID, v1.Deny); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errdefs.IsPermissionDenied(err) {
		t.Errorf("the call that was denied: %v", err)
	}

	// Two at once: one of them decides.
	a, ended = ask(t, host)
	results := make(chan error, 2)
	for _, decision := range []string{v1.AllowOnce, v1.Deny} {
		go func() { _, err := admin.Resolve(ctx, tenant, a.ID, decision); results <- err }()
	}
	if first, second := <-results, <-results; (first == nil) == (second == nil) || !errdefs.IsConflict(first) && !errdefs.IsConflict(second) {
		t.Errorf("resolving at once: %v and %v, want one of them refused", first, second)
	}
	<-ended

	for _, id := range []string{"nothing", "req_0000000000000000", strings.Repeat("x", 200), a.ID + "x"} {
		_, err = host.Resolve(ctx, tenant, id, v1.AllowOnce)
		refusal(t, "resolving "+id, err, errdefs.IsNotFound, "approval_not_found")
	}

	var late v1.Approval
	got, err := host.Emit(ctx, tenant, "before_tool_call", v1.EmitRequest{
		Payload: json.RawMessage(`{"toolName":"echo","plugin":"perm-worker","params":{"text":"ask-me"}}`), TimeoutMillis: 500,
	})
	if err == nil && (got.Outcome != v1.OutcomeBlock || got.Approval == nil) {
		t.Errorf("an event that nobody approved in time: %+v", got)
	}
	err = host.Events(ctx, v1.EventQuery{Tenant: tenant}, func(e v1.Event) error {
		if e.Type != v1.EventApproval {
			return nil
		}
		return json.Unmarshal(e.Data, &late)
	})
	if err != nil || late.Decision != "timeout" {
		t.Fatalf("the last approval: %+v, %v, want one whose time is over", late, err)
	}
	_, err = host.Resolve(ctx, tenant, late.ID, v1.AllowOnce)
	refusal(t, "resolving after its time", err, errdefs.IsFailedPrecondition, "approval_expired")
}

// hostIdempotency sends calls twice that count themselves in the plugin's state.
func hostIdempotency(t *testing.T, host *client.Client, socket string) {
	counted := func(ms string, opts ...client.Option) (int, error) {
		result, err := host.Call(t.Context(), tenant, worker, "count", v1.CallRequest{Params: json.RawMessage(`{"ms":` + ms + `}`)}, opts...)
		var got struct{ N int }
		if err == nil {
			err = json.Unmarshal(result.Result, &got)
		}
		return got.N, err
	}
	for range 2 {
		if n, err := counted("0", client.WithIdempotencyKey("first")); n != 1 || err != nil {
			t.Errorf("the same call again: count %d, %v, want 1", n, err)
		}
	}
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			if n, err := counted("500", client.WithIdempotencyKey("at once")); n != 2 || err != nil {
				t.Errorf("the same call at once: count %d, %v, want 2", n, err)
			}
		})
	}
	calls.Wait()
	if n, err := counted("0"); n != 3 || err != nil {
		t.Errorf("a call without a key: count %d, %v, want 3", n, err)
	}
	status, e := post(t, socket, "/v1/tenants/default/plugins/perm-worker/tools/count/call", `{"params":{"ms":1}}`, v1.IdempotencyKey, "first")
	if status != http.StatusConflict || e.Code != "idempotency_mismatch" {
		t.Errorf("the key of another call: %d %+v, want 409 idempotency_mismatch", status, e)
	}
	if n, err := counted("0"); n != 4 || err != nil {
		t.Errorf("count %d, %v, want 4: the refused call was carried out", n, err)
	}
}
