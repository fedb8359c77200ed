package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/config"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/store"
)

var demo = plugin.Key{Tenant: plugin.DefaultTenant, ID: "demo"}

func newCatalog(t *testing.T, configText string, keys ...plugin.Key) (*catalog, home.Home) {
	t.Helper()
	h, err := home.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), h.DB())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, key := range keys {
		p := plugin.Installed{Key: key, Descriptor: plugin.Descriptor{ID: key.ID, Name: "@scope/" + key.ID}, Payload: plugin.Payload{Digest: "sha256:x"}}
		if err := s.PutPlugin(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if configText != "" {
		if err := os.WriteFile(config.PathFor(h.Dir(), plugin.DefaultTenant), []byte(configText), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := loadCatalog(t.Context(), h, s)
	if err != nil {
		t.Fatal(err)
	}
	return c, h
}

func TestCatalogEnabled(t *testing.T) {
	for name, tc := range map[string]struct {
		config string
		want   bool
	}{
		"no file":                    {"", true},
		"no entry":                   {`{}`, true},
		"an entry that says nothing": {`{"plugins":{"entries":{"demo":{}}}}`, true},
		"switched off":               {`{"plugins":{"entries":{"demo":{"enabled":false}}}}`, false},
		"a file that is broken":      {`{"plugins":{`, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCatalog(t, tc.config, demo)
			if got := c.enabled(demo); got != tc.want {
				t.Errorf("enabled = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestCatalogKeepsTheLastGoodConfig(t *testing.T) {
	c, h := newCatalog(t, `{"plugins":{"entries":{"demo":{"enabled":false,"config":{"a":1}}}}}`, demo)
	if err := os.WriteFile(config.PathFor(h.Dir(), plugin.DefaultTenant), []byte(`{{`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.readConfig(plugin.DefaultTenant)
	if c.enabled(demo) {
		t.Error("a broken file switched the plugin on")
	}
	if notes := c.broken(); len(notes) != 1 || !strings.Contains(notes[0], "not in force") {
		t.Errorf("notes %v, want one about the file", notes)
	}
	whole, own, err := c.view(demo, nil)
	if err != nil || string(own) != `{"a":1}` || !strings.Contains(string(whole), `"demo"`) {
		t.Errorf("view = %s, %s, %v", whole, own, err)
	}
}

func TestCatalogGet(t *testing.T) {
	c, _ := newCatalog(t, "", demo, plugin.Key{Tenant: "other", ID: "theirs"})
	for ref, want := range map[string]string{"demo": "demo", "@scope/demo": "demo"} {
		if p, err := c.get(plugin.DefaultTenant, ref); err != nil || p.Key.ID != want {
			t.Errorf("get(%s) = %v, %v; want %s", ref, p.Key, err, want)
		}
	}
	for _, ref := range []string{"theirs", "@scope/theirs", "demos", ""} {
		if _, err := c.get(plugin.DefaultTenant, ref); !errdefs.IsNotFound(err) || fault.Of(err).Hint == "" {
			t.Errorf("get(%q) = %v, want NotFound with a hint", ref, err)
		}
	}
	if len(c.list("")) != 2 || len(c.list("other")) != 1 || len(c.tenants()) != 2 {
		t.Errorf("list %v, tenants %v", c.list(""), c.tenants())
	}
}

func TestLockHome(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := lockHome(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockHome(path)
	if f := fault.Of(err); !errdefs.IsConflict(err) || f.Hint == "" || !strings.Contains(f.Message, "process ") {
		t.Errorf("the second lock: %v, want Conflict that names the process", err)
	}
	first.Close()
	again, err := lockHome(path)
	if err != nil {
		t.Fatalf("after the first let go: %v", err)
	}
	again.Close()
}

func TestNewLogger(t *testing.T) {
	if _, err := newLogger(nil, "loud"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("level loud: %v, want InvalidArgument", err)
	}
	var out strings.Builder
	logger, err := newLogger(&out, "warn")
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("hidden")
	logger.Warn("shown")
	if s := out.String(); strings.Contains(s, "hidden") || !strings.Contains(s, "shown") {
		t.Errorf("log at warn: %q", s)
	}
}

func TestWatched(t *testing.T) {
	for size, want := range map[int]bool{maxWatched: true, maxWatched + 1: false} {
		payload := json.RawMessage(`"` + strings.Repeat("x", size-2) + `"`)
		if got := string(watched(payload)) == string(payload); got != want {
			t.Errorf("%d bytes: shown %v, want %v", size, got, want)
		}
	}
}
