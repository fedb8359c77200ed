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
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/bus"
	"github.com/ocmt/ocmt/bus/subject"
	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/fake"
)

// faithful is a runner that connects again whenever its host goes away, as the
// real one does. Its tool says how often it has said hello, and to whom.
func faithful(ctx context.Context, spec sandbox.Spec, _ io.Writer) int {
	for hellos := 1; ctx.Err() == nil; hellos++ {
		var generation uint64
		r, err := dial(spec, map[string]func([]byte) any{
			subject.Tool: func(data []byte) any {
				var call wire.ToolCall
				if err := json.Unmarshal(data, &call); err != nil {
					return nil
				}
				return wire.ToolResult{Type: wire.TypeToolResult, ID: call.ID, Result: fmt.Appendf(nil, `[%d,%d]`, hellos, generation)}
			},
		})
		if err != nil {
			hellos--
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		ask(ctx, r, &generation)
		select {
		case <-ctx.Done():
		case <-r.gone:
		}
		r.conn.Close()
	}
	return 143
}

// ask says hello and ready until the host has taken both.
func ask(ctx context.Context, r *runner, generation *uint64) {
	for {
		brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		data := r.request(brief, subject.Hello, hello())
		var load wire.Load
		ok := json.Unmarshal(data, &load) == nil
		if ok {
			*generation = load.Generation
			ok = r.request(brief, subject.Ready, readyWith("echo")) != nil
		}
		cancel()
		select {
		case <-r.gone:
			return
		default:
		}
		if ok || ctx.Err() != nil {
			return
		}
	}
}

// successor returns a factory as another process of the same home has one.
func successor(t *testing.T, f *instance.Factory) *instance.Factory {
	t.Helper()
	server, err := bus.New(bus.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	cfg := f.Config
	cfg.Bus = server
	return instance.NewFactory(cfg)
}

// container returns what the engine says of an instance, nil for nothing.
func container(t *testing.T, f *instance.Factory, id string) *sandbox.Container {
	t.Helper()
	list, err := f.Engine.List(t.Context(), map[string]string{sandbox.LabelHome: f.HomeID})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.ID == id {
			return &c
		}
	}
	return nil
}

// called returns what the tool of a faithful runner answers.
func called(t *testing.T, in *instance.Instance) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := in.CallTool(ctx, wire.ToolCall{ID: "c1", Tool: "echo", Params: json.RawMessage(`{}`)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(result.Result)
}

func TestAdopt(t *testing.T) {
	f, h, plan := setup(t, faithful)
	first, err := start(t, f, plan)
	if err != nil {
		t.Fatal(err)
	}
	if got := called(t, first); got != "[1,1]" {
		t.Errorf("the tool answers %s at first", got)
	}
	before := container(t, f, first.ID())
	if err := first.Detach(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := first.CallTool(t.Context(), wire.ToolCall{ID: "c2", Tool: "echo"}, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("CallTool() = %v after Detach, want Unavailable", err)
	}
	if err := first.Close(t.Context()); err != nil { // by a clean-up that comes late
		t.Fatal(err)
	}

	f = successor(t, f)
	records, err := f.Records()
	if err != nil || len(records) != 1 {
		t.Fatalf("Records() = %+v, %v", records, err)
	}
	rec := records[first.ID()]
	if rec.Key != key || rec.Generation != 1 || rec.Recipe != plan.Recipe || rec.Payload != plan.Payload.Digest || rec.Image != image || rec.Discovery {
		t.Errorf("the record is %+v", rec)
	}
	in, err := f.Adopt(t.Context(), plan, *before)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tools := in.Surface().Tools(); len(tools) != 1 || tools[0].Name != "echo" {
		t.Errorf("tools %+v, want echo", tools)
	}
	if got := called(t, in); got != "[2,1]" {
		t.Errorf("the tool answers %s, want the second hello to generation 1", got)
	}
	after := container(t, f, in.ID())
	if after == nil || after.PID != before.PID || !after.StartedAt.Equal(before.StartedAt) {
		t.Errorf("the container is %+v, was %+v", after, before)
	}
	for range 3 {
		in.Observe(after)
	}
	if isDone(in) {
		t.Error("an adopted instance has ended while it runs")
	}
	if err := in.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !isDone(in) || container(t, f, in.ID()) != nil {
		t.Error("the container outlived Close")
	}
	expectNothing(t, h)
}

func isDone(in *instance.Instance) bool {
	select {
	case <-in.Done():
		return true
	default:
		return false
	}
}

// TestAdoptTheDead adopts a container that ends before its runner is back.
func TestAdoptTheDead(t *testing.T) {
	f, h, plan := setup(t, faithful)
	first, err := start(t, f, plan)
	if err != nil {
		t.Fatal(err)
	}
	c := container(t, f, first.ID())
	if err := first.Detach(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := exit(f, c.ID, sandbox.Exit{Code: 9}); err != nil {
		t.Fatal(err)
	}
	f = successor(t, f)
	in, err := f.Adopt(t.Context(), plan, *c)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Start(t.Context()); err == nil {
		t.Error("Start() of a dead instance = nil")
	}
	if !isDone(in) || in.Exit().Code != 9 {
		t.Errorf("exit %+v, want code 9", in.Exit())
	}
	if err := in.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectNothing(t, h)
}

func TestAdoptRefuses(t *testing.T) {
	type claim struct {
		f    *instance.Factory
		plan *instance.Plan
		c    *sandbox.Container
		dir  string // of the instance
	}
	replace := func(text string) func(*testing.T, claim) {
		return func(t *testing.T, cl claim) {
			if err := os.WriteFile(filepath.Join(cl.dir, "instance.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, change := range map[string]func(*testing.T, claim){
		"a container that was never started": func(_ *testing.T, cl claim) { cl.c.State = sandbox.StateCreated },
		"a container that has ended":         func(_ *testing.T, cl claim) { cl.c.State = sandbox.StateExited },
		"a container that is paused":         func(_ *testing.T, cl claim) { cl.c.State = "paused" },
		"another home's":                     func(_ *testing.T, cl claim) { cl.c.Labels[sandbox.LabelHome] = "other" },
		"another tenant's":                   func(_ *testing.T, cl claim) { cl.c.Labels[sandbox.LabelTenant] = "other" },
		"a load check":                       func(_ *testing.T, cl claim) { cl.c.Labels[sandbox.LabelRole] = sandbox.RoleCheck },
		"another container":                  func(_ *testing.T, cl claim) { cl.c.ID = "ocmt-other" },
		"a plan for a load check":            func(_ *testing.T, cl claim) { cl.plan.Discovery = true },
		"a plan of another generation":       func(_ *testing.T, cl claim) { cl.plan.Generation = 2 },
		"a plan of another payload":          func(_ *testing.T, cl claim) { cl.plan.Payload.Digest = "sha256:other" },
		"another runtime":                    func(_ *testing.T, cl claim) { cl.f.Runtime = "other" },
		"another user": func(_ *testing.T, cl claim) {
			cl.f.UID = func(context.Context, plugin.Key) (uint32, error) { return 1<<20 + 1, nil }
		},
		"no record":         func(t *testing.T, cl claim) { must(t, os.Remove(filepath.Join(cl.dir, "instance.json"))) },
		"an empty record":   replace(""),
		"nonsense":          replace("{{{"),
		"a field too many":  replace(`{"version":1,"more":1}`),
		"another's record":  replace(`{"version":1,"key":{"Tenant":"default","ID":"demo"},"instance":"ocmt-other"}`),
		"a record for all":  func(t *testing.T, cl claim) { must(t, os.Chmod(filepath.Join(cl.dir, "instance.json"), 0o666)) },
		"no socket folders": func(t *testing.T, cl claim) { must(t, os.RemoveAll(cl.f.Home.SocketDir(cl.c.ID))) },
	} {
		t.Run(name, func(t *testing.T) {
			f, h, plan := setup(t, faithful)
			first, err := start(t, f, plan)
			if err != nil {
				t.Fatal(err)
			}
			id := first.ID()
			c := container(t, f, id)
			must(t, first.Detach(t.Context()))
			good := successor(t, f)
			bad := successor(t, f)
			change(t, claim{bad, &plan, c, h.Instance(id)})
			if _, err := bad.Adopt(t.Context(), plan, *c); !errdefs.IsFailedPrecondition(err) {
				t.Errorf("Adopt() = %v, want FailedPrecondition", err)
			}
			if now := container(t, good, id); now == nil || now.State != sandbox.StateRunning {
				t.Errorf("the container is %+v, want it to run on", now)
			}
			must(t, good.Discard(t.Context(), id))
			expectNothing(t, h)
			if now := container(t, good, id); now != nil {
				t.Errorf("Discard left %+v", now)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRecordsOfStrangers looks at a directory full of what is no record.
func TestRecordsOfStrangers(t *testing.T) {
	f, h, plan := setup(t, faithful)
	plan.Env, plan.PluginConfig = map[string]string{"API_KEY": "s3cret"}, json.RawMessage(`"s3cret"`)
	in, err := f.Prepare(t.Context(), plan)
	must(t, err)
	record, err := os.ReadFile(filepath.Join(h.Instance(in.ID()), "instance.json"))
	must(t, err)
	if strings.Contains(string(record), "s3cret") {
		t.Errorf("the record is %s", record)
	}
	if info, err := os.Stat(filepath.Join(h.Instance(in.ID()), "instance.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the record's mode is %v, %v", info.Mode(), err)
	}
	plant := func(id string, put func(path string) error) {
		mkdir(t, h.Instance(id))
		must(t, put(filepath.Join(h.Instance(id), "instance.json")))
	}
	plant("ocmt-copy", func(path string) error { return os.WriteFile(path, record, 0o600) })
	plant("ocmt-dir", func(path string) error { return os.Mkdir(path, 0o700) })
	plant("ocmt-link", func(path string) error { return os.Symlink(filepath.Join(h.Instance(in.ID()), "instance.json"), path) })
	plant("ocmt-large", func(path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o600) })
	plant("ocmt-pipe", func(path string) error { return unix.Mkfifo(path, 0o600) })
	plant("ocmt-nonsense", func(path string) error { return os.WriteFile(path, []byte(`[1]`), 0o600) })
	must(t, os.WriteFile(filepath.Join(h.Instances(), "file"), nil, 0o600))
	records, err := f.Records()
	if err != nil || len(records) != 1 || records[in.ID()].Instance != in.ID() {
		t.Errorf("Records() = %+v, %v, want the one that is ours", records, err)
	}
	must(t, in.Close(t.Context()))
	left, err := f.Leftovers()
	if err != nil || len(left) != 7 {
		t.Errorf("Leftovers() = %q, %v", left, err)
	}
	for _, id := range left {
		must(t, f.Discard(t.Context(), id))
	}
	expectNothing(t, h)
}

// TestDiscard takes instances down that were left in every state of their
// making, with a workspace whose content must outlive them.
func TestDiscard(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, f *instance.Factory, plan instance.Plan) string{
		"nothing at all": func(*testing.T, *instance.Factory, instance.Plan) string { return "ocmt-nothing" },
		"no instance's": func(t *testing.T, f *instance.Factory, _ instance.Plan) string {
			must(t, os.WriteFile(filepath.Join(f.Home.Instances(), ".odd name"), nil, 0o600))
			return ".odd name"
		},
		"prepared": func(t *testing.T, f *instance.Factory, plan instance.Plan) string {
			in, err := f.Prepare(t.Context(), plan)
			must(t, err)
			must(t, in.Detach(t.Context()))
			return in.ID()
		},
		"running": func(t *testing.T, f *instance.Factory, plan instance.Plan) string {
			in, err := f.Prepare(t.Context(), plan)
			must(t, err)
			must(t, in.Start(t.Context()))
			must(t, in.Detach(t.Context()))
			return in.ID()
		},
		"without its container": func(t *testing.T, f *instance.Factory, plan instance.Plan) string {
			in, err := f.Prepare(t.Context(), plan)
			must(t, err)
			must(t, errors.Join(in.Detach(t.Context()), f.Engine.Remove(t.Context(), in.ID())))
			return in.ID()
		},
		"without its record and sockets": func(t *testing.T, f *instance.Factory, plan instance.Plan) string {
			in, err := f.Prepare(t.Context(), plan)
			must(t, err)
			must(t, errors.Join(in.Detach(t.Context()), os.Remove(filepath.Join(f.Home.Instance(in.ID()), "instance.json")), os.RemoveAll(f.Home.SocketDir(in.ID()))))
			return in.ID()
		},
		"sockets that nobody knows": func(t *testing.T, f *instance.Factory, _ instance.Plan) string {
			mkdir(t, f.Home.SocketDir("ocmt-unknown"))
			return filepath.Base(f.Home.SocketDir("ocmt-unknown"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, h, plan := setup(t, faithful)
			workspace := mkdir(t, filepath.Join(realTempDir(t), "project"))
			must(t, os.WriteFile(filepath.Join(workspace, "precious"), nil, 0o600))
			plan.Workspaces = []instance.Workspace{{Path: workspace}}
			id := leave(t, f, plan)
			f = successor(t, f)
			left, err := f.Leftovers()
			if name != "nothing at all" && !slices.Equal(left, []string{id}) || err != nil {
				t.Errorf("Leftovers() = %q, %v, want %s alone", left, err, id)
			}
			for range 2 {
				must(t, f.Discard(t.Context(), id))
			}
			expectNothing(t, h)
			if c := container(t, f, id); c != nil {
				t.Errorf("Discard left %+v", c)
			}
			if _, err := os.Stat(filepath.Join(workspace, "precious")); err != nil {
				t.Errorf("Discard took what is the owner's: %v", err)
			}
		})
	}
	f, h, _ := setup(t, faithful)
	for _, id := range []string{"", ".", "..", "../store", "a/b", "/etc"} {
		if err := f.Discard(t.Context(), id); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Discard(%q) = %v, want InvalidArgument", id, err)
		}
	}
	expectNothing(t, h)
}

// exit ends a container of the fake engine by itself.
func exit(f *instance.Factory, id string, exit sandbox.Exit) error {
	engine, ok := f.Engine.(*fake.Engine)
	if !ok {
		return fmt.Errorf("the engine is a %T", f.Engine)
	}
	return engine.Exit(id, exit)
}

// TestDiscardKeepsTheLastWords of a plugin that ended while nobody watched, and
// of no instance that never ran.
func TestDiscardKeepsTheLastWords(t *testing.T) {
	f, h, plan := setup(t, wellBehaved)
	in, err := start(t, f, plan)
	must(t, err)
	for said := (&strings.Builder{}); said.Len() == 0; runtime.Gosched() {
		must(t, f.Engine.Logs(t.Context(), in.ID(), sandbox.LogOptions{}, said))
	}
	must(t, in.Detach(t.Context()))
	must(t, exit(f, in.ID(), sandbox.Exit{Code: 1}))
	must(t, f.Discard(t.Context(), in.ID()))
	plan.Generation++
	in, err = f.Prepare(t.Context(), plan)
	must(t, err)
	must(t, in.Detach(t.Context()))
	must(t, f.Discard(t.Context(), in.ID()))
	lines, err := f.PreviousLines(key, sandbox.LogOptions{})
	if err != nil || len(lines) != 1 || lines[0].Line != "served" {
		t.Errorf("the kept log is %+v, %v", lines, err)
	}
	expectNothing(t, h)
}
