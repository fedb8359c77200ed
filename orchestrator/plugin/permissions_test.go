package plugin

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// document is the example of the documentation, and more.
const document = `{
  "$schema": "https://example.com/permissions.schema.json",
  "network": [
    {"host": "API.Search.Brave.com", "ports": [443], "rules": ["GET /res/v1/*"], "plaintext": false},
    {"host": "*.Bücher.example", "ports": [8443, 443, 443]},
    {"host": "api.example.com"}, {"host": "api.example.com", "ports": [80], "plaintext": true},
    {"host": "localhost", "ports": [8080]}
  ],
  "workspace": "ro",
  "state": {"max": "256MiB"},
  "secrets": ["BRAVE_API_KEY", "BRAVE_API_KEY"],
  "env": ["TZ", "LANG"],
  "config": ["agents.defaults.model"],
  "hooks": {"before_tool_call": "block", "message_received": "observe", "inbound_claim": ["claim"], "message_sending": "block, modify"},
  "host": ["emit"],
  "resources": {"memory": 536870912, "cpus": 0.5, "pids": 64}
}`

func TestParsePermissions(t *testing.T) {
	want := Permissions{
		Network: []Network{
			{Host: "*.xn--bcher-kva.example", Ports: []uint16{443, 8443}},
			{Host: "api.example.com", Ports: []uint16{80}, Plaintext: true},
			{Host: "api.example.com", Ports: []uint16{443}},
			{Host: "api.search.brave.com", Ports: []uint16{443}, Rules: []string{"GET /res/v1/*"}},
			{Host: "localhost", Ports: []uint16{8080}},
		},
		Workspace: WorkspaceRO, State: StateLimit{Max: 256 << 20},
		Secrets: []string{"BRAVE_API_KEY"}, Env: []string{"LANG", "TZ"}, Config: []string{"agents.defaults.model"},
		Hooks: map[string][]HookRight{
			"before_tool_call": {RightObserve, RightBlock}, "message_received": {RightObserve},
			"inbound_claim": {RightObserve, RightClaim}, "message_sending": {RightObserve, RightModify, RightBlock},
		},
		Host:      []string{HostEmit},
		Resources: Resources{Memory: 512 << 20, CPUs: 0.5, PIDs: 64},
	}
	got, err := ParsePermissions([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"state":{"max":"256MiB"}`) {
		t.Errorf("JSON = %s, want the manifest's spelling", text)
	}
	again, err := ParsePermissions(text)
	if err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("after a round trip: %+v, %v", again, err)
	}
	var stored Permissions
	if err := json.Unmarshal(text, &stored); err != nil || !reflect.DeepEqual(got, stored) {
		t.Errorf("read without checks: %+v, %v", stored, err)
	}
}

func TestPermissionFieldsThatAreThere(t *testing.T) {
	p, present, err := ReadPermissions([]byte(`{"network": [], "hooks": {}, "workspace": "none"}`))
	if err != nil || !reflect.DeepEqual(p, Permissions{Workspace: "none"}) {
		t.Fatalf("ReadPermissions = %+v, %v", p, err)
	}
	if diff := cmp.Diff([]string{"network", "hooks", "workspace"}, present); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// badManifests are manifests that are refused, with the place that the error
// names and a part of what it says (problem or hint).
var badManifests = []struct{ name, in, field, says string }{
	{"no JSON", `{"network": `, "the permissions", "it ends too soon"},
	{"a comment", "{} // yes", "the permissions", "are not JSON"},
	{"two values", `{} {}`, "the permissions", "more after"},
	{"no object", `[]`, "the permissions", "must be an object, not a list"},
	{"null", `null`, "the permissions", "must be an object, not null"},
	{"unknown field", `{"networks": []}`, "networks", "the permissions are config, env, "},
	{"another case", `{"Network": []}`, "Network", "is no permission"},
	{"twice", `{"env": [], "env": ["A"]}`, "env", "is there twice"},
	{"twice below", `{"network": [{"host": "a.example", "host": "b.example"}]}`, "network[0].host", "is there twice"},
	{"too deep", `{"env": [[[[[[[[[]]]]]]]]]}`, "env[0][0][0][0][0][0][0]", "too deep"},
	{"too large", `{"env": ["` + strings.Repeat("A", MaxPermissionFile) + `"]}`, "the permissions", "larger than 64 KiB"},

	{"network no list", `{"network": {}}`, "network", "must be a list, not an object"},
	{"network of names", `{"network": ["a.example"]}`, "network[0]", "must be an object, not a string"},
	{"unknown in network", `{"network": [{"host": "a.example", "port": 1}]}`, "network[0].port", "allowed here: host, ports, rules, plaintext"},
	{"no host", `{"network": [{}]}`, "network[0]", "names no host"},
	{"host no string", `{"network": [{"host": 1}]}`, "network[0].host", "must be a string, not a number"},
	{"ports no list", `{"network": [{"host": "a.example", "ports": 443}]}`, "network[0].ports", "must be a list"},
	{"no ports", `{"network": [{"host": "a.example", "ports": []}]}`, "network[0].ports", "is empty"},
	{"port 0", `{"network": [{"host": "a.example", "ports": [0]}]}`, "network[0].ports[0]", "from 1 to 65535"},
	{"port too large", `{"network": [{"host": "a.example", "ports": [443, 65536]}]}`, "network[0].ports[1]", "from 1 to 65535"},
	{"port negative", `{"network": [{"host": "a.example", "ports": [-1]}]}`, "network[0].ports[0]", "from 1 to 65535"},
	{"port in parts", `{"network": [{"host": "a.example", "ports": [1.5]}]}`, "network[0].ports[0]", "whole numbers"},
	{"port as text", `{"network": [{"host": "a.example", "ports": ["443"]}]}`, "network[0].ports[0]", "must be a number"},
	{"plaintext as text", `{"network": [{"host": "a.example", "plaintext": "no"}]}`, "network[0].plaintext", "must be true or false"},
	{"rule without method", `{"network": [{"host": "a.example", "rules": ["/v1/*"]}]}`, "network[0].rules[0]", "GET /v1/*"},
	{"rule in small letters", `{"network": [{"host": "a.example", "rules": ["get /"]}]}`, "network[0].rules[0]", "is no rule"},
	{"rule with dots", `{"network": [{"host": "a.example", "rules": ["GET /a/../b"]}]}`, "network[0].rules[0]", "is no rule"},
	{"rule with a star inside", `{"network": [{"host": "a.example", "rules": ["GET /*/b"]}]}`, "network[0].rules[0]", "is no rule"},
	{"rule too long", `{"network": [{"host": "a.example", "rules": ["GET /` + strings.Repeat("a", MaxRuleLen) + `"]}]}`, "network[0].rules[0]", "is no rule"},
	{"same port, other rules", `{"network": [{"host": "a.example"}, {"host": "A.example", "rules": ["GET /"]}]}`, "network[1]", "once"},

	{"workspace unknown", `{"workspace": "write"}`, "workspace", "none, ro, rw"},
	{"workspace true", `{"workspace": true}`, "workspace", "must be a string, not true or false"},
	{"state no object", `{"state": "1GiB"}`, "state", "must be an object"},
	{"state negative", `{"state": {"max": -1}}`, "state.max", "is no size"},
	{"state zero", `{"state": {"max": 0}}`, "state.max", "is no size"},
	{"state null", `{"state": {"max": null}}`, "state.max", "must be a size, not null"},
	{"state of a decimal unit", `{"state": {"max": "256MB"}}`, "state.max", "KiB, MiB"},
	{"state absurd", `{"state": {"max": "2TiB"}}`, "state.max", "from 1MiB to 1TiB"},
	{"memory overflow", `{"resources": {"memory": "9999999999TiB"}}`, "resources.memory", "is no size"},
	{"memory zero", `{"resources": {"memory": 0}}`, "resources.memory", ""},
	{"memory tiny", `{"resources": {"memory": 1024}}`, "resources.memory", "from 16MiB"},
	{"memory negative", `{"resources": {"memory": "-1GiB"}}`, "resources.memory", "is no size"},
	{"cpus negative", `{"resources": {"cpus": -0.5}}`, "resources.cpus", "from 0.01 to 64"},
	{"cpus zero", `{"resources": {"cpus": 0}}`, "resources.cpus", "from 0.01 to 64"},
	{"cpus many", `{"resources": {"cpus": 65}}`, "resources.cpus", "from 0.01 to 64"},
	{"cpus as text", `{"resources": {"cpus": "1"}}`, "resources.cpus", "must be a number"},
	{"pids negative", `{"resources": {"pids": -1}}`, "resources.pids", "from 16 to 32768"},
	{"pids in parts", `{"resources": {"pids": 1.5}}`, "resources.pids", "from 16 to 32768"},
	{"pids zero", `{"resources": {"pids": 0}}`, "resources.pids", "from 16 to 32768"},
	{"pids few", `{"resources": {"pids": 15}}`, "resources.pids", "from 16 to 32768"},
	{"pids many", `{"resources": {"pids": 32769}}`, "resources.pids", "from 16 to 32768"},
	{"unknown resource", `{"resources": {"disk": 1}}`, "resources.disk", "memory, cpus, pids"},

	{"secret name", `{"secrets": ["API-KEY"]}`, "secrets[0]", "letters, digits"},
	{"secret name empty", `{"secrets": [""]}`, "secrets[0]", "letters, digits"},
	{"env with a value", `{"env": ["A=1"]}`, "env[0]", "letters, digits"},
	{"env name too long", `{"env": ["` + strings.Repeat("A", MaxVariableLen+1) + `"]}`, "env[0]", "at most 128"},
	{"env no list", `{"env": {"A": "1"}}`, "env", "must be a list"},
	{"list too long", `{"env": [` + strings.Repeat(`"A",`, MaxPermissionList) + `"A"]}`, "env", "has 65 entries"},
	{"config dots", `{"config": ["agents..model"]}`, "config[0]", "names with dots between"},
	{"config parent", `{"config": ["../secrets"]}`, "config[0]", "is no path"},
	{"config slash", `{"config": ["agents/model"]}`, "config[0]", "is no path"},
	{"config empty", `{"config": [""]}`, "config[0]", "is no path"},
	{"config deep", `{"config": ["a` + strings.Repeat(".a", MaxConfigDepth) + `"]}`, "config[0]", "at most 16 names"},
	{"config long", `{"config": ["` + strings.Repeat("a", MaxConfigPathLen+1) + `"]}`, "config[0]", "512 bytes"},

	{"hooks as a list", `{"hooks": ["agent_end"]}`, "hooks", "must be an object, not a list"},
	{"unknown event", `{"hooks": {"before_tool_cal": "block"}}`, "hooks.before_tool_cal", "did you mean before_tool_call?"},
	{"event of control characters", `{"hooks": {"a:\u001b[2J": "observe"}}`, "hooks.a:[2J", "is no event"},
	{"right that is none", `{"hooks": {"before_tool_call": "kill"}}`, "hooks.before_tool_call", "observe,modify,block"},
	{"right of another kind", `{"hooks": {"agent_end": "observe,block"}}`, "hooks.agent_end", "the rights of agent_end are observe"},
	{"right of another kind in a list", `{"hooks": {"before_tool_call": ["modify", "claim"]}}`, "hooks.before_tool_call[1]", "observe,modify,block"},
	{"rights empty", `{"hooks": {"before_tool_call": ""}}`, "hooks.before_tool_call", "is no right"},
	{"rights no text", `{"hooks": {"before_tool_call": true}}`, "hooks.before_tool_call", "must be rights"},
	{"host method", `{"host": ["config"]}`, "host[0]", `"emit"`},
}

func TestPermissionsRefused(t *testing.T) {
	for _, tt := range badManifests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := ReadPermissions([]byte(tt.in))
			var p *PermissionError
			if !errors.As(err, &p) || !errdefs.IsInvalidArgument(err) {
				t.Fatalf("ReadPermissions = %v, want a PermissionError", err)
			}
			if p.Field() != tt.field || !strings.Contains(p.Problem+"; "+p.Hint, tt.says) || p.Hint == "" {
				t.Errorf("got %q: %s; %s\nwant %q: ...%s...", p.Field(), p.Problem, p.Hint, tt.field, tt.says)
			}
			_, err = ParsePermissions([]byte(tt.in))
			f := fault.Of(err)
			if !errdefs.IsAborted(err) || errdefs.IsInvalidArgument(err) || f.Code != "bad_permissions" || f.Hint != p.Hint {
				t.Errorf("ParsePermissions = %v (%s, hint %q), want the plugin's failure with the hint", err, f.Code, f.Hint)
			}
		})
	}
}

func TestCanonicalHost(t *testing.T) {
	tests := []struct{ in, want, problem string }{
		{"api.example.com", "api.example.com", ""},
		{"API.Example.COM", "api.example.com", ""},
		{"bücher.example", "xn--bcher-kva.example", ""},
		{"localhost", "localhost", ""},
		{"npm", "npm", ""},
		{"*.example.com", "*.example.com", ""},
		{"*.a.github.io", "*.a.github.io", ""},
		{"https://api.example.com", "", "has a scheme"},
		{"api.example.com/v1", "", "has a path"},
		{"api.example.com?x", "", "has a path"},
		{"api.example.com:443", "", "has a port"},
		{"user@api.example.com", "", "has a user"},
		{"127.0.0.1", "", "is an address"}, {"::1", "", "is an address"}, {"[::1]", "", "is an address"},
		{"127.1", "", "is an address"}, {"0x7f000001", "", "is an address"}, {"2130706433", "", "is an address"}, {"１.１.１.１", "", "is an address"},
		{"*", "", "is a wildcard over everything"},
		{"*.com", "", "many owners"}, {"*.co.uk", "", "many owners"}, {"*.github.io", "", "many owners"},
		{"*.localhost", "", "many owners"}, {"*.internal", "", "many owners"}, {"*.рф", "", "many owners"},
		{"a.*.example.com", "", "wildcard in the wrong place"}, {"*a.example.com", "", "wildcard in the wrong place"},
		{"*.*.example.com", "", "wildcard in the wrong place"},
		{"a_b.example.com", "", "has an underscore"},
		{"example.com.", "", "ends in a dot"}, {"example.com。", "", "is no host name"},
		{"", "", "is empty"}, {"*.", "", "ends in a dot"}, {".example.com", "", "is no host name"}, {"a..example", "", "is no host name"},
		{"-a.example", "", "is no host name"}, {"a b.example", "", "is no host name"}, {"a\x00.example", "", "is no host name"},
		{"xn--a.example", "", "is no host name"},
		{strings.Repeat("a", 64) + ".example", "", "is no host name"},
		{"*." + strings.Repeat("a.", 123) + "example", "", "is too long"},
		{strings.Repeat("a", 2000), "", "is too long"},
	}
	for _, tt := range tests {
		got, err := CanonicalHost(tt.in)
		var p *PermissionError
		if got != tt.want || (err != nil) != (tt.problem != "") || err != nil && (!errors.As(err, &p) || !strings.Contains(p.Problem, tt.problem)) {
			t.Errorf("CanonicalHost(%q) = %q, %v, want %q and a problem %q", tt.in, got, err, tt.want, tt.problem)
		}
	}
}

func TestEnvironmentThatIsRefused(t *testing.T) {
	for _, name := range []string{
		"NODE_OPTIONS", "node_options", "NODE_PATH", "NODE_EXTRA_CA_CERTS", "LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "HOME", "TMPDIR",
		"OCMT_BUS", "HTTP_PROXY", "https_proxy", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "NPM_CONFIG_REGISTRY", "npm_config_cache",
		"OPENSSL_CONF", "NODE_TLS_REJECT_UNAUTHORIZED", "NODE_AUTH_TOKEN", "UV_THREADPOOL_SIZE", "MALLOC_ARENA_MAX", "TZDIR", "HOSTALIASES", "__proto__",
	} {
		if err := CheckEnvName(name); !errdefs.IsInvalidArgument(err) {
			t.Errorf("CheckEnvName(%q) = %v, want it refused", name, err)
		}
	}
	for _, name := range []string{"TZ", "LANG", "NODE_ENV", "PATHS", "BRAVE_API_KEY", "_x"} {
		if err := CheckEnvName(name); err != nil {
			t.Errorf("CheckEnvName(%q) = %v", name, err)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"1": 1, "1024": 1 << 10, "3KiB": 3 << 10, "256MiB": 256 << 20, "1GiB": 1 << 30, "8388607TiB": 8388607 << 40} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "1.5GiB", "1 GiB", "1gib", "01", "8388608TiB", "99999999999999999999", "1e3"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
	for size, want := range map[Size]string{1536 << 20: "1536MiB", 1 << 40: "1TiB", 1000: "1000", 0: "0"} {
		if got := size.String(); got != want {
			t.Errorf("%d = %q, want %q", int64(size), got, want)
		}
	}
}

func FuzzParsePermissions(f *testing.F) {
	f.Add([]byte(document))
	for _, tt := range badManifests {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePermissions(data)
		if err != nil {
			if e := fault.Of(err); !errdefs.IsAborted(err) || e.Code != "bad_permissions" || e.Hint == "" {
				t.Errorf("%q: %v (%s, hint %q)", data, err, e.Code, e.Hint)
			}
			return
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePermissions(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Errorf("%s: -first +second:\n%s", text, diff)
		}
	})
}
