package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// example is in the format of the security model's document, with what
// people add to such a file.
const example = `// how my gateway is set up
{
  "gateway": {"port": 18789}, // not ours
  "plugins": {
    "entries": {
      "my-plugin": {
        "enabled": true,
        "config": {
          "customOption": "value", // a note
          "list": [1, 2, 3,],
        }
      },
      "quiet": {"enabled": false, "hooks": {"x": 1}},
      "silent": {}
    },
    "installs": {
      "my-plugin": {
        "source": "npm",
        "spec": "my-plugin@1.0.0",
        "installedAt": "2024-01-01T00:00:00Z"
      }
    }
  },
}
`

func writeFile(t *testing.T, data string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLoad(t *testing.T) {
	for name, text := range map[string]string{
		"as it is":                     example,
		"with a byte order mark":       byteOrderMark + example,
		"with Windows line ends":       strings.ReplaceAll(example, "\n", "\r\n"),
		"with a comment on its end":    example + "// that was all",
		"without a last line end":      strings.TrimSpace(example),
		"with names that are escaped":  strings.Replace(example, `"plugins"`, `"\u0070lugins"`, 1),
		"with names in another manner": strings.Replace(example, `"enabled": true`, `"Enabled": 7, "enabled": true`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Load(writeFile(t, text))
			if err != nil {
				t.Fatal(err)
			}
			on, off := true, false
			for id, want := range map[string]Entry{
				"my-plugin": {Enabled: &on, Config: json.RawMessage(`{"customOption":"value","list":[1,2,3]}`)},
				"quiet":     {Enabled: &off},
				"silent":    {},
			} {
				got, ok := f.Entry(id)
				if !ok || !cmp.Equal(want, got) {
					t.Errorf("Entry(%s) = %+v, %v, want %+v", id, got, ok, want)
				}
				if got.On() != (id != "quiet") {
					t.Errorf("%s: On() = %v", id, got.On())
				}
			}
			if _, ok := f.Entry("other"); ok {
				t.Error("an entry that is not there is found")
			}
			want := Install{Source: plugin.SourceNPM, Spec: "my-plugin@1.0.0", InstalledAt: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)}
			if got, ok := f.Install("my-plugin"); !ok || got != want {
				t.Errorf("Install = %+v, %v", got, ok)
			}
			var doc struct{ Gateway struct{ Port int } }
			if err := json.Unmarshal(f.Raw(), &doc); err != nil || doc.Gateway.Port != 18789 {
				t.Errorf("Raw() = %s: %v", f.Raw(), err)
			}
		})
	}
}

func TestLoadOfNothing(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "config.json"), filepath.Join(dir, "no", "such", "config.json")} {
		f, err := Load(path)
		if err != nil || string(f.Raw()) != "{}" {
			t.Errorf("Load(%s) = %s, %v, want an empty document", path, f.Raw(), err)
		}
	}
	for _, text := range []string{"{}", `{"plugins": {}}`, `{"other": [1]}`, `{"plugins": {"entries": {}, "installs": {}, "more": 1}}`} {
		if _, err := Load(writeFile(t, text)); err != nil {
			t.Errorf("Load of %s: %v", text, err)
		}
	}
}

func TestBrokenFiles(t *testing.T) {
	const secret = "sk-very-secret"
	tests := []struct {
		name, text   string
		line, column int
		says         string
	}{
		{"empty", "", 1, 1, "empty"},
		{"blank", " \n\n", 1, 1, "empty"},
		{"a missing comma", "{\n  \"a\": 1\n  \"b\": 2\n}", 3, 3, "after object value"},
		{"cut short", "{\n  \"plugins\": {\n", 3, 1, "unexpected EOF"},
		{"two documents", "{}\n{}", 2, 1, "after top-level value"},
		{"single quotes", "{'a': 1}", 1, 2, "invalid character"},
		{"after wide characters", "{\"ä\": \"öü\", x}", 1, 13, "no JSON value"},
		{"a bad escape", "{\"a\": \"" + secret + "\\q\"}", 1, 7, "no JSON value"},
		{"an unknown word", "{\"a\": " + secret + "}", 1, 7, "no JSON value"},
		{"a comment without end", "{\n/* hm }", 2, 1, "comment"},
		{"not UTF-8", "{\n\"a\": \"\xff\"}", 2, 7, "not UTF-8"},
		{"UTF-16", "\xff\xfe{\x00}\x00", 1, 1, "save it as UTF-8"},
		{"too deep", strings.Repeat("[", 300), 1, 201, "deeper than 200"},
		{"too many values", "[" + strings.Repeat("1,", 99_999) + "1]", 1, 199_999, "more than 100000 values"},
		{"a duplicate name", "{\n  \"plugins\": {},\n  \"plugins\": {}\n}", 3, 3, "twice"},
		{"a duplicate in disguise", "{\"a\": {\"b\": 1, \"\\u0062\": 2}}", 1, 16, "twice"},
		{"no object", "[]", 1, 1, "the document must be an object, not an array"},
		{"plugins is null", "{\"plugins\": null}", 1, 13, "plugins must be an object, not null"},
		{"entries is an array", "{\"plugins\": {\n  \"entries\": [\n  ]}}", 2, 14, "plugins.entries must be an object, not an array"},
		{"an entry is a boolean", "{\"plugins\": {\"entries\": {\"x\": true}}}", 1, 31, "plugins.entries.x must be an object, not true or false"},
		{"enabled is a string", "{\"plugins\": {\"entries\": {\"x\": {\"enabled\": \"no\"}}}}", 1, 43, "plugins.entries.x.enabled must be true or false, not a string"},
		{"enabled is null", "{\"plugins\": {\"entries\": {\"x\": {\"enabled\": null}}}}", 1, 43, "not null"},
		{"config is a string", "{\"plugins\": {\"entries\": {\"x\": {\"config\": \"" + secret + "\"}}}}", 1, 42, "plugins.entries.x.config must be an object, not a string"},
		{"an id with a slash", "{\"plugins\": {\"entries\": {\"a/b\": {}}}}", 1, 26, `"a/b" may hold only`},
		{"an id of dots", "{\"plugins\": {\"installs\": {\"..\": {}}}}", 1, 27, `".." may hold only`},
		{"an empty id", "{\"plugins\": {\"entries\": {\"\": {}}}}", 1, 26, "is empty"},
		{"an id of 300 characters", "{\"plugins\": {\"entries\": {\"" + strings.Repeat("x", 300) + "\": {}}}}", 1, 26, "at most 100"},
		{"installs is a number", "{\"plugins\": {\"installs\": 3}}", 1, 26, "plugins.installs must be an object, not a number"},
		{"spec is a number", "{\"plugins\": {\"installs\": {\"x\": {\"spec\": 3}}}}", 1, 41, "plugins.installs.x.spec must be a string, not a number"},
		{"installedAt is no time", "{\"plugins\": {\"installs\": {\"x\": {\"installedAt\": \"now\"}}}}", 1, 48, "installedAt must be a time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, tt.text)
			_, err := Load(path)
			f := fault.Of(err)
			want := map[string]int{"line": tt.line, "column": tt.column}
			if !errdefs.IsInvalidArgument(err) || !cmp.Equal(want, f.Details) || f.Hint == "" {
				t.Errorf("Load = %v, at %v, hint %q; want InvalidArgument at %v with a hint", err, f.Details, f.Hint, want)
			}
			if err == nil {
				return
			}
			if !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), path+":") {
				t.Errorf("Load = %v, want the path and %q", err, tt.says)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the message holds a value of the file: %v", err)
			}
			err = Update(t.Context(), path, func(e *Edit) error { return e.SetEnabled("x", true) })
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("Update = %v, want InvalidArgument", err)
			}
			if got := readFile(t, path); got != tt.text {
				t.Errorf("the broken file was overwritten with %q", got)
			}
		})
	}
}

func TestSizeLimit(t *testing.T) {
	fill := func(size int) string { return `{"a": "` + strings.Repeat("x", size-len(`{"a": ""}`)) + `"}` }
	if _, err := Load(writeFile(t, fill(MaxSize))); err != nil {
		t.Errorf("a file of %d bytes: %v", MaxSize, err)
	}
	path := writeFile(t, fill(MaxSize+1))
	if _, err := Load(path); !errdefs.IsInvalidArgument(err) || fault.Of(err).Hint == "" {
		t.Errorf("a file of one byte more: %v, want InvalidArgument with a hint", err)
	}
	path = writeFile(t, fill(MaxSize))
	if err := Update(t.Context(), path, func(e *Edit) error { return e.EnsureEntry("x") }); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an update beyond the limit: %v, want InvalidArgument", err)
	}
	if readFile(t, path) != fill(MaxSize) {
		t.Error("the file was changed")
	}
}

func TestNoRegularFile(t *testing.T) {
	tests := map[string]func(path string) error{
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a link": func(path string) error {
			other := filepath.Join(filepath.Dir(path), "other.json")
			if err := os.WriteFile(other, []byte("{}"), 0o600); err != nil {
				return err
			}
			return os.Symlink(other, path)
		},
	}
	for name, make := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path); !errdefs.IsInvalidArgument(err) {
				t.Errorf("Load = %v, want InvalidArgument", err)
			}
			if err := Update(t.Context(), path, func(e *Edit) error { return e.EnsureEntry("x") }); !errdefs.IsInvalidArgument(err) {
				t.Errorf("Update = %v, want InvalidArgument", err)
			}
		})
	}
}

func TestNotReadable(t *testing.T) {
	path := writeFile(t, example)
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	asOrdinaryUser(t, func() {
		if _, err := Load(path); !errdefs.IsPermissionDenied(err) || fault.Of(err).Hint == "" {
			t.Errorf("Load = %v, want PermissionDenied with a hint", err)
		}
	})
}

// asOrdinaryUser runs f without root's right to pass over file modes: setting
// the file system uid of a thread takes CAP_DAC_OVERRIDE from it.
func asOrdinaryUser(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setfsuid(0) }() // the thread's own uid is always allowed
	f()
}

func TestPathFor(t *testing.T) {
	for tenant, want := range map[string]string{"default": "/home/u/config.json", "acme": "/home/u/tenants/acme/config.json"} {
		if got := PathFor("/home/u", tenant); got != want {
			t.Errorf("PathFor(%s) = %s, want %s", tenant, got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(byteOrderMark + `{"plugins":{"entries":{"x":{"enabled":false,"config":{}}}}}`))
	f.Add([]byte("{ // c\r\n\t\"plugins\": { /* d */ }\r\n}// e"))
	f.Add([]byte(`{"plugins":{"entries":{"a":{},},"installs":{"x":{"source":"npm","more":1}}},}`))
	f.Add([]byte(`{"a":[[[{"b":[]}]]],"plugins":{"installs":{} /* f */ , } }`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parse(data)
		if err != nil {
			return
		}
		var before map[string]any
		if err := json.Unmarshal(doc.file.Raw(), &before); err != nil {
			t.Fatalf("Raw is no strict JSON: %v", err)
		}
		if data != nil && !bytes.Equal(bytes.TrimRight(doc.bytes(), "\n"), bytes.TrimRight(data, "\n")) {
			t.Fatalf("without an edit %q became %q", data, doc.bytes())
		}
		after := fuzzEdit(t, data)
		checkOnlyOurs(t, before, after)
	})
}

// fuzzEdit applies every operation to data and returns the document.
func fuzzEdit(t *testing.T, data []byte) map[string]any {
	t.Helper()
	note := Install{Source: plugin.SourcePath, Spec: "</x> \"y\"", InstalledAt: time.Unix(1e9, 0)}
	text, err := edited("config.json", data, func(e *Edit) error {
		for _, err := range []error{e.EnsureEntry("x"), e.SetEnabled("x", false), e.SetInstall("x", note),
			e.SetInstall("y", note), e.RemoveInstall("y"), e.EnsureEntry("y"), e.RemoveEntry("y")} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%q cannot be edited: %v", data, err)
	}
	if text == nil { // it said so already
		text = data
	}
	doc, err := parse(text)
	if err != nil {
		t.Fatalf("%q was edited to %q: %v", data, text, err)
	}
	if entry, ok := doc.file.Entry("x"); !ok || entry.On() {
		t.Fatalf("%q was edited to %q: x is on", data, text)
	}
	if got, ok := doc.file.Install("x"); !ok || got.Spec != note.Spec || !got.InstalledAt.Equal(note.InstalledAt) {
		t.Fatalf("%q was edited to %q: the note is %+v", data, text, got)
	}
	var after map[string]any
	if err := json.Unmarshal(doc.file.Raw(), &after); err != nil {
		t.Fatal(err)
	}
	return after
}

// checkOnlyOurs wants before and after to differ in what the edit named only.
func checkOnlyOurs(t *testing.T, before, after map[string]any) {
	t.Helper()
	for _, doc := range []map[string]any{before, after} {
		plugins, _ := doc["plugins"].(map[string]any)
		for section, names := range map[string][]string{"entries": {"enabled"}, "installs": {"source", "spec", "installedAt"}} {
			list, _ := plugins[section].(map[string]any)
			item, _ := list["x"].(map[string]any)
			for _, name := range names {
				delete(item, name)
			}
			if len(item) == 0 {
				delete(list, "x")
			}
			delete(list, "y")
			if len(list) == 0 {
				delete(plugins, section)
			}
		}
		if len(plugins) == 0 {
			delete(doc, "plugins")
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Fatalf("the edit changed more than it said, -before +after:\n%s", diff)
	}
}
