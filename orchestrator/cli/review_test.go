package cli

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// newInstalling is a daemon that reviews what it installs; its answers go to
// the channel.
func newInstalling(t *testing.T, r v1.Review) (daemon, chan string) {
	t.Helper()
	d := daemon{socket: t.TempDir() + "/s.sock", backend: apitest.New()}
	parts := d.backend.Parts()
	answers := make(chan string, 1)
	parts.Plugins = installing{parts.Plugins, r, answers}
	return d.serve(t, parts), answers
}

var asking = v1.Review{
	Digest: "sha256:00", Plugin: "demo", Name: "@scope/demo", Version: "2.0.0",
	Permissions: []v1.Permission{
		{Kind: "network", Target: "api.example.com:443", Sentence: "It may connect to api.example.com on port 443, encrypted.", Sensitive: true},
		{Kind: "registration", Target: "tool:echo", Sentence: "Its tool “echo” is offered to agents."},
		{Kind: "secret", Target: "KEY", Sentence: "It may use the secret KEY where the secret's owner allows it.", Sensitive: true, Command: "ocmt plugins grant demo secret KEY"},
	},
	Diagnostics: []v1.Diagnostic{{Level: "warn", Message: "registers no schema"}},
}

func TestReviewAnswers(t *testing.T) {
	const shown = `
@scope/demo 2.0.0 was loaded once, without network and without permissions.

It gets with the install:
  - Its tool “echo” is offered to agents.

It asks for this, which needs your yes:
  ! It may connect to api.example.com on port 443, encrypted.

It asks for this too, which you can grant once it is installed:
  - It may use the secret KEY where the secret's owner allows it.
      ocmt plugins grant demo secret KEY

warn: registers no schema

Grant what is marked with ! as well? (y = yes, n = install without it, c = cancel the install) [n] `
	for stdin, want := range map[string]string{
		"y\n":            "asked: all",
		" YES \n":        "asked: all",
		"n\n":            "asked: basic",
		"\n":             "asked: basic",
		"c\n":            "asked: none",
		"cancel\n":       "asked: none",
		"":               "asked: none", // the end of the input
		"what?\nall\ny":  "asked: all",
		"what?\n":        "asked: none",
		"what?\n\nyes\n": "asked: basic",
	} {
		d, answers := newInstalling(t, asking)
		c := &command{terminal: true, stdin: strings.NewReader(stdin)}
		out, errout := d.ocmtWith(t, c, 0, "plugins", "install", "demo", "--yes")
		if got := <-answers; got != want {
			t.Errorf("%q: got %s, want %s", stdin, got, want)
		}
		contains(t, errout, shown, "1 request of demo not granted: see ocmt plugins permissions demo\n")
		contains(t, out, "installed demo 1.2.3 from npm: ready, 5 tools\n")
	}
}

// One reader serves the warning's question and the review's.
func TestReviewAfterWarning(t *testing.T) {
	d, answers := newInstalling(t, asking)
	c := &command{terminal: true, stdin: strings.NewReader("y\ny\n")}
	d.ocmtWith(t, c, 0, "plugins", "install", "demo")
	if got := <-answers; got != "asked: all" {
		t.Errorf("got %s", got)
	}
}

// Where nobody can be asked, what needs a yes is not granted unless the command
// says so, and what is not granted is listed with its command.
func TestReviewUnasked(t *testing.T) {
	for want, flags := range map[string][]string{"basic": nil, "all": {"--accept-permissions"}} {
		d, answers := newInstalling(t, asking)
		_, errout := d.ocmt(t, 0, append([]string{"plugins", "install", "demo", "--yes"}, flags...)...)
		if got := <-answers; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		contains(t, errout, "demo asks for 1 permission that it was not granted:\n  - connect to api.example.net, port 443\n"+
			"      ocmt plugins grant demo network api.example.net:443\nsee them again: ocmt plugins permissions demo\n")
	}
	d, answers := newInstalling(t, asking)
	d.ocmtWith(t, &command{terminal: true}, 0, "plugins", "install", "demo", "--yes", "--accept-permissions")
	if got := <-answers; got != "all" {
		t.Errorf("on a terminal: got %s", got)
	}
}

// --yes skips the warning, and --accept-permissions the review: neither skips
// the other.
func TestReviewIsNotTheWarning(t *testing.T) {
	d, _ := newInstalling(t, asking)
	_, errout := d.ocmt(t, 4, "plugins", "install", "demo", "--accept-permissions")
	contains(t, errout, "cannot ask whether to install demo")
}

func TestReviewInterrupted(t *testing.T) {
	d := newDaemon(t)
	stdin, hold := io.Pipe()
	defer hold.Close()
	c := &command{terminal: true, stdin: stdin}
	ctx, interrupt := context.WithCancel(t.Context())
	seen, code := c.stderr.saw("Grant what is marked"), make(chan int)
	go func() { code <- c.run(ctx, d, "plugins", "install", "asking", "--yes") }()
	<-seen
	interrupt()
	if got := <-code; got != 1 {
		t.Errorf("exit code %d", got)
	}
	contains(t, c.stderr.String(), "interrupted: what was begun is undone")
}

// A refused review is the exit code of a refusal.
func TestReviewRefused(t *testing.T) {
	d := newDaemon(t)
	c := &command{terminal: true, stdin: strings.NewReader("c\n")}
	_, errout := d.ocmtWith(t, c, 4, "plugins", "install", "asking", "--yes")
	contains(t, errout, "nothing was installed")
}

// What is not to be decided is not asked.
func TestReviewOfNothing(t *testing.T) {
	r := asking
	r.Permissions, r.Update = asking.Permissions[1:], true
	d, answers := newInstalling(t, r)
	c := &command{terminal: true}
	_, errout := d.ocmtWith(t, c, 0, "plugins", "install", "demo", "--yes")
	if got := <-answers; got != "asked: basic" {
		t.Errorf("got %s", got)
	}
	contains(t, errout, "What it was granted before stays; this is new:\n")
	if strings.Contains(errout, "marked") {
		t.Errorf("asked:\n%s", errout)
	}
}

// A linked plugin is installed anew without asking anybody.
func TestRestartLinked(t *testing.T) {
	d, answers := newInstalling(t, asking)
	dir := t.TempDir()
	parts := d.backend.Parts()
	parts.Plugins = linked{installing{parts.Plugins, asking, answers}, dir}
	d.socket += "2"
	d.serve(t, parts)
	d.ocmtWith(t, &command{terminal: true}, 0, "plugins", "restart", "demo")
	if got := <-answers; got != "basic" {
		t.Errorf("got %s", got)
	}
}

func TestForTenant(t *testing.T) {
	for _, tc := range []struct{ text, tenant, want string }{
		{"see ocmt plugins list", "default", "see ocmt plugins list"},
		{"see ocmt plugins list", "", "see ocmt plugins list"},
		{"see ocmt plugins list", "No Body", "see ocmt plugins list"},
		{"see ocmt plugins list", "acme", "see ocmt --tenant acme plugins list"},
		{"`ocmt plugins logs x`, or `ocmt approvals list`", "acme", "`ocmt --tenant acme plugins logs x`, or `ocmt --tenant acme approvals list`"},
		{"run: ocmt plugins grant x env TZ --tenant acme", "acme", "run: ocmt plugins grant x env TZ --tenant acme"},
		{"start it with `ocmt serve`", "acme", "start it with `ocmt serve`"},
		{"did you mean echo?", "acme", "did you mean echo?"},
	} {
		if got := forTenant(tc.text, tc.tenant); got != tc.want {
			t.Errorf("%q of %q: got %q, want %q", tc.text, tc.tenant, got, tc.want)
		}
	}
}

// The commands in hints work in the tenant that was worked in, and are
// understood so.
func TestHintsNameTheTenant(t *testing.T) {
	d := newDaemon(t)
	_, errout := d.ocmt(t, 3, "plugins", "info", "nope", "--tenant", "acme")
	contains(t, errout, "  hint: see what is installed: ocmt --tenant acme plugins list\n")
	out, _ := d.ocmt(t, 0, "--tenant", "acme", "plugins", "list")
	contains(t, out, "metrics")
	_, errout = d.ocmt(t, 2, "plugins", "info", "--tenant", "acme")
	contains(t, errout, "  hint: usage: ocmt plugins info ID [flags]\n")
}
