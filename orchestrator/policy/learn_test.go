package policy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func TestWishedBy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind, target string
		want         Ask
	}{
		{"network", "API.Example.com:8443", Ask{Kind: Network, Target: "api.example.com:8443", Class: Sensitive, Reason: "It tried to."}},
		{"network", "localhost:80", Ask{Kind: Network, Target: "localhost:80", Class: NeedsDetail, Reason: "It tried to."}},
		{"env", "SERVICE_URL", Ask{Kind: Env, Target: "SERVICE_URL", Class: Sensitive, Reason: "It looked for it."}},
		{"secret", "SERVICE_API_KEY", Ask{Kind: Secret, Target: "SERVICE_API_KEY", Class: NeedsDetail, Reason: "It looked for it."}},
		{"config", "agents.defaults.model", Ask{Kind: Config, Target: "agents.defaults.model", Class: Sensitive, Reason: "It looked for it."}},
	} {
		tt.want.Origin = OriginRuntime
		got, err := WishedBy(tt.kind, tt.target)
		if err != nil {
			t.Errorf("%s %s: %v", tt.kind, tt.target, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.kind, tt.target, diff)
		}
	}
}

func TestWishedByRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range [][2]string{
		{"network", ""}, {"network", "example.com"}, {"network", "example.com:0"}, {"network", "example.com:65536"}, {"network", ":443"},
		{"network", "10.0.0.1:443"}, {"network", "[::1]:443"}, {"network", "2130706433:80"}, {"network", "*.com:443"}, {"network", "*:443"},
		{"network", "a b.example.com:443"}, {"network", "a\x1b[2J.example.com:443"}, {"network", "https://example.com:443"}, {"network", "a.example.com:443 "},
		{"network", strings.Repeat("a", 5000) + ".example.com:443"},
		{"env", ""}, {"env", "A B"}, {"env", "NODE_OPTIONS"}, {"env", "LD_PRELOAD"}, {"env", "OCMT_BUS"}, {"env", strings.Repeat("A", 129)},
		{"secret", "A=B"}, {"secret", "\x1b[2J"}, {"secret", ""},
		{"config", ""}, {"config", "a..b"}, {"config", "a.b\n"}, {"config", strings.Repeat("a.", 16) + "a"}, {"config", strings.Repeat("a", 513)},
		{"", "a"}, {"hook", "llm_input"}, {"host", "emit"}, {"workspace", "/"}, {"registration", "tool:a"}, {"resource", "memory"}, {"\x1b[2J", "a"},
	} {
		got, err := WishedBy(tt[0], tt[1])
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q %.60q: got %+v, %v, want InvalidArgument", tt[0], tt[1], got, err)
		}
		if err != nil && (len(err.Error()) > 500 || strings.ContainsRune(err.Error(), 0x1b)) {
			t.Errorf("%q %.60q: the error cannot be shown: %q", tt[0], tt[1], err)
		}
	}
}

func FuzzWishedBy(f *testing.F) {
	f.Add("network", "api.example.com:443")
	f.Add("config", "agents.defaults")
	f.Add("secret", "KEY")
	f.Add("env", "é")
	f.Add("network", "\xc20:1")
	f.Fuzz(func(t *testing.T, kind, target string) {
		a, err := WishedBy(kind, target)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("got %v, want InvalidArgument", err)
			}
			return
		}
		if again, err := WishedBy(string(a.Kind), a.Target); err != nil || again != a {
			t.Errorf("%+v is wished again as %+v, %v", a, again, err)
		}
		if !printable(a.Target) {
			t.Errorf("the target %q cannot be shown", a.Target)
		}
		checkSmallest(t, plugin.Descriptor{ID: "a"}, []Ask{a})
	})
}

func TestSmallest(t *testing.T) {
	t.Parallel()
	wish := func(kind Kind, target, value string) Ask {
		return Ask{Kind: kind, Target: target, Value: value, Origin: OriginRuntime}
	}
	d := plugin.Descriptor{ID: "demo", Permissions: permissions(t, `{"network": [{"host": "unused.example.com"}], "workspace": "ro", "state": {"max": "1GiB"},
		"secrets": ["UNUSED"], "resources": {"memory": "512MiB"}}`)}
	got := Smallest(d, []Ask{
		wish(Network, "b.example.com:443", ""), wish(Network, "a.example.com:80", ""), wish(Network, "a.example.com:443", ""),
		wish(Network, "a.example.com:8080", plaintext), wish(Network, "a.example.com:80", plaintext), wish(Network, "b.example.com:443", ""),
		wish(Network, "c.example.org:443", ""), wish(Network, "*.example.org:443", ""), wish(Network, "d.example.org:8443", ""),
		wish(Network, "r.example.net:443", "rules=GET /a/*"), wish(Network, "r.example.net:443", "rules=POST /b GET /a/c"),
		wish(Network, "10.0.0.1:443", ""), wish(Network, "db.example.com:5432", "addresses=10.0.0.0/8"),
		wish(Secret, "B_KEY", ""), wish(Secret, "A_KEY", ""), wish(Secret, "A_KEY", ""), wish(Env, "TZ", ""), wish(Env, "PATH", ""), wish(Host, "emit", ""),
		wish(Config, "agents.defaults.model", ""), wish(Config, "agents.defaults", ""), wish(Config, "agents-x", ""), wish(Config, "plugins.entries.demo.config.a", ""),
		wish(Hook, "before_tool_call", "observe"), wish(Hook, "before_tool_call", "block"), wish(Hook, "llm_input", ""), wish(Hook, "no_such_event", ""),
		wish(Registration, "tool:a", ""), wish(Workspace, "", "rw"), wish(Resource, PIDs, "32"),
	})
	want := permissions(t, `{
		"network": [
			{"host": "*.example.org"}, {"host": "a.example.com"}, {"host": "a.example.com", "ports": [80, 8080], "plaintext": true}, {"host": "b.example.com"},
			{"host": "d.example.org", "ports": [8443]}, {"host": "r.example.net", "rules": ["GET /a/*", "POST /b"]}],
		"workspace": "ro", "state": {"max": "1GiB"}, "resources": {"memory": "512MiB"},
		"secrets": ["A_KEY", "B_KEY"], "env": ["TZ"], "host": ["emit"], "config": ["agents-x", "agents.defaults"],
		"hooks": {"before_tool_call": "block", "llm_input": "observe"}}`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(plugin.Permissions{}, Smallest(plugin.Descriptor{}, nil)); diff != "" {
		t.Errorf("of no wishes -want +got:\n%s", diff)
	}
}

// TestSmallestCovers holds random wishes to what Smallest promises.
func TestSmallestCovers(t *testing.T) {
	t.Parallel()
	d := plugin.Descriptor{ID: "demo", Permissions: permissions(t, `{"workspace": "rw", "resources": {"pids": 32}}`)}
	events := []string{"before_tool_call", "llm_input", "message_sending", "agent:message:before", "gateway_start"}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		pick := func(list ...string) string { return list[r.IntN(len(list))] }
		var wished []Ask
		for range r.IntN(60) {
			a := Ask{Origin: OriginRuntime}
			switch r.IntN(6) {
			case 0, 1:
				a.Kind, a.Value = Network, pick("", "", plaintext)
				a.Target = fmt.Sprintf("%s:%d", pick("a.example.com", "b.example.com", "*.example.com", "x.y.example.com", "localhost", "example.org"), 1+r.IntN(9))
			case 2:
				a.Kind, a.Target = Env, pick("TZ", "LANG", "A", "B", "C")
			case 3:
				a.Kind, a.Target = Secret, pick("A_KEY", "B_KEY", "C_TOKEN")
			case 4:
				a.Kind, a.Target = Config, pick("a", "a.b", "a.b.c", "a-b", "a.c", "b.a", "plugins.entries.other", "c.d.e.f")
			case 5:
				a.Kind, a.Target = Hook, pick(events...)
				event, err := plugin.LookupEvent(a.Target)
				if err != nil {
					t.Fatal(err)
				}
				a.Value = plugin.JoinRights(event.Rights[:1+r.IntN(len(event.Rights))])
			}
			wished = append(wished, a)
		}
		checkSmallest(t, d, wished)
	}
}

// checkSmallest fails unless the smallest manifest is one, and covers exactly
// the wishes.
func checkSmallest(t *testing.T, d plugin.Descriptor, wished []Ask) {
	t.Helper()
	p := Smallest(d, wished)
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	read, _, err := plugin.ReadPermissions(data)
	if err != nil {
		t.Fatalf("%s is no manifest: %v", data, err)
	}
	if diff := cmp.Diff(read, p); diff != "" {
		t.Errorf("%s is not normalised (-read +made):\n%s", data, diff)
	}
	asks := manifestAsks(p, OriginManifest, DefaultLimits(plugin.SourceNPM))
	own := func(a Ask) bool { return a.Kind == Config && withinPath(a.Target, "plugins.entries."+d.ID) }
	if missing := slices.DeleteFunc(beyond(wished, asks), own); len(missing) > 0 {
		t.Errorf("%s does not cover %v", data, missing)
	}
	kept := func(a Ask) bool { return a.Kind == Workspace || a.Kind == Resource }
	for _, a := range slices.DeleteFunc(beyond(asks, wished), kept) {
		if a.Kind != Hook || !coveredTogether(a, wished) {
			t.Errorf("%s asks for %s %s %s, which was not wished", data, a.Kind, a.Target, a.Value)
		}
	}
}

// coveredTogether reports whether each right of a hook was wished.
func coveredTogether(a Ask, wished []Ask) bool {
	for _, right := range parseRights(a.Target, a.Value) {
		if !slices.ContainsFunc(wished, func(w Ask) bool {
			return w.Kind == Hook && w.Target == a.Target && slices.Contains(parseRights(w.Target, w.Value), right)
		}) {
			return false
		}
	}
	return true
}

// TestSmallestIsBounded gives it more than any manifest may hold.
func TestSmallestIsBounded(t *testing.T) {
	t.Parallel()
	var wished []Ask
	for i := range 500 {
		long := fmt.Sprintf("%s%d", strings.Repeat("x", 55), i)
		wished = append(wished,
			Ask{Kind: Network, Target: fmt.Sprintf("%[1]s.%[1]s.%[1]s.example.com:443", long)},
			Ask{Kind: Network, Target: fmt.Sprintf("ports.example.com:%d", i+1)},
			Ask{Kind: Env, Target: long + long}, Ask{Kind: Secret, Target: long + long},
			Ask{Kind: Config, Target: strings.Repeat(long+".", 7) + "x"},
			Ask{Kind: Hook, Target: long + ":before"},
		)
	}
	p := Smallest(plugin.Descriptor{ID: "demo"}, wished)
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	read, _, err := plugin.ReadPermissions(data)
	if err != nil {
		t.Fatalf("%d bytes are no manifest: %v", len(data), err)
	}
	if diff := cmp.Diff(read, p); diff != "" {
		t.Errorf("-read +made:\n%s", diff)
	}
	if len(p.Network) < 16 || len(p.Env) < 16 || len(p.Config) < 16 || len(p.Hooks) < 16 {
		t.Errorf("%d destinations, %d variables, %d paths and %d hooks are left, want more", len(p.Network), len(p.Env), len(p.Config), len(p.Hooks))
	}
}
