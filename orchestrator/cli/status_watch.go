package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

const (
	watchEvery = 5 * time.Second        // for what no event tells: the engine's state, and how long the daemon is up
	watchPause = 100 * time.Millisecond // between two times that it is shown
	watchRetry = 500 * time.Millisecond // while the daemon does not answer
)

// statusWatch shows the status again whenever it changes.
type statusWatch struct {
	app     *app
	cmd     *cobra.Command
	client  *client.Client
	reads   reads
	inPlace bool

	shown   bool
	lines   []string  // of the last status
	json    string    // the last status
	started time.Time // of the daemon
	lost    bool      // the daemon does not answer
	note    string    // what became of the daemon
}

// watchStatus shows the status whenever something happens: on a terminal in
// place, else the lines that changed, and as JSON all of it. An interrupt ends
// it without an error. A daemon that breaks off is waited for.
func (a *app) watchStatus(cmd *cobra.Command, c *client.Client, r reads) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	w := &statusWatch{app: a, cmd: cmd, client: c, reads: r, inPlace: !r.json && a.env.IsTerminal(a.env.Stdout)}
	news, done := make(chan struct{}, 1), make(chan struct{})
	defer func() { cancel(); <-done }()
	go func() {
		defer close(done)
		w.listen(ctx, news)
	}()
	for tick := time.NewTicker(watchEvery); ; {
		if err := w.show(ctx); err != nil || !pause(ctx, w.delay()) {
			return err
		}
		if w.lost {
			continue
		}
		select {
		case <-news:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *statusWatch) delay() time.Duration {
	if w.lost {
		return watchRetry
	}
	return watchPause
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// listen puts something into news when something happens, until ctx ends.
func (w *statusWatch) listen(ctx context.Context, news chan<- struct{}) {
	query := v1.EventQuery{Tenant: w.app.tenantOf(w.reads), Follow: true}
	for {
		err := w.client.Events(ctx, query, func(e v1.Event) error {
			query.Since = e.Seq
			select {
			case news <- struct{}{}:
			default: // there is some
			}
			return nil
		})
		if err != nil && !errdefs.IsUnavailable(err) || !pause(ctx, watchRetry) {
			return // asking now and then will have to do
		}
	}
}

// show asks for the status and shows it, or says once that nobody answers. The
// first time that is an error.
func (w *statusWatch) show(ctx context.Context) error {
	status, err := w.client.Status(ctx, w.app.tenantOf(w.reads))
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // interrupted, which is how a watch ends
	case w.shown && errdefs.IsUnavailable(err):
		if !w.lost {
			w.lost = true
			fmt.Fprintln(w.app.env.Stderr, "ocmt: the daemon does not answer; waiting for it")
		}
		return nil
	case err != nil:
		return err
	}
	w.meet(status)
	first := !w.shown
	w.shown = true
	switch {
	case w.reads.json:
		return w.showJSON(status)
	case w.inPlace:
		return w.draw(status)
	case first:
		w.lines = statusLines(status, w.reads.all)
		return printStatus(w.cmd, status, w.reads.all)
	}
	w.showChanges(status)
	return nil
}

// meet notes which daemon answered, and says so if it is another one or is back.
func (w *statusWatch) meet(s v1.Status) {
	note := ""
	switch {
	case w.shown && !s.StartedAt.Equal(w.started):
		note = "the daemon was started again at " + instant(s.StartedAt)
	case w.lost:
		note = "the daemon answers again"
	}
	w.started, w.lost = s.StartedAt, false
	if note == "" {
		return
	}
	w.note = note
	if !w.inPlace { // there, what is written now is cleared at once
		fmt.Fprintln(w.app.env.Stderr, "ocmt: "+note)
	}
}

// showJSON prints a status that differs from the last.
func (w *statusWatch) showJSON(s v1.Status) error {
	text, err := json.Marshal(s)
	if err != nil || string(text) == w.json {
		return err
	}
	w.json = string(text)
	return w.app.printJSON(s)
}

// draw clears the terminal and prints the status.
func (w *statusWatch) draw(s v1.Status) error {
	const home = "\x1b[H\x1b[2J"
	fmt.Fprint(w.cmd.OutOrStdout(), home)
	if w.note != "" {
		fmt.Fprintf(w.cmd.OutOrStdout(), "%s\n\n", w.note)
	}
	return printStatus(w.cmd, s, w.reads.all)
}

// showChanges prints the lines that are new, and which plugins are gone.
func (w *statusWatch) showChanges(s v1.Status) {
	lines := statusLines(s, w.reads.all)
	now := instant(time.Now())
	for _, line := range lines {
		if !slices.Contains(w.lines, line) {
			fmt.Fprintf(w.cmd.OutOrStdout(), "%s  %s\n", now, clean(line))
		}
	}
	for _, line := range w.lines {
		subject := subjectOf(line)
		if !slices.ContainsFunc(lines, func(l string) bool { return subjectOf(l) == subject }) {
			fmt.Fprintf(w.cmd.OutOrStdout(), "%s  %s  gone\n", now, clean(subject))
		}
	}
	w.lines = lines
}

// subjectOf is what a line of statusLines is about.
func subjectOf(line string) string {
	subject, _, _ := strings.Cut(line, "  ")
	return subject
}

// statusLines says in a line for each what may change: the engine, what waits
// for a person, and the plugins.
func statusLines(s v1.Status, tenants bool) []string {
	engine := "engine  " + s.Engine.Name + " answers"
	if trouble := engineTrouble(s.Engine); trouble != "" {
		engine = "engine  " + strings.TrimPrefix(trouble, "engine: ")
	}
	lines := []string{engine, "requests  " + count(len(s.Pending), "request") + " for a person"}
	for _, p := range s.Plugins {
		name := p.ID
		if tenants {
			name = p.Tenant + "/" + p.ID
		}
		line := fmt.Sprintf("plugin %s  %s, version %s, %s", name, stateText(p), p.Version, count(p.Restarts, "restart"))
		if p.LastExit != nil {
			line += ", last exit: " + exitText(p.LastExit)
		}
		lines = append(lines, line)
	}
	return lines
}
