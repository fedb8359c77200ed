package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUnmodifiedPlugins runs what plugins are written like: entries of both
// module systems, TypeScript sources, results, errors and schemas of all
// kinds, and what a plugin does with files, processes, threads and the network.
func TestUnmodifiedPlugins(t *testing.T) {
	d := start(t)
	install(t, d, "general")
	install(t, d, "general-ts")
	const id = "General_Plugin-v1"

	for _, tc := range []struct{ plugin, tool, params, want string }{
		{"general-ts", "typed", `{}`, `{"shape":{"a":1},"colour":"blue","go":3,"data":{"j":1},"own":{"j":1},"mode":"none"}`},
		{id, "result", `{"kind":"undefined"}`, `null`},
		{id, "result", `{"kind":"null"}`, `null`},
		{id, "result", `{"kind":"number"}`, `42`},
		{id, "result", `{"kind":"text"}`, `"text"`},
		{id, "result", `{"kind":"buffer"}`, `{"type":"Buffer","data":[97,98]}`},
		{id, "result", `{"kind":"map"}`, `{}`}, // as JSON.stringify has it, in OpenClaw too
		{id, "result", `{"kind":"instance"}`, `{"x":1}`},
		{id, "result", `{"kind":"date"}`, `"1970-01-01T00:00:00.000Z"`},
		{id, "result", `{"kind":"thenable"}`, `"later"`},
		{id, "result", `{"kind":"image"}`, `{"content":[{"type":"image","data":"aGk=","mimeType":"image/png"}]}`},
		{id, "result", `{"kind":"printing"}`, `"printed"`},
		{id, "result", `{"kind":"large"}`, `"` + strings.Repeat("x", 3_000_000) + `"`},
		{id, "made", `{}`, `"made"`},
		{id, "schema-look-ahead", `{"a":"x"}`, `{"a":"x"}`}, // the plugin's own to check
		{id, "schema-refs", `{"a":"x"}`, `{"a":"x"}`},
		{id, "schema-draft-07", `{"a":"x"}`, `{"a":"x"}`},
		{id, "schema-symbols", `{"a":"x"}`, `{"a":"x"}`},
		{id, "schema-library", `{"a":1}`, `{"a":1}`},
		{id, "schema-undefined", `{"a":1}`, `{"a":1}`},
		{id, "schema-old", `{}`, `{}`},
		{id, "modules", `{}`, `{"inside":"inside","data":{"own":true},"read":true,"requiredESM":"inside","wasm":2,
			"hash":"0cc175b9c0f1b6a831c399e269772661","time":"31.12.1969, 19:00:00"}`},
		{id, "children", `{}`, `{"spawned":"spawned","forked":"forked","posted":"posted"}`},
		{id, "places", `{}`, `{"cwd":true,"HOME":true,"workspace":true,"relative":"written","tmp":"written","own":"` + refusedWrite() + `"}`},
		{id, "network", `{}`, `{"fetch":{"code":"ENOTFOUND","slow":false},"lookup":{"code":"ENOTFOUND","slow":false},
			"resolve":{"code":"ENOTFOUND","slow":false},"get":{"code":"ENOTFOUND","slow":false},"address":{"code":"` + noRoute() + `","slow":false}}`},
	} {
		t.Run(tc.tool+" "+tc.params, func(t *testing.T) {
			var got, want any
			call(t, d, &got, tc.plugin, tc.tool, tc.params)
			if err := json.Unmarshal([]byte(tc.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%.2000s", diff)
			}
		})
	}
	for _, tc := range []struct {
		tool, params string
		code         int
		says         string
	}{
		{"result", `{"kind":"too large"}`, 5, "exceeds the limit"},
		{"result", `{"kind":"circle"}`, 5, "circular"},
		{"result", `{"kind":"bigint"}`, 5, "BigInt"},
		{"fail", `{"kind":"error"}`, 5, "RangeError: too far"},
		{"fail", `{"kind":"text"}`, 5, "failed: only text"},
		{"fail", `{"kind":"undefined"}`, 5, "failed: undefined"},
		{"fail", `{"kind":"bare"}`, 5, "failed: thrown {}"},
		{"fail", `{"kind":"caused"}`, 5, "outer: inner"},
		{"fetches", `{}`, 5, "fetch failed: getaddrinfo ENOTFOUND ocmt-e2e.test"},
		{"schema-look-ahead", `{"a":1}`, 2, "/a"},
		{"schema-refs", `{}`, 2, "/a"},
		{"schema-draft-07", `{"a":1}`, 2, "/a"},
		{"schema-symbols", `{"a":1}`, 2, "/a"},
	} {
		t.Run("refused: "+tc.tool+" "+tc.params, func(t *testing.T) {
			run(t, d, tc.code, []string{tc.says}, "tools", "call", id, tc.tool, "--params", tc.params)
		})
	}
	t.Run("what is not checked is told", func(t *testing.T) {
		run(t, d, 0, []string{"schema-look-ahead are not checked here for the pattern", "schema-old are not checked", "schema-library are not a JSON Schema"},
			"plugins", "info", id)
	})
	t.Run("and nothing of it ended the plugin", func(t *testing.T) {
		if i := getInfo(t, d, id); i.Restarts != 0 || i.State != "running" {
			t.Errorf("state %s after %d restarts", i.State, i.Restarts)
		}
	})
}
