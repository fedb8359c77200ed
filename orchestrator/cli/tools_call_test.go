package cli

import (
	"context"
	"io"
	"strings"
	"testing"
)

func TestCallProgress(t *testing.T) {
	d := newDaemon(t)
	out, errout := d.ocmt(t, 0, "tools", "call", "demo", "count", "--progress")
	if out != "{\n  \"count\": 3\n}\n" || errout != "{\"count\":1}\n{\"count\":2}\n{\"count\":3}\n" {
		t.Errorf("got %q and %q", out, errout)
	}
	out, errout = d.ocmt(t, 0, "tools", "call", "demo", "count")
	if out != "{\n  \"count\": 3\n}\n" || errout != "" {
		t.Errorf("got %q and %q", out, errout)
	}
	_, errout = d.ocmtWith(t, &command{terminal: true}, 0, "tools", "call", "demo", "count")
	contains(t, errout, "\r\x1b[K{\"count\":3}\r\x1b[K")
	d.ocmt(t, 3, "tools", "call", "demo", "nope", "--progress")
}

func TestCallApproval(t *testing.T) {
	const question = "demo asks: Run ask?\n  severity: warning\n  parameters: {\"a\":1}\n  to answer elsewhere: ocmt approvals approve call-1, or deny\n" +
		"Allow it? (y = yes, this once, a = always, n = no) "
	for stdin, tc := range map[string]struct {
		code      int
		out, says string
	}{
		"y\n":            {0, "allow-once", "ocmt: allowed by uid:"},
		"ALWAYS\n":       {0, "allow-always", "ocmt: always allowed by uid:"},
		"what\n\nyes\n":  {0, "allow-once", "ocmt: allowed by uid:"},
		"perhaps\n no\n": {4, "", "ocmt: denied by uid:"},
	} {
		d := newDaemon(t)
		c := &command{terminal: true, stdin: strings.NewReader(stdin)}
		out, errout := d.ocmtWith(t, c, tc.code, "tools", "call", "demo", "ask", "--params", `{"a":1}`)
		contains(t, out, tc.out)
		contains(t, errout, question, tc.says)
	}
}

// An approval can be answered elsewhere, also while it is asked for here.
func TestCallApprovalElsewhere(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		d := newDaemon(t)
		stdin, hold := io.Pipe() // nobody types
		defer hold.Close()
		c := &command{terminal: terminal, stdin: stdin}
		seen, code := c.stderr.saw("ocmt approvals approve call-1"), make(chan int)
		go func() { code <- c.run(t.Context(), d, "tools", "call", "demo", "ask", "--progress") }()
		<-seen
		d.ocmt(t, 0, "approvals", "approve", "call-1", "--always")
		if got := <-code; got != 0 {
			t.Fatalf("exit code %d: %s", got, c.stderr.String())
		}
		contains(t, c.stdout.String(), "allow-always")
		contains(t, c.stderr.String(), "\nocmt: always allowed by uid:")
	}
}

// Where the input holds the parameters, or ends, nobody is asked.
func TestCallApprovalUnasked(t *testing.T) {
	for _, stdin := range []string{"{}", ""} {
		d := newDaemon(t)
		params := "-"
		if stdin == "" {
			params = "{}"
		}
		c := &command{terminal: true, stdin: strings.NewReader(stdin)}
		seen, code := c.stderr.saw("ocmt approvals approve call-1"), make(chan int)
		go func() { code <- c.run(t.Context(), d, "tools", "call", "demo", "ask", "--params", params) }()
		<-seen
		d.ocmt(t, 0, "approvals", "deny", "call-1")
		if got := <-code; got != 4 {
			t.Errorf("exit code %d: %s", got, c.stderr.String())
		}
	}
}

// A call that is interrupted while it asks ends.
func TestCallApprovalInterrupted(t *testing.T) {
	d := newDaemon(t)
	stdin, hold := io.Pipe()
	defer hold.Close()
	c := &command{terminal: true, stdin: stdin}
	ctx, interrupt := context.WithCancel(t.Context())
	seen, code := c.stderr.saw("Allow it?"), make(chan int)
	go func() { code <- c.run(ctx, d, "tools", "call", "demo", "ask") }()
	<-seen
	interrupt()
	if got := <-code; got != 1 {
		t.Errorf("exit code %d: %s", got, c.stderr.String())
	}
}

func TestCallChanges(t *testing.T) {
	d := newDaemon(t)
	parts := d.backend.Parts()
	parts.Tools = changing{parts.Tools}
	d.socket += "2"
	d.serve(t, parts)
	out, errout := d.ocmt(t, 0, "tools", "call", "demo", "echo")
	if want := "ocmt: changed by a hook of guard: /params/q \"a\" -> nothing\n"; errout != want {
		t.Errorf("got %q, want %q", errout, want)
	}
	if strings.Contains(out, "guard") {
		t.Errorf("standard output is not the result alone: %s", out)
	}
}
