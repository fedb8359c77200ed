package policy

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func TestConfigViewHidesSecrets(t *testing.T) {
	ref := func(path string) string { return `{"source":"config","id":"` + path + `"}` }
	tests := []struct{ name, whole, paths, want string }{
		{"by name", `{"gateway": {"auth": {"mode": "token", "token": "abc"}, "port": 1}}`, "gateway",
			`{"gateway":{"auth":{"mode":"token","token":` + ref("gateway.auth.token") + `},"port":1}}`},
		{"the exact path", `{"gateway": {"auth": {"token": "abc"}}}`, "gateway.auth.token", `{"gateway":{"auth":{"token":` + ref("gateway.auth.token") + `}}}`},
		{"below the exact path", `{"a": {"secrets": {"x": {"y": "z"}}}}`, "a.secrets.x.y", `{"a":{"secrets":{"x":{"y":` + ref("a.secrets.x.y") + `}}}}`},
		{"below an object", `{"credentials": {"x": {"id": "a", "n": 1, "on": true, "none": null, "empty": ""}, "list": ["b", ["c"]]}}`, "credentials",
			`{"credentials":{"x":{"id":` + ref("credentials.x.id") + `,"n":1,"on":true,"none":null,"empty":""},"list":[` +
				ref("credentials.list.0") + `,[` + ref("credentials.list.1.0") + `]]}}`},
		{"by shape", `{"a": {"note": "use ghp_0123456789abcdef", "list": [{"x": "AKIAIOSFODNN7EXAMPLE"}]}}`, "a",
			`{"a":{"note":` + ref("a.note") + `,"list":[{"x":` + ref("a.list.0.x") + `}]}}`},
		{"the same text elsewhere", `{"a": {"copy": "hunter2hunter2", "part": "hunter2"}, "b": {"password": "hunter2hunter2", "pin": {"token": "hunter2"}}}`, "a",
			`{"a":{"copy":` + ref("a.copy") + `,"part":"hunter2"}}`},
		{"of what was not granted nothing", `{"a": 1, "token": "abc"}`, "a", `{"a":1}`},
		{"references stay", `{"a": {"apiKey": {"source": "env", "provider": "default", "id": "OPENAI_API_KEY"}, "token": {"source": "file", "id": "/x"},
			"secret": {"source": "exec", "id": "x"}, "password": {"source": "ocmt", "id": "KEY"}, "cookie": "${COOKIE}"}}`, "a",
			`{"a":{"apiKey":{"source":"env","provider":"default","id":"OPENAI_API_KEY"},"token":{"source":"file","id":"/x"},` +
				`"secret":{"source":"exec","id":"x"},"password":{"source":"ocmt","id":"KEY"},"cookie":"${COOKIE}"}}`},
		{"what only looks like a reference", `{"token": {"source": "inline", "id": "abc"}, "secret": {"source": "env", "id": "A", "value": "abc"}, "x": {"source": "env", "id": "sk-0123456789"}}`,
			"token,secret,x", `{"secret":{"source":` + ref("secret.source") + `,"id":` + ref("secret.id") + `,"value":` + ref("secret.value") + `},` +
				`"token":{"source":` + ref("token.source") + `,"id":` + ref("token.id") + `},"x":{"source":"env","id":` + ref("x.id") + `}}`},
		{"a reference to a known text", `{"token": "hunter2hunter2", "x": {"source": "env", "id": "hunter2hunter2"}}`, "x",
			`{"x":{"source":"env","id":` + ref("x.id") + `}}`},
		{"numbers and others stay", `{"a": {"maxTokens": 12345678901234567890, "token": 1.50, "secret": false, "password": null, "publicKey": "abc"}}`, "a",
			`{"a":{"maxTokens":12345678901234567890,"token":1.50,"secret":false,"password":null,"publicKey":"abc"}}`},
		{"names that are secrets", `{"allow": {"sk-0123456789": true, "x": 1}}`, "allow", `{"allow":{"x":1}}`},
		{"a path that is a secret", `{"allow": {"sk-0123456789": {"x": 1}}}`, "allow.sk-0123456789.x", `{}`},
		{"webhooks", `{"a": {"webhook": {"url": "https://chat.example/hooks/0123456789abcdef0"}, "webhookUrl": "https://my.example/hook", "webhookPath": "/x"}}`, "a",
			`{"a":{"webhook":{"url":` + ref("a.webhook.url") + `},"webhookUrl":"https://my.example/hook","webhookPath":"/x"}}`},
		{"names with dots", `{"a": {"b.c": {"token": "x"}, "d\\": {"token": "y"}}}`, "a",
			`{"a":{"b.c":{"token":{"source":"config","id":"a.b\\.c.token"}},"d\\":{"token":{"source":"config","id":"a.d\\\\.token"}}}}`},
		{"order and width", `{"z": {"b": 1, "a": [], "c": {}}}`, "z,z.b,z.none", `{"z":{"b":1,"a":[],"c":{}}}`},
		{"other plugins", `{"plugins": {"entries": {"me": {"config": {"token": "mine"}}, "other": {"config": {"token": "abc"}}}}}`, "plugins",
			`{"plugins":{"entries":{"me":{"config":{"token":"mine"}},"other":{"config":{"token":` + ref("plugins.entries.other.config.token") + `}}}}}`},
		{"the own entry", `{"plugins": {"entries": {"me": {"config": {"token": "hunter2hunter2"}}}}, "a": "hunter2hunter2"}`, "a,plugins.entries.me.config.token",
			`{"a":"hunter2hunter2","plugins":{"entries":{"me":{"config":{"token":"hunter2hunter2"}}}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ConfigView(json.RawMessage(tt.whole), "me", nil, strings.Split(tt.paths, ","))
			if err != nil || string(got) != tt.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

func TestFillSecrets(t *testing.T) {
	var asked []string
	fill := func(name string) (string, bool) {
		asked = append(asked, name)
		return "placeholder of <" + name + ">", strings.HasPrefix(name, "K")
	}
	tests := []struct{ name, in, want, asked string }{
		{"everywhere", `{"b": {"apiKey": {"source": "ocmt", "id": "KEY"}}, "a": [1.0, {"id": "K2", "source": "ocmt", "provider": "p"}]}`,
			`{"b":{"apiKey":"placeholder of \u003cKEY\u003e"},"a":[1.0,"placeholder of \u003cK2\u003e"]}`, "KEY K2"},
		{"alone", `{"source": "ocmt", "id": "KEY"}`, `"placeholder of \u003cKEY\u003e"`, "KEY"},
		{"one that is not there", `{"a": {"source": "ocmt", "id": "OTHER"}}`, `{"a":{"source":"ocmt","id":"OTHER"}}`, "OTHER"},
		{"others", `{"a": {"source": "env", "id": "KEY"}, "b": {"source": "config", "id": "KEY"}, "c": "ocmt", "d": {"id": "KEY"}}`,
			`{"a":{"source":"env","id":"KEY"},"b":{"source":"config","id":"KEY"},"c":"ocmt","d":{"id":"KEY"}}`, ""},
		{"no name", `[{"source": "ocmt", "id": "a-b"}, {"source": "ocmt", "id": 1}, {"source": "ocmt", "id": "KEY", "more": 1}]`,
			`[{"source":"ocmt","id":"a-b"},{"source":"ocmt","id":1},{"source":"ocmt","id":"KEY","more":1}]`, ""},
		{"no object", `null`, `null`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked = nil
			got, err := FillSecrets(json.RawMessage(tt.in), fill)
			if err != nil || string(got) != tt.want || strings.Join(asked, " ") != tt.asked {
				t.Errorf("got  %s, %v, asked for %v\nwant %s", got, err, asked, tt.want)
			}
		})
	}
	for _, bad := range []string{"", "{", "{} {}", strings.Repeat("[", 20000)} {
		if got, err := FillSecrets(json.RawMessage(bad), fill); !errdefs.IsInvalidArgument(err) {
			t.Errorf("FillSecrets(%.10q) = %s, %v, want InvalidArgument", bad, got, err)
		}
	}
}

func TestPlainSecrets(t *testing.T) {
	tests := []struct {
		name, in string
		want     []string
	}{
		{"nothing", `{}`, nil},
		{"no JSON", `{`, nil},
		{"by name and shape, in order", `{"webSearch": {"apiKey": "abc", "maxTokens": 5}, "note": "glpat-0123456789", "a": {"tokens": ["x", "y"]}}`,
			[]string{"webSearch.apiKey", "note", "a.tokens.0", "a.tokens.1"}},
		{"references", `{"apiKey": {"source": "ocmt", "id": "KEY"}, "token": {"source": "env", "id": "X", "provider": "default"}, "secret": "${SECRET}", "password": ""}`, nil},
		{"odd names", `{"api.example.com": {"token": "a"}, "a\\b": {"token": "b"}, "": {"token": "c"}}`, []string{`api\.example\.com.token`, `a\\b.token`, `.token`}},
		{"the same text elsewhere", `{"token": "hunter2hunter2", "x": "hunter2hunter2"}`, []string{"token"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := PlainSecrets(json.RawMessage(tt.in)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzConfigView grants every top-level name. What is recognised in the input
// must not be in the output.
func FuzzConfigView(f *testing.F) {
	f.Add([]byte(`{"gateway": {"auth": {"token": "hunter2hunter2"}}, "copy": "hunter2hunter2", "plugins": {"entries": {"me": {"token": "x"}}}}`), "me")
	f.Add([]byte(`{"a": {"webhook": "https://a.example/0123456789abcdef0", "token": {"source": "env", "id": "sk-0123456789"}}}`), "other")
	for _, text := range secretTexts() {
		raw, err := json.Marshal(map[string]any{"x": []any{text, map[string]any{text: 1}}, text: 1, "token": map[string]any{"a": text}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "me")
	}
	f.Fuzz(func(t *testing.T, whole []byte, id string) {
		PlainSecrets(whole)
		_, _ = FillSecrets(whole, func(name string) (string, bool) { return name, true })
		root, err := readObject(whole)
		if err != nil || plugin.CheckID(id) != nil {
			return
		}
		own := json.RawMessage(`{"mine": "sk-0123456789"}`)
		view, err := ConfigView(whole, id, own, root.names)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := readObject(view)
		if err != nil {
			t.Fatalf("%s: %v", view, err)
		}
		entry := []string{"plugins", "entries", id}
		if got, _ := lookup(shown, entry); !reflect.DeepEqual(got, mustRead(t, own)) {
			t.Errorf("the own entry is %v", got)
		}
		put(shown, entry, nil)
		left := map[string]bool{}
		collect(shown, left)
		newRecogniser().each(root, entry, func(path []string, text string) {
			if left[text] && utf8.RuneCountInString(text) >= minKnown {
				t.Errorf("%q at %q is still in %s", text, path, view)
			}
			if now, _ := lookup(shown, path); now == text {
				t.Errorf("%q is still at %q in %s", text, path, view)
			}
		})
		for text := range left {
			if looksSecret(text) {
				t.Errorf("%q is in %s", text, view)
			}
		}
	})
}

func mustRead(t *testing.T, raw json.RawMessage) any {
	t.Helper()
	tree, err := readTree(raw)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// collect gathers the names and strings of a tree, but for the paths of the
// references that a view is given.
func collect(tree any, into map[string]bool) {
	switch v := tree.(type) {
	case *object:
		if v.values["source"] == SourceConfig && len(v.names) == 2 {
			return
		}
		for _, name := range v.names {
			into[name] = true
			collect(v.values[name], into)
		}
	case []any:
		for _, value := range v {
			collect(value, into)
		}
	case string:
		into[v] = true
	}
}
