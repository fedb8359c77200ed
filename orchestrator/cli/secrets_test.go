package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func TestSecretsCommands(t *testing.T) {
	d := newDaemon(t)
	if out, _ := d.ocmt(t, 0, "secrets", "list"); out != "there are no secrets\n" {
		t.Errorf("got %q", out)
	}
	out, _ := d.ocmtWith(t, &command{stdin: strings.NewReader("k-1\n")}, 0, "secrets", "set", "API_KEY", "--host", "API.example.com:8443", "--header", "X-Api-Key")
	want := "Set API_KEY: it is sent to api.example.com:8443 in the header X-Api-Key\n" +
		"No plugin has it yet; to grant it: ocmt plugins grant ID secret API_KEY\n"
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	out, _ = d.ocmt(t, 0, "secrets", "move", "demo", "apiKey", "MOVED", "--host", "*.example.com", "--query", "key", "--env")
	want = "Moved apiKey of demo to MOVED, and left a reference: it is sent to *.example.com:443 in the query key; it may be granted in plain, as an environment variable\n"
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	out, _ = d.ocmtWith(t, &command{stdin: strings.NewReader("k-2")}, 0, "secrets", "set", "PLAIN", "--env", "--tenant", "acme")
	contains(t, out, "Set PLAIN: it may be granted in plain", "ocmt --tenant acme plugins grant ID secret PLAIN\n")

	out, _ = d.ocmt(t, 0, "secrets", "list")
	contains(t, out, "NAME     SENT TO", "API_KEY  api.example.com:8443  header X-Api-Key  never       -           2026-01-02 03:04:05 UTC  uid:",
		"MOVED    *.example.com:443     query key         if granted  demo")
	out, _ = d.ocmt(t, 0, "secrets", "ls", "--json")
	var list []v1.Secret
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 2 || list[0].Host != "api.example.com" || strings.Contains(out, "k-") {
		t.Errorf("got %s, %v", out, err)
	}
	if out, _ = d.ocmt(t, 0, "secrets", "rm", "API_KEY"); out != "Removed API_KEY\n" {
		t.Errorf("got %q", out)
	}
	_, errout := d.ocmt(t, 3, "secrets", "rm", "API_KEY", "--tenant", "acme")
	contains(t, errout, `there is no secret "API_KEY"`, "hint: see them with: ocmt --tenant acme secrets list\n")
	out, _ = d.ocmt(t, 0, "secrets", "rotate")
	contains(t, out, "encrypted with a new key")
	if got := d.backend.Rotated(); got != 1 {
		t.Errorf("rotated %d times, want once", got)
	}
}

// A value comes from a person, standard input or a file, and loses one line end.
func TestSecretValue(t *testing.T) {
	d := newDaemon(t)
	file := filepath.Join(t.TempDir(), "value")
	for text, want := range map[string]string{
		"plain": "plain", "one\n": "one", "one\r\n": "one", " spaces ": " spaces ", "é漢\n": "é漢",
		strings.Repeat("x", v1.MaxSecret) + "\r\n": strings.Repeat("x", v1.MaxSecret),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]*command{
			"standard input": {stdin: strings.NewReader(text)},
			"file":           {},
		} {
			args := []string{"secrets", "set", "KEY", "--env"}
			if name == "file" {
				args = append(args, "--file", file)
			}
			d.ocmtWith(t, c, 0, args...)
			if got := d.backend.SecretValue("default", "KEY"); got != want {
				t.Errorf("%.20q from %s: got %.20q, want %.20q", text, name, got, want)
			}
		}
	}
	typed := &command{terminal: true, hidden: "typed", stdin: strings.NewReader("not this\n")}
	out, errout := d.ocmtWith(t, typed, 0, "secrets", "set", "KEY", "--env")
	if got := d.backend.SecretValue("default", "KEY"); got != "typed" || strings.Contains(out+errout, "typed") {
		t.Errorf("got %q; printed %q", got, out+errout)
	}
	contains(t, errout, "Value of KEY, which is not shown: ")
	_, errout = d.ocmtWith(t, &command{terminal: true}, 4, "secrets", "set", "KEY", "--env")
	contains(t, errout, "nothing was changed")
	if got := d.backend.SecretValue("default", "KEY"); got != "typed" {
		t.Errorf("after an interrupt it is %q", got)
	}
}

func TestSecretsRefused(t *testing.T) {
	d := newDaemon(t)
	for _, tc := range []struct {
		args, stdin string
		code        int
		says        []string
	}{
		{"set", "k", 2, []string{"NAME is missing"}},
		{"set KEY", "k", 2, []string{"not said what the secret is for", "--env"}},
		{"set KEY hunter2 --env", "k", 2, []string{"one argument too many"}},
		{"set KEY --host api.example.com", "k", 2, []string{"--header Authorization", "--query key", "api.example.com reads it from"}},
		{"set KEY --host api.example.com --header A --query b", "k", 2, []string{"do not go together"}},
		{"set KEY --header A", "k", 2, []string{"--host is missing"}},
		{"set KEY --query A --env", "k", 2, []string{"--host is missing"}},
		{"set KEY --host https://api.example.com --header A", "k", 2, []string{"has a scheme"}},
		{"set KEY --host api.example.com:0 --header A", "k", 2, []string{"HOST:PORT"}},
		{"set KEY --host api.example.com:https --header A", "k", 2, []string{"HOST:PORT"}},
		{"set KEY --host *.com --header A", "k", 2, []string{"many owners"}},
		{"set KEY --host 10.0.0.1 --header A", "k", 2, []string{"is an address"}},
		{"set KEY --host * --header A", "k", 2, []string{"wildcard over everything"}},
		{"set a-b --env", "k", 2, []string{"is no name of a secret"}},
		{"set KEY --env --file /nonexistent", "", 3, []string{"cannot read the value"}},
		{"set KEY --env", "", 2, []string{"the value of secret KEY is empty"}}, // these by the daemon
		{"set KEY --env", "\n", 2, []string{"is empty"}},
		{"set KEY --env", "a\nb\n", 2, []string{"several lines"}},
		{"set KEY --env", "a\n\n", 2, []string{"several lines"}},
		{"set KEY --env", strings.Repeat("x", v1.MaxSecret+1), 2, []string{"more than 16384 bytes"}},
		{"set KEY --env", strings.Repeat("é", v1.MaxSmallBody), 2, []string{"more than 16384 bytes"}},
		{"set KEY --env", "\xff\xfe", 2, []string{"not UTF-8", "base64"}},
		{"move demo apiKey", "", 2, []string{"NAME is missing"}},
		{"move demo apiKey KEY", "", 2, []string{"not said what"}},
		{"move demo nope KEY --env", "", 3, []string{"no text at nope"}},
		{"move demo apiKey 1 --env", "", 2, []string{"is no name of a secret"}},
		{"rotate now", "", 2, []string{"one argument too many"}},
	} {
		_, errout := d.ocmtWith(t, &command{stdin: strings.NewReader(tc.stdin)}, tc.code, append([]string{"secrets"}, strings.Fields(tc.args)...)...)
		contains(t, errout, tc.says...)
	}
	if out, _ := d.ocmt(t, 0, "secrets", "list"); out != "there are no secrets\n" {
		t.Errorf("got %q", out)
	}
}
