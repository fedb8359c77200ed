package config

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func TestEdit(t *testing.T) {
	note := Install{Source: plugin.SourceNPM, Spec: "@acme/echo@^1.0.0 || >2", InstalledAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))}
	install := func(e *Edit) error {
		if err := e.SetInstall("echo", note); err != nil {
			return err
		}
		return e.EnsureEntry("echo")
	}
	disable := func(e *Edit) error { return e.SetEnabled("echo", false) }
	forget := func(e *Edit) error {
		if err := e.RemoveEntry("echo"); err != nil {
			return err
		}
		return e.RemoveInstall("echo")
	}
	tests := []struct {
		name         string
		change       func(*Edit) error
		before, want string
	}{
		{"install into an empty document", install, "{}\n", `{
  "plugins": {
    "installs": {
      "echo": {
        "source": "npm",
        "spec": "@acme/echo@^1.0.0 || >2",
        "installedAt": "2026-01-02T02:04:05Z"
      }
    },
    "entries": {
      "echo": {
        "enabled": true
      }
    }
  }
}
`},
		{"install beside others, with tabs, comments and a trailing comma", install, `{
	// mine
	"plugins": {
		"entries": {
			"other": {"config": {"a": [1,   2]}}, // keep
			// "echo": {}
		},
		"installs": {"other": {"spec": "x"}} // on one line
	},
	"zeta": 1
}`, `{
	// mine
	"plugins": {
		"entries": {
			"other": {"config": {"a": [1,   2]}}, // keep
			// "echo": {}
			"echo": {
				"enabled": true
			},
		},
		"installs": {"other": {"spec": "x"}, "echo": {
			"source": "npm",
			"spec": "@acme/echo@^1.0.0 || >2",
			"installedAt": "2026-01-02T02:04:05Z"
		}} // on one line
	},
	"zeta": 1
}`},
		{"install again keeps what others wrote", install,
			`{"plugins": {"entries": {"echo": {"enabled": false}}, "installs": {"echo": {"extra": true, "spec": "old", "source": "path"}}}}`,
			`{"plugins": {"entries": {"echo": {"enabled": false}}, "installs": {"echo": {"extra": true, "spec": "@acme/echo@^1.0.0 || >2", "source": "npm", "installedAt": "2026-01-02T02:04:05Z"}}}}`},
		{"disable keeps comments", disable,
			"{\"plugins\": {\"entries\": {\n  \"echo\": { \"enabled\": /* was */ true, \"config\": {} } // yes\n}}}",
			"{\"plugins\": {\"entries\": {\n  \"echo\": { \"enabled\": /* was */ false, \"config\": {} } // yes\n}}}"},
		{"disable an entry that does not say", disable,
			"{\"plugins\": {\"entries\": {\n  \"echo\": {\n    \"config\": {} // c\n  }\n}}}",
			"{\"plugins\": {\"entries\": {\n  \"echo\": {\n    \"config\": {}, // c\n    \"enabled\": false\n  }\n}}}"},
		{"Windows line ends", disable,
			"{\r\n    \"plugins\": {}\r\n}\r\n",
			"{\r\n    \"plugins\": {\r\n        \"entries\": {\r\n            \"echo\": {\r\n                \"enabled\": false\r\n            }\r\n        }\r\n    }\r\n}\r\n"},
		{"forget", forget, `{
  "plugins": {
    // all of them
    "entries": {
      "a": {}, // first
      "echo": {"enabled": true}, // second
      "z": {} // third
    },
    "installs": {
      "echo": {"spec": "x"}
    }
  }
}
`, `{
  "plugins": {
    // all of them
    "entries": {
      "a": {}, // first
      "z": {} // third
    },
    "installs": {}
  }
}
`},
		{"forget what is not there", forget, "{ }", "{ }"},
		{"a byte order mark", disable, byteOrderMark + `{"plugins":{"entries":{"echo":{"enabled":true}}}}`,
			byteOrderMark + `{"plugins":{"entries":{"echo":{"enabled":false}}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, tt.before)
			for range 2 { // the second time there is nothing to do
				if err := Update(t.Context(), path, tt.change); err != nil {
					t.Fatal(err)
				}
				if got := readFile(t, path); got != tt.want {
					t.Fatalf("got:\n%s\nwant:\n%s", got, tt.want)
				}
			}
		})
	}
}

func TestEditRefusesBadIDs(t *testing.T) {
	path := writeFile(t, "{}")
	for _, id := range []string{"", "..", "a/b", "a b", "a~1b", strings.Repeat("x", 300)} {
		for name, op := range map[string]func(*Edit) error{
			"SetInstall":    func(e *Edit) error { return e.SetInstall(id, Install{}) },
			"RemoveInstall": func(e *Edit) error { return e.RemoveInstall(id) },
			"SetEnabled":    func(e *Edit) error { return e.SetEnabled(id, true) },
			"EnsureEntry":   func(e *Edit) error { return e.EnsureEntry(id) },
			"RemoveEntry":   func(e *Edit) error { return e.RemoveEntry(id) },
		} {
			if err := Update(t.Context(), path, op); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s(%.20q) = %v, want InvalidArgument", name, id, err)
			}
		}
	}
	if got := readFile(t, path); got != "{}" {
		t.Errorf("the file is %q", got)
	}
}
