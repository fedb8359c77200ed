package config

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

const withKeys = "\ufeff{\r\n" +
	"  // mine\r\n" +
	"  \"plugins\": {\"entries\": {\"echo\": { \"enabled\": true, \"config\": {\r\n" +
	"    \"web\\u0053earch\": { \"apiKey\" : /* old */ \"hunter2\\u0032\" /* yes */ , }, // key\r\n" +
	"    \"accounts\": [ {\"token\": \"a\"}, // first\r\n" +
	"      {\"token\": {\"x\": 1.0, /* in it */ }, } ],\r\n" +
	"    \"api.example.com\": \"b\",\r\n" +
	"  }, }, \"other\": {\"config\": {\"apiKey\": \"hunter22\"}}, \"none\": {}}} // end\r\n" +
	"}"

func TestReplaceConfigValue(t *testing.T) {
	const reference = `{"source": "ocmt", "id": "KEY"}`
	tests := []struct {
		name, path, expect string
		old, new           string // what changes in the text
	}{
		{"a string", "webSearch.apiKey", `"hunter22"`, `"hunter2\u0032"`, reference},
		{"in a list", "accounts.0.token", `"a"`, `"a"`, reference},
		{"an object", "accounts.1.token", `{"x":1.0}`, `{"x": 1.0, /* in it */ }`, reference},
		{"a name with dots", `api\.example\.com`, ` "b" `, `"b"`, reference},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, withKeys)
			pointer, err := SplitPath(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			replace := func(e *Edit) error {
				return e.ReplaceConfigValue("echo", pointer, json.RawMessage(tt.expect), json.RawMessage(reference))
			}
			if err := Update(t.Context(), path, replace); err != nil {
				t.Fatal(err)
			}
			if got, want := readFile(t, path), strings.Replace(withKeys, tt.old, tt.new, 1); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			file, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			entry, _ := file.Entry("echo")
			if value, _, err := entry.ConfigValue(tt.path); err != nil || !sameJSON(value, json.RawMessage(reference)) {
				t.Errorf("it is %s, %v", value, err)
			}
			if err := Update(t.Context(), path, replace); !errdefs.IsConflict(err) {
				t.Errorf("again: %v, want Conflict", err)
			}
		})
	}
}

func TestReplaceConfigValueRefused(t *testing.T) {
	tests := []struct {
		name, id     string
		pointer      []string
		expect, with string
		is           func(error) bool
	}{
		{"changed", "echo", []string{"webSearch", "apiKey"}, `"hunter2"`, `1`, errdefs.IsConflict},
		{"another type", "echo", []string{"webSearch", "apiKey"}, `["hunter22"]`, `1`, errdefs.IsConflict},
		{"expected no JSON", "echo", []string{"webSearch", "apiKey"}, `"hunter22" x`, `1`, errdefs.IsConflict},
		{"expected nothing", "echo", []string{"webSearch", "apiKey"}, ``, `1`, errdefs.IsConflict},
		{"a number written differently", "echo", []string{"accounts", "1", "token", "x"}, `1`, `1`, errdefs.IsConflict},
		{"not there", "echo", []string{"webSearch", "none"}, `1`, `1`, errdefs.IsNotFound},
		{"the whole", "echo", nil, `{}`, `1`, errdefs.IsNotFound},
		{"below a string", "echo", []string{"webSearch", "apiKey", "x"}, `1`, `1`, errdefs.IsNotFound},
		{"index too large", "echo", []string{"accounts", "2"}, `1`, `1`, errdefs.IsNotFound},
		{"odd index", "echo", []string{"accounts", "01"}, `1`, `1`, errdefs.IsNotFound},
		{"negative index", "echo", []string{"accounts", "-1"}, `1`, `1`, errdefs.IsNotFound},
		{"no config", "none", []string{"x"}, `1`, `1`, errdefs.IsNotFound},
		{"no entry", "absent", []string{"x"}, `1`, `1`, errdefs.IsNotFound},
		{"no id", "../x", []string{"x"}, `1`, `1`, errdefs.IsInvalidArgument},
		{"no JSON", "echo", []string{"webSearch", "apiKey"}, `"hunter22"`, `{`, errdefs.IsInvalidArgument},
		{"a comment", "echo", []string{"webSearch", "apiKey"}, `"hunter22"`, `1 // x`, errdefs.IsInvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, withKeys)
			err := Update(t.Context(), path, func(e *Edit) error {
				return e.ReplaceConfigValue(tt.id, tt.pointer, json.RawMessage(tt.expect), json.RawMessage(tt.with))
			})
			if !tt.is(err) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
			if got := readFile(t, path); got != withKeys {
				t.Errorf("the file changed:\n%s", got)
			}
		})
	}
}

func TestConfigValue(t *testing.T) {
	entry := Entry{Config: json.RawMessage(`{"a":{"b.c":[1,{"d":null}]},"":2}`)}
	for path, want := range map[string]string{
		"a": `{"b.c":[1,{"d":null}]}`, `a.b\.c.0`: "1", `a.b\.c.1.d`: "null",
		"b": "", "a.b.c": "", `a.b\.c.2`: "", `a.b\.c.x`: "", `a.b\.c.0.x`: "", "a.": "",
	} {
		value, pointer, err := entry.ConfigValue(path)
		if string(value) != want || (want == "") != errdefs.IsNotFound(err) || err == nil && JoinPath(pointer) != path {
			t.Errorf("ConfigValue(%q) = %s, %q, %v, want %s", path, value, pointer, err, want)
		}
	}
	for _, path := range []string{"", `a\`, `a\b`, strings.Repeat("a", maxPath+1)} {
		_, _, err := entry.ConfigValue(path)
		if !errdefs.IsInvalidArgument(err) || fault.Of(err).Hint == "" {
			t.Errorf("ConfigValue(%.10q) = %v, want InvalidArgument with a hint", path, err)
		}
	}
	if _, _, err := (Entry{}).ConfigValue("a"); !errdefs.IsNotFound(err) {
		t.Errorf("of an entry without: %v", err)
	}
}

func FuzzSplitPath(f *testing.F) {
	f.Add("a.b", "c", "")
	f.Add(`a\.b\\`, ".", `\`)
	f.Fuzz(func(t *testing.T, path, name, other string) {
		if names, err := SplitPath(path); err == nil && JoinPath(names) != path {
			t.Errorf("%q: %q", path, names)
		}
		pointer := []string{name, other}
		if text := JoinPath(pointer); len(text) <= maxPath {
			if names, err := SplitPath(text); err != nil || !slices.Equal(names, pointer) {
				t.Errorf("%q: %q, %v", pointer, names, err)
			}
		}
	})
}

// What policy reports can be found and replaced here.
func FuzzPlainSecretsAreFound(f *testing.F) {
	f.Add([]byte(`{"webSearch": {"apiKey": "x"}, "a.b": [{"token": "y"}], "c\\": {"": {"password": "z"}}}`))
	f.Fuzz(func(t *testing.T, own []byte) {
		doc, err := parse(slices.Concat([]byte(`{"plugins":{"entries":{"me":{"config":`), own, []byte(`}}}}`)))
		if err != nil {
			return
		}
		entry, ok := doc.file.Entry("me")
		if !ok {
			return
		}
		edit := newEdit(&doc.tree)
		for _, path := range policy.PlainSecrets(entry.Config) {
			if len(path) > maxPath {
				continue
			}
			value, pointer, err := entry.ConfigValue(path)
			if err != nil || value[0] != '"' {
				t.Fatalf("%q of %s: %s, %v", path, own, value, err)
			}
			if err := edit.ReplaceConfigValue("me", pointer, value, json.RawMessage(`{"source":"ocmt","id":"KEY"}`)); err != nil {
				t.Fatalf("%q of %s: %v", path, own, err)
			}
		}
		now, err := parse(doc.bytes())
		if err != nil {
			t.Fatal(err)
		}
		entry, _ = now.file.Entry("me")
		if left := policy.PlainSecrets(entry.Config); len(left) > 0 && len(left[0]) <= maxPath {
			t.Errorf("%q are left in %s", left, entry.Config)
		}
	})
}
