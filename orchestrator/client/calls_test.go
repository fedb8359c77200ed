package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// with serves backend as its parts and returns a client.
func with(t *testing.T, backend *apitest.Backend) *client.Client {
	t.Helper()
	return serve(t, httpapi.New(backend.Parts(), httpapi.Options{UploadDir: t.TempDir()}))
}

func TestListsOfControl(t *testing.T) {
	c, backend, ctx := demo(t), apitest.New(), t.Context()
	for _, tenant := range []string{"", "default", "acme"} {
		hooks, err := c.Hooks(ctx, tenant)
		want, _ := backend.Hooks(ctx, tenant)
		if len(hooks) != len(want) || err != nil {
			t.Errorf("hooks of %q: %+v, %v", tenant, hooks, err)
		}
		for i := range hooks {
			if hooks[i].Handler != want[i].Handler || hooks[i].Event != want[i].Event || hooks[i].Priority != want[i].Priority {
				t.Errorf("hook %d of %q: got %+v, want %+v", i, tenant, hooks[i], want[i])
			}
		}
		services, err := c.Services(ctx, tenant)
		wantServices, _ := backend.Services(ctx, tenant)
		if diff := cmp.Diff(wantServices, services); len(wantServices)+len(services) > 0 && diff != "" || err != nil {
			t.Errorf("services of %q: %v\n%s", tenant, err, diff)
		}
		approvals, err := c.Approvals(ctx, tenant)
		wantApprovals, _ := backend.Approvals(ctx, tenant)
		if diff := cmp.Diff(wantApprovals, approvals); len(wantApprovals)+len(approvals) > 0 && diff != "" || err != nil {
			t.Errorf("approvals of %q: %v\n%s", tenant, err, diff)
		}
	}
	snapshot, err := c.Registrations(ctx, "default")
	if want, _ := backend.Snapshot(ctx, "default"); err != nil || snapshot.Digest != want.Digest || len(snapshot.Registrations) != 8 {
		t.Errorf("registrations: %+v, %v", snapshot, err)
	}
}

func TestEmitAndInvoke(t *testing.T) {
	c, ctx := demo(t), t.Context()
	payload := json.RawMessage(`{"text":"hi"}`)
	emitted, err := c.Emit(ctx, "default", "agent:message:before", v1.EmitRequest{Payload: payload})
	if err != nil || string(emitted.Payload) != `{"text":"hi!"}` || len(emitted.Changes) != 1 || emitted.Changes[0].Plugin != "demo" {
		t.Errorf("emit: %+v, %v", emitted, err)
	}
	invoked, err := c.Invoke(ctx, "default", "demo", 6, v1.InvokeRequest{Payload: payload})
	if err != nil || string(invoked.Payload) != `{"text":"hi!"}` {
		t.Errorf("invoke: %+v, %v", invoked, err)
	}
	blocked, err := c.Emit(ctx, "default", "before_tool_call", v1.EmitRequest{Payload: json.RawMessage(`{"toolName":"forbidden"}`)})
	if err != nil || blocked.Outcome != v1.OutcomeBlock || blocked.BlockedBy == nil || blocked.BlockedBy.Reason != "not today" {
		t.Errorf("block: %+v, %v", blocked, err)
	}
	if _, err := c.Invoke(ctx, "default", "demo", 99, v1.InvokeRequest{}); !errdefs.IsNotFound(err) || fault.Of(err).Code != "handler_not_found" {
		t.Errorf("no such handler: %v", err)
	}
	if _, err := c.Invoke(ctx, "default", "demo", -1, v1.InvokeRequest{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("negative handler: %v", err)
	}
	if _, err := c.Emit(ctx, "default", "", v1.EmitRequest{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no event: %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Emit(ctx, "default", "hang", v1.EmitRequest{}); !errdefs.IsCanceled(err) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestControl(t *testing.T) {
	c, ctx := demo(t), t.Context()
	if s, err := c.ChangeService(ctx, "default", "demo", "ticker", "stop"); err != nil || s.State != "stopped" || s.Desired {
		t.Errorf("stop: %+v, %v", s, err)
	}
	if _, err := c.ChangeService(ctx, "default", "demo", "poller", "start"); !errors.Is(fault.Of(err).Class(), fault.ErrPlugin) {
		t.Errorf("start of what cannot: %v", err)
	}
	if _, err := c.ChangeService(ctx, "default", "demo", "ticker", "shake"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("unknown op: %v", err)
	}
	granted, err := c.Grant(ctx, "default", "demo", v1.GrantRequest{Kind: "env", Target: "LANG", ForSeconds: 60})
	if err != nil || !granted.Restarted || granted.Permission.ExpiresAt == nil {
		t.Errorf("grant: %+v, %v", granted, err)
	}
	if _, err := c.Grant(ctx, "default", "demo", v1.GrantRequest{Kind: "env", Target: "refused"}); !errdefs.IsInvalidArgument(err) || fault.Of(err).Code != "bad_target" {
		t.Errorf("refused grant: %v", err)
	}
	if p, err := c.Permissions(ctx, "default", "demo"); err != nil || len(p.Granted) != 2 || len(p.Pending) != 1 {
		t.Errorf("permissions: %+v, %v", p, err)
	}
	if _, err := c.Revoke(ctx, "default", "demo", v1.RevokeRequest{Kind: "env", Target: "LANG"}); err != nil {
		t.Error(err)
	}
	if _, err := c.Revoke(ctx, "default", "demo", v1.RevokeRequest{Kind: "env", Target: "LANG"}); !errdefs.IsNotFound(err) {
		t.Errorf("second revoke: %v", err)
	}
	resolved, err := c.Resolve(ctx, "default", "request-1", v1.Deny)
	if err != nil || resolved.Decision != v1.Deny || !strings.HasPrefix(resolved.Actor, "uid:") {
		t.Errorf("resolve: %+v, %v", resolved, err)
	}
	if _, err := c.Resolve(ctx, "default", "request-1", v1.AllowOnce); !errdefs.IsConflict(err) || fault.Of(err).Code != "already_resolved" {
		t.Errorf("second resolve: %v", err)
	}
}

func TestStream(t *testing.T) {
	c, ctx := demo(t), t.Context()
	var updates []string
	watch := client.Watch{Update: func(u json.RawMessage) { updates = append(updates, string(u)) }}
	got, err := c.Stream(ctx, "default", "demo", "count", v1.CallRequest{}, watch)
	if want := []string{`{"count":1}`, `{"count":2}`, `{"count":3}`}; err != nil || string(got.Result) != `{"count":3}` || !slices.Equal(updates, want) {
		t.Errorf("got %s, %v, updates %v", got.Result, err, updates)
	}
	if _, err := c.Stream(ctx, "default", "demo", "nope", v1.CallRequest{}, client.Watch{}); !errdefs.IsNotFound(err) || fault.Of(err).Hint != "did you mean echo?" {
		t.Errorf("unknown tool: %v", err)
	}
	if _, err := c.Stream(ctx, "default", "demo", "count", v1.CallRequest{}, client.Watch{}); err != nil {
		t.Errorf("unwatched: %v", err)
	}
}

func TestStreamAsks(t *testing.T) {
	c, ctx := demo(t), t.Context()
	for decision, class := range map[string]error{v1.AllowOnce: nil, v1.Deny: errdefs.ErrPermissionDenied} {
		var asked []string
		_, err := c.Stream(ctx, "default", "demo", "ask", v1.CallRequest{}, client.Watch{Ask: func(a v1.Approval) {
			asked = append(asked, a.Decision)
			if a.Decision != "" {
				return
			}
			if _, err := c.Resolve(ctx, "default", a.ID, decision); err != nil {
				t.Error(err)
			}
		}})
		if !errors.Is(err, class) || !slices.Equal(asked, []string{"", decision}) {
			t.Errorf("%s: %v, asked %q", decision, err, asked)
		}
	}
}

func TestStreamCancelled(t *testing.T) {
	tools := hangs{apitest.New(), make(chan struct{}), make(chan struct{})}
	parts := tools.Parts()
	parts.Tools = tools
	c := serve(t, httpapi.New(parts, httpapi.Options{}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-tools.arrived; cancel() }()
	if _, err := c.Stream(ctx, "default", "demo", "x", v1.CallRequest{}, client.Watch{}); !errdefs.IsCanceled(err) {
		t.Errorf("got %v, want cancelled", err)
	}
	<-tools.ended
}

// broken are streams that end in the middle.
var broken = []string{
	"", ": beat\n\n", "event: update\ndata: 1\n\n", "event: done\ndata: {\"result\":1}\n", "event: done\ndata: {\n\n", "event: error\ndata: no\n\n",
	"event: ask\ndata: [\n\n",
}

func TestBrokenStreams(t *testing.T) {
	for _, body := range broken {
		for _, cut := range []bool{false, true} {
			c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, body)
				if cut {
					http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
			}))
			ask := client.Watch{Ask: func(v1.Approval) {}}
			if _, err := c.Stream(t.Context(), "default", "demo", "x", v1.CallRequest{}, ask); !errdefs.IsUnavailable(err) {
				t.Errorf("%q: %v, want unavailable", body, err)
			}
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	c, ctx := with(t, apitest.New()), t.Context()
	key := client.WithIdempotencyKey("k1")
	first, err := c.Call(ctx, "default", "demo", "echo", v1.CallRequest{}, key)
	again, err2 := c.Call(ctx, "default", "demo", "echo", v1.CallRequest{}, key)
	if diff := cmp.Diff(first, again); diff != "" || errors.Join(err, err2) != nil {
		t.Errorf("%v, %v\n%s", err, err2, diff)
	}
	_, err = c.Call(ctx, "default", "demo", "echo", v1.CallRequest{TimeoutMillis: 1}, key)
	if err == nil {
		t.Error("another request with the same key was answered")
	}
	if _, err := c.Call(ctx, "default", "demo", "echo", v1.CallRequest{}, client.WithIdempotencyKey("")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("empty key: %v", err)
	}
	for i, call := range []func(client.Option) error{
		func(o client.Option) error {
			_, err := c.Emit(ctx, "default", "agent:message:before", v1.EmitRequest{}, o)
			return err
		},
		func(o client.Option) error {
			_, err := c.Invoke(ctx, "default", "demo", 6, v1.InvokeRequest{}, o)
			return err
		},
		func(o client.Option) error {
			_, err := c.Stream(ctx, "default", "demo", "count", v1.CallRequest{}, client.Watch{}, o)
			return err
		},
	} {
		if err := call(key); err == nil { // it is the key of another request
			t.Errorf("call %d does not send its key", i)
		}
		if err := call(client.WithIdempotencyKey(fmt.Sprint("other", i))); err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func TestReviews(t *testing.T) {
	c, ctx := demo(t), t.Context()
	req := v1.InstallRequest{Spec: "asking", Source: "npm", Confirmed: true}
	answer := func(accept string, err error) client.Review {
		return func(_ context.Context, r v1.Review) (string, error) {
			if len(r.Permissions) != 3 || r.ID == "" {
				t.Errorf("review %+v", r)
			}
			return accept, err
		}
	}
	if p, err := c.Install(ctx, "default", req, nil, answer(v1.AcceptBasic, nil)); err != nil || p.ID != "new" {
		t.Errorf("accepted: %+v, %v", p, err)
	}
	if _, err := c.Install(ctx, "default", req, nil, answer(v1.AcceptNone, nil)); !errdefs.IsPermissionDenied(err) || fault.Of(err).Code != "consent_refused" {
		t.Errorf("refused: %v", err)
	}
	if _, err := c.Install(ctx, "default", req, nil, answer("perhaps", nil)); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad answer: %v", err)
	}
	why := errors.New("no terminal")
	if _, err := c.Install(ctx, "default", req, nil, answer("", why)); !errors.Is(err, why) {
		t.Errorf("given up: %v", err)
	}
	if _, err := c.Install(ctx, "default", req, nil, nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("nobody to ask: %v", err)
	}
	req.Accept = v1.AcceptAll
	if _, err := c.Install(ctx, "default", req, nil, nil); err != nil {
		t.Errorf("answered beforehand: %v", err)
	}
}

// An install that ends while a person thinks ends the question.
func TestReviewEndsWithItsInstall(t *testing.T) {
	c := demo(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	_, err := c.Install(ctx, "default", v1.InstallRequest{Spec: "asking", Source: "npm", Confirmed: true}, nil,
		func(ctx context.Context, _ v1.Review) (string, error) {
			cancel()
			<-ctx.Done()
			close(ended)
			return "", ctx.Err()
		})
	if !errdefs.IsCanceled(err) {
		t.Errorf("got %v", err)
	}
	<-ended
}

func TestPages(t *testing.T) {
	var asked []string
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cursor := r.URL.Query().Get("cursor")
		asked = append(asked, cursor)
		switch {
		case cursor == "":
			io.WriteString(w, `{"tools":[{"name":"a"}],"next":"1"}`)
		case cursor == "1":
			io.WriteString(w, `{"tools":[{"name":"b"}],"next":"2"}`)
		case len(asked) < 4: // the item before the page went away
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"class":"conflict","code":"list_changed","message":"gone"}`)
		default:
			io.WriteString(w, `{"tools":[{"name":"c"}]}`)
		}
	}))
	tools, err := c.Tools(t.Context(), "default")
	if err != nil || len(tools) != 3 || tools[2].Name != "c" || !slices.Equal(asked, []string{"", "1", "2", "", "1", "2"}) {
		t.Errorf("got %+v, %v, asked %q", tools, err, asked)
	}
}

func TestListThatKeepsChanging(t *testing.T) {
	asked := 0
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusConflict)
		io.WriteString(w, `{"class":"conflict","code":"list_changed","message":"gone"}`)
	}))
	if _, err := c.Tools(t.Context(), ""); !errdefs.IsConflict(err) || asked != 3 {
		t.Errorf("got %v after %d attempts", err, asked)
	}
}
