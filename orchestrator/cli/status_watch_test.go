package cli

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// watching runs a command until stop, which checks that it ended well.
func watching(t *testing.T, d daemon, c *command, args ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- c.run(ctx, d, args...) }()
	return func() {
		t.Helper()
		cancel()
		select {
		case got := <-code:
			if got != 0 {
				t.Errorf("exit code %d: %s", got, c.stderr.String())
			}
		case <-time.After(patience):
			t.Fatal("an interrupt does not end it")
		}
	}
}

func (o *output) await(t *testing.T, text string) {
	t.Helper()
	select {
	case <-o.saw(text):
	case <-time.After(patience):
		t.Fatalf("%q is not in:\n%s", text, o.String())
	}
}

func TestStatusWatchPrintsWhatChanges(t *testing.T) {
	d, c := newDaemon(t), &command{}
	stop := watching(t, d, c, "status", "--watch")
	c.stdout.await(t, "ocmt approvals approve request-1\n") // the last line of the whole
	whole := c.stdout.String()
	if _, err := d.backend.Disable(t.Context(), "default", "demo"); err != nil {
		t.Fatal(err)
	}
	c.stdout.await(t, "UTC  plugin demo  disabled, version 1.2.3, 2 restarts, last exit: error: exit code 7")
	if err := d.backend.Uninstall(t.Context(), "default", "demo", false); err != nil {
		t.Fatal(err)
	}
	c.stdout.await(t, "UTC  plugin demo  gone\n")
	stop()
	changes := strings.TrimPrefix(c.stdout.String(), whole)
	if got := strings.Count(changes, "\n"); got != 2 || strings.Contains(changes, "\x1b") {
		t.Errorf("%d lines for two changes:\n%s", got, changes)
	}
}

func TestStatusWatchRedrawsOnATerminal(t *testing.T) {
	d, c := newDaemon(t), &command{terminal: true}
	stop := watching(t, d, c, "status", "--watch", "-A")
	c.stdout.await(t, "\x1b[H\x1b[2Jdaemon")
	if _, err := d.backend.Enable(t.Context(), "acme", "metrics"); err != nil {
		t.Fatal(err)
	}
	c.stdout.await(t, "ready  0")
	stop()
	if got := strings.Count(c.stdout.String(), "\x1b[H\x1b[2J"); got < 2 {
		t.Errorf("drawn %d times", got)
	}
}

func TestStatusWatchJSON(t *testing.T) {
	d, c := newDaemon(t), &command{}
	stop := watching(t, d, c, "status", "--watch", "--json")
	c.stdout.await(t, "\n}\n")
	if _, err := d.backend.Disable(t.Context(), "default", "demo"); err != nil {
		t.Fatal(err)
	}
	c.stdout.await(t, `"state": "disabled"`)
	c.stdout.await(t, "\n}\n{")
	stop()
	decoder := json.NewDecoder(strings.NewReader(c.stdout.String()))
	var states []string
	for {
		var s v1.Status
		if err := decoder.Decode(&s); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		states = append(states, s.Plugins[0].State)
	}
	if len(states) != 2 || states[0] != "ready" || states[1] != "disabled" {
		t.Errorf("got the states %v, want one status for each change", states)
	}
}

// A daemon that is restarted is waited for, and one that never answered is not.
func TestStatusWatchReconnects(t *testing.T) {
	d := daemon{socket: filepath.Join(t.TempDir(), "s.sock"), backend: apitest.New()}
	if _, errout := d.ocmt(t, 7, "status", "--watch"); !strings.Contains(errout, "no daemon answers") {
		t.Errorf("without a daemon: %s", errout)
	}
	start := func(at time.Time) (end func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		listener, err := httpapi.ListenUnix(ctx, d.socket, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		parts := d.backend.Parts()
		parts.System = telling{parts.System, v1.Status{StartedAt: at}}
		done := make(chan error, 1)
		go func() {
			done <- httpapi.Serve(ctx, listener, httpapi.New(parts, httpapi.Options{}), httpapi.Caller{Access: httpapi.AccessAdmin}, slog.New(slog.DiscardHandler))
		}()
		return func() {
			t.Helper()
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	end := start(apitest.Epoch)
	c := &command{}
	stop := watching(t, d, c, "status", "--watch")
	c.stdout.await(t, "no plugins are installed")
	end()
	c.stderr.await(t, "ocmt: the daemon does not answer; waiting for it\n")
	end = start(apitest.Epoch.Add(time.Hour))
	c.stderr.await(t, "ocmt: the daemon was started again at 2026-01-02 04:04:05 UTC\n")
	stop()
	end()
	if got := c.stderr.String(); strings.Count(got, "\n") != 2 {
		t.Errorf("said %q", got)
	}
}
