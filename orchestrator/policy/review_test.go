package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func permissions(t *testing.T, text string) plugin.Permissions {
	t.Helper()
	p, err := plugin.ParsePermissions([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func grant(t *testing.T, kind Kind, target, value string) Grant {
	t.Helper()
	g, err := ParseGrant(string(kind), target, value)
	if err != nil {
		t.Fatal(err)
	}
	g.Origin, g.Actor, g.At = OriginGrant, "uid:0", now
	return g
}

func until(g Grant, end time.Time) Grant {
	g.ExpiresAt = end
	return g
}

// brave is a plugin that asks for some of everything.
func brave(t *testing.T) Candidate {
	return Candidate{
		Descriptor: plugin.Descriptor{
			ID: "brave", Name: "@a/brave", Version: "1.0.0", HasPermissions: true,
			Permissions: permissions(t, `{"network": [{"host": "api.brave.com"}, {"host": "localhost", "ports": [80], "plaintext": true}], "workspace": "rw",
				"secrets": ["KEY"], "env": ["TZ"], "config": ["agents.defaults"], "host": ["emit"],
				"hooks": {"before_tool_call": "block", "gateway_start": "observe"}, "resources": {"memory": "512MiB", "pids": 32}}`),
			Wishes: []plugin.Wish{{Kind: "network", Target: "b.example:443", Reason: "providerEndpoints names it"}, {Kind: "env", Target: "TZ", Reason: "asked for already"}},
		},
		Surface: plugin.Surface{Registrations: []plugin.Registration{
			{Kind: "tool", Name: "search"}, {Kind: "service", Name: "heart"}, {Kind: "httpRoute", Name: "/x\x1b"},
			{Kind: "hook", Name: "before_tool_call"}, {Kind: "hook", Name: "llm_output"}, {Kind: "hook", Name: "session_end"},
			{Kind: "hook", Name: "inbound_claim"}, {Kind: "hook", Name: "inbound_claim"}, {Kind: "hook", Name: "no_such_event"},
		}},
		Payload: "sha256:aa", Limits: DefaultLimits(plugin.SourceNPM),
	}
}

// spell makes a line of each ask.
func spell(asks []Ask) []string {
	var out []string
	for _, a := range asks {
		out = append(out, strings.Join([]string{string(a.Kind), a.Target, a.Value, string(a.Class), a.Origin}, "|"))
	}
	return out
}

func TestAsked(t *testing.T) {
	c := brave(t)
	want := []string{
		"registration|service:heart||basic|registration",
		"registration|tool:search||basic|registration",
		"hook|before_tool_call|observe,block|sensitive|manifest",
		"hook|gateway_start|observe|basic|manifest",
		"hook|inbound_claim|observe,claim|sensitive|registration",
		"hook|llm_output|observe|sensitive|registration",
		"hook|session_end|observe|basic|registration",
		"network|api.brave.com:443||sensitive|manifest",
		"network|b.example:443||wish|manifest",
		"network|localhost:80|plaintext|needs_detail|manifest",
		"workspace||rw|needs_detail|manifest",
		"secret|KEY||needs_detail|manifest",
		"env|TZ||sensitive|manifest",
		"config|agents.defaults||sensitive|manifest",
		"host|emit||basic|manifest",
		"resource|memory|512MiB|sensitive|manifest",
		"resource|pids|32|basic|manifest",
	}
	if diff := cmp.Diff(want, spell(Asked(c.Descriptor, c.Surface, c.Limits))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := Asked(plugin.Descriptor{}, plugin.Surface{}, c.Limits); len(got) != 0 {
		t.Errorf("a plugin of nothing asks for %v", got)
	}
}

func TestReview(t *testing.T) {
	c := brave(t)
	r := NewReview(c, now)
	if r.Update || len(r.Items) != 13 || len(r.Later) != 4 {
		t.Fatalf("review = %+v, want 13 items and 4 for later", r)
	}
	all, basic := r.Grants(AcceptAll, "uid:7", now), r.Grants(AcceptBasic, "uid:7", now)
	if len(all) != 13 || len(basic) != 6 || len(r.Grants("none", "uid:7", now)) != 0 || len(r.Grants("", "uid:7", now)) != 0 {
		t.Errorf("%d grants of all, %d of basic, want 13, 6 and none of other answers", len(all), len(basic))
	}
	for _, g := range basic {
		if g.Kind == Network || g.Kind == Env || g.Kind == Config || g.Kind == Secret || g.Kind == Workspace || g.Target == "llm_output" || g.Target == "memory" {
			t.Errorf("a basic answer grants %s %s", g.Kind, g.Target)
		}
		if g.Origin != OriginReview || g.Actor != "uid:7" || !g.At.Equal(now) {
			t.Errorf("%+v does not say who granted it", g)
		}
	}
	if again := NewReview(brave(t), now.Add(time.Hour)); again.Digest != r.Digest || !strings.HasPrefix(r.Digest, "sha256:") {
		t.Errorf("the digest of the same review is %s and %s", r.Digest, again.Digest)
	}
	for name, change := range map[string]func(*Candidate){
		"version":    func(c *Candidate) { c.Descriptor.Version = "1.0.1" },
		"name":       func(c *Candidate) { c.Descriptor.Name = "@b/brave" },
		"payload":    func(c *Candidate) { c.Payload = "sha256:bb" },
		"permission": func(c *Candidate) { c.Descriptor.Permissions.Env = nil },
		"wish":       func(c *Candidate) { c.Descriptor.Wishes[0].Reason = "other" },
		"diagnostic": func(c *Candidate) { c.Surface.Diagnostics = []plugin.Diagnostic{{Level: "warn", Message: "m"}} },
		"granted":    func(c *Candidate) { c.Granted = []Grant{grant(t, Env, "TZ", "")} },
	} {
		other := brave(t)
		change(&other)
		if NewReview(other, now).Digest == r.Digest {
			t.Errorf("another %s has the same digest", name)
		}
	}
}

func TestReviewOfUpdate(t *testing.T) {
	c := brave(t)
	c.Granted = append(NewReview(c, now).Grants(AcceptAll, "uid:7", now), grant(t, Workspace, "/srv", "rw"))
	r := NewReview(c, now)
	if len(r.Items) != 0 || !r.Update {
		t.Errorf("the same version asks again for %v (update %v)", spell(r.Items), r.Update)
	}
	c.Granted = []Grant{
		grant(t, Hook, "before_tool_call", "modify"), grant(t, Network, "api.brave.com:443", "plaintext,addresses=10.0.0.0/8"),
		until(grant(t, Env, "TZ", ""), now), until(grant(t, Hook, "inbound_claim", "observe"), now.Add(time.Hour)),
	}
	got := map[string]string{}
	for _, a := range NewReview(c, now).Items {
		got[a.Target] = a.Value
	}
	if v, ok := got["before_tool_call"]; !ok || v != "observe,modify,block" {
		t.Errorf("before_tool_call becomes %q, want what was granted as well", v)
	}
	if v := got["inbound_claim"]; v != "observe,claim" {
		t.Errorf("inbound_claim becomes %q", v)
	}
	if _, ok := got["TZ"]; !ok {
		t.Error("a grant that has ended counts")
	}
	if _, ok := got["api.brave.com:443"]; ok {
		t.Error("what was granted is asked for again")
	}
}

func TestPending(t *testing.T) {
	c := brave(t)
	asks := Asked(c.Descriptor, c.Surface, c.Limits)
	granted := append(NewReview(c, now).Grants(AcceptBasic, "uid:7", now), grant(t, Hook, "before_tool_call", "modify"))
	key := plugin.Key{Tenant: "default", ID: "brave"}
	got := map[string]string{}
	var ids []string
	for _, r := range Pending(key, asks, granted, nil, now) {
		got[string(r.Kind)+" "+r.Target] = r.Command
		ids = append(ids, r.ID)
	}
	want := map[string]string{
		"hook before_tool_call":     "ocmt plugins grant brave hook before_tool_call observe,modify,block",
		"hook inbound_claim":        "ocmt plugins grant brave hook inbound_claim observe,claim",
		"hook llm_output":           "ocmt plugins grant brave hook llm_output observe",
		"network api.brave.com:443": "ocmt plugins grant brave network api.brave.com:443",
		"network b.example:443":     "ocmt plugins grant brave network b.example:443",
		"network localhost:80":      "ocmt plugins grant brave network localhost:80 addresses=RANGE,plaintext",
		"workspace ":                "ocmt plugins grant brave workspace rw PATH",
		"secret KEY":                "ocmt plugins grant brave secret KEY",
		"env TZ":                    "ocmt plugins grant brave env TZ",
		"config agents.defaults":    "ocmt plugins grant brave config agents.defaults",
		"resource memory":           "ocmt plugins grant brave resource memory 512MiB",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	denied := map[string]bool{ids[0]: true, ids[3]: true}
	if left := Pending(key, asks, granted, denied, now); len(left) != len(ids)-2 {
		t.Errorf("%d requests are left of %d after denying two", len(left), len(ids))
	}
	other := Pending(plugin.Key{Tenant: "team", ID: "brave"}, asks, granted, denied, now)
	if len(other) != len(ids) || other[0].ID == ids[0] {
		t.Error("the requests of another tenant have the same ids")
	}
	odd := Ask{Kind: Registration, Target: "httpRoute:/it's $HOME", Class: Basic}
	r := Pending(plugin.Key{Tenant: "team", ID: "brave"}, []Ask{odd, odd}, nil, nil, now)
	if len(r) != 1 || r[0].Command != `ocmt plugins grant brave registration 'httpRoute:/it'\''s $HOME' --tenant team` {
		t.Errorf("requests = %+v", r)
	}
}

func TestDiff(t *testing.T) {
	before := permissions(t, `{"network": [{"host": "a.example"}], "hooks": {"message_sending": "modify"}, "resources": {"memory": "1GiB"}, "env": ["TZ"]}`)
	after := permissions(t, `{"network": [{"host": "a.example", "ports": [443, 80]}], "hooks": {"message_sending": "modify,block"}, "resources": {"memory": "512MiB"}}`)
	added, removed := Diff(before, after, DefaultLimits(plugin.SourceNPM))
	wantAdded := []string{"hook|message_sending|observe,modify,block|sensitive|manifest", "network|a.example:80||sensitive|manifest"}
	wantRemoved := []string{"env|TZ||sensitive|manifest", "resource|memory|1GiB|sensitive|manifest"}
	if diff := cmp.Diff([][]string{wantAdded, wantRemoved}, [][]string{spell(added), spell(removed)}); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if a, r := Diff(after, after, DefaultLimits(plugin.SourceNPM)); len(a)+len(r) != 0 {
		t.Errorf("the same manifest differs: %v %v", a, r)
	}
}

func TestExplain(t *testing.T) {
	tests := []struct {
		kind          Kind
		target, value string
		want          string
	}{
		{Network, "api.example.com:443", "", "It may connect to api.example.com on port 443, encrypted."},
		{Network, "*.example.com:80", "plaintext", "It may connect to every host directly below example.com on port 80, also without encryption."},
		{Network, "npm.corp.example:443", "addresses=10.0.0.0/8", "It may connect to npm.corp.example on port 443, encrypted, at the addresses 10.0.0.0/8 and public ones."},
		{Network, "localhost:80", "addresses=127.0.0.1/32", "It may connect to localhost on port 80, encrypted, which is this machine itself, at the addresses 127.0.0.1/32."},
		{Network, "what\x1b[2J", "", "It may connect to what[2J."},
		{Workspace, "", "ro", "It may read everything in directories that you name."},
		{Workspace, "/srv/a", "rw", "It may read and change everything in the directory /srv/a."},
		{Secret, "KEY", "", "It may use the secret KEY where the secret's owner allows it."},
		{Env, "TZ", "", "It may read the environment variable TZ of the host."},
		{Config, "agents", "", "It may read agents in config.json."},
		{Hook, "before_tool_call", "observe,block", "It may read and block every tool call before it runs (before_tool_call)."},
		{Hook, "llm_output", "observe", "It may read everything that models answer (llm_output; it carries what people and agents say)."},
		{Hook, "before_prompt_build", "observe,modify", "It may read and change every prompt before it is sent to a model (before_prompt_build; it carries what people and agents say; it can put words into prompts)."},
		{Hook, "inbound_claim", "observe,claim", "It may read and answer in the agent's place every message before the agent gets it (inbound_claim)."},
		{Hook, "subagent_spawned", "observe", "It may read every subagent_spawned event."},
		{Hook, "nothing", "observe", "It has a hook on nothing, an event that no host sends."},
		{Host, "emit", "", "It may call host.emit, which sends events of its own to the agent host."},
		{Resource, "memory", "1GiB", "It may use up to 1GiB of memory."},
		{Resource, "cpus", "2", "It may use up to 2 processors."},
		{Resource, "pids", "99", "It may run up to 99 processes and threads."},
		{Registration, "tool:echo", "", "Its tool “echo” is offered to agents."},
		{Registration, "memoryCapability:x", "", "It registers the memoryCapability “x”."},
		{"new", "x", "", "It asks for new x, which this version does not know."},
	}
	for _, tt := range tests {
		if got := Explain(tt.kind, tt.target, tt.value); got != tt.want {
			t.Errorf("Explain(%s, %q, %s) = %q, want %q", tt.kind, tt.target, tt.value, got, tt.want)
		}
	}
}

func TestUnused(t *testing.T) {
	surface := brave(t).Surface
	for _, name := range []string{"", "no_such_event", strings.Repeat("a:", 100) + "b", "a b:c", "日本:語"} {
		surface.Registrations = append(surface.Registrations, plugin.Registration{Kind: "hook", Name: name})
	}
	for _, name := range []string{"", strings.Repeat("s", maxName+1), "line\nbreak", "сервис"} {
		surface.Registrations = append(surface.Registrations, plugin.Registration{Kind: "service", Name: name})
	}
	var got []string
	for _, d := range Unused(surface) {
		if d.Level != "warn" {
			t.Errorf("level of %q = %s, want warn", d.Message, d.Level)
		}
		got = append(got, strings.SplitAfter(d.Message, ":")[0])
	}
	want := []string{
		"the httpRoute /x is never used:",
		"the hook of no_such_event is never called:",
		"the hook of a:",
		"the hook of a b:",
		"the hook of 日本:",
		"the service " + plugin.Printable(strings.Repeat("s", maxName+1), maxShown) + " is never used:",
		"the service line break is never used:",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unused (-want +got):\n%s", diff)
	}
	for i := range 100 {
		surface.Registrations = append(surface.Registrations, plugin.Registration{Kind: "hook", Name: "no_such_event" + strings.Repeat("x", i)})
	}
	if n := len(Unused(surface)); n != maxUnused {
		t.Errorf("%d are named, want %d", n, maxUnused)
	}
}
