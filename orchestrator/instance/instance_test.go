package instance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/install/fetch"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/egress"
	"github.com/ocmt/ocmt/sandbox/fake"
)

const image = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

var key = plugin.Key{Tenant: "default", ID: "demo"}

// workload is what a container of the fake engine does.
type workload func(ctx context.Context, spec sandbox.Spec, out io.Writer) int

// setup returns a factory over a home of the test's own, whose containers run
// the workload, and a plan for a sealed plugin.
func setup(t testing.TB, run workload) (*instance.Factory, home.Home, instance.Plan) {
	t.Helper()
	return setupWith(t, fake.Options{Run: run})
}

func setupWith(t testing.TB, options fake.Options) (*instance.Factory, home.Home, instance.Plan) {
	t.Helper()
	dir, err := os.MkdirTemp("", "instance")
	if err != nil {
		t.Fatal(err)
	}
	h, err := home.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	server, err := bus.New(bus.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	options.Images = []string{image}
	engine := fake.New(options)
	info, err := engine.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{"package.json": {Data: []byte(`{}`)}, "index.js": {Data: []byte(`exports.tools = []`)}}
	sealIt := seal.Seal
	if ok, _ := seal.CanMount(h.Store()); !ok {
		sealIt = seal.SealTree
	}
	payload, err := sealIt(t.Context(), files, h.Store())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Shutdown()
		if err := errors.Join(seal.Remove(h.Store(), payload), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	f := instance.NewFactory(instance.Config{
		Home: h, HomeID: "home", Engine: engine, Info: info, Bus: server, Image: image, InstallImage: image,
		EnsureInstallImage: func(context.Context, func(sent, total int64)) error { return nil },
		UID:                func(context.Context, plugin.Key) (uint32, error) { return 1 << 20, nil },
		TenantUID:          func(context.Context, string) (uint32, error) { return 1<<20 + 1, nil },
		OnConnection:       func(plugin.Key, egress.Connection) error { return nil },
		Logger:             slog.New(slog.DiscardHandler),
	})
	return f, h, instance.Plan{
		Key: key, Generation: 1, Payload: payload, Recipe: "sha256:recipe",
		Descriptor: plugin.Descriptor{ID: key.ID, Name: key.ID, Version: "1.0.0", Root: ".", Entries: []string{"index.js"}},
	}
}

// expectNothing fails the test if the home still holds anything of a container.
func expectNothing(t testing.TB, h home.Home) {
	t.Helper()
	for _, dir := range []string{h.Instances(), h.Sockets()} {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("%s holds %v, %v", dir, left, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), h.Dir()+"/") {
		t.Errorf("something is still mounted below %s: %v", h.Dir(), err)
	}
}

// wellBehaved is a runner that loads and serves one tool, "echo".
func wellBehaved(ctx context.Context, spec sandbox.Spec, out io.Writer) int {
	stopped := make(chan struct{})
	r, err := dial(spec, map[string]func([]byte) any{
		subject.Tool: func(data []byte) any {
			var call wire.ToolCall
			if err := json.Unmarshal(data, &call); err != nil {
				return nil
			}
			return wire.ToolResult{Type: wire.TypeToolResult, ID: call.ID, Result: call.Params}
		},
		subject.Ping: func([]byte) any { return wire.Pong{Type: wire.TypePong} },
		subject.Stop: func([]byte) any {
			time.AfterFunc(10*time.Millisecond, func() { close(stopped) })
			return wire.Stopped{Type: wire.TypeStopped}
		},
	})
	if err != nil {
		fmt.Fprintln(out, err)
		return 1
	}
	defer r.conn.Close()
	if r.request(ctx, subject.Hello, hello()) == nil || r.request(ctx, subject.Ready, readyWith("echo")) == nil {
		return 1
	}
	fmt.Fprintln(out, "served")
	select {
	case <-stopped:
		return 0
	case <-ctx.Done():
		return 143
	}
}

func start(t *testing.T, f *instance.Factory, plan instance.Plan) (*instance.Instance, error) {
	t.Helper()
	return startWithin(t, patience, f, plan)
}

func startWithin(t *testing.T, patience time.Duration, f *instance.Factory, plan instance.Plan) (*instance.Instance, error) {
	t.Helper()
	in, err := f.Prepare(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return in, in.Start(ctx)
}

func TestLife(t *testing.T) {
	f, h, plan := setup(t, wellBehaved)
	in, err := start(t, f, plan)
	if err != nil {
		t.Fatal(err)
	}
	if tools := in.Surface().Tools(); len(tools) != 1 || tools[0].Name != "echo" {
		t.Errorf("tools %+v, want echo", tools)
	}
	result, err := in.CallTool(t.Context(), wire.ToolCall{ID: "c1", Tool: "echo", Params: json.RawMessage(`{"a":1}`)}, nil)
	if err != nil || string(result.Result) != `{"a":1}` {
		t.Errorf("CallTool() = %s, %v", result.Result, err)
	}
	if err := in.Ping(t.Context()); err != nil {
		t.Errorf("Ping() = %v", err)
	}
	if err := in.Stop(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	<-in.Done()
	if exit := in.Exit(); exit.Code != 0 {
		t.Errorf("exit %+v after an orderly stop, want code 0", exit)
	}
	if err := in.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectNothing(t, h)
	lines, err := f.PreviousLines(key, sandbox.LogOptions{})
	if err != nil || len(lines) != 1 || lines[0].Line != "served" || lines[0].Stream != sandbox.Stdout || time.Since(lines[0].Time) > time.Minute {
		t.Errorf("the kept log is %+v, %v", lines, err)
	}
	if _, err := os.Stat(h.State(key)); err != nil {
		t.Errorf("the state did not outlive the instance: %v", err)
	}
}

func TestTamperedPayloadIsNotPrepared(t *testing.T) {
	f, h, plan := setup(t, wellBehaved)
	good := plan.Payload
	plan.Payload.Digest = "sha256:" + strings.Repeat("0", 64)
	if good.Form == plugin.FormEROFS { // the wrong content under the right name
		from := filepath.Join(h.Store(), strings.TrimPrefix(good.Digest, "sha256:")+".erofs")
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(h.Store(), strings.Repeat("0", 64)+".erofs")
		if err := os.WriteFile(to, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Prepare(t.Context(), plan); !errdefs.IsDataLoss(err) {
			t.Errorf("Prepare() = %v, want DataLoss", err)
		}
	}
	expectNothing(t, h)
}

func TestHandshakeFails(t *testing.T) {
	for name, tc := range map[string]struct {
		run  func(context.Context, *runner, io.Writer) int
		code string
	}{
		"the plugin cannot be loaded": {
			run: func(ctx context.Context, r *runner, _ io.Writer) int {
				r.request(ctx, subject.Hello, hello())
				r.request(ctx, subject.Failed, wire.Failed{Type: wire.TypeFailed, Error: wire.Error{Code: wire.CodeAsync, Message: "register returned a promise"}})
				return 1
			},
			code: "load_async_register",
		},
		"no common wire version": {
			run: func(ctx context.Context, r *runner, _ io.Writer) int {
				h := hello()
				h.Wire = []int{99}
				r.request(ctx, subject.Hello, h)
				return 1
			},
			code: "bad_message",
		},
		"nonsense for hello": {
			run:  func(ctx context.Context, r *runner, _ io.Writer) int { r.request(ctx, subject.Hello, "{{{"); return 1 },
			code: "bad_message",
		},
		"a ready that is too large": {
			run: func(ctx context.Context, r *runner, _ io.Writer) int {
				r.request(ctx, subject.Hello, hello())
				r.request(ctx, subject.Ready, readyWith(strings.Repeat("x", wire.MaxReadySize)))
				return 1
			},
			code: "bad_message",
		},
		"an exit before ready": {
			run:  func(_ context.Context, _ *runner, out io.Writer) int { fmt.Fprintln(out, "last words"); return 7 },
			code: "plugin_exited",
		},
		"no word at all": {
			run:  func(ctx context.Context, _ *runner, _ io.Writer) int { <-ctx.Done(); return 143 },
			code: "start_timeout",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, h, plan := setup(t, func(ctx context.Context, spec sandbox.Spec, out io.Writer) int {
				r, err := dial(spec, nil)
				if err != nil {
					return 99
				}
				defer r.conn.Close()
				return tc.run(ctx, r, out)
			})
			patience := patience
			if tc.code == "start_timeout" {
				patience = 500 * time.Millisecond
			}
			in, err := startWithin(t, patience, f, plan)
			got := fault.Of(err)
			if err == nil || got.Code != tc.code || got.Hint == "" {
				t.Fatalf("Start() = %+v, want the code %s and a hint", got, tc.code)
			}
			if tc.code == "plugin_exited" {
				if out, ok := got.Details.(instance.Output); !ok || !strings.Contains(out.Output, "last words") || strings.Contains(got.Hint, "last words") {
					t.Errorf("details %+v, hint %q: the plugin's output belongs into the details alone", got.Details, got.Hint)
				}
			}
			if err := in.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			expectNothing(t, h)
		})
	}
}

// TestOnlyTheFirstOutcomeCounts has a runner change its mind and repeat itself.
func TestOnlyTheFirstOutcomeCounts(t *testing.T) {
	answered := make(chan int, 1)
	f, _, plan := setup(t, func(ctx context.Context, spec sandbox.Spec, _ io.Writer) int {
		r, err := dial(spec, nil)
		if err != nil {
			return 1
		}
		defer r.conn.Close()
		r.request(ctx, subject.Hello, hello())
		r.request(ctx, subject.Ready, readyWith("first"))
		r.request(ctx, subject.Ready, readyWith("second"))
		r.request(ctx, subject.Failed, wire.Failed{Type: wire.TypeFailed, Error: wire.Error{Code: "x", Message: "m"}})
		n := 0
		for range 100 { // a flood of hellos is not answered beyond the burst
			brief, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			if r.request(brief, subject.Hello, hello()) != nil {
				n++
			}
			cancel()
		}
		answered <- n
		<-ctx.Done()
		return 0
	})
	in, err := start(t, f, plan)
	if err != nil {
		t.Fatal(err)
	}
	if n := <-answered; n > 20 || n == 0 {
		t.Errorf("%d of 100 hellos were answered, want a few", n)
	}
	if tools := in.Surface().Tools(); len(tools) != 1 || tools[0].Name != "first" {
		t.Errorf("tools %+v, want the first ready's", tools)
	}
}

func TestCheckLeavesNothing(t *testing.T) {
	f, h, plan := setup(t, wellBehaved)
	surface, err := f.Check(t.Context(), plugin.Installed{Key: key, Descriptor: plan.Descriptor, Payload: plan.Payload})
	if err != nil || len(surface.Tools()) != 1 {
		t.Fatalf("Check() = %+v, %v", surface, err)
	}
	expectNothing(t, h)
	if _, err := os.Stat(h.Plugin(key)); err == nil {
		t.Error("a load check made the plugin's directory")
	}
}

func TestConfigTooLarge(t *testing.T) {
	f, h, plan := setup(t, wellBehaved)
	plan.PluginConfig = json.RawMessage(`"` + strings.Repeat("x", 2<<20) + `"`)
	_, err := f.Prepare(t.Context(), plan)
	if got := fault.Of(err); got.Code != "config_too_large" || got.Hint == "" {
		t.Errorf("Prepare() = %v, want config_too_large", err)
	}
	expectNothing(t, h)
}

// TestRunInstall runs under the umask of a careful service manager: what the
// container has to read must not depend on it.
func TestRunInstall(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	modes := map[string]os.FileMode{}
	f, h, _ := setup(t, func(_ context.Context, spec sandbox.Spec, out io.Writer) int {
		for _, target := range []string{"/run/ocmt", "/etc/resolv.conf", "/etc/passwd"} {
			if st, err := os.Stat(source(spec, target)); err == nil {
				modes[target] = st.Mode().Perm()
			}
		}
		if _, err := os.Stat(filepath.Join(source(spec, "/run/ocmt"), "egress.sock")); err != nil {
			fmt.Fprintln(out, err)
			return 1
		}
		fmt.Fprintln(out, "npm says", strings.Join(spec.Args, " "))
		return 3
	})
	var seen strings.Builder
	code, output, err := f.RunInstall(t.Context(), fetch.Job{
		Tenant: "default",
		Args:   []string{"/usr/bin/node", "npm"}, Env: []string{"HOME=/work"}, WorkDir: t.TempDir(),
		Registry: fetch.Endpoint{Host: "registry.example", Port: 443}, Output: &seen, Report: func(string, int64, int64) {},
	})
	if err != nil || code != 3 || !strings.Contains(output, "npm says") || !strings.Contains(seen.String(), "npm says") {
		t.Errorf("RunInstall() = %d, %q, %v; progress %q", code, output, err, seen.String())
	}
	for target, want := range map[string]os.FileMode{"/run/ocmt": 0o711, "/etc/resolv.conf": 0o644, "/etc/passwd": 0o644} {
		if modes[target] != want {
			t.Errorf("%s has mode %04o, want %04o", target, modes[target], want)
		}
	}
	expectNothing(t, h)
}
