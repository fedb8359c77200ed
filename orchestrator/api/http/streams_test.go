package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// slowTools has calls that last until they are released.
type slowTools struct {
	release chan struct{}
	calls   int
}

func (s *slowTools) Tools(context.Context, string) ([]v1.Tool, error) { return nil, nil }

func (s *slowTools) Call(ctx context.Context, _, _, _ string, _ v1.CallRequest, watch CallWatch) (v1.CallResult, error) {
	s.calls++
	watch.Update(json.RawMessage(`1`))
	watch.Update(json.RawMessage(`{`)) // no JSON, and dropped
	select {
	case <-s.release:
	case <-ctx.Done():
		return v1.CallResult{}, ctx.Err()
	}
	watch.Update(json.RawMessage(`2`))
	return v1.CallResult{}, nil
}

// answered is a request that is answered in the background.
type answered struct {
	*httptest.ResponseRecorder
	hangUp context.CancelFunc
	done   chan struct{}
}

func (a *answered) isDone() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

func ask(t *testing.T, h http.Handler, method, path, body string, headers ...string) *answered {
	ctx, cancel := context.WithCancel(WithCaller(t.Context(), Caller{Access: AccessAdmin}))
	a := &answered{httptest.NewRecorder(), cancel, make(chan struct{})}
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	go func() {
		defer close(a.done)
		h.ServeHTTP(a, r)
	}()
	synctest.Wait()
	return a
}

// A stream whose client hangs up goes on when another request waits for it, and
// writes to nobody who is gone.
func TestStreamGoesOnForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tools := &slowTools{release: make(chan struct{})}
		h := New(Backend{Tools: tools}, Options{})
		const path = "/v1/tenants/default/plugins/demo/tools/slow/stream"
		first := ask(t, h, "POST", path, "{}", v1.IdempotencyKey, "k")
		second := ask(t, h, "POST", path, "{}", v1.IdempotencyKey, "k")
		first.hangUp()
		synctest.Wait()
		if !first.isDone() || second.isDone() {
			t.Fatalf("first done: %v, second: %v", first.isDone(), second.isDone())
		}
		started := "event: update\ndata: 1\n\n"
		if got := first.Body.String(); !strings.HasPrefix(got, started) || strings.Contains(got, "done") {
			t.Errorf("first: %q", got)
		}
		close(tools.release)
		synctest.Wait()
		if got := second.Body.String(); got != "event: done\ndata: {\"result\":null}\n\n" || second.Header().Get(v1.IdempotencyReplayed) != "true" {
			t.Errorf("second: %v %q", second.Header(), got)
		}
		if strings.Contains(first.Body.String(), "data: 2") || tools.calls != 1 {
			t.Errorf("first, later: %q, %d calls", first.Body, tools.calls)
		}
		time.Sleep(replayTTL)
	})
}

func TestSilentStreamBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tools := &slowTools{release: make(chan struct{})}
		a := ask(t, New(Backend{Tools: tools}, Options{}), "POST", "/v1/tenants/default/plugins/demo/tools/slow/stream", "{}")
		time.Sleep(2*heartbeat + 1)
		a.hangUp()
		synctest.Wait()
		if got := strings.Count(a.Body.String(), ": still here\n\n"); got != 2 || !a.isDone() {
			t.Errorf("got %d heartbeats, want 2", got)
		}
		length := a.Body.Len()
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		if a.Body.Len() != length {
			t.Errorf("written after the end: %q", a.Body)
		}
	})
}

// quietLog is silent until its log ends.
type quietLog struct {
	Plugins
	end  chan error
	line v1.LogLine
}

func (q quietLog) LogLines(ctx context.Context, _, _ string, _ v1.LogQuery, send func(v1.LogLine) error) error {
	if q.line.Line != "" {
		if err := send(q.line); err != nil {
			return err
		}
	}
	select {
	case err := <-q.end:
		return err
	case <-ctx.Done():
		return nil
	}
}

// What goes wrong before a followed log says anything is an answer of its own;
// a silent log begins all the same.
func TestFollowedLogBegins(t *testing.T) {
	const path = "/v1/tenants/default/plugins/demo/logs?follow=true&format="
	synctest.Test(t, func(t *testing.T) {
		log := quietLog{end: make(chan error)}
		h := New(Backend{Plugins: log}, Options{})
		a := ask(t, h, "GET", path+"text", "")
		log.end <- errors.New("no such log")
		<-a.done
		if a.Code != http.StatusInternalServerError || !strings.Contains(a.Body.String(), "no such log") {
			t.Errorf("at once: %d %s", a.Code, a.Body)
		}
		a = ask(t, h, "GET", path+"json", "")
		time.Sleep(quietStart)
		synctest.Wait()
		if !a.Flushed || a.Code != http.StatusOK || a.Header().Get("Content-Type") != "application/jsonl" {
			t.Errorf("silent: %d %v", a.Code, a.Header())
		}
		a.hangUp()
		<-a.done
	})
}

func TestLongLinesAreCut(t *testing.T) {
	long := strings.Repeat("x", v1.MaxLogLine-1) + "é" // its last character lies across the limit
	for _, tc := range []struct{ name, format, line, want string }{
		{"text", "text", long, long[:v1.MaxLogLine-1] + " [line cut]\n"},
		{"JSON", "json", long, `{"time":"0001-01-01T00:00:00Z","stream":"stdout","line":"` + long[:v1.MaxLogLine-1] + "\",\"cut\":true}\n"},
		{"no text", "text", strings.Repeat("\x80", v1.MaxLogLine+1), strings.Repeat("\x80", v1.MaxLogLine-3) + " [line cut]\n"},
		{"just fits", "text", long[:v1.MaxLogLine-1], long[:v1.MaxLogLine-1] + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := quietLog{end: make(chan error, 1), line: v1.LogLine{Stream: "stdout", Line: tc.line}}
				log.end <- nil
				a := ask(t, New(Backend{Plugins: log}, Options{}), "GET", "/v1/tenants/default/plugins/demo/logs?format="+tc.format, "")
				if got := a.Body.String(); got != tc.want {
					t.Errorf("got %d bytes ...%q, want %d ...%q", len(got), got[max(0, len(got)-20):], len(tc.want), tc.want[len(tc.want)-20:])
				}
			})
		})
	}
}
