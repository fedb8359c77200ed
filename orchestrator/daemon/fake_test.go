package daemon

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/images"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/install/seal"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/fake"
)

const fakeImage = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// script is what a plugin of a test does.
type script struct {
	manifest  string // openclaw.plugin.json; empty for none
	registers []wire.Registration
	load      func(ctx context.Context, sockets string, load wire.Load) // before it is ready
	tool      func(wire.ToolCall) wire.ToolResult
	hook      func(wire.HookCall) wire.HookResult
}

func tool(name string) wire.Registration {
	return wire.Registration{Kind: plugin.KindTool, Name: name, Form: "export", Spec: json.RawMessage(`{"description":"","parameters":{"type":"object"}}`)}
}

func hook(event string) wire.Registration {
	return wire.Registration{Kind: plugin.KindHook, Name: event, Form: "register", Spec: json.RawMessage(`{"event":"` + event + `"}`)}
}

// stage is a daemon over a fake engine, whose plugins are scripts.
type stage struct {
	*Daemon
	t        testing.TB
	policy   supervisor.Policy
	requires map[string]string // runtimes, by level of trust

	mu      sync.Mutex
	scripts map[string]script
}

// newStage opens a daemon as Open does, but for the engine.
func newStage(t testing.TB) *stage {
	t.Helper()
	return newStageWith(t, supervisor.Policy{})
}

// newStageWith is newStage with another policy of restarts.
func newStageWith(t testing.TB, policy supervisor.Policy) *stage {
	t.Helper()
	dir, err := os.MkdirTemp("", "ocmt-stage-")
	if err != nil {
		t.Fatal(err)
	}
	base, install := images.BaseDigest, images.InstallDigest
	images.BaseDigest, images.InstallDigest = fakeImage, fakeImage
	s := &stage{t: t, policy: policy, scripts: map[string]script{}}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		images.BaseDigest, images.InstallDigest = base, install
		objects, err := seal.List(s.home.Store())
		for _, o := range objects { // which are immutable
			err = errors.Join(err, seal.Remove(s.home.Store(), o))
		}
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	s.open(dir, fake.New(fake.Options{Run: s.run, Images: []string{fakeImage}, Info: sandbox.Info{CPUs: 2, Memory: 4 << 30}}))
	return s
}

// open opens a daemon over a home and an engine.
func (s *stage) open(dir string, engine sandbox.Engine) {
	s.t.Helper()
	d := newDaemon(Options{Home: dir, RequireRuntime: s.requires, Stderr: io.Discard}, s.policy)
	s.Daemon, d.engine, d.image = d, engine, fakeImage
	var err error
	if d.info, err = engine.Info(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	if d.logger, err = newLogger(io.Discard, ""); err != nil {
		s.t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{
		d.openHome, d.openAudit, d.openTokens, d.openSecrets, d.readOptions, d.openBus, d.wire, d.recover, d.startPlugins,
	} {
		if err := step(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
}

// handOver ends the daemon but for its plugins, does meanwhile, and opens
// another.
func (s *stage) handOver(meanwhile func()) {
	s.t.Helper()
	s.leaving = true
	if err := s.Close(); err != nil {
		s.t.Fatal(err)
	}
	meanwhile()
	s.open(s.home.Dir(), s.engine)
}

// play sets what a plugin does from its next start on.
func (s *stage) play(id string, sc script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[id] = sc
}

func (s *stage) script(id string) script {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scripts[id]
}

// run is the workload of every container: a runner, which connects again when
// the daemon went away.
func (s *stage) run(ctx context.Context, spec sandbox.Spec, out io.Writer) int {
	for {
		r, err := dialRunner(spec)
		if err == nil {
			var code int
			if code, err = s.converse(ctx, r); err == nil {
				return code
			}
		}
		fmt.Fprintln(out, err)
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return 143
		}
	}
}

// converse plays the script until the plugin has ended, or fails when the
// connection has.
func (s *stage) converse(ctx context.Context, r *runner) (int, error) {
	defer r.conn.Close()
	sc := s.script(strings.TrimPrefix(r.id.Plugin, "check:"))
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	r.lost = lost
	stopped := make(chan struct{})
	r.serve(map[string]func([]byte) any{
		subject.Tool: func(data []byte) any {
			call := decoded[wire.ToolCall](data)
			if sc.tool == nil {
				return wire.ToolResult{Type: wire.TypeToolResult, ID: call.ID, Result: call.Params}
			}
			result := sc.tool(call)
			result.Type, result.ID = wire.TypeToolResult, call.ID
			return result
		},
		subject.Hook: func(data []byte) any {
			call := decoded[wire.HookCall](data)
			var result wire.HookResult
			if sc.hook != nil {
				result = sc.hook(call)
			}
			result.Type, result.ID = wire.TypeHookResult, call.ID
			return result
		},
		subject.Ping: func([]byte) any { return wire.Pong{Type: wire.TypePong} },
		subject.Stop: func([]byte) any {
			time.AfterFunc(time.Millisecond, func() { close(stopped) })
			return wire.Stopped{Type: wire.TypeStopped}
		},
	})
	s.introduce(ctx, r, sc)
	select {
	case <-stopped:
		return 0, nil
	case <-ctx.Done():
		if err := context.Cause(ctx); errors.Is(err, errHungUp) {
			return 0, err
		}
		return 143, nil
	}
}

// introduce says hello and ready.
func (s *stage) introduce(ctx context.Context, r *runner, sc script) {
	answer := r.request(ctx, subject.Hello, wire.Hello{Type: wire.TypeHello, Wire: []int{wire.Version}, Runner: "test", Node: "v24", PID: 7})
	if answer == nil {
		return
	}
	if load := decoded[wire.Load](answer); sc.load != nil && load.Mode == wire.ModeFull {
		sc.load(ctx, r.dir, load)
	}
	r.request(ctx, subject.Ready, wire.Ready{Type: wire.TypeReady, Registrations: sc.registers, Diagnostics: []wire.Diagnostic{}})
}

func decoded[T any](data []byte) T {
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		panic(err)
	}
	return v
}

// operator is a context of an operator's request.
func operator(ctx context.Context) context.Context {
	return httpapi.WithCaller(ctx, httpapi.Caller{Actor: "uid:0", Access: httpapi.AccessAdmin})
}

// tarOf packs a plugin.
func tarOf(t testing.TB, id, manifest string) *bytes.Reader {
	t.Helper()
	files := map[string]string{
		"package.json": `{"name":"` + id + `","version":"1.0.0","main":"index.js"}`,
		"index.js":     `exports.tools = []`,
	}
	if manifest != "" {
		files[plugin.ManifestFile] = manifest
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

// request is the install of a plugin from a directory.
func (s *stage) request(id, accept string) httpapi.Install {
	return httpapi.Install{
		Spec: "/src/" + id, Source: string(plugin.SourcePath), Confirmed: true, Accept: accept,
		Package: tarOf(s.t, id, s.script(id).manifest),
	}
}

// install installs a plugin that does sc, with all that it asks for, and
// returns when it runs.
func (s *stage) install(id string, sc script) plugin.Key {
	s.t.Helper()
	s.play(id, sc)
	_, err := pluginAPI{s.Daemon}.Install(operator(s.t.Context()), plugin.DefaultTenant, s.request(id, v1.AcceptAll), func(v1.Progress) {})
	if err != nil {
		s.t.Fatal(err)
	}
	return plugin.Key{Tenant: plugin.DefaultTenant, ID: id}
}

func (s *stage) grant(key plugin.Key, kind policy.Kind, target, value string) v1.GrantResult {
	s.t.Helper()
	result, err := permissionAPI{s.Daemon}.Grant(operator(s.t.Context()), key.Tenant, key.ID, v1.GrantRequest{Kind: string(kind), Target: target, Value: value})
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}

func (s *stage) revoke(key plugin.Key, kind policy.Kind, target string) v1.GrantResult {
	s.t.Helper()
	result, err := permissionAPI{s.Daemon}.Revoke(operator(s.t.Context()), key.Tenant, key.ID, v1.RevokeRequest{Kind: string(kind), Target: target})
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}

// records returns what the audit log holds of an action.
func (s *stage) records(action string) []audit.Entry {
	s.t.Helper()
	var found []audit.Entry
	err := audit.Read(s.t.Context(), s.home.Audit(), audit.ReadOptions{}, func(e audit.Entry) error {
		if e.Action == action {
			e.Raw = bytes.Clone(e.Raw)
			e.Details = bytes.Clone(e.Details)
			found = append(found, e)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// outcomes are those of the records of an action, in order.
func (s *stage) outcomes(action string) []string {
	out := []string{}
	for _, e := range s.records(action) {
		out = append(out, e.Outcome)
	}
	return out
}

// eventually fails the test unless ok comes true.
func (s *stage) eventually(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatal("never: ", what)
		}
	}
}
