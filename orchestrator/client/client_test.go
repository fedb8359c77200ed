package client_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// serve serves handler on a real socket and returns a client of it.
func serve(t *testing.T, handler http.Handler) *client.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	listener, err := httpapi.ListenUnix(t.Context(), socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- httpapi.Serve(ctx, listener, handler, httpapi.Caller{Access: httpapi.AccessAdmin}, slog.New(slog.DiscardHandler))
	}()
	c := client.New(socket)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

func demo(t *testing.T) *client.Client {
	t.Helper()
	return serve(t, httpapi.New(apitest.New().Parts(), httpapi.Options{UploadDir: t.TempDir()}))
}

func TestReads(t *testing.T) {
	c, backend, ctx := demo(t), apitest.New(), t.Context()
	for _, tenant := range []string{"", "default", "acme", "nobody"} {
		got, err := c.Plugins(ctx, tenant)
		want, _ := backend.List(ctx, tenant)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("plugins of %q: %v\n%s", tenant, err, diff)
		}
		tools, err := c.Tools(ctx, tenant)
		wantTools, _ := backend.Tools(ctx, tenant)
		if diff := cmp.Diff(wantTools, tools); diff != "" || err != nil {
			t.Errorf("tools of %q: %v\n%s", tenant, err, diff)
		}
		status, err := c.Status(ctx, tenant)
		wantStatus, _ := backend.Status(ctx, tenant)
		if diff := cmp.Diff(wantStatus, status); diff != "" || err != nil {
			t.Errorf("status of %q: %v\n%s", tenant, err, diff)
		}
	}
	version, err := c.Version(ctx)
	if version != backend.Version(ctx) || err != nil {
		t.Errorf("version %+v, %v", version, err)
	}
	want, _ := backend.Get(ctx, "default", "demo")
	for _, ref := range []string{"demo", "@scope/demo"} {
		got, err := c.Plugin(ctx, "default", ref)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", ref, err, diff)
		}
	}
}

func TestChanges(t *testing.T) {
	c, ctx := demo(t), t.Context()
	if p, err := c.Disable(ctx, "default", "demo"); err != nil || p.Enabled || p.State != "disabled" {
		t.Errorf("disable: %+v, %v", p, err)
	}
	if p, err := c.Enable(ctx, "default", "@scope/demo"); err != nil || !p.Enabled || p.State != "ready" {
		t.Errorf("enable: %+v, %v", p, err)
	}
	if p, err := c.Restart(ctx, "default", "demo"); err != nil || p.Generation != 4 {
		t.Errorf("restart: %+v, %v", p, err)
	}
	if p, err := c.Reset(ctx, "default", "demo"); err != nil || p.State != "running" {
		t.Errorf("reset: %+v, %v", p, err)
	}
	if _, err := c.Reset(ctx, "acme", "metrics"); !errdefs.IsFailedPrecondition(err) || fault.Of(err).Code != "payload_altered" {
		t.Errorf("reset of an altered payload: %v", err)
	}
	if v, err := c.Verify(ctx, "default", "demo"); err != nil || v.Form != "erofs" || v.Size != 4096 {
		t.Errorf("verify: %+v, %v", v, err)
	}
	if _, err := c.Verify(ctx, "acme", "metrics"); !errdefs.IsDataLoss(err) {
		t.Errorf("verify of a changed payload: %v", err)
	}
	if err := c.Uninstall(ctx, "default", "demo", true); err != nil {
		t.Error(err)
	}
	if err := c.Uninstall(ctx, "default", "demo", false); !errdefs.IsNotFound(err) {
		t.Errorf("second uninstall: %v", err)
	}
}

func TestNamesCannotLeaveTheirSegment(t *testing.T) {
	c, ctx := demo(t), t.Context()
	for _, ref := range []string{"", ".", "..", "../demo", "a/b", "a b", "demo?x=y", "demo#x", "%2e%2e", strings.Repeat("a", 300)} {
		if _, err := c.Plugin(ctx, "default", ref); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Plugin(%.20q): %v, want invalid argument", ref, err)
		}
		if _, err := c.Call(ctx, "default", "demo", ref, v1.CallRequest{}); !errdefs.IsInvalidArgument(err) && !errdefs.IsNotFound(err) {
			t.Errorf("Call(%.20q): %v", ref, err)
		}
		if ref != "" {
			if _, err := c.Plugins(ctx, ref); !errdefs.IsInvalidArgument(err) {
				t.Errorf("Plugins(%.20q): %v, want invalid argument", ref, err)
			}
		}
	}
}

// The class of an error is the same on both sides.
func TestEveryClassOfError(t *testing.T) {
	c := demo(t)
	for name, class := range map[string]error{
		"not_found": errdefs.ErrNotFound, "invalid_argument": errdefs.ErrInvalidArgument, "permission_denied": errdefs.ErrPermissionDenied,
		"already_exists": errdefs.ErrAlreadyExists, "conflict": errdefs.ErrConflict, "failed_precondition": errdefs.ErrFailedPrecondition,
		"plugin": fault.ErrPlugin, "deadline_exceeded": context.DeadlineExceeded, "unavailable": errdefs.ErrUnavailable,
		"resource_exhausted": errdefs.ErrResourceExhausted, "data_loss": errdefs.ErrDataLoss, "internal": errdefs.ErrInternal,
		"cancelled": context.Canceled, "": errdefs.ErrInternal,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Call(t.Context(), "default", "demo", "fail", v1.CallRequest{Params: json.RawMessage(`{"class":"` + name + `"}`)})
			if f := fault.Of(err); !errors.Is(f.Class(), class) {
				t.Errorf("got class %v (%v), want %v", f.Class(), err, class)
			} else if name != "" && (f.Code != "asked_for" || f.Hint == "" || !f.Retryable || f.Message != "failed as asked for") {
				t.Errorf("got %+v", f)
			}
		})
	}
}

func TestCall(t *testing.T) {
	c := demo(t)
	got, err := c.Call(t.Context(), "default", "demo", "echo", v1.CallRequest{
		Params: json.RawMessage(`{"q":"<é>"}`), Context: v1.CallContext{AgentID: "main"}, TimeoutMillis: 1500})
	if want := `{"agent":"main","paramBytes":12,"params":{"q":"\u003cé\u003e"},"timeoutMs":1500}`; string(got.Result) != want && err == nil {
		t.Errorf("got %s, want %s", got.Result, want)
	}
	if err != nil {
		t.Error(err)
	}
	large := json.RawMessage(`"` + strings.Repeat("x", 7<<20) + `"`)
	if _, err := c.Call(t.Context(), "default", "demo", "echo", v1.CallRequest{Params: large}); err != nil {
		t.Errorf("7 MiB: %v", err)
	}
	large = json.RawMessage(`"` + strings.Repeat("x", v1.MaxCallBody) + `"`)
	if _, err := c.Call(t.Context(), "default", "demo", "echo", v1.CallRequest{Params: large}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("8 MiB: %v", err)
	}
	if _, err := c.Call(t.Context(), "default", "demo", "echo", v1.CallRequest{Params: json.RawMessage(`{`)}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no JSON: %v", err)
	}
}

// hangs tells when its call has ended.
type hangs struct {
	*apitest.Backend
	arrived, ended chan struct{}
}

func (h hangs) Call(ctx context.Context, _, _, _ string, _ v1.CallRequest, _ httpapi.CallWatch) (v1.CallResult, error) {
	close(h.arrived)
	<-ctx.Done()
	close(h.ended)
	return v1.CallResult{}, ctx.Err()
}

func TestHangingUpCancelsTheCall(t *testing.T) {
	tools := hangs{apitest.New(), make(chan struct{}), make(chan struct{})}
	parts := tools.Parts()
	parts.Tools = tools
	c := serve(t, httpapi.New(parts, httpapi.Options{}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-tools.arrived; cancel() }()
	_, err := c.Call(ctx, "default", "demo", "x", v1.CallRequest{})
	if !errdefs.IsCanceled(err) {
		t.Errorf("got %v, want cancelled", err)
	}
	<-tools.ended
}

func TestInstall(t *testing.T) {
	c, ctx := demo(t), t.Context()
	var steps []string
	progress := func(p v1.Progress) { steps = append(steps, p.Stage) }
	got, err := c.Install(ctx, "default", v1.InstallRequest{Spec: "new", Source: "npm", Confirmed: true}, progress, nil)
	if err != nil || got.ID != "new" || !slices.Equal(steps, []string{"fetch", "load check"}) {
		t.Errorf("got %+v, %v, steps %v", got, err, steps)
	}
	if _, err := c.Install(ctx, "default", v1.InstallRequest{Spec: "missing", Source: "npm", Confirmed: true}, nil, nil); !errdefs.IsNotFound(err) {
		t.Errorf("missing: %v", err)
	}
	if _, err := c.Install(ctx, "default", v1.InstallRequest{Spec: "broken", Source: "npm", Confirmed: true}, nil, nil); !errors.Is(fault.Of(err).Class(), fault.ErrPlugin) {
		t.Errorf("broken: %v", err)
	}
	if _, err := c.Install(ctx, "default", v1.InstallRequest{Spec: "new", Source: "npm"}, nil, nil); !errdefs.IsPermissionDenied(err) {
		t.Errorf("not confirmed: %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	_, err = c.Install(ctx, "default", v1.InstallRequest{Spec: "hang", Source: "npm", Confirmed: true}, func(v1.Progress) { cancel() }, nil)
	if !errdefs.IsCanceled(err) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestInstallUpload(t *testing.T) {
	c, ctx := demo(t), t.Context()
	up, err := c.Upload(ctx, "default", bytes.NewReader(make([]byte, 1024))) // an empty tar
	if err != nil || up.Size != 1024 {
		t.Fatalf("%+v, %v", up, err)
	}
	got, err := c.Install(ctx, "default", v1.InstallRequest{Spec: "/src/new", Source: "path", Upload: up.ID}, nil, nil)
	if err != nil || got.Spec != "/src/new" || got.Source != "path" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestReinstall(t *testing.T) {
	c, ctx := demo(t), t.Context()
	var steps []string
	got, err := c.Reinstall(ctx, "default", "demo", v1.ReinstallRequest{}, func(p v1.Progress) { steps = append(steps, p.Stage) }, nil)
	if err != nil || got.ID != "demo" || got.State != "running" || !slices.Equal(steps, []string{"fetch"}) {
		t.Errorf("got %+v, %v, steps %v", got, err, steps)
	}
	if _, err := c.Reinstall(ctx, "default", "nope", v1.ReinstallRequest{}, nil, nil); !errdefs.IsNotFound(err) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := c.Reinstall(ctx, "acme", "metrics", v1.ReinstallRequest{}, nil, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("without the files: %v", err)
	}
	if _, err := c.Reinstall(ctx, "acme", "metrics", v1.ReinstallRequest{Upload: "none"}, nil, nil); !errdefs.IsNotFound(err) {
		t.Errorf("unknown upload: %v", err)
	}
	up, err := c.Upload(ctx, "acme", strings.NewReader(tarOf(t, "index.js")))
	if err != nil {
		t.Fatal(err)
	}
	reviewed := ""
	got, err = c.Reinstall(ctx, "acme", "metrics", v1.ReinstallRequest{Upload: up.ID}, nil, func(_ context.Context, r v1.Review) (string, error) {
		reviewed = r.Digest
		return v1.AcceptBasic, nil
	})
	if err != nil || reviewed == "" || got.Form != "erofs" || got.Description != "index.js:1" {
		t.Errorf("other files: %+v, %v, reviewed %q", got, err, reviewed)
	}
	if _, err := c.Verify(ctx, "acme", "metrics"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// tarOf is a tar of files of one byte.
func tarOf(t *testing.T, names ...string) string {
	t.Helper()
	var out strings.Builder
	w := tar.NewWriter(&out)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestBrokenInstallStream(t *testing.T) {
	for _, body := range []string{"", "event: progress\ndata: {}\n\n", "event: done\ndata: {\n\n"} {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, body)
		}))
		if _, err := c.Install(t.Context(), "default", v1.InstallRequest{}, nil, nil); !errdefs.IsUnavailable(err) {
			t.Errorf("%q: %v, want unavailable", body, err)
		}
	}
}

func TestLogs(t *testing.T) {
	c := demo(t)
	for _, tc := range []struct {
		name  string
		query v1.LogQuery
		want  string
	}{
		{"all", v1.LogQuery{Tail: -1}, "first line\nsecond \x1b[2Jline\nthird line é\n"},
		{"tail", v1.LogQuery{Tail: 1}, "third line é\n"},
		{"none", v1.LogQuery{}, ""},
		{"previous", v1.LogQuery{Tail: -1, Previous: true}, "last words\n"},
		{"since", v1.LogQuery{Tail: -1, Previous: true, Since: apitest.Epoch}, "since 2026-01-02\nlast words\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got strings.Builder
			if err := printLogs(c, t.Context(), "default", "demo", tc.query, &got); err != nil || got.String() != tc.want {
				t.Errorf("got %q (%v), want %q", got.String(), err, tc.want)
			}
		})
	}
	if err := printLogs(c, t.Context(), "default", "nope", v1.LogQuery{}, io.Discard); !errdefs.IsNotFound(err) {
		t.Errorf("unknown plugin: %v", err)
	}
}

// cancelWriter cancels once it was written to.
type cancelWriter struct {
	strings.Builder
	cancel func()
}

func (w *cancelWriter) Write(p []byte) (int, error) {
	w.cancel()
	return w.Builder.Write(p)
}

func TestLogsFollow(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := &cancelWriter{cancel: cancel}
	if err := printLogs(demo(t), ctx, "default", "demo", v1.LogQuery{Follow: true, Tail: 1}, w); err != nil || w.String() != "third line é\n" {
		t.Errorf("got %q, %v: want the line at once and no error", w.String(), err)
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	listener, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	for name, socket := range map[string]string{"none": filepath.Join(dir, "none.sock"), "stale": stale, "long": "/" + strings.Repeat("x", 200)} {
		t.Run(name, func(t *testing.T) {
			_, err := client.New(socket).Version(t.Context())
			f := fault.Of(err)
			if !errdefs.IsUnavailable(err) || !strings.Contains(f.Hint, "ocmt serve") || strings.Contains(f.Message, "http://") {
				t.Errorf("got %v, hint %q", err, f.Hint)
			}
		})
	}
	t.Run("forbidden", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Skip("root may use every socket")
		}
		closed := filepath.Join(dir, "closed.sock")
		l, err := net.Listen("unix", closed)
		if err := errors.Join(err, os.Chmod(closed, 0)); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := client.New(closed).Version(t.Context()); !errdefs.IsPermissionDenied(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("too late", func(t *testing.T) {
		c := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := c.Version(ctx); !errdefs.IsDeadlineExceeded(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("something else", func(t *testing.T) {
		c := serve(t, http.NotFoundHandler())
		if _, err := c.Version(t.Context()); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no ocmt daemon") {
			t.Errorf("got %v", err)
		}
	})
}

func FuzzStream(f *testing.F) {
	f.Add("event: progress\ndata: {\"stage\":\"x\"}\n\nevent: done\ndata: {\"id\":\"a\"}\n\n")
	f.Add("event: error\ndata: {\"class\":\"not_found\",\"code\":\"x\"}\n\n")
	f.Add("id: 7\r\nevent:done\r\ndata: {\r\ndata:}\r\n\r\n")
	f.Fuzz(func(t *testing.T, stream string) {
		got, err := client.ReadStream(strings.NewReader(stream), func(string, []byte) error { return nil })
		if err == nil && !strings.Contains(stream, "done") {
			t.Errorf("%+v from a stream without an end", got)
		}
	})
}

// printLogs writes what a plugin printed to w, a line at a time.
func printLogs(c *client.Client, ctx context.Context, tenant, ref string, q v1.LogQuery, w io.Writer) error {
	return c.LogLines(ctx, tenant, ref, q, func(l v1.LogLine) error {
		_, err := fmt.Fprintln(w, l.Line)
		return err
	})
}
