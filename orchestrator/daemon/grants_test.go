package daemon

import (
	"bufio"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// colour is a variable that tests grant.
const colour = "TEST_COLOUR"

// loaded is what one generation was given.
type loaded struct {
	wire.Load
	sockets string
}

// loads is a script that tells what it was loaded with, and goes on when it
// may, at once without goOn.
func loads(goOn <-chan struct{}) (script, <-chan loaded) {
	seen := make(chan loaded, 100)
	return script{
		registers: []wire.Registration{tool("echo")},
		load: func(ctx context.Context, sockets string, load wire.Load) {
			seen <- loaded{load, sockets}
			if goOn != nil {
				select {
				case <-goOn:
				case <-ctx.Done():
				}
			}
		},
	}, seen
}

func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("it never came")
		panic("unreachable")
	}
}

// granted installs demo with the variable, and returns what comes of its next
// generations.
func (s *stage) granted(t *testing.T, goOn <-chan struct{}) (plugin.Key, <-chan loaded) {
	t.Helper()
	t.Setenv(colour, "red")
	sc, seen := loads(nil)
	key := s.install("demo", sc)
	next(t, seen)
	if result := s.grant(key, policy.Env, colour, ""); !result.Restarted {
		t.Fatal("a variable was granted without a restart")
	}
	if load := next(t, seen); load.Env[colour] != "red" {
		t.Fatalf("the variables are %q", load.Env)
	}
	sc, seen = loads(goOn)
	s.play(key.ID, sc)
	return key, seen
}

// What is revoked while the plugin is being started is not left with it.
func TestRevokedWhileItStarts(t *testing.T) {
	s := newStage(t)
	goOn := make(chan struct{})
	key, seen := s.granted(t, goOn)
	if err := s.supervisor.Replace(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	next(t, seen)
	revoked := make(chan v1.GrantResult, 1)
	go func() { revoked <- s.revoke(key, policy.Env, colour) }()
	select {
	case load := <-seen: // in place of the one that was being started
		if _, ok := load.Env[colour]; ok {
			t.Error("a new generation has what was revoked")
		}
	case <-time.After(2 * time.Second):
		t.Error("the generation that has it goes on starting")
	}
	close(goOn)
	next(t, revoked)
	if _, err := s.supervisor.Ready(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if u := s.running(key); u == nil || len(u.made.allowed.Env) != 0 {
		t.Error("what runs was made with what was revoked")
	}
}

// A destination that is revoked while the plugin is being started is out of
// reach at once: its code runs already.
func TestNetworkRevokedWhileItStarts(t *testing.T) {
	s := newStage(t)
	goOn := make(chan struct{})
	key, seen := s.granted(t, goOn)
	s.grant(key, policy.Network, "api.example.com:443", "")
	if err := s.supervisor.Replace(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", filepath.Join(next(t, seen).sockets, "egress.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("WATCH\n")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	if line, err := lines.ReadString('\n'); !strings.Contains(line, "api.example.com") {
		t.Errorf("at its start it reaches %s, %v", line, err)
	}
	s.revoke(key, policy.Network, "api.example.com:443")
	if line, err := lines.ReadString('\n'); err != nil || strings.Contains(line, "api.example.com") {
		t.Errorf("after the revoke it reaches %s, %v", line, err)
	}
	close(goOn)
	if _, err := s.supervisor.Ready(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// A caller that hangs up does not leave what was revoked with the plugin.
func TestRestartWithoutACaller(t *testing.T) {
	s := newStage(t)
	key, seen := s.granted(t, nil)
	if _, err := s.authority.Revoke(t.Context(), key, policy.Env, colour); err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	if _, err := s.restartFor(ctx, key); err == nil {
		t.Error("a caller that left is told that the plugin is ready")
	}
	if load := next(t, seen); load.Env[colour] != "" {
		t.Error("the plugin has it still")
	}
}

// What is on record as granted, and as taken back, is so, whatever becomes of
// the restart.
func TestGrantOfAPluginThatDoesNotStart(t *testing.T) {
	s := newStage(t)
	key, _ := s.granted(t, nil)
	s.play(key.ID, script{registers: []wire.Registration{tool("no such name")}}) // is refused when it is ready
	ctx, cancel := context.WithTimeout(operator(t.Context()), time.Second)
	defer cancel()
	_, err := permissionAPI{s.Daemon}.Revoke(ctx, key.Tenant, key.ID, v1.RevokeRequest{Kind: "env", Target: colour})
	if err == nil || !strings.Contains(err.Error(), "taken back") {
		t.Errorf("Revoke = %v, want that it is done and that the plugin does not run", err)
	}
	if got := s.outcomes("permission.revoke"); !slices.Equal(got, []string{outcomeBegun, outcomeDone}) {
		t.Errorf("the revoke is on record as %v", got)
	}
	if len(s.authority.Grants(key)) != 1 {
		t.Errorf("grants %v", s.authority.Grants(key))
	}
}

// A grant that ends is taken out of the container also if something else made
// the authority look at the clock first.
func TestExpiryIsNotOvertaken(t *testing.T) {
	s := newStage(t)
	key, seen := s.granted(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := grantOf(t, policy.Env, colour)
	g.ExpiresAt = time.Now().Add(50 * time.Millisecond)
	if err := s.authority.Grant(ctx, key, g); err != nil { // in place of the one without an end
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond)
	s.authority.Refresh(key)
	go s.authority.Run(ctx)
	if load := next(t, seen); load.Env[colour] != "" {
		t.Error("it has it still")
	}
}

func grantOf(t *testing.T, kind policy.Kind, target string) policy.Grant {
	t.Helper()
	g, err := policy.ParseGrant(string(kind), target, "")
	if err != nil {
		t.Fatal(err)
	}
	g.Origin, g.Actor, g.At = policy.OriginGrant, "uid:0", time.Now().UTC()
	return g
}

// A person's edit of config.json takes effect also if the daemon wrote to the
// file right after it.
func TestEditBesideTheDaemons(t *testing.T) {
	s := newStage(t)
	sc, seen := loads(nil)
	key := s.install("demo", sc)
	next(t, seen)
	other, _ := loads(nil)
	s.install("other", other)
	path := config.PathFor(s.home.Dir(), plugin.DefaultTenant)
	if err := os.WriteFile(path, []byte(`{"plugins":{"entries":{"demo":{"config":{"a":1},"permissions":{"env":["TZ"]}},"other":{}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (pluginAPI{s.Daemon}).Disable(operator(t.Context()), plugin.DefaultTenant, "other"); err != nil {
		t.Fatal(err)
	}
	s.applyConfig(t.Context(), plugin.DefaultTenant) // as the watcher does in a moment
	if load := next(t, seen); string(load.PluginConfig) != `{"a":1}` {
		t.Errorf("%s has the configuration %s", key, load.PluginConfig)
	}
	if got := s.records("permission.request"); len(got) != 1 || got[0].Target != "env TZ" || got[0].Actor != theFile {
		t.Errorf("what the edit asks for is on record as %+v", got)
	}
}
