package daemon

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/policy"

	"github.com/ocmt/ocmt/bus/wire"
)

// TestOwnSockets grants what would lead to the API: the port that it is served
// on, and a directory with a call socket in it.
func TestOwnSockets(t *testing.T) {
	s := newStage(t)
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s.remote = listener
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	number, _ := strconv.Atoi(port)
	other := strconv.Itoa(number%60000 + 1024)
	dir := filepath.Join(t.TempDir(), "work")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.opts.CallSockets = map[string]string{"beta": filepath.Join(dir, "run", "beta.sock")}
	for _, tc := range []struct{ kind, target, value, code string }{
		{"network", "localhost:" + port, "addresses=127.0.0.1/32", "not_enforceable"},
		{"network", "api.example.com:" + port, "addresses=10.0.0.0/8", ""},
		{"network", "localhost:" + other, "addresses=127.0.0.1/32", ""},
		{"workspace", dir, "ro", "workspace_refused"},
	} {
		_, err := permissionAPI{s.Daemon}.Grant(operator(t.Context()), key.Tenant, key.ID, v1.GrantRequest{Kind: tc.kind, Target: tc.target, Value: tc.value})
		code := ""
		if err != nil {
			code = fault.Of(err).Code
		}
		if code != tc.code {
			t.Errorf("%s %s: %v, want %q", tc.kind, tc.target, err, tc.code)
		}
	}
	s.opts.CallSockets = nil
	s.grant(key, policy.Workspace, dir, "ro")
	s.opts.CallSockets = map[string]string{"beta": filepath.Join(dir, "beta.sock")} // the socket was placed there later
	p, err := s.catalog.get(key.Tenant, key.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.plan(p, 9); !errdefs.IsPermissionDenied(err) {
		t.Errorf("it is started with a socket of ours: %v", err)
	}
}
