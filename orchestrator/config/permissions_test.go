package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

func TestLoadPermissionsAndHooks(t *testing.T) {
	f, err := Load(writeFile(t, `{"plugins": {"entries": {"a": {
  "permissions": {
    "network": [], // none at all
    "resources": {"memory": "128MiB",},
  },
  "hooks": {
    "allowConversationAccess": false, "allowPromptInjection": true, "timeoutMs": 600000,
    "timeouts": {"before_tool_call": 250, "an_event_of_tomorrow": 1}, "more": {"x": 1}
  }
}, "b": {"permissions": {}, "hooks": {}}, "c": {}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	no, yes := false, true
	for id, want := range map[string]Entry{
		"a": {
			Permissions: json.RawMessage(`{"network":[],"resources":{"memory":"128MiB"}}`),
			Hooks: HookPolicy{AllowConversationAccess: &no, AllowPromptInjection: &yes, Timeout: 10 * time.Minute,
				Timeouts: map[string]time.Duration{"before_tool_call": 250 * time.Millisecond, "an_event_of_tomorrow": time.Millisecond}},
		},
		"b": {Permissions: json.RawMessage(`{}`)},
		"c": {},
	} {
		got, ok := f.Entry(id)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%s: -want +got:\n%s", id, diff)
		}
	}
}

func TestLoadRefusesPermissionsAndHooks(t *testing.T) {
	tests := []struct{ name, entry, want string }{
		{"permissions no object", `"permissions": []`, `3:16: plugins.entries.a.permissions must be an object, not a list`},
		{"unknown permission", `"permissions": {"net": []}`, `3:24: plugins.entries.a.permissions.net is no permission; the permissions are`},
		{"deep inside", "\"permissions\": {\"network\": [\n  {\"host\": \"a.example\"},\n  {\"host\": \"https://SECRET\"}]}",
			`5:12: plugins.entries.a.permissions.network[1].host has a scheme; leave out the scheme`},
		{"a path with dots", `"permissions": {"config": ["../x"]}`, `3:28: plugins.entries.a.permissions.config[0] is no path`},
		{"negative limit", `"permissions": {"resources": {"pids": -1}}`, `3:39: plugins.entries.a.permissions.resources.pids`},
		{"hooks no object", `"hooks": true`, `3:10: plugins.entries.a.hooks must be an object`},
		{"no boolean", `"hooks": {"allowConversationAccess": "no"}`, `hooks.allowConversationAccess must be true or false, not a string`},
		{"no boolean either", `"hooks": {"allowPromptInjection": null}`, `hooks.allowPromptInjection must be true or false, not null`},
		{"no time", `"hooks": {"timeoutMs": "1s"}`, `hooks.timeoutMs must be a whole number of milliseconds from 1 to 600000`},
		{"no time at all", `"hooks": {"timeoutMs": 0}`, `hooks.timeoutMs must be`},
		{"too long", `"hooks": {"timeouts": {"agent_end": 600001}}`, `hooks.timeouts.agent_end must be`},
		{"in parts", `"hooks": {"timeouts": {"agent_end": 1.5}}`, `hooks.timeouts.agent_end must be`},
		{"timeouts no object", `"hooks": {"timeouts": [1]}`, `hooks.timeouts must be an object`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(writeFile(t, "{\"plugins\": {\"entries\": {\n\"a\": {\n"+tt.entry+"\n}}}}"))
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("Load = %v, want %s", err, tt.want)
			}
			if fault.Of(err).Hint == "" {
				t.Error("the error has no hint")
			}
		})
	}
}
