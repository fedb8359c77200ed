package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"
	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Bounds of slow clients.
const (
	writeTimeout  = 30 * time.Second // for each write of an answer; the default of Options.WriteTimeout
	bodyTimeout   = 30 * time.Second // for a whole JSON body
	uploadTimeout = 10 * time.Minute // for a whole upload
)

// requestIDHeader carries the id by which the log names a request. A caller
// may choose it.
const requestIDHeader = "X-Request-Id"

var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// inertHeaders keep a browser from taking an answer, much of which is what
// plugins said, for anything that it runs.
var inertHeaders = map[string]string{
	"X-Content-Type-Options":  "nosniff",
	"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

// observe gives every request an id, its caller and an entry in the log, and
// keeps a handler's panic from ending more than its request.
func (a *api) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(inner http.ResponseWriter, r *http.Request) {
		started := time.Now()
		id := r.Header.Get(requestIDHeader)
		if !requestID.MatchString(id) {
			id = rand.Text()
		}
		w := &responseWriter{ResponseWriter: inner, control: http.NewResponseController(inner), timeout: a.writeTimeout}
		w.Header().Set(requestIDHeader, id)
		for name, value := range inertHeaders {
			w.Header().Set(name, value)
		}
		caller, err := a.identify(r)
		ctx, leave := caller.while(WithCaller(r.Context(), caller))
		defer leave()
		r = r.WithContext(ctx)
		defer func() {
			p := recover()
			if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // the very value is the signal
				a.log.Error("handler panicked", "request_id", id, "method", r.Method, "route", r.Pattern, "panic", p, "stack", string(debug.Stack()))
				if w.status == 0 {
					writeError(w, fault.New(errdefs.ErrInternal, "internal", "cannot answer the request: a fault in ocmt").
						WithHint("the daemon's log has it as request %s", id))
					p = nil
				}
			}
			a.log.Debug("request", "request_id", id, "method", r.Method, "route", r.Pattern, "path", r.URL.Path, "actor", caller.Actor,
				"status", w.status, "bytes", w.bytes, "duration_ms", time.Since(started).Milliseconds())
			if p != nil {
				panic(http.ErrAbortHandler) // the answer is cut off, and the client sees it
			}
		}()
		if err != nil {
			switch {
			case errdefs.IsUnauthorized(err):
				w.Header().Set("WWW-Authenticate", "Bearer")
			case errdefs.IsResourceExhausted(err):
				w.Header().Set("Retry-After", retryAfter)
			}
			writeError(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// responseWriter bounds the time of every write and counts.
type responseWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration // of each write
	status  int
	bytes   int64
}

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader notes the status.
func (w *responseWriter) WriteHeader(status int) {
	w.status = status
	w.setDeadline()
	w.ResponseWriter.WriteHeader(status)
}

// Write writes p within the timeout.
func (w *responseWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.setDeadline()
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// setDeadline ignores writers that know no deadlines: those of tests.
func (w *responseWriter) setDeadline() {
	w.control.SetWriteDeadline(time.Now().Add(w.timeout)) //nolint:errcheck // see above
}

// timedBody reads a body that must be complete by a deadline. The deadline is
// taken back at the end, since it would otherwise cut off a handler that runs
// for longer than its body took.
type timedBody struct {
	io.Reader
	deadline time.Time
	set      func(time.Time) error
}

// Read reads before the deadline.
func (b *timedBody) Read(p []byte) (int, error) {
	if err := b.set(b.deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := b.Reader.Read(p)
	if err != nil {
		b.set(time.Time{}) //nolint:errcheck // a connection without a deadline needs none taken back
	}
	return n, err
}

// requestContext is huma's context with a bounded body, and with our statuses
// for the requests that huma refuses.
type requestContext struct {
	humaContext
	body io.Reader
}

// humaContext has a name of its own, since huma.Context has a method Context.
type humaContext = huma.Context

// Unwrap is for humago.Unwrap.
func (c *requestContext) Unwrap() huma.Context { return c.humaContext }

// BodyReader returns the bounded body.
func (c *requestContext) BodyReader() io.Reader { return c.body }

// SetHeader keeps our content type, also for the errors that huma makes.
func (c *requestContext) SetHeader(name, value string) {
	if name == "Content-Type" && value == "application/problem+json" {
		value = "application/json"
	}
	c.humaContext.SetHeader(name, value)
}

// SetStatus sets our status for huma's.
func (c *requestContext) SetStatus(status int) { c.humaContext.SetStatus(refusedStatus(status)) }

func boundBody(timeout time.Duration) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		next(&requestContext{ctx, &timedBody{ctx.BodyReader(), time.Now().Add(timeout), ctx.SetReadDeadline}})
	}
}

// handle registers an operation. Its errors become v1.Errors.
func handle[I, O any](r *routes, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	timeout := op.BodyReadTimeout
	if timeout == 0 {
		timeout = bodyTimeout
	}
	op.Middlewares = huma.Middlewares{r.guard(op), boundBody(timeout)}
	op.BodyReadTimeout = -1 // ours, not huma's, which is never taken back
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = v1.MaxSmallBody
	}
	if op.Responses == nil {
		op.Responses = make(map[string]*huma.Response)
	}
	for status, response := range errorResponse(r) {
		op.Responses[status] = response
	}
	huma.Register(r.API, op, func(ctx context.Context, in *I) (*O, error) {
		if checked, ok := any(in).(interface{ check() error }); ok {
			if err := checked.check(); err != nil {
				return nil, newAPIError(err)
			}
		}
		out, err := handler(ctx, in)
		if err != nil {
			return nil, newAPIError(err)
		}
		return out, nil
	})
}
