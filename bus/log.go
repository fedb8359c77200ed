package bus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/time/rate"
)

// serverLog hands the NATS server's log on. A plugin can make the server log
// at will, so that only some lines per second pass.
type serverLog struct {
	log  *slog.Logger
	pass *rate.Limiter
}

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log, pass: rate.NewLimiter(5, 20)}
}

func (l *serverLog) Noticef(string, ...any) {} // its start and stop; success is quiet
func (l *serverLog) Debugf(string, ...any)  {}
func (l *serverLog) Tracef(string, ...any)  {}

func (l *serverLog) Warnf(format string, args ...any)  { l.write(slog.LevelWarn, format, args) }
func (l *serverLog) Errorf(format string, args ...any) { l.write(slog.LevelWarn, format, args) }
func (l *serverLog) Fatalf(format string, args ...any) { l.write(slog.LevelError, format, args) }

const maxLogText = 512 // bytes; a subject may have thousands

func (l *serverLog) write(level slog.Level, format string, args []any) {
	if !l.pass.Allow() {
		return
	}
	text := fmt.Sprintf(format, args...)
	if len(text) > maxLogText {
		text = strings.ToValidUTF8(text[:maxLogText], "") + "..."
	}
	l.log.Log(context.Background(), level, "bus server reports", "text", text)
}
