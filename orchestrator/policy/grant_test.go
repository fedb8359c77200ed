package policy

import (
	"strings"
	"testing"
	"unicode"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

var goodGrants = []struct{ kind, target, value, wantTarget, wantValue string }{
	{"network", "API.example.com:443", "", "api.example.com:443", ""},
	{"network", "*.example.com:0443", "plaintext", "*.example.com:443", "plaintext"},
	{"network", "npm.corp.example:443", "addresses=192.168.1.0/24 10.0.0.0/8 10.0.0.0/8, plaintext", "npm.corp.example:443", "plaintext,addresses=10.0.0.0/8 192.168.1.0/24"},
	{"network", "npm:8080", "addresses=fc00::/7", "npm:8080", "addresses=fc00::/7"},
	{"network", "localhost:8080", "addresses=127.0.0.1/32 ::1/128", "localhost:8080", "addresses=127.0.0.1/32 ::1/128"},
	{"network", "api.example.com:443", "rules=POST /v1/a,b GET /v1/* GET /v1/x", "api.example.com:443", "rules=GET /v1/* POST /v1/a,b"},
	{"network", "api.example.com:80", "plaintext, rules=* /rules=x", "api.example.com:80", "plaintext,rules=* /rules=x"},
	{"workspace", "/srv/work/", "rw", "/srv/work", "rw"},
	{"workspace", "/home/me/my files", "", "/home/me/my files", "ro"},
	{"workspace", "/tmp/x", "ro", "/tmp/x", "ro"},
	{"secret", "API_KEY", "", "API_KEY", ""},
	{"env", "TZ", "", "TZ", ""},
	{"config", "agents.defaults.model", "", "agents.defaults.model", ""},
	{"hook", "before_tool_call", "", "before_tool_call", "observe,modify,block"},
	{"hook", "before_tool_call", "block", "before_tool_call", "observe,block"},
	{"hook", "agent:message:before", "block, modify", "agent:message:before", "observe,modify,block"},
	{"host", "emit", "", "emit", ""},
	{"resource", "memory", "1024MiB", "memory", "1GiB"},
	{"resource", "cpus", "1.50", "cpus", "1.5"},
	{"resource", "pids", "128", "pids", "128"},
	{"resource", "state", "1024MiB", "state", "1GiB"},
	{"registration", "tool:echo", "", "tool:echo", ""},
	{"registration", "httpRoute:/a/b c", "", "httpRoute:/a/b c", ""},
}

var badGrants = []struct{ kind, target, value, says string }{
	{"files", "a", "", "kinds are network"}, {"", "", "", "kinds are network"},
	{"network", "api.example.com", "", "host:port"}, {"network", "https://api.example.com:443", "", "without a scheme"},
	{"network", "api.example.com:0", "", "1 to 65535"}, {"network", "api.example.com:65536", "", "1 to 65535"}, {"network", "api.example.com:-1", "", "1 to 65535"},
	{"network", "api.example.com:", "", "1 to 65535"}, {"network", "10.0.0.1:443", "", "addresses cannot be granted"}, {"network", "[::1]:443", "", "addresses cannot be granted"},
	{"network", "*:443", "", "name each host"}, {"network", "*.com:443", "", "owner's domain"}, {"network", "api.example.com/x:443", "", "path"},
	{"network", "api.example.com:443", "insecure", "plaintext"}, {"network", "api.example.com:443", "plaintext,plaintext", "plaintext"},
	{"network", "api.example.com:443", "addresses=", "ranges"}, {"network", "api.example.com:443", "addresses=10.0.0.1", "host bits"},
	{"network", "api.example.com:443", "addresses=10.0.0.1/8", "host bits"}, {"network", "api.example.com:443", "addresses=0.0.0.0/0", "range of the network"},
	{"network", "api.example.com:443", "addresses=169.254.169.254/32", "range of the network"}, {"network", "api.example.com:443", "addresses=127.0.0.0/8", "range of the network"},
	{"network", "api.example.com:443", "addresses=::ffff:127.0.0.1/128", "range of the network"}, {"network", "api.example.com:443", "addresses=" + strings.Repeat("10.1.0.0/16 ", 17), "up to 16"},
	{"network", "api.example.com:443", "rules=", "methods with paths"}, {"network", "api.example.com:443", "rules=GET", "methods with paths"},
	{"network", "api.example.com:443", "rules=get /", "methods with paths"}, {"network", "api.example.com:443", "rules=GET /a/../b", "methods with paths"},
	{"network", "api.example.com:443", "rules=GET /v1/*,plaintext POST /x", "methods with paths"}, {"network", "api.example.com:443", "rules=" + strings.Repeat("GET /x ", 65), "methods with paths"},
	{"resource", "state", "1KiB", "1MiB"}, {"resource", "state", "", "whole number"},
	{"network", "localhost:80", "", "127.0.0.1/32"}, {"network", "localhost:80", "addresses=10.0.0.0/8", "range of the network"}, {"network", "npm:443", "", "addresses=10.0.0.0/8"},
	{"workspace", "srv/work", "ro", "whole path"}, {"workspace", "/srv/../etc", "ro", "whole path"}, {"workspace", "/srv//x", "ro", "whole path"}, {"workspace", "/srv/./x", "ro", "whole path"},
	{"workspace", "/", "ro", "below"}, {"workspace", "/srv/a\nb", "ro", "rename"}, {"workspace", "/srv", "write", "ro PATH"}, {"workspace", "/" + strings.Repeat("a", maxPath), "ro", "whole path"}, {"workspace", "", "ro", "whole path"},
	{"secret", "A-B", "", "letters"}, {"secret", "A", "x", "leave out"}, {"env", "LD_PRELOAD", "", "loads code"}, {"env", "A=B", "", "letters"},
	{"config", "a..b", "", "dots between"}, {"config", "../x", "", "dots between"},
	{"hook", "before_toolcall", "", "did you mean before_tool_call"}, {"hook", "agent_end", "block", "rights of agent_end"}, {"hook", "x", "", "documentation"},
	{"host", "log", "", "emit"}, {"resource", "memory", "", "MiB"}, {"resource", "memory", "-1", "MiB"}, {"resource", "memory", "1KiB", "from 16MiB"}, {"resource", "cpus", "NaN", "from 0.01"},
	{"resource", "pids", "0", "from 16"}, {"resource", "pids", "15", "from 16"}, {"resource", "disk", "1", "memory, cpus, pids and state"},
	{"registration", "hook:agent_end", "", "by event"}, {"registration", "tool", "", "KIND:NAME"}, {"registration", "tool:a\x1b[2J", "", "KIND:NAME"}, {"registration", "tool:" + strings.Repeat("a", maxName+1), "", "KIND:NAME"},
	{"secret", "\xff", "", "as text"},
}

func TestParseGrant(t *testing.T) {
	for _, tt := range goodGrants {
		g, err := ParseGrant(tt.kind, tt.target, tt.value)
		if err != nil || g != (Grant{Kind: Kind(tt.kind), Target: tt.wantTarget, Value: tt.wantValue}) {
			t.Errorf("ParseGrant(%s, %s, %s) = %+v, %v, want %q %q", tt.kind, tt.target, tt.value, g, err, tt.wantTarget, tt.wantValue)
		}
	}
	for _, tt := range badGrants {
		g, err := ParseGrant(tt.kind, tt.target, tt.value)
		if f := fault.Of(err); !errdefs.IsInvalidArgument(err) || g != (Grant{}) || f.Code != "invalid_grant" || !strings.Contains(f.Hint, tt.says) {
			t.Errorf("ParseGrant(%s, %.40q, %.40q) = %+v, %v (%s, hint %q), want a hint with %q", tt.kind, tt.target, tt.value, g, err, f.Code, f.Hint, tt.says)
		}
	}
}

func TestCovers(t *testing.T) {
	tests := []struct {
		kind                  Kind
		target, value         string // of the grant
		askedTarget, askValue string
		want                  bool
	}{
		{Network, "a.example:443", "", "a.example:443", "", true},
		{Network, "a.example:443", "", "a.example:443", "plaintext", false},
		{Network, "a.example:443", "plaintext", "a.example:443", "", true},
		{Network, "a.example:443", "", "a.example:80", "", false},
		{Network, "*.b.example:443", "", "a.b.example:443", "", true},
		{Network, "*.b.example:443", "", "b.example:443", "", false},
		{Network, "*.b.example:443", "", "c.a.b.example:443", "", false},
		{Network, "a.b.example:443", "", "*.b.example:443", "", false},
		{Network, "a.example:443", "addresses=10.0.0.0/8", "a.example:443", "addresses=10.1.0.0/16", true},
		{Network, "a.example:443", "addresses=10.1.0.0/16", "a.example:443", "addresses=10.0.0.0/8", false},
		{Network, "broken", "", "broken", "", false},
		{Workspace, "/srv", "ro", "", "ro", true}, {Workspace, "/srv", "ro", "", "rw", false}, {Workspace, "/srv", "rw", "/srv", "ro", true}, {Workspace, "/srv", "rw", "/other", "ro", false},
		{Hook, "before_tool_call", "observe,block", "before_tool_call", "observe", true},
		{Hook, "before_tool_call", "observe,block", "before_tool_call", "observe,modify", false},
		{Hook, "nothing", "observe", "nothing", "observe", false},
		{Resource, "memory", "1GiB", "memory", "512MiB", true}, {Resource, "memory", "512MiB", "memory", "1GiB", false}, {Resource, "cpus", "x", "cpus", "x", false},
		{Config, "agents", "", "agents.defaults", "", true}, {Config, "agents.defaults", "", "agents", "", false}, {Config, "agent", "", "agents", "", false},
		{Env, "TZ", "", "TZ", "", true}, {Env, "TZ", "", "LANG", "", false},
	}
	for _, tt := range tests {
		g := Grant{Kind: tt.kind, Target: tt.target, Value: tt.value}
		if got := g.Covers(Ask{Kind: tt.kind, Target: tt.askedTarget, Value: tt.askValue}); got != tt.want {
			t.Errorf("%s %s %s covers %s %s: %v, want %v", tt.kind, tt.target, tt.value, tt.askedTarget, tt.askValue, got, tt.want)
		}
	}
	if (Grant{Kind: Env, Target: "TZ"}).Covers(Ask{Kind: Secret, Target: "TZ"}) {
		t.Error("a grant covers an ask of another kind")
	}
}

func FuzzParseGrant(f *testing.F) {
	for _, tt := range goodGrants {
		f.Add(tt.kind, tt.target, tt.value)
	}
	for _, tt := range badGrants {
		f.Add(tt.kind, tt.target, tt.value)
	}
	f.Fuzz(func(t *testing.T, kind, target, value string) {
		g, err := ParseGrant(kind, target, value)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) || fault.Of(err).Hint == "" {
				t.Errorf("ParseGrant(%q, %q, %q) = %v without a class or a hint", kind, target, value, err)
			}
			return
		}
		if again, err := ParseGrant(string(g.Kind), g.Target, g.Value); err != nil || again != g {
			t.Errorf("%+v is not canonical: %+v, %v", g, again, err)
		}
		if !g.Covers(Ask{Kind: g.Kind, Target: g.Target, Value: g.Value}) {
			t.Errorf("%+v does not cover itself", g)
		}
		if s := g.Explain(); s == "" || strings.ContainsFunc(s, unicode.IsControl) {
			t.Errorf("%+v is explained as %q", g, s)
		}
	})
}
