package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

const wantManifest = `{
  "network": [
    {
      "host": "api.example.net",
      "ports": [
        443
      ]
    }
  ],
  "env": [
    "DEMO"
  ]
}
`

// Learn mode ends with the interrupt, and the manifest is standard output.
func TestLearn(t *testing.T) {
	d := newDaemon(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var c command
	shown, code := c.stderr.saw("read the variable"), make(chan int)
	go func() { code <- c.run(ctx, d, "plugins", "learn", "demo", "--for", "10m") }()
	<-shown
	later := c.stderr.saw("read the clock")
	d.backend.Wish(v1.Permission{Kind: "config", Target: "clock", Sentence: "read the clock"})
	<-later
	interrupt()
	if got := <-code; got != 0 {
		t.Errorf("exit code %d: %s", got, c.stderr.String())
	}
	if got := c.stdout.String(); got != wantManifest {
		t.Errorf("got\n%swant\n%s", got, wantManifest)
	}
	errout := c.stderr.String()
	contains(t, errout, "demo is in learn mode for 10m0s, or until you interrupt.", "  - connect to api.example.net, port 443\n      ocmt plugins grant demo network api.example.net:443\n",
		`  - read the variable DEMO\u001b[31m`, "Learn mode is off. demo tried 3 things that it was not granted.\n", "\n      ocmt plugins grant demo --manifest FILE\n")
	if n := strings.Count(errout, "connect to api.example.net"); n != 1 {
		t.Errorf("a wish is shown %d times:\n%s", n, errout)
	}
	if l, err := d.backend.Learning(t.Context(), "default", "demo"); err != nil || l.On {
		t.Errorf("it is still on: %+v, %v", l, err)
	}
}

func TestLearnStop(t *testing.T) {
	d := newDaemon(t)
	_, errout := d.ocmt(t, 1, "plugins", "learn", "demo", "--stop")
	contains(t, errout, "demo was not in learn mode\n  hint: switch it on: ocmt plugins learn demo\n")
	if _, err := d.backend.Learn(t.Context(), "default", "demo", v1.LearnRequest{On: true, ForSeconds: 60}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "permissions.json")
	out, errout := d.ocmt(t, 0, "plugins", "learn", "demo", "--stop", "--output", file)
	contains(t, errout, "tried 2 things", "ocmt plugins grant demo --manifest "+file)
	text, err := os.ReadFile(file)
	if err != nil || out != "" || string(text) != wantManifest {
		t.Errorf("got %q, %s, %v", out, text, err)
	}
	if _, err := plugin.ParsePermissions(text); err != nil {
		t.Error(err)
	}
	out, errout = d.ocmt(t, 1, "plugins", "learn", "demo", "--stop", "--output", filepath.Join(file, "x"))
	contains(t, errout, "cannot write the manifest, which is printed instead")
	if out != wantManifest {
		t.Errorf("got\n%s", out)
	}
}

func TestLearnRefused(t *testing.T) {
	d := newDaemon(t)
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"", 2, "ID is missing"},
		{"demo --for 0s", 2, "--for 0s is not between 1s and 24h0m0s"},
		{"demo --for 25h", 2, "is not between"},
		{"demo --stop --ask", 2, "--stop goes with --output only"},
		{"demo --stop --for 1m", 2, "--stop goes with --output only"},
		{"demo --ask", 4, "standard input is no terminal\n  hint: leave out --ask"},
		{"nope", 3, "there is no plugin"},
		{"metrics --tenant acme", 1, "hint: enable it first: ocmt --tenant acme plugins enable metrics"},
	} {
		_, errout := d.ocmt(t, tc.code, append([]string{"plugins", "learn"}, strings.Fields(tc.args)...)...)
		contains(t, errout, tc.says)
	}
}

// Only what can be decided is asked, and only with what it can be decided with.
func TestLearnAsk(t *testing.T) {
	for _, tc := range []struct{ answers, says, origin string }{
		{"o\n", "allowed for this run by uid:", "run"},
		{"what\nGrant\n", "granted by uid:", "approval"},
		{"deny\n", "denied by uid:", ""},
		{"s\n", "", ""},
		{"\n", "", ""},
	} {
		d := newDaemon(t)
		ctx, interrupt := context.WithCancel(t.Context())
		stdin, typed := io.Pipe()
		c := &command{terminal: true, stdin: stdin}
		shown, code := c.stderr.saw("read the variable"), make(chan int)
		go func() { code <- c.run(ctx, d, "plugins", "learn", "demo", "--ask") }()
		io.WriteString(typed, tc.answers)
		<-shown
		interrupt()
		if got := <-code; got != 0 {
			t.Errorf("%q: exit code %d", tc.answers, got)
		}
		errout := c.stderr.String()
		contains(t, errout, "o = allow it for this run, g = grant it, d = deny it, s = skip it [s] ", tc.says)
		if n := strings.Count(errout, "[s] "); n != strings.Count(tc.answers, "\n") {
			t.Errorf("%q: asked %d times:\n%s", tc.answers, n, errout)
		}
		p, err := d.backend.Permissions(t.Context(), "default", "demo")
		if err != nil {
			t.Fatal(err)
		}
		if last := p.Granted[len(p.Granted)-1].Origin; tc.origin != "" && last != tc.origin || tc.origin == "" && last != "review" {
			t.Errorf("%q: granted %+v", tc.answers, p.Granted)
		}
		typed.Close()
	}
}

func TestGrantManifest(t *testing.T) {
	d := newDaemon(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	granted := func() int {
		p, err := d.backend.Permissions(t.Context(), "default", "demo")
		if err != nil {
			t.Fatal(err)
		}
		return len(p.Granted)
	}
	good := write("good.json", `{"network":[{"host":"api.example.net","ports":[443]}],"env":["DEMO"],"workspace":"ro"}`)
	for _, tc := range []struct {
		name, file, args, stdin string
		terminal                bool
		code                    int
		says                    string
		granted                 int
	}{
		{"not there", dir + "/none.json", "", "", false, 3, "cannot read the manifest", 1},
		{"no JSON", write("bad.json", `{`), "", "", false, 2, "cannot use the manifest", 1},
		{"unknown field", write("field.json", `{"networks":[]}`), "", "", false, 2, "is no permission", 1},
		{"too wide", write("wide.json", `{"network":[{"host":"*.com","ports":[443]}]}`), "", "", false, 2, "many owners", 1},
		{"too large", write("large.json", strings.Repeat(" ", plugin.MaxPermissionFile+1)), "", "", false, 2, "more than 65536 bytes", 1},
		{"empty", write("empty.json", `{}`), "", "", false, 0, "The manifest grants nothing to demo.", 1},
		{"nobody to ask", good, "", "", false, 4, "no terminal\n  hint: pass --yes", 1},
		{"no", good, "", "n\n", true, 4, "Grant this to demo? [y/N] ocmt: the manifest was not confirmed; nothing was granted", 1},
		{"no answer", good, "", "", true, 4, "nothing was granted", 1},
		{"yes", good, "", "yes\n", true, 0, "Granted 2 permissions to demo; the plugin was restarted for it.\n", 3},
		{"yes beforehand", good, "--yes", "", false, 0, "Granted 2 permissions", 3},
	} {
		c := &command{terminal: tc.terminal, stdin: strings.NewReader(tc.stdin)}
		out, errout := d.ocmtWith(t, c, tc.code, append([]string{"plugins", "grant", "demo", "--manifest", tc.file}, strings.Fields(tc.args)...)...)
		contains(t, out+errout, tc.says)
		if got := granted(); got != tc.granted {
			t.Errorf("%s: %d grants, want %d", tc.name, got, tc.granted)
		}
		if tc.file == good {
			contains(t, out, "The manifest grants to demo:\n  - connect to api.example.net\n  - read the variable DEMO\n",
				"grant it by itself:\n  - read a directory\n      ocmt plugins grant demo workspace ro PATH\n")
		}
	}
}
