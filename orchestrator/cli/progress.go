package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

const (
	progressInterval = 100 * time.Millisecond
	progressWidth    = 78 // characters; a longer line could not be taken back
)

// progress shows the steps of an install: on a terminal as one line that is
// written over, elsewhere as a line for each stage.
type progress struct {
	w        io.Writer
	terminal bool
	quiet    bool

	mu    sync.Mutex
	stage string
	shown time.Time
	dirty bool // the terminal's line is not empty
}

func newProgress(w io.Writer, terminal, quiet bool) *progress {
	return &progress{w: w, terminal: terminal, quiet: quiet}
}

// show shows a step, or leaves it out if the last was just now.
func (p *progress) show(step v1.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	isNew := step.Stage != p.stage
	if p.quiet || (!isNew && (!p.terminal || time.Since(p.shown) < progressInterval)) {
		return
	}
	p.stage, p.shown = step.Stage, time.Now()
	if !p.terminal {
		fmt.Fprintln(p.w, stepText(v1.Progress{Stage: step.Stage, Message: step.Message}))
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", shorten(stepText(step), progressWidth))
	p.dirty = true
}

// warn prints a line that stays.
func (p *progress) warn(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet {
		return
	}
	p.clear()
	fmt.Fprintf(p.w, "ocmt: %s\n", clean(message))
}

// finish takes the last line back.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *progress) clear() {
	if p.dirty {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.dirty = false
	}
}

func stepText(s v1.Progress) string {
	text := clean(s.Stage)
	if s.Message != "" {
		text += ": " + clean(s.Message)
	}
	if s.Done > 0 || s.Total > 0 {
		text += " " + amount(s)
	}
	return text
}

func amount(s v1.Progress) string {
	format := func(n int64) string { return fmt.Sprint(n) }
	unit := ""
	switch s.Unit {
	case "":
	case "bytes":
		format = byteSize
	default:
		unit = " " + clean(s.Unit)
	}
	if s.Total > 0 {
		return fmt.Sprintf("%s of %s%s (%d%%)", format(s.Done), format(s.Total), unit, min(100, 100*s.Done/s.Total))
	}
	return format(s.Done) + unit
}
