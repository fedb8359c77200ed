package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/e2e/harness"
)

// openTerminal returns both ends of a new terminal: ours, and a program's.
func openTerminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var number int
	raw, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// onTerminal runs a command on a terminal, and returns what it printed there
// and its exit code.
func (w *world) onTerminal(t *testing.T, args ...string) (text string, code int) {
	t.Helper()
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := openTerminal(t)
	cmd := exec.CommandContext(t.Context(), bin, append(args, "--home", w.daemon.Home)...) // our own binary
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	var out bytes.Buffer
	read := make(chan struct{})
	go func() {
		_, _ = io.Copy(&out, ours) // ends by EIO, when nobody has the other end
		close(read)
	}()
	if err = cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	theirs.Close()
	<-read
	ours.Close()
	return out.String(), cmd.ProcessState.ExitCode()
}

// clean fails the test if a terminal was told more than text, and returns it.
// The terminal itself writes "\r\n" for a line end.
func (w *world) clean(t *testing.T, code int, args ...string) string {
	t.Helper()
	text, got := w.onTerminal(t, args...)
	if got != code {
		t.Errorf("ocmt %s: exit code %d, want %d:\n%.2000q", strings.Join(args, " "), got, code, text)
	}
	shown := strings.ReplaceAll(text, "\r\n", "\n")
	if slices.Contains(args, "install") {
		shown = strings.ReplaceAll(shown, "\r\x1b[K", "") // by which ocmt itself replaces its last line
	}
	if !utf8.ValidString(shown) {
		t.Errorf("ocmt %s prints what is no UTF-8: %.400q", strings.Join(args, " "), shown)
	}
	for i, r := range shown {
		bad := r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
		if bad {
			t.Errorf("ocmt %s prints %q:\n%.400q", strings.Join(args, " "), r, shown[max(0, i-100):])
			break
		}
	}
	return text
}

// outputGroup is what a plugin says to people.
func outputGroup() group {
	return group{name: "output", attacks: []attack{
		{
			name:    "output-names",
			aims:    "take over the terminal, or the page, that shows what is installed",
			layer:   "names are checked, descriptions and diagnostics made printable; the CLI writes text alone to a terminal",
			install: []string{"--accept-permissions"},
			want:    map[string]string{"named": "all"},
			check: func(t *testing.T, w *world) {
				for _, args := range [][]string{
					{"plugins", "list"}, {"plugins", "info", w.id}, {"plugins", "permissions", w.id}, {"tools", "list"}, {"hooks", "list"}, {"services", "list"},
					{"status"}, {"plugins", "logs", w.id}, {"audit", "tail", "-n", "100"}, {"approvals", "list"}, {"plugins", "verify", w.id},
					{"plugins", "info", w.id, "--json"}, {"tools", "list", "--json"}, {"hooks", "list", "--json"}, {"services", "list", "--json"},
				} {
					w.clean(t, 0, args...)
				}
			},
		},
		{
			name:  "output-results",
			aims:  "take over the terminal that prints a result, or the program that reads it as JSON",
			layer: "the CLI writes text alone to a terminal, and results exactly to everything else",
			want:  map[string]string{"": ".*"},
			check: func(t *testing.T, w *world) {
				for _, tool := range []string{"attack", "text", "content"} {
					if text := w.clean(t, 0, "tools", "call", w.id, tool); !strings.Contains(text, "all is well") || !strings.Contains(text, "script") {
						t.Errorf("%s prints %.300q", tool, text)
					}
					w.clean(t, 0, "tools", "call", w.id, tool, "--json")
					exact(t, w, tool)
				}
				if text := w.clean(t, 5, "tools", "call", w.id, "throws"); strings.Contains(text, "\nocmt: all is well") {
					t.Errorf("an error forges a line: %q", text)
				}
				if text := string(w.daemon.Run(t.Context(), "tools", "call", w.id, "throws").Stderr); strings.ContainsAny(text, "\x1b\x07\x00\u009b") || strings.Contains(text, "\nocmt: all is well") {
					t.Errorf("an error prints %q", text)
				}
			},
		},
		{
			name:  "output-logs",
			aims:  "forge lines of the host, of other plugins and of the audit log; take over the terminal that shows them",
			layer: "what a plugin prints is kept apart by plugin, and shown as text; the audit log holds what the host saw",
			want:  map[string]string{"printed": "lies"},
			check: forgedLines,
		},
		{
			name:  "output-html",
			aims:  "have a browser run what the API returns",
			layer: "API: JSON content types, nosniff, a policy that runs nothing",
			want:  map[string]string{"html": ".*script.*"},
			check: noHTML,
		},
		{
			name:   "output-approval",
			aims:   "have a person allow one thing for another, by a question that rewrites the terminal",
			layer:  "questions are made printable, and name the plugin that asks",
			grants: [][]string{{"hook", "before_tool_call", "observe,block"}},
			want:   map[string]string{"asking": "a question"},
			check:  printableQuestion,
		},
		{
			name:    "output-version",
			aims:    "print to the terminal of whoever installs it, by a version that is none",
			layer:   "package.json is checked before anything is made of it",
			refused: `"version" is no version`,
			check: func(t *testing.T, w *world) {
				w.clean(t, 5, "plugins", "install", filepath.Join(w.dir, "package"))
			},
		},
	}}
}

// exact compares what a program gets that reads the JSON with what the plugin
// returned.
func exact(t *testing.T, w *world, tool string) {
	t.Helper()
	result, err := w.invoke(t.Context(), w.id, tool, `{}`)
	if err != nil {
		t.Fatal(err)
	}
	var direct, printed any
	if err := json.Unmarshal(result, &direct); err != nil {
		t.Fatal(err)
	}
	text := w.run(t, "tools", "call", w.id, tool, "--json")
	if err := json.Unmarshal([]byte(text), &printed); err != nil {
		t.Fatalf("%s --json is no JSON: %v: %q", tool, err, text)
	}
	if a, b := mustJSON(t, direct), mustJSON(t, printed); !bytes.Equal(a, b) || !bytes.Contains(a, []byte(`\u001b`)) {
		t.Errorf("%s --json is %s, want %s", tool, b, a)
	}
}

// printableQuestion looks at the question that a person is asked, and says no.
func printableQuestion(t *testing.T, w *world) {
	answered := make(chan string, 1)
	go func() {
		code, took := w.keep(t)
		if took > 30*time.Second {
			t.Errorf("the call that was denied took %s", took)
		}
		answered <- code
	}()
	var id string
	if !within(10*time.Second, func() bool {
		list, err := w.client.Approvals(t.Context(), tenant)
		for _, a := range list {
			if a.Plugin == w.id && a.Kind == "call" {
				id = a.ID
			}
		}
		return err == nil && id != ""
	}) {
		t.Fatal("nobody is asked")
	}
	for _, args := range [][]string{{"approvals", "list"}, {"status"}, {"approvals", "list", "--json"}} {
		if text := w.clean(t, 0, args...); !strings.Contains(text, w.id) || args[0] == "approvals" && !strings.Contains(text, "Harmless") || strings.Contains(text, "\nocmt: all is well") {
			t.Errorf("ocmt %s says %q", strings.Join(args, " "), text)
		}
	}
	w.clean(t, 0, "approvals", "deny", id)
	if code := <-answered; code != "blocked_by_hook" {
		t.Errorf("the call that was denied: %q", code)
	}
}

// forgedLines looks for what the attacker printed everywhere but in its own
// log.
func forgedLines(t *testing.T, w *world) {
	var text string
	if !within(10*time.Second, func() bool {
		text = w.run(t, "plugins", "logs", w.id)
		return strings.Contains(text, "forged over the line")
	}) {
		t.Errorf("its log is %.2000q", text)
	}
	w.clean(t, 0, "plugins", "logs", w.id)
	w.clean(t, 0, "plugins", "logs", w.id, "--json")
	for _, line := range strings.Split(strings.TrimSpace(w.run(t, "plugins", "logs", w.id, "--json")), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %.200q", line)
		}
	}
	for _, rec := range append(w.audited(t), w.auditedOf(t, "")...) {
		if rec["seq"] == 999999.0 || rec["action"] == "permission.grant" {
			t.Errorf("the audit log holds %v", rec)
		}
	}
	w.run(t, "audit", "verify")
	if log := w.run(t, "plugins", "logs", victimID); strings.Contains(log, "forged") {
		t.Errorf("the neighbour's log holds %.500q", log)
	}
	for line := range strings.Lines(w.daemon.Log()) {
		if strings.Contains(line, "forged") && !strings.Contains(line, w.id) {
			t.Errorf("the daemon's log holds %q", line)
		}
		if strings.ContainsAny(line, "\x1b\x07") {
			t.Errorf("the daemon's log holds %q", line)
		}
	}
}

// noHTML looks at how results and errors come over the API.
func noHTML(t *testing.T, w *world) {
	socket := filepath.Join(w.daemon.Home, "ocmt", "run", "admin.sock")
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	for _, tool := range []string{"attack", "text", "throws", "<script>"} {
		path := "http://ocmt/v1/tenants/" + tenant + "/plugins/" + w.id + "/tools/" + url.PathEscape(tool) + "/call"
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		kind := resp.Header.Get("Content-Type")
		if err != nil || !strings.HasPrefix(kind, "application/") || !strings.Contains(kind, "json") || !json.Valid(body) || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v, %v: %.300s", tool, resp.StatusCode, resp.Header, err, body)
		}
	}
}
