package policy

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func narrowing(t *testing.T, text string) Narrowing {
	t.Helper()
	n, err := ParseNarrowing(json.RawMessage(text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// someGrants has one of each kind, and more.
func someGrants(t *testing.T) []Grant {
	return []Grant{
		grant(t, Network, "*.b.example:443", "plaintext"), grant(t, Network, "a.example:443", ""), grant(t, Network, "a.b.example:443", "addresses=10.0.0.0/8"),
		grant(t, Workspace, "/srv/b", "rw"), grant(t, Workspace, "/srv/a", "ro"),
		grant(t, Secret, "KEY", ""), grant(t, Env, "TZ", ""), grant(t, Env, "LANG", ""), grant(t, Config, "agents", ""), grant(t, Host, "emit", ""),
		grant(t, Hook, "before_tool_call", ""), grant(t, Hook, "llm_output", ""), grant(t, Hook, "before_prompt_build", ""),
		grant(t, Resource, "memory", "1GiB"), grant(t, Resource, "cpus", "0.25"), grant(t, Registration, "tool:echo", ""),
	}
}

func TestResolve(t *testing.T) {
	e := Resolve(now, someGrants(t), Narrowing{}, DefaultLimits(plugin.SourceNPM))
	want := Effective{
		Network: []NetworkRule{
			{Host: "*.b.example", Port: 443, Plaintext: true}, {Host: "a.b.example", Port: 443, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, {Host: "a.example", Port: 443},
		},
		Workspaces: []WorkspaceDir{{"/srv/a", true}, {"/srv/b", false}},
		Secrets:    []string{"KEY"}, Env: []string{"LANG", "TZ"}, Config: []string{"agents"}, Host: []string{"emit"},
		Hooks: map[string][]plugin.HookRight{
			"before_tool_call": {"observe", "modify", "block"}, "llm_output": {"observe"}, "before_prompt_build": {"observe", "modify"},
		},
		Resources: Limits{Memory: 1 << 30, CPUs: 0.25, PIDs: 64, State: 256 << 20}, Registered: map[string]bool{"tool:echo": true},
	}
	if len(e.Granted) != len(someGrants(t)) || e.Narrowed != nil {
		t.Errorf("%d granted, %d narrowed", len(e.Granted), len(e.Narrowed))
	}
	if !e.MayRegister("tool", "echo") || e.MayRegister("tool", "other") || len(e.Rights("llm_output")) != 1 || e.Rights("agent_end") != nil {
		t.Error("MayRegister or Rights do not say what was granted")
	}
	if e := (Effective{Registered: map[string]bool{"a:b:c": true}}); e.MayRegister("a:b", "c") || !e.MayRegister("a", "b:c") {
		t.Error("a kind with a colon passes for another")
	}
	e.Granted = nil
	if diff := cmp.Diff(want, e, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if nothing := Resolve(now, nil, Narrowing{}, DefaultLimits(plugin.SourceNPM)); len(nothing.Hooks)+len(nothing.Network)+len(nothing.Registered) != 0 || nothing.Resources != DefaultLimits(plugin.SourceNPM) {
		t.Errorf("without grants: %+v", nothing)
	}
}

func TestResolveNarrows(t *testing.T) {
	yes, no := true, false
	e := Resolve(now, someGrants(t), narrowing(t, `{
		"network": [{"host": "a.b.example"}, {"host": "z.example"}], "workspace": "ro", "secrets": [], "env": ["TZ", "HOSTNAME"],
		"config": ["agents.defaults", "gateway"], "host": [], "hooks": {"before_tool_call": "observe", "agent_end": "observe"},
		"resources": {"memory": "512MiB", "cpus": 4, "pids": 16}, "state": {"max": "64MiB"}}`), DefaultLimits(plugin.SourceNPM))
	want := Effective{
		Network:    []NetworkRule{{Host: "a.b.example", Port: 443, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
		Workspaces: []WorkspaceDir{{"/srv/a", true}, {"/srv/b", true}},
		Env:        []string{"TZ"}, Config: []string{"agents.defaults"},
		Hooks:     map[string][]plugin.HookRight{"before_tool_call": {"observe"}},
		Resources: Limits{Memory: 512 << 20, CPUs: 0.25, PIDs: 16, State: 64 << 20}, Registered: map[string]bool{"tool:echo": true},
	}
	var narrowed []string
	for _, g := range e.Narrowed {
		narrowed = append(narrowed, string(g.Kind)+" "+g.Target)
	}
	wantNarrowed := []string{
		"hook before_prompt_build", "hook before_tool_call", "hook llm_output", "network *.b.example:443", "network a.example:443",
		"workspace /srv/b", "secret KEY", "env LANG", "config agents", "host emit", "resource memory",
	}
	if diff := cmp.Diff(wantNarrowed, narrowed); diff != "" {
		t.Errorf("narrowed: -want +got:\n%s", diff)
	}
	e.Granted, e.Narrowed = nil, nil
	if diff := cmp.Diff(want, e, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	for _, tt := range []struct {
		conversation, prompt *bool
		want                 []string
	}{
		{nil, nil, []string{"before_prompt_build", "before_tool_call", "llm_output"}},
		{&yes, &yes, []string{"before_prompt_build", "before_tool_call", "llm_output"}},
		{&no, nil, []string{"before_tool_call"}},
		{nil, &no, []string{"before_tool_call", "llm_output"}},
	} {
		n, err := ParseNarrowing(nil, tt.conversation, tt.prompt)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for name := range Resolve(now, someGrants(t), n, DefaultLimits(plugin.SourceNPM)).Hooks {
			got = append(got, name)
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("hooks = %v, want %v", got, tt.want)
		}
	}
	if _, err := ParseNarrowing(json.RawMessage(`{"net": []}`), nil, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an unknown field: %v", err)
	}
	none := Resolve(now, someGrants(t), narrowing(t, `{"network": [], "workspace": "none", "hooks": {}}`), DefaultLimits(plugin.SourceNPM))
	if len(none.Network)+len(none.Workspaces)+len(none.Hooks) != 0 || len(none.Env) != 2 {
		t.Errorf("empty fields leave %+v", none)
	}
}

func TestExpiredGrantIsNeverInEffect(t *testing.T) {
	for _, g := range someGrants(t) {
		for _, tt := range []struct {
			end  time.Time
			want bool
		}{{now.Add(time.Second), true}, {now, false}, {now.Add(-time.Hour), false}} {
			e := Resolve(now, []Grant{until(g, tt.end)}, Narrowing{}, DefaultLimits(plugin.SourceNPM))
			nothing := Resolve(now, nil, Narrowing{}, DefaultLimits(plugin.SourceNPM))
			if in := !same(e, nothing); in != tt.want || len(e.Granted) == 1 != tt.want || e.NextExpiry.IsZero() == tt.want {
				t.Errorf("%s %s until %s: in effect %v (next expiry %s), want %v", g.Kind, g.Target, tt.end, in, e.NextExpiry, tt.want)
			}
		}
	}
	e := Resolve(now, []Grant{until(grant(t, Env, "TZ", ""), now.Add(2*time.Hour)), until(grant(t, Env, "LANG", ""), now.Add(time.Hour)),
		until(grant(t, Secret, "KEY", ""), now.Add(time.Minute))}, narrowing(t, `{"secrets": []}`), DefaultLimits(plugin.SourceNPM))
	if !e.NextExpiry.Equal(now.Add(time.Hour)) {
		t.Errorf("next expiry = %s, want that of the first grant in force", e.NextExpiry)
	}
}

func TestBrokenGrantsGrantNothing(t *testing.T) {
	broken := []Grant{
		{Kind: Network, Target: "A.example:443"}, {Kind: Network, Target: "*.com:443"}, {Kind: Network, Target: "a.example:443", Value: "everything"},
		{Kind: Workspace, Target: "/", Value: "rw"}, {Kind: Workspace, Target: "/srv/../etc", Value: "ro"}, {Kind: Env, Target: "LD_PRELOAD"},
		{Kind: Hook, Target: "agent_end", Value: "observe,block"}, {Kind: Hook, Target: "before_tool_call"}, {Kind: Resource, Target: "memory", Value: "0"}, {Kind: "more", Target: "x"},
	}
	e := Resolve(now, broken, Narrowing{}, DefaultLimits(plugin.SourceNPM))
	if !same(e, Resolve(now, nil, Narrowing{}, DefaultLimits(plugin.SourceNPM))) || len(e.Granted) != 0 {
		t.Errorf("broken grants allow %+v", e)
	}
}

// narrowings are config files of all sorts, wider ones than any grant too.
var narrowingPool = map[string][]string{
	"network":   {`[]`, `[{"host": "*.b.example", "ports": [443, 80], "plaintext": true}]`, `[{"host": "a.b.example"}, {"host": "c.example", "ports": [1]}]`, `[{"host": "*.example.com"}, {"host": "a.example", "plaintext": true}]`},
	"workspace": {`"none"`, `"ro"`, `"rw"`},
	"secrets":   {`[]`, `["KEY", "OTHER"]`},
	"env":       {`[]`, `["TZ", "OTHER"]`, `["LANG"]`},
	"config":    {`[]`, `["agents.defaults.model", "gateway"]`, `["agents"]`},
	"host":      {`[]`, `["emit"]`},
	"hooks":     {`{}`, `{"before_tool_call": "modify,block", "agent_end": "observe"}`, `{"llm_output": "observe", "before_prompt_build": "observe"}`},
	"resources": {`{}`, `{"memory": "64GiB", "cpus": 64, "pids": 32768}`, `{"memory": "32MiB", "cpus": 0.1, "pids": 16}`},
}

func randomNarrowing(t *testing.T, r *rand.Rand) (Narrowing, string) {
	doc := map[string]json.RawMessage{}
	for name, pool := range narrowingPool {
		if r.IntN(2) == 0 {
			doc[name] = json.RawMessage(pool[r.IntN(len(pool))])
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	maybe := func() *bool {
		b := r.IntN(2) == 0
		return []*bool{nil, &b}[r.IntN(2)]
	}
	n, err := ParseNarrowing(text, maybe(), maybe())
	if err != nil {
		t.Fatal(err)
	}
	return n, string(text)
}

// allowed lists, as asks, all that e allows.
func allowed(e Effective) []Ask {
	var asks []Ask
	for _, r := range e.Network {
		asks = append(asks, Ask{Kind: Network, Target: r.target(), Value: r.value()})
	}
	for _, w := range e.Workspaces {
		asks = append(asks, Ask{Kind: Workspace, Target: w.Path, Value: map[bool]string{true: "ro", false: "rw"}[w.ReadOnly]})
	}
	for kind, list := range map[Kind][]string{Secret: e.Secrets, Env: e.Env, Config: e.Config, Host: e.Host} {
		for _, name := range list {
			asks = append(asks, Ask{Kind: kind, Target: name})
		}
	}
	for name, rights := range e.Hooks {
		asks = append(asks, Ask{Kind: Hook, Target: name, Value: plugin.JoinRights(rights)})
	}
	for name := range e.Registered {
		asks = append(asks, Ask{Kind: Registration, Target: name})
	}
	return asks
}

// TestConfigNeverWidens: whatever the file says, all that is in effect was
// granted and has not ended, and what is wanted beyond is not in effect.
func TestConfigNeverWidens(t *testing.T) {
	limits := DefaultLimits(plugin.SourceNPM)
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var granted []Grant
		for _, g := range someGrants(t) {
			switch r.IntN(3) {
			case 0:
				granted = append(granted, g)
			case 1:
				granted = append(granted, until(g, now.Add(time.Duration(r.IntN(3)-1)*time.Minute)))
			}
		}
		n, text := randomNarrowing(t, r)
		e := Resolve(now, granted, n, limits)
		for _, a := range allowed(e) {
			if !covered(a, granted, now) {
				t.Fatalf("seed %d: %s allows %+v, which nobody granted", seed, text, a)
			}
		}
		free := Resolve(now, granted, Narrowing{}, limits)
		if e.Resources.Memory > free.Resources.Memory || e.Resources.CPUs > free.Resources.CPUs || e.Resources.PIDs > free.Resources.PIDs {
			t.Fatalf("seed %d: %s widens %+v to %+v", seed, text, free.Resources, e.Resources)
		}
		for _, a := range Wanted(n, nil, granted, limits, now) {
			if a.Target != "" && slices.ContainsFunc(e.Granted, func(g Grant) bool { return g.Covers(a) }) {
				t.Fatalf("seed %d: %s wants %+v, which is in effect", seed, text, a)
			}
		}
	}
}

func TestWanted(t *testing.T) {
	yes := true
	n, err := ParseNarrowing(json.RawMessage(`{"network": [{"host": "a.b.example"}, {"host": "new.example"}], "workspace": "rw", "env": ["TZ", "NEW"],
		"hooks": {"before_tool_call": "block"}, "resources": {"memory": "2GiB", "pids": 16}}`), &yes, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := []Ask{
		{Kind: Hook, Target: "agent_end", Value: "observe", Origin: OriginRegistration, Class: Sensitive},
		{Kind: Hook, Target: "llm_output", Value: "observe", Origin: OriginRegistration, Class: Sensitive},
		{Kind: Hook, Target: "inbound_claim", Value: "observe,claim", Origin: OriginRegistration, Class: Sensitive},
	}
	granted := slices.DeleteFunc(someGrants(t), func(g Grant) bool { return g.Kind == Workspace })
	want := []string{
		"hook|agent_end|observe|sensitive|config", "network|new.example:443||sensitive|config",
		"workspace||rw|needs_detail|config", "env|NEW||sensitive|config", "resource|memory|2GiB|sensitive|config",
	}
	if diff := cmp.Diff(want, spell(Wanted(n, asked, granted, DefaultLimits(plugin.SourceNPM), now))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := Wanted(Narrowing{}, asked, nil, DefaultLimits(plugin.SourceNPM), now); len(got) != 0 {
		t.Errorf("a file that says nothing wants %v", got)
	}
}

func TestRestartNeeded(t *testing.T) {
	base := Resolve(now, someGrants(t), Narrowing{}, DefaultLimits(plugin.SourceNPM))
	for i, g := range someGrants(t) {
		rest := slices.Delete(someGrants(t), i, i+1)
		e := Resolve(now, rest, Narrowing{}, DefaultLimits(plugin.SourceNPM))
		want := g.Kind != Network && g.Kind != Hook
		if got := RestartNeeded(base, e); got != want || same(base, e) {
			t.Errorf("without %s %s: restart %v, want %v; same %v", g.Kind, g.Target, got, want, same(base, e))
		}
	}
	if again := Resolve(now.Add(time.Hour), someGrants(t), Narrowing{}, DefaultLimits(plugin.SourceNPM)); RestartNeeded(base, again) || !same(base, again) {
		t.Error("the same grants differ")
	}
}

func TestMatches(t *testing.T) {
	rule := NetworkRule{Host: "*.b.example", Port: 443}
	for host, want := range map[string]bool{"a.b.example": true, "b.example": false, ".b.example": false, "x.a.b.example": false, "ab.example": false, "*.b.example": false} {
		if got := rule.Matches(host, 443); got != want {
			t.Errorf("%s matches %s: %v, want %v", rule.Host, host, got, want)
		}
	}
	if rule.Matches("a.b.example", 80) || !(NetworkRule{Host: "b.example", Port: 80}).Matches("b.example", 80) {
		t.Error("the port or an exact name does not count")
	}
}

func TestConfigView(t *testing.T) {
	whole := `{"agents": {"defaults": {"model": "m", "n": 12345678901234567890}, "list": [{"id": "a"}]}, "gateway": {"auth": {"token": "SECRET"}},
		"plugins": {"entries": {"me": {"enabled": true, "config": {"a": 1}}, "other": {"config": {"key": "SECRET"}}}}}`
	tests := []struct {
		name, own string
		paths     []string
		want      string
	}{
		{"own entry only", "", nil, `{"plugins": {"entries": {"me": {"enabled": true, "config": {"a": 1}}}}}`},
		{"own entry replaced", `{"config": {"a": 2}}`, nil, `{"plugins": {"entries": {"me": {"config": {"a": 2}}}}}`},
		{"paths", `{}`, []string{"agents.defaults.n", "agents.defaults.model", "agents.none", "agents.list.0", "none.at.all"},
			`{"agents": {"defaults": {"model": "m", "n": 12345678901234567890}}, "plugins": {"entries": {"me": {}}}}`},
		{"a path within another", `{}`, []string{"agents.list", "agents", "agents.defaults.model"},
			`{"agents": {"defaults": {"model": "m", "n": 12345678901234567890}, "list": [{"id":"a"}]}, "plugins": {"entries": {"me": {}}}}`},
		{"own entry within a path", `{"x": 1}`, []string{"plugins.entries.other"}, `{"plugins": {"entries": {"me": {"x": 1}, "other": {"config": {"key": "SECRET"}}}}}`},
		{"own entry in a granted object", `{"x": 1}`, []string{"plugins"}, `{"plugins": {"entries": {"me": {"x": 1}, "other": {"config": {"key": "SECRET"}}}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var own json.RawMessage
			if tt.own != "" {
				own = json.RawMessage(tt.own)
			}
			got, err := ConfigView(json.RawMessage(whole), "me", own, tt.paths)
			if err != nil || !reflect.DeepEqual(decode(t, string(got)), decode(t, tt.want)) {
				t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
	if got, err := ConfigView(json.RawMessage(`{}`), "me", nil, []string{"a"}); err != nil || string(got) != "{}" {
		t.Errorf("of an empty file: %s, %v", got, err)
	}
	for _, bad := range [][2]string{{`[]`, `{}`}, {``, `{}`}, {`null`, `{}`}, {`{}`, `[]`}} {
		if got, err := ConfigView(json.RawMessage(bad[0]), "me", json.RawMessage(bad[1]), nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("ConfigView(%q, %q) = %s, %v, want InvalidArgument", bad[0], bad[1], got, err)
		}
	}
}

// decode keeps numbers as they are written.
func decode(t *testing.T, text string) any {
	t.Helper()
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) != nil {
		return text
	}
	out := map[string]any{}
	for name, raw := range fields {
		out[name] = decode(t, string(raw))
	}
	return out
}

// same reports whether both allow the same.
func same(a, b Effective) bool {
	return !RestartNeeded(a, b) && reflect.DeepEqual(a.Network, b.Network) && reflect.DeepEqual(a.Hooks, b.Hooks)
}
