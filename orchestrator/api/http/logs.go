package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// quietStart is how long a log that is followed may be silent before its
// answer begins. What goes wrong until then is an answer of its own.
const quietStart = 500 * time.Millisecond

// cutMark ends a line of text that was cut.
const cutMark = " [line cut]"

func (a *api) logRoutes(r *routes) {
	logs := op(AccessCall, http.MethodGet, pluginPath+"/logs", "plugin-logs", "What the plugin printed", "plugins")
	logs.Responses = content("The lines, streamed: each a LogLine in JSON if the format is json", "text/plain", "application/jsonl")
	r.OpenAPI().Components.Schemas.Schema(typeOf[v1.LogLine](), true, "LogLine")
	handle(r, logs, a.logs)
}

type logsInput struct {
	PluginParam
	Follow   bool      `query:"follow" doc:"go on until the client hangs up"`
	Previous bool      `query:"previous" doc:"of the generation before"`
	Tail     int       `query:"tail" default:"-1" doc:"the last lines only; all if negative"`
	Since    time.Time `query:"since" doc:"later lines only"`
	Format   string    `query:"format" enum:"text,json" default:"text" doc:"text is the lines alone, of stdout and stderr"`
}

func (a *api) logs(ctx context.Context, in *logsInput) (*huma.StreamResponse, error) {
	q := v1.LogQuery{Follow: in.Follow, Previous: in.Previous, Tail: in.Tail, Since: in.Since}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		out := &logWriter{w: w, control: http.NewResponseController(w), json: in.Format == "json", follow: in.Follow}
		defer out.close()
		if in.Follow {
			defer time.AfterFunc(quietStart, out.begin).Stop()
		}
		err := a.backend.Plugins.LogLines(ctx, in.Tenant, in.ID, q, out.line)
		begun := out.end(err)
		if err != nil && begun && ctx.Err() == nil {
			a.log.Warn("log stream broke off", "tenant", in.Tenant, "plugin", in.ID, "error", err)
			panic(http.ErrAbortHandler) // so that the client knows too
		}
	}}, nil
}

// logWriter writes the lines of a log. Its answer begins with the first line,
// or when begin is called.
type logWriter struct {
	control *http.ResponseController
	json    bool
	follow  bool // every line is sent at once

	mu    sync.Mutex
	w     http.ResponseWriter
	begun bool
	ended bool
}

func (l *logWriter) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun && !l.ended {
		l.start()
		l.control.Flush() //nolint:errcheck // a client that is gone ends the request
	}
}

// start needs the lock.
func (l *logWriter) start() {
	l.begun = true
	mediaType := "text/plain; charset=utf-8"
	if l.json {
		mediaType = "application/jsonl"
	}
	l.w.Header().Set("Content-Type", mediaType)
	l.w.WriteHeader(http.StatusOK)
}

func (l *logWriter) line(line v1.LogLine) error {
	text, err := render(bound(line), l.json)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun {
		l.start()
	}
	if _, err := l.w.Write(text); err != nil || !l.follow {
		return err
	}
	return l.control.Flush()
}

// end reports whether the answer had begun; if not it is err, or no lines.
func (l *logWriter) end(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.ended = true; {
	case l.begun:
		return true
	case err != nil:
		writeError(l.w, err)
	default:
		l.start()
	}
	return false
}

// close keeps begin from writing after the handler, which may have panicked.
func (l *logWriter) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// bound cuts a line that is too long, between characters.
func bound(line v1.LogLine) v1.LogLine {
	if len(line.Line) <= v1.MaxLogLine {
		return line
	}
	end := v1.MaxLogLine
	for i := 1; i < utf8.UTFMax && !utf8.RuneStart(line.Line[end]); i++ {
		end--
	}
	line.Line, line.Cut = line.Line[:end], true
	return line
}

func render(line v1.LogLine, asJSON bool) ([]byte, error) {
	if !asJSON {
		text := line.Line
		if line.Cut {
			text += cutMark
		}
		return []byte(text + "\n"), nil
	}
	text, err := json.Marshal(line)
	return append(text, '\n'), err
}
