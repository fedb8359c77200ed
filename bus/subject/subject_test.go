package subject

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestSubjects(t *testing.T) {
	t.Parallel()
	id := Identity{Tenant: "default", Plugin: "@a/b.c", Generation: 12}
	const base = "ocmt.v1.default.=40a=2Fb=2Ec.12"
	tests := []struct{ name, got, want string }{
		{"in", In(id, Tool), base + ".in.tool"},
		{"hook", In(id, Hook), base + ".in.hook"},
		{"service", In(id, Service), base + ".in.service"},
		{"resolved", In(id, Resolved), base + ".in.resolved"},
		{"out", Out(id, Hello), base + ".out.hello"},
		{"health", Out(id, Health), base + ".out.health"},
		{"host", Out(id, Host), base + ".out.host"},
		{"reply", Reply(id, 35), base + ".reply.z"},
		{"host inbox", HostInbox(id), base + ".reply"},
		{"runner inbox", RunnerInbox(id), base + ".in.reply"},
		{"account", Account(id), "default.=40a=2Fb=2Ec"},
		{"wildcard in a name", In(Identity{Tenant: "*", Plugin: ">", Generation: 0}, "a.b"), "ocmt.v1.=2A.=3E.0.in.a=2Eb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.got != tt.want {
				t.Errorf("got %q, want %q", tt.got, tt.want)
			}
		})
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	id := Identity{Tenant: "t", Plugin: "p", Generation: 1}
	runner := Permissions{
		Publish:   []string{"ocmt.v1.t.p.1.out.>", "ocmt.v1.t.p.1.reply.>"},
		Subscribe: []string{"ocmt.v1.t.p.1.in.>"},
	}
	if diff := cmp.Diff(runner, RunnerPermissions(id)); diff != "" {
		t.Errorf("runner (-want +got):\n%s", diff)
	}
	host := Permissions{Publish: runner.Subscribe, Subscribe: runner.Publish}
	if diff := cmp.Diff(host, HostPermissions(id)); diff != "" {
		t.Errorf("host (-want +got):\n%s", diff)
	}
}

func TestReplyNumber(t *testing.T) {
	t.Parallel()
	id := Identity{Tenant: "t", Plugin: "p", Generation: 1}
	for _, n := range []uint64{0, 1, 36, 1<<64 - 1} {
		if got, ok := ReplyNumber(id, Reply(id, n)); !ok || got != n {
			t.Errorf("of request %d: got %d, %t", n, got, ok)
		}
	}
	other := Identity{Tenant: "t", Plugin: "p", Generation: 11}
	for _, s := range []string{"", HostInbox(id), HostInbox(id) + ".", HostInbox(id) + ".x.y", Reply(other, 1), "_INBOX.1"} {
		if n, ok := ReplyNumber(id, s); ok {
			t.Errorf("of %q: got %d, want none", s, n)
		}
	}
}

func TestInRunnerInbox(t *testing.T) {
	t.Parallel()
	id := Identity{Tenant: "t", Plugin: "p", Generation: 1}
	tests := []struct {
		reply string
		want  bool
	}{
		{RunnerInbox(id) + ".1", true},
		{RunnerInbox(id) + ".abc.1", true},
		{RunnerInbox(id), false},
		{RunnerInbox(id) + ".", false},
		{RunnerInbox(id) + ".*", false},
		{RunnerInbox(id) + ".>", false},
		{In(id, Tool), false},
		{"_INBOX.x", false},
		{RunnerInbox(Identity{Tenant: "t", Plugin: "p", Generation: 2}) + ".1", false},
		{"", false},
	}
	for _, tt := range tests {
		if got := InRunnerInbox(id, tt.reply); got != tt.want {
			t.Errorf("of %q: got %t, want %t", tt.reply, got, tt.want)
		}
	}
}

func TestNameRefuses(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "a.b", "a b", "*", ">", "=4", "=4g", "=2f", "=41", "a=", "==", "é"} {
		if got, err := Name(token); !errdefs.IsInvalidArgument(err) {
			t.Errorf("of %q: got %q, %v, want InvalidArgument", token, got, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "a", "=", "a.b", "*", ">", " ", "@scope/name", "\x00\xff", "=41", "grüße", strings.Repeat("/", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		token := Token(name)
		if token == "" || strings.ContainsAny(token, ".*> \t\r\n\x00") {
			t.Fatalf("token of %q is %q", name, token)
		}
		if got, err := Name(token); err != nil || got != name {
			t.Fatalf("got %q, %v, want %q", got, err, name)
		}
		// What decodes at all is the one token of its name.
		if back, err := Name(name); err == nil && Token(back) != name {
			t.Fatalf("%q decodes to %q, whose token is %q", name, back, Token(back))
		}
	})
}
