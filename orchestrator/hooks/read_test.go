package hooks

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMayExport(t *testing.T) {
	tests := map[string]bool{
		"FOO": true, "_x1": true, "NODE_ENV": true, "GIT_AUTHOR_NAME": true, "LANG": true, "PATHS": true,
		"PATH": false, "Path": false, "LD_PRELOAD": false, "ld_library_path": false, "DYLD_INSERT_LIBRARIES": false, "NODE_OPTIONS": false,
		"HTTP_PROXY": false, "https_proxy": false, "all_proxy": false, "no_proxy": false, "BASH_ENV": false, "BASH_FUNC_ls%%": false, "npm_config_registry": false,
		"": false, "1A": false, "A-B": false, "A=B": false, "A B": false, "A\x00": false, "Ä": false, strings.Repeat("A", 129): false,
	}
	for name, want := range tests {
		if got := mayExport(name); got != want {
			t.Errorf("mayExport(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "x", true}, {"a*", "abc", true}, {"a*", "ba", false}, {"*c", "abc", true}, {"a*c", "ac", true}, {"a*c", "a", false},
		{"a*b*c", "a-b-c", true}, {"a*b*c", "a-c", false}, {"a**c", "abc", true}, {"ab*ba", "aba", false},
	}
	for _, tt := range tests {
		if got := glob(tt.pattern, tt.name); got != tt.want {
			t.Errorf("glob(%q, %q) = %v, want %v", tt.pattern, tt.name, got, tt.want)
		}
	}
}

func TestClean(t *testing.T) {
	tests := []struct{ in, want string }{
		{"  a\nb\tc ", "a b c"}, {"a\x1b[2Jb\u009bc", "a[2Jbc"}, {"a\u202eb\u2066c", "abc"}, {"a\xffb", "a�b"},
		{strings.Repeat("x", 20), strings.Repeat("x", 20)}, {strings.Repeat("é", 11), strings.Repeat("é", 8) + "..."},
	}
	for _, tt := range tests {
		if got := clean(tt.in, 20); got != tt.want {
			t.Errorf("clean(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestSame(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{`{"a":[1,"x",null,true]}`, `{ "a" : [1.0, "\u0078", null, true] }`, true},
		{`1e2`, `100`, true}, {`9007199254740993`, `9007199254740992`, true}, // one number in JavaScript
		{`1`, `"1"`, false}, {`[1]`, `[1,2]`, false}, {`{"a":1}`, `{"b":1}`, false}, {`[]`, `{}`, false}, {``, `null`, false}, {`null`, `false`, false},
	}
	for _, tt := range tests {
		if got := same(json.RawMessage(tt.a), json.RawMessage(tt.b)); got != tt.want {
			t.Errorf("same(%s, %s) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,"\"}"]},"c":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := object(data)
		if err != nil {
			return
		}
		if len(o) > maxFields {
			t.Errorf("it has %d fields", len(o))
		}
		again, err := object(o.Encode())
		if err != nil || len(again) != len(o) {
			t.Errorf("%q became %q: %v", data, o.Encode(), err)
		}
		if o.size() < len(o.Encode()) {
			t.Errorf("%q has %d bytes, said to have %d", data, len(o.Encode()), o.size())
		}
	})
}
