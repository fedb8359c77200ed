// Package examples_test runs the example hosts, in Go and in TypeScript, against
// an API in memory.
package examples_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

const typescript = "../typescript"

// conformance has the tools of the conformance plugins.
type conformance struct {
	*apitest.Backend
	cancelled chan struct{} // told when slow is
}

func (c conformance) Call(ctx context.Context, tenant, ref, tool string, req v1.CallRequest, watch httpapi.CallWatch) (v1.CallResult, error) {
	var params struct {
		MS      int
		Text    string
		Event   string
		Payload json.RawMessage
	}
	if err := json.Unmarshal(req.Params, &params); err != nil {
		return v1.CallResult{}, fmt.Errorf("params: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	switch tool {
	case "slow":
		for step := range 4 {
			select {
			case <-time.After(time.Duration(params.MS) * time.Millisecond / 4):
				watch.Update(fmt.Appendf(nil, `{"step":%d,"steps":4}`, step+1))
			case <-ctx.Done():
				c.cancelled <- struct{}{}
				return v1.CallResult{}, ctx.Err()
			}
		}
		return v1.CallResult{Result: fmt.Appendf(nil, `{"waited":%d}`, params.MS)}, nil
	case "echo":
		if strings.Contains(params.Text, "ask-me") {
			return c.Backend.Call(ctx, tenant, ref, "ask", req, watch)
		}
		return v1.CallResult{Result: req.Params}, nil
	case "emit":
		if _, err := c.CallHost(ctx, tenant, v1.HostEmit, req.Params); err != nil {
			return v1.CallResult{}, err
		}
		return v1.CallResult{Result: json.RawMessage(`{"sent":true}`)}, nil
	}
	return v1.CallResult{}, fault.New(errdefs.ErrNotFound, "tool_not_found", "no tool %q", tool)
}

func serve(t *testing.T) (conformance, string) {
	t.Helper()
	backend := conformance{apitest.New(), make(chan struct{}, 1)}
	parts := backend.Parts()
	parts.Tools = backend
	socket := filepath.Join(t.TempDir(), "call.sock")
	listener, err := httpapi.ListenUnix(t.Context(), socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	caller := httpapi.Caller{Access: httpapi.AccessCall, Tenant: "default"} // a host has no more
	go func() {
		done <- httpapi.Serve(ctx, listener, httpapi.New(parts, httpapi.Options{}), caller, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return backend, socket
}

// run runs a program and returns what it printed.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

// turn is what both turns print.
const turn = `agent:message:before pass {"text":"hello!"}
slow update {"step":1,"steps":4}
slow update {"step":2,"steps":4}
slow update {"step":3,"steps":4}
slow update {"step":4,"steps":4}
slow done {"waited":200}
slow cancelled null
echo asks Run ask? "allow-once"
echo done {"approved":"allow-once"}
demo emits {"done":true}
emit done {"sent":true}
message_sending pass {"content":"bye","to":"someone"}
`

func TestTurnInGo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "turn")
	run(t, "turn", "go", "build", "-o", program, ".")
	testTurn(t, func(socket string) string { return run(t, ".", program, socket, "default", "demo") })
}

func testTurn(t *testing.T, program func(socket string) string) {
	backend, socket := serve(t)
	got := strings.Replace(program(socket), `{"to":"someone","content":"bye"}`, `{"content":"bye","to":"someone"}`, 1)
	if diff := cmp.Diff(turn, got); diff != "" {
		t.Errorf("the turn went otherwise:\n%s", diff)
	}
	<-backend.cancelled
}

func TestTypeScript(t *testing.T) {
	node := findNode(t)
	dir := install(t)
	t.Run("generated types are up to date", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "schema.d.ts")
		document, err := filepath.Abs("../../api/http/testdata/openapi.json")
		if err != nil {
			t.Fatal(err)
		}
		run(t, dir, node, "node_modules/openapi-typescript/bin/cli.js", document, "--output", out)
		want, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(typescript, "schema.d.ts"))
		if err != nil || !bytes.Equal(want, got) {
			t.Errorf("schema.d.ts is not what the OpenAPI document gives (%v); make generate makes it anew", err)
		}
	})
	t.Run("types fit", func(t *testing.T) { run(t, dir, node, "node_modules/typescript/bin/tsc", "--noEmit") })
	t.Run("unit tests", func(t *testing.T) { run(t, dir, node, "--test", "--test-timeout=20000", "client.test.ts") })
	t.Run("agent", func(t *testing.T) {
		_, socket := serve(t)
		got := run(t, dir, node, "examples/agent.ts", socket, "default", "demo")
		want := `tool demo echo "does echo\u001b[31m"
tool demo text "does text\u001b[31m"
tool demo hang "does hang\u001b[31m"
tool demo fail "does fail\u001b[31m"
tool demo panic "does panic\u001b[31m"
result {"text":"hello"}
hook pass {"text":"hello!"}
changed by demo: /text
`
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("turn", func(t *testing.T) {
		testTurn(t, func(socket string) string { return run(t, dir, node, "examples/turn.ts", socket, "default", "demo") })
	})
}

// missing skips the test, or fails it where nothing may be skipped.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("E2E_REQUIRE") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// findNode returns a node that runs TypeScript as it is.
func findNode(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "there is no node in PATH")
	}
	version := strings.TrimSpace(strings.TrimPrefix(run(t, ".", node, "--version"), "v"))
	parts := strings.SplitN(version, ".", 3)
	major, err := strconv.Atoi(parts[0])
	if err != nil || len(parts) < 3 {
		t.Fatalf("node says it is of version %q", version)
	}
	if minor, err := strconv.Atoi(parts[1]); err != nil || major < 22 || major == 22 && minor < 18 || major == 23 {
		missing(t, "node %s does not run TypeScript as it is; 22.18 does, and so does 24", version)
	}
	return node
}

// install returns a copy of the TypeScript client with what it depends on,
// which is kept for the next time.
func install(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, pattern := range []string{"*.ts", "*.json", "examples/*.ts"} {
		copyFiles(t, typescript, dir, pattern)
	}
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	kept := filepath.Join(cache, "ocmt-test", fmt.Sprintf("client-%x", sha256.Sum256(lock)))
	if _, err := os.Stat(kept); err != nil {
		npmInstall(t, kept)
	}
	if err := os.Symlink(filepath.Join(kept, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFiles(t *testing.T, from, to, pattern string) {
	t.Helper()
	names, err := fs.Glob(os.DirFS(from), pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, from, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(to, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o700), os.WriteFile(target, text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// npmInstall makes kept with the node_modules, or nothing.
func npmInstall(t *testing.T, kept string) {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		missing(t, "there is no npm in PATH")
	}
	if err := os.MkdirAll(filepath.Dir(kept), 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(kept), "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	copyFiles(t, typescript, dir, "package*.json")
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		missing(t, "npm ci: %v\n%s", err, out)
	}
	if err := os.Rename(dir, kept); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
}
