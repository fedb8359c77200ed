package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

func TestGrantWords(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		words string
		flags grantWords
		want  permission
	}{
		{words: "network api.example.com:443", want: permission{"network", "api.example.com:443", ""}},
		{words: "network *.example.com:8443", want: permission{"network", "*.example.com:8443", ""}},
		{words: "network db.internal:5432 plaintext", want: permission{"network", "db.internal:5432", "plaintext"}},
		{words: "network localhost:80 addresses=127.0.0.1/32", want: permission{"network", "localhost:80", "addresses=127.0.0.1/32"}},
		{words: "network localhost:80 plaintext,addresses=127.0.0.1/32", want: permission{"network", "localhost:80", "plaintext,addresses=127.0.0.1/32"}},
		{words: "network x.internal:1 addresses=10.0.0.0/8,192.168.0.0/16", want: permission{"network", "x.internal:1", "addresses=10.0.0.0/8 192.168.0.0/16"}},
		{words: "network x.internal:1 addresses=10.0.0.0/8 192.168.0.0/16", want: permission{"network", "x.internal:1", "addresses=10.0.0.0/8 192.168.0.0/16"}},
		{words: "network x.internal:1 addresses=10.0.0.0/8 plaintext", want: permission{"network", "x.internal:1", "plaintext,addresses=10.0.0.0/8"}},
		{words: "network x.internal:1", flags: grantWords{plaintext: true, addresses: []string{"10.0.0.0/8", "fd00::/8"}},
			want: permission{"network", "x.internal:1", "plaintext,addresses=10.0.0.0/8 fd00::/8"}},
		{words: "secret BRAVE_API_KEY", want: permission{"secret", "BRAVE_API_KEY", ""}},
		{words: "env TZ", want: permission{"env", "TZ", ""}},
		{words: "config agents.defaults.model", want: permission{"config", "agents.defaults.model", ""}},
		{words: "hook before_tool_call", want: permission{"hook", "before_tool_call", ""}},
		{words: "hook before_tool_call observe,block", want: permission{"hook", "before_tool_call", "observe,block"}},
		{words: "hook before_tool_call observe block", want: permission{"hook", "before_tool_call", "observe,block"}},
		{words: "host emit", want: permission{"host", "emit", ""}},
		{words: "resource memory 512MiB", want: permission{"resource", "memory", "512MiB"}},
		{words: "resource memory=512MiB", want: permission{"resource", "memory", "512MiB"}},
		{words: "resource cpus 0.5", want: permission{"resource", "cpus", "0.5"}},
		{words: "registration tool:echo", want: permission{"registration", "tool:echo", ""}},
		{words: "workspace ro /srv/data/../work/", want: permission{"workspace", "/srv/work", "ro"}},
		{words: "workspace rw sub/./dir", want: permission{"workspace", filepath.Join(wd, "sub/dir"), "rw"}},
	} {
		got, err := tc.flags.grant(&cobra.Command{}, strings.Split(tc.words, " "))
		if err != nil || got != tc.want {
			t.Errorf("%s: got %q, %v, want %q", tc.words, got, err, tc.want)
		}
	}
}

func TestGrantWordsRefused(t *testing.T) {
	for _, tc := range []struct {
		words string
		flags grantWords
		want  string
	}{
		{words: "nettwork a.example.com:443", want: "is no kind of permission"},
		{words: "network", want: "missing"},
		{words: "network https://api.example.com:443", want: "has a scheme"},
		{words: "network api.example.com", want: "has no port"},
		{words: "network api.example.com:0", want: "between 1 and 65535"},
		{words: "network api.example.com:65536", want: "between 1 and 65535"},
		{words: "network api.example.com:https", want: "between 1 and 65535"},
		{words: "network *:443", want: "wildcard over everything"},
		{words: "network *.com:443", want: "many owners"},
		{words: "network 10.1.2.3:443", want: "is an address"},
		{words: "network [::1]:443", want: "is an address"},
		{words: "network user@example.com:443", want: "has a user"},
		{words: "network a.example.com:443 encrypted", want: `"encrypted" says in no known way`},
		{words: "network a.example.com:443 10.0.0.0/8", want: `"10.0.0.0/8" says in no known way`},
		{words: "network a.example.com:443 addresses=", want: "names no range"},
		{words: "secret", want: "missing"},
		{words: "secret 1KEY", want: "no name of a secret"},
		{words: "secret A B", want: `"B" is one argument too many`},
		{words: "secret A", flags: grantWords{plaintext: true}, want: "network only"},
		{words: "hook llm_input", flags: grantWords{addresses: []string{"10.0.0.0/8"}}, want: "network only"},
		{words: "env NODE_OPTIONS", want: "no plugin is given"},
		{words: "config agents..model", want: "no path into the configuration"},
		{words: "hook before_tool_cal", want: "before_tool_cal"},
		{words: "hook before_tool_call shout", want: "before_tool_call"},
		{words: "host log", want: "unknown"},
		{words: "resource memory", want: "size is missing"},
		{words: "resource memory=", want: "size is missing"},
		{words: "resource memory much", want: "memory"},
		{words: "resource memory -5", want: "memory"},
		{words: "resource pids 1 2", want: "one argument too many"},
		{words: "resource disk 5", want: "is no resource"},
		{words: "registration echo", want: "is no registration"},
		{words: "workspace /srv", want: "ro or rw is missing"},
		{words: "workspace rx /srv", want: "neither ro nor rw"},
		{words: "workspace ro /srv /var", want: "one argument too many"},
		{words: "workspace ro ", want: "PATH is empty"},
	} {
		got, err := tc.flags.grant(&cobra.Command{}, strings.Split(tc.words, " "))
		if err == nil || !errors.Is(fault.Of(err).Class(), errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %q, %v, want %q", tc.words, got, err, tc.want)
		}
		if fault.Of(err).Hint == "" {
			t.Errorf("%s: no hint", tc.words)
		}
	}
}

// A revocation takes the words of the grant, or those that name it alone.
func TestRevokeWords(t *testing.T) {
	for words, want := range map[string]permission{
		"network db.internal:5432 plaintext,addresses=10.0.0.0/8": {"network", "db.internal:5432", ""},
		"network db.internal:5432":                                {"network", "db.internal:5432", ""},
		"hook before_tool_call block":                             {"hook", "before_tool_call", ""},
		"hook before_tool_call whatever":                          {"hook", "before_tool_call", ""},
		"resource memory 512MiB":                                  {"resource", "memory", ""},
		"resource memory":                                         {"resource", "memory", ""},
		"workspace rw /srv":                                       {"workspace", "/srv", ""},
		"workspace /srv":                                          {"workspace", "/srv", ""},
	} {
		var g grantWords
		if got, err := g.revoke(&cobra.Command{}, strings.Split(words, " ")); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", words, got, err, want)
		}
	}
	var g grantWords
	if got, err := g.revoke(&cobra.Command{}, []string{"network", "http://x.example.com:80"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %q, %v", got, err)
	}
}

// What the daemon prints as the command that grants a request is understood,
// and means that request.
func TestPrintedCommands(t *testing.T) {
	key := plugin.Key{Tenant: plugin.DefaultTenant, ID: "demo"}
	for _, want := range []permission{
		{"network", "api.example.com:443", ""},
		{"network", "localhost:80", "addresses=127.0.0.1/32"},
		{"network", "db.example.com:5432", "plaintext,addresses=10.0.0.0/8"},
		{"workspace", "/srv/work", "rw"},
		{"secret", "KEY", ""},
		{"hook", "before_tool_call", "observe,modify,block"},
		{"resource", "memory", "512MiB"},
		{"registration", "tool:echo", ""},
	} {
		command := policy.Command(key, policy.Ask{Kind: policy.Kind(want.kind), Target: want.target, Value: want.value})
		words, ok := strings.CutPrefix(command, "ocmt plugins grant demo ")
		if !ok {
			t.Fatalf("got the command %q", command)
		}
		var g grantWords
		got, err := g.grant(&cobra.Command{}, strings.Split(words, " "))
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", command, got, err, want)
		}
		if _, err := policy.ParseGrant(got.kind, got.target, got.value); err != nil {
			t.Errorf("%s: the daemon refuses it: %v", command, err)
		}
	}
}

func FuzzGrantWords(f *testing.F) {
	f.Add("network\x00localhost:80\x00plaintext,addresses=127.0.0.1/32")
	f.Add("workspace\x00ro\x00./x")
	f.Add("resource\x00memory=1GiB")
	f.Fuzz(func(t *testing.T, text string) {
		var g grantWords
		p, err := g.grant(&cobra.Command{}, strings.Split(text, "\x00"))
		if err != nil {
			if exitCode(err) != 2 {
				t.Errorf("%q: %v has the exit code %d", text, err, exitCode(err))
			}
			return
		}
		if p.kind == kindWorkspace && !filepath.IsAbs(p.target) {
			t.Errorf("%q: %q is not absolute", text, p.target)
		}
	})
}
