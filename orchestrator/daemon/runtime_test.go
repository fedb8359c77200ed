package daemon

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/supervisor"
	"github.com/ocmt/ocmt/sandbox"
)

// runtimed is an engine that has another runtime, and notes what is made with
// which.
type runtimed struct {
	sandbox.Engine

	mu   sync.Mutex
	made []string // role and runtime
}

func (e *runtimed) Info(ctx context.Context) (sandbox.Info, error) {
	info, err := e.Engine.Info(ctx)
	info.Runtimes = append(slices.Clone(info.Runtimes), "strict")
	return info, err
}

func (e *runtimed) Create(ctx context.Context, spec sandbox.Spec) error {
	e.mu.Lock()
	e.made = append(e.made, spec.Labels[sandbox.LabelRole]+" "+spec.Runtime)
	e.mu.Unlock()
	spec.Runtime = ""
	return e.Engine.Create(ctx, spec)
}

// taken returns what was made since the last time.
func (e *runtimed) taken() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	made := e.made
	e.made = nil
	return made
}

// Plugins of a level that a runtime is required for run with it, their load
// checks too, and what an earlier daemon started with another one is replaced.
func TestRequiredRuntime(t *testing.T) {
	s := newStage(t)
	engine := &runtimed{Engine: s.engine}
	s.engine = engine
	s.handOver(func() {})
	sc := script{registers: []wire.Registration{tool("echo")}}
	key := s.install("demo", sc)
	if got := engine.taken(); !slices.Equal(got, []string{"check ", "plugin "}) {
		t.Errorf("without a requirement: %q", got)
	}
	was := s.status(key)

	s.requires = map[string]string{"path": "strict"}
	s.handOver(func() {})
	s.eventually("it is replaced", func() bool { return s.status(key).Instance != was.Instance && s.runs(key)() })
	if got := engine.taken(); !slices.Equal(got, []string{"plugin strict"}) {
		t.Errorf("after it was required: %q", got)
	}
	s.install("other", sc)
	if got := engine.taken(); !slices.Equal(got, []string{"check strict", "plugin strict"}) {
		t.Errorf("an install: %q", got)
	}
	was = s.status(key)
	s.handOver(func() {})
	s.eventually("it is taken over", s.runs(key))
	if got := s.status(key).Instance; got != was.Instance || len(engine.taken()) != 0 {
		t.Errorf("it runs as %s, was %s", got, was.Instance)
	}
	s.call(key)
}

// A runtime that the engine does not have is refused at the start, with those
// that it has.
func TestRequiredRuntimeMissing(t *testing.T) {
	for text, code := range map[string]string{"nowhere": "unknown_runtime", "no such name": "", "": ""} {
		d := newDaemon(Options{RequireRuntime: map[string]string{"all": text}, Stderr: io.Discard}, supervisor.Policy{})
		d.info = sandbox.Info{Name: "docker", Runtimes: []string{"runc", "runsc"}}
		err := d.readOptions(t.Context())
		if f := fault.Of(err); err == nil || code != "" && (f.Code != code || !strings.Contains(f.Hint, "runc, runsc")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
