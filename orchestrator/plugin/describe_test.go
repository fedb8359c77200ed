package plugin

import (
	"encoding/json"
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

func holds(names ...string) func(string) bool {
	return func(p string) bool { return slices.Contains(names, p) }
}

func TestDescribe(t *testing.T) {
	tests := []struct {
		name     string
		pkg      string
		manifest string
		root     string
		files    []string
		want     Descriptor
	}{
		{
			name: "manifest and extensions", root: "node_modules/@a/b",
			pkg:      `{"name":"@a/b","version":"1.2.3","description":"says\u001b[2J hi","openclaw":{"extensions":["./index.js"]}}`,
			manifest: `{"id":"bee","configSchema":{"big":12345678901234567890}}`,
			files:    []string{"node_modules/@a/b/index.js"},
			want: Descriptor{ID: "bee", Name: "@a/b", Version: "1.2.3", Description: "says[2J hi", Root: "node_modules/@a/b",
				Entries: []string{"index.js"}, Manifest: json.RawMessage(`{"id":"bee","configSchema":{"big":12345678901234567890}}`)},
		},
		{
			name: "json5 manifest", root: ".", pkg: `{"name":"x","version":"1.0.0"}`,
			manifest: "\xef\xbb\xbf// a comment\n{id: 'x_1', contracts: {tools: ['t',]}, n: 0x10, /* more */ s: \"a\\\nb\"}",
			files:    []string{"index.js"},
			want: Descriptor{ID: "x_1", Name: "x", Version: "1.0.0", Root: ".", Entries: []string{"index.js"},
				Manifest: json.RawMessage(`{"contracts":{"tools":["t"]},"id":"x_1","n":16,"s":"ab"}`)},
		},
		{
			name: "built JavaScript wins", root: ".", files: []string{"src/a.ts", "dist/a.js", "src/b.ts"},
			pkg:  `{"name":"x","openclaw":{"extensions":["./src/a.ts","src/b.ts"],"runtimeExtensions":["./dist/a.js","./dist/b.js"]}}`,
			want: Descriptor{ID: "x", Name: "x", Version: "0.0.0", Root: ".", Entries: []string{"dist/a.js", "src/b.ts"}},
		},
		{
			name: "what the source is built to", root: "node_modules/x", files: []string{"node_modules/x/src/a.ts", "node_modules/x/dist/a.mjs"},
			pkg:  `{"name":"x","openclaw":{"extensions":["./src/a.ts"]}}`,
			want: Descriptor{ID: "x", Name: "x", Version: "0.0.0", Root: "node_modules/x", Entries: []string{"dist/a.mjs"}},
		},
		{
			name: "id from the package name", root: ".", files: []string{"index.mjs"}, pkg: `{"name":"@scope/My.plug_in~2"}`,
			want: Descriptor{ID: "My-plug_in-2", Name: "@scope/My.plug_in~2", Version: "0.0.0", Root: ".", Entries: []string{"index.mjs"}},
		},
		{
			name: "not built", root: "node_modules/x", files: []string{"node_modules/x/src/a.ts"},
			pkg:  `{"name":"x","openclaw":{"extensions":["./src/a.ts"]}}`,
			want: Descriptor{ID: "x", Name: "x", Version: "0.0.0", Root: "node_modules/x", Entries: []string{"src/a.ts"}},
		},
		{
			name: "manifest only", root: ".", files: []string{"index.ts"}, manifest: `{"id":"only"}`,
			want: Descriptor{ID: "only", Name: "only", Version: "0.0.0", Root: ".", Entries: []string{"index.ts"}, Manifest: json.RawMessage(`{"id":"only"}`)},
		},
		{
			name: "name from the id", root: ".", files: []string{"index.js"}, pkg: `{"main":"./"}`, manifest: `{"id":"only"}`,
			want: Descriptor{ID: "only", Name: "only", Version: "0.0.0", Root: ".", Entries: []string{"index.js"}, Manifest: json.RawMessage(`{"id":"only"}`)},
		},
		{
			name: "main without its ending", root: ".", files: []string{"lib/index.js", "index.js"}, pkg: `{"name":"x","main":"lib"}`,
			want: Descriptor{ID: "x", Name: "x", Version: "0.0.0", Root: ".", Entries: []string{"lib/index.js"}},
		},
		{
			name: "module where there is no main", root: ".", files: []string{"es/x.js"}, pkg: `{"name":"x","module":"es/x.js"}`,
			want: Descriptor{ID: "x", Name: "x", Version: "0.0.0", Root: ".", Entries: []string{"es/x.js"}},
		},
		{
			name: "field names are compared exactly", root: ".", files: []string{"index.js", "evil.js"}, pkg: `{"name":"x","Main":"evil.js","Name":"y"}`,
			want: Descriptor{ID: "x", Name: "x", Version: "0.0.0", Root: ".", Entries: []string{"index.js"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var manifest []byte
			if tt.manifest != "" {
				manifest = []byte(tt.manifest)
			}
			got, err := Describe(Files{Package: []byte(tt.pkg), Manifest: manifest}, tt.root, holds(tt.files...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("descriptor (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExported(t *testing.T) {
	tests := []struct{ exports, want string }{
		{`"./a.js"`, "./a.js"},
		{`["./a.js","./b.js"]`, "./a.js"},
		{`{".":"./a.js","./x":"./x.js"}`, "./a.js"},
		{`{"./x":"./x.js",".":"./a.js"}`, "./a.js"},
		{`{"./x":"./x.js"}`, ""},
		{`{"types":"./a.d.ts","import":"./a.mjs","require":"./a.cjs"}`, "./a.mjs"},
		{`{"default":"./d.js","import":"./a.mjs"}`, "./d.js"},
		{`{"require":"./a.cjs"}`, "./a.cjs"},
		{`{".":{"node":{"browser":"./b.js"},"import":{"types":"./t.d.ts","default":"./a.mjs"}}}`, "./a.mjs"},
		{`{".":{"import":null,"default":"./a.js"}}`, "./a.js"}, // null for import; the require conditions reach default
		{`{".":{"node":null,"default":"./a.js"}}`, ""},
		{`null`, ""}, {`7`, ""}, {``, ""},
		{strings.Repeat(`{"default":`, 100) + `"./a.js"` + strings.Repeat("}", 100), ""},
	}
	for _, tt := range tests {
		if got := exported(json.RawMessage(tt.exports)); got != tt.want {
			t.Errorf("exported(%s) = %q, want %q", tt.exports, got, tt.want)
		}
	}
}

func TestDescribeRefuses(t *testing.T) {
	const ok = `{"name":"x","version":"1.0.0"}`
	tests := []struct {
		name, pkg, manifest, root string
		files                     []string
		code, message             string
	}{
		{name: "no package.json", code: "no_package_json", message: "neither package.json nor openclaw.plugin.json"},
		{name: "broken package.json", pkg: "{\n  \"name\": \"x\",\n  oops\n}", code: "bad_package_json", message: "line 3, column 3"},
		{name: "JSON5 in package.json", pkg: "{name: 'x'}", code: "bad_package_json", message: "line 1, column 2"},
		{name: "package.json is a list", pkg: "[]", code: "bad_package_json", message: "must be an object"},
		{name: "package.json is null", pkg: "null", code: "bad_package_json", message: "must be an object"},
		{name: "package.json too large", pkg: `{"name":"` + strings.Repeat("x", MaxDescriptionFile) + `"}`, code: "bad_package_json", message: "larger than 1 MiB"},
		{name: "broken manifest", pkg: ok, manifest: "{\n  id: 'ä' oops}", code: "bad_manifest", message: "line 2, column 11"},
		{name: "empty manifest", pkg: ok, manifest: " ", code: "bad_manifest", message: "line 1"},
		{name: "manifest is a list", pkg: ok, manifest: "['a',]", code: "bad_manifest", message: "must be an object"},
		{name: "manifest with NaN", pkg: ok, manifest: "{id:'a', n: NaN}", code: "bad_manifest", message: "NaN"},
		{name: "manifest nests too deep", pkg: ok, manifest: "{id:'a', n:" + strings.Repeat("[", 300) + strings.Repeat("]", 300) + "}", code: "bad_manifest", message: "too deep"},
		{name: "no id", pkg: ok, manifest: "{}", code: "bad_manifest", message: `"id"`},
		{name: "id is a number", pkg: ok, manifest: `{"id":7}`, code: "bad_manifest", message: `"id"`},
		{name: "id with a slash", pkg: ok, manifest: `{"id":"a/b"}`, code: "bad_plugin_id", message: "a/b"},
		{name: "id leaves", pkg: ok, manifest: `{"id":"../b"}`, code: "bad_plugin_id", message: "../b"},
		{name: "id with a dot", pkg: ok, manifest: `{"id":"a.b"}`, code: "bad_plugin_id", message: "a.b"},
		{name: "id of 300", pkg: ok, manifest: `{"id":"` + strings.Repeat("a", 300) + `"}`, code: "bad_plugin_id", message: "300 characters"},
		{name: "no name and no manifest", pkg: `{}`, code: "bad_plugin_id", message: "empty"},
		{name: "bad name", pkg: `{"name":"a b"}`, code: "bad_package_json", message: "name"},
		{name: "bad version", pkg: `{"name":"a","version":"1 0"}`, code: "bad_package_json", message: "version"},
		{name: "no entry", pkg: ok, code: "no_entry", message: "no entry"},
		{name: "extensions is no list", pkg: `{"name":"a","openclaw":{"extensions":"a.js"}}`, code: "bad_package_json", message: "openclaw.extensions"},
		{name: "too many extensions", pkg: `{"name":"a","openclaw":{"extensions":[` + strings.Repeat(`"a.js",`, 40) + `"a.js"]}}`, code: "bad_package_json", message: "too many"},
		{name: "lengths differ", pkg: `{"name":"a","openclaw":{"extensions":["a.ts"],"runtimeExtensions":["a.js","b.js"]}}`, code: "bad_package_json", message: "2 files"},
		{name: "entry outside", pkg: `{"name":"a","openclaw":{"extensions":["../a.js"]}}`, code: "entry_outside", message: "../a.js"},
		{name: "entry absolute", pkg: `{"name":"a","openclaw":{"extensions":["/a.js"]}}`, code: "entry_outside", message: "/a.js"},
		{name: "entry with a backslash", pkg: `{"name":"a","main":"..\\a.js"}`, code: "entry_outside", message: "a.js"},
		{name: "exports outside", pkg: `{"name":"a","exports":"./x/../../a.js"}`, code: "entry_outside", message: "a.js"},
		{name: "entry missing", pkg: `{"name":"a","openclaw":{"extensions":["a.js"]}}`, code: "entry_missing", message: `"a.js"`},
		{name: "exports missing", pkg: `{"name":"a","exports":"./a.js"}`, files: []string{"index.js"}, code: "entry_missing", message: `"./a.js"`},
		{name: "source not packed", root: "node_modules/a", pkg: `{"name":"a","openclaw":{"extensions":["src/a.ts"]}}`, code: "entry_missing", message: "src/a.ts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var manifest []byte
			if tt.manifest != "" {
				manifest = []byte(tt.manifest)
			}
			_, err := Describe(Files{Package: []byte(tt.pkg), Manifest: manifest}, path.Join(tt.root, "."), holds(tt.files...))
			var got *fault.Error
			if !errors.As(err, &got) {
				t.Fatalf("error = %v, want a fault", err)
			}
			if got.Code != tt.code || !strings.Contains(got.Message, tt.message) || got.Hint == "" || !errdefs.IsAborted(err) {
				t.Errorf("error = %q (code %q, hint %q, class %v), want code %q and %q", got.Message, got.Code, got.Hint, got.Class(), tt.code, tt.message)
			}
		})
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add([]byte(`{"name":"x","openclaw":{"extensions":["a.ts"],"runtimeExtensions":["./a.js"]}}`), []byte(`{id:'x'}`), "a.js")
	f.Add([]byte(`{"name":"@a/b","exports":{".":{"import":"./a.mjs"}}}`), []byte(nil), "a.mjs")
	f.Add([]byte(`{"main":"lib"}`), []byte(`{"id":"x",}`), "lib/index.js")
	f.Fuzz(func(t *testing.T, pkg, manifest []byte, file string) {
		d, err := Describe(Files{Package: pkg, Manifest: manifest}, "node_modules/p", func(p string) bool { return p == "node_modules/p/"+file })
		if err != nil {
			if fault.Of(err).Code == "internal" {
				t.Fatalf("error without a code: %v", err)
			}
			return
		}
		if CheckID(d.ID) != nil || len(d.Entries) == 0 || !namePattern.MatchString(d.Name) {
			t.Fatalf("accepted %+v", d)
		}
		for _, e := range d.Entries {
			if clean, ok := inside(e); !ok || clean != e {
				t.Fatalf("accepted the entry %q", e)
			}
		}
		if d.Manifest != nil && !json.Valid(d.Manifest) {
			t.Fatalf("the manifest is no JSON: %s", d.Manifest)
		}
	})
}

func TestSurfaceTools(t *testing.T) {
	s := Surface{Registrations: []Registration{
		{Kind: "hook", Name: "x"},
		{Kind: "tool", Name: "a", Spec: json.RawMessage(`{"label":"A","description":"does a","parameters":{"type":"object","properties":{}},"optional":true}`)},
		{Kind: "tool", Name: "b", Spec: json.RawMessage(`{"parameters":null}`)},
		{Kind: "tool", Name: "c"},
		{Kind: "tool", Name: "broken", Spec: json.RawMessage(`7`)},
	}}
	want := []Tool{
		{Name: "a", Label: "A", Description: "does a", Parameters: json.RawMessage(`{"type":"object","properties":{}}`), Optional: true},
		{Name: "b", Parameters: json.RawMessage(`{"type":"object"}`)},
		{Name: "c", Parameters: json.RawMessage(`{"type":"object"}`)},
	}
	if diff := cmp.Diff(want, s.Tools()); diff != "" {
		t.Errorf("tools (-want +got):\n%s", diff)
	}
}

func TestSurfaceValidate(t *testing.T) {
	tool := func(name, spec string) Registration {
		return Registration{Kind: "tool", Name: name, Spec: json.RawMessage(spec)}
	}
	many := make([]Registration, maxTools+1)
	for i := range many {
		many[i] = tool("t"+strings.Repeat("x", i%100)+strings.Repeat("y", i/100), "")
	}
	tests := []struct {
		name string
		regs []Registration
		code string // "" is valid
	}{
		{"nothing", nil, ""},
		{"hooks may repeat", []Registration{{Kind: "hook", Name: "a b"}, {Kind: "hook", Name: "a b"}}, ""},
		{"schema without a type", []Registration{tool("a", `{"parameters":{"anyOf":[]}}`)}, ""},
		{"one of several types", []Registration{tool("a", `{"parameters":{"type":["object","null"]}}`)}, ""},
		{"name with a dot", []Registration{tool("a.b", "")}, "bad_tool_name"},
		{"name of 300", []Registration{tool(strings.Repeat("a", 300), "")}, "bad_tool_name"},
		{"empty name", []Registration{tool("", "")}, "bad_tool_name"},
		{"twice", []Registration{tool("a", ""), tool("a", "")}, "duplicate_tool"},
		{"schema of a string", []Registration{tool("a", `{"parameters":{"type":"string"}}`)}, "bad_tool_schema"},
		{"schema is a list", []Registration{tool("a", `{"parameters":[]}`)}, "bad_tool_schema"},
		{"schema is true", []Registration{tool("a", `{"parameters":true}`)}, "bad_tool_schema"},
		{"types without object", []Registration{tool("a", `{"parameters":{"type":["string"]}}`)}, "bad_tool_schema"},
		{"spec is a list", []Registration{tool("a", `[]`)}, "bad_tool"},
		{"long description", []Registration{tool("a", `{"description":"`+strings.Repeat("x", maxToolText+1)+`"}`)}, "bad_tool"},
		{"too many", many, "too_many_tools"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Surface{Registrations: tt.regs}.Validate(Descriptor{ID: "p", Entries: []string{"index.js"}})
			if tt.code == "" {
				if err != nil {
					t.Fatalf("error = %v, want none", err)
				}
				return
			}
			var got *fault.Error
			if !errors.As(err, &got) || got.Code != tt.code || !errdefs.IsAborted(err) {
				t.Errorf("error = %v, want code %q", err, tt.code)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	tests := []struct {
		in    string
		limit int
		want  string
	}{
		{"a\n b\tc", 100, "a b c"},
		{"\x1b]0;x\a\u202eabc", 100, "]0;xabc"},
		{"äää", 3, "ä..."},
		{"abc", 3, "abc"},
	}
	for _, tt := range tests {
		if got := Printable(tt.in, tt.limit); got != tt.want {
			t.Errorf("Printable(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}
