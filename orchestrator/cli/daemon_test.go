package cli

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
)

// daemon is the API with the backend in memory, on a socket.
type daemon struct {
	socket  string
	backend *apitest.Backend
}

func newDaemon(t *testing.T) daemon {
	t.Helper()
	d := daemon{socket: filepath.Join(t.TempDir(), "s.sock"), backend: apitest.New()}
	return d.serve(t, d.backend.Parts())
}

func (d daemon) serve(t *testing.T, parts httpapi.Backend) daemon {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	listener, err := httpapi.ListenUnix(ctx, d.socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	handler := httpapi.New(parts, httpapi.Options{UploadDir: t.TempDir()})
	done := make(chan error)
	go func() {
		done <- httpapi.Serve(ctx, listener, handler, httpapi.Caller{Access: httpapi.AccessAdmin}, log)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return d
}

// command is a run of ocmt.
type command struct {
	stdin    io.Reader
	terminal bool // all three streams are one
	hidden   string
	stdout   output
	stderr   output
}

// output is what was printed; it can be read meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	wait string
	seen chan struct{} // closed once wait was printed
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.text.Write(p)
	if o.seen != nil && strings.Contains(o.text.String(), o.wait) {
		close(o.seen)
		o.seen = nil
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// saw returns a channel that is closed once text was printed.
func (o *output) saw(text string) <-chan struct{} {
	seen := make(chan struct{})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wait, o.seen = text, seen
	if strings.Contains(o.text.String(), text) {
		close(seen)
		o.seen = nil
	}
	return seen
}

func (c *command) run(ctx context.Context, d daemon, args ...string) int {
	if c.stdin == nil {
		c.stdin = strings.NewReader("")
	}
	return Main(ctx, Env{
		Stdin: c.stdin, Stdout: &c.stdout, Stderr: &c.stderr, Getenv: func(string) string { return "" },
		IsTerminal: func(any) bool { return c.terminal }, Version: "1.0.0", ReadHidden: c.readHidden,
	}, append([]string{"--socket", d.socket}, args...))
}

// readHidden types what is hidden; nothing is an interrupt.
func (c *command) readHidden(context.Context, any) (string, error) {
	if c.hidden == "" {
		return "", context.Canceled
	}
	return c.hidden, nil
}

// ocmt runs a command where there is no terminal and checks its exit code.
func (d daemon) ocmt(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	return d.ocmtWith(t, &command{}, code, args...)
}

func (d daemon) ocmtWith(t *testing.T, c *command, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	if got := c.run(t.Context(), d, args...); got != code {
		t.Fatalf("%q: exit code %d, want %d\n%s%s", args, got, code, c.stdout.String(), c.stderr.String())
	}
	return c.stdout.String(), c.stderr.String()
}

// contains checks that text holds each of the wanted.
func contains(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}
