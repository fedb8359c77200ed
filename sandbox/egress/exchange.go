package egress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	// maxRequestHead bounds the head of a request, in bytes.
	maxRequestHead = 64 << 10
	// maxResponseHead bounds the head of an answer, in bytes.
	maxResponseHead = 256 << 10
	// maxHeaders bounds the headers of a request: each takes much more memory
	// than its bytes.
	maxHeaders = 256
	// maxStreams bounds the requests at once on one connection of HTTP/2.
	maxStreams = 128
	// streamWindow and connWindow bound what a host may send over HTTP/2 before
	// the container has read it, of one answer and of a connection, in bytes:
	// with Limits.Requests, they are the memory that a container can fill.
	streamWindow = 512 << 10
	connWindow   = 2 << 20
	// maxFrame bounds a frame of HTTP/2 from the container, in bytes: as large a
	// buffer stays with the connection.
	maxFrame = 32 << 10
	// uploadWindow is the same for what the container sends, of one connection.
	uploadWindow = 256 << 10
	// continueWait is how long a body waits for a host that was asked whether it
	// wants it, as in other clients.
	continueWait = time.Second
	// maxMethod and maxPath bound what is recorded of a request, in bytes.
	maxMethod = 32
	maxPath   = 512
)

// silent is the log of what net/http has to say: it is the container's doing,
// and may quote it.
var silent = log.New(io.Discard, "", 0)

// serve answers the requests of a connection until it ends.
func (in *inspection) serve(ctx context.Context, client net.Conn) {
	life, end := context.WithCancel(ctx)
	defer end()
	if len(in.terms.Secrets) > 0 {
		in.plain = redactorOf(in.terms.Secrets)
	}
	transport := in.transport(life)
	defer transport.CloseIdleConnections()
	listener, requests := newSingle(client), busy{}
	ended := sync.OnceFunc(func() { close(listener.ended) })
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !requests.begin() {
				panic(http.ErrAbortHandler)
			}
			defer requests.end()
			in.answer(w, r, transport)
		}),
		ReadHeaderTimeout:            in.broker.opts.Limits.Hello,
		MaxHeaderBytes:               maxRequestHead,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     silent,
		BaseContext:                  func(net.Listener) context.Context { return life },
		Protocols:                    in.protocols(),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReadFrameSize:              maxFrame,
			MaxReceiveBufferPerStream:     uploadWindow,
			MaxReceiveBufferPerConnection: uploadWindow,
		},
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				ended()
			}
		},
	}
	_ = server.Serve(listener) // always errServed
	requests.wait()
}

// transport sends requests over connections that end with life.
func (in *inspection) transport(life context.Context) *http.Transport {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return in.dial(ctx, life) }
	t := &http.Transport{
		DisableCompression:     true, // what comes is passed on as it is
		MaxResponseHeaderBytes: maxResponseHead,
		ExpectContinueTimeout:  continueWait,
		Protocols:              in.protocols(),
		HTTP2: &http.HTTP2Config{
			StrictMaxConcurrentRequests:   true,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: connWindow,
		},
	}
	if in.secure {
		t.DialTLSContext = dial
	} else {
		t.DialContext = dial
	}
	return t
}

func (in *inspection) protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(in.proto == protoHTTP2)
	return p
}

// refusal is why a request is not sent.
type refusal struct {
	status  int
	code    Code
	message string
	missing string // the request rule that would allow it, if one would
}

// answer is the way of a request: the checks, the secrets, the record, the
// host.
func (in *inspection) answer(w http.ResponseWriter, r *http.Request, transport http.RoundTripper) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	c := in.connection(PhaseRequest)
	c.Method = printable(in.redacted(r.Method), maxMethod)
	c.Path = printable(in.redacted(path), maxPath)
	select {
	case in.broker.requests <- struct{}{}:
		defer func() { <-in.broker.requests }()
	default:
		in.refuse(w, c, in.broker.crowded, &refusal{status: http.StatusServiceUnavailable, code: link.Limit, message: "too many requests at once"})
		return
	}
	if in.broker.asked.Wait(r.Context()) != nil {
		panic(http.ErrAbortHandler) // the container takes the request back
	}
	if no := in.check(r, path); no != nil {
		in.refuse(w, c, in.broker.refused, no)
		return
	}
	if up := r.Header["Upgrade"]; len(up) != 1 || !strings.EqualFold(up[0], "websocket") {
		// To another protocol, h2c for one, requests would pass unseen.
		r.Header.Del("Upgrade")
		r.Header.Del("Http2-Settings")
	}
	var echoes []pair
	if in.secure {
		c.Secrets, echoes = fill(in.terms.Secrets, r)
	}
	c.Allowed = true
	if err := in.broker.opts.Record(c); err != nil {
		in.broker.stats.refused.Add(1)
		in.broker.opts.Logger.Error("cannot record a request", "host", c.Host, "error", err)
		(&refusal{status: http.StatusServiceUnavailable, code: link.Audit, message: "the request cannot be recorded"}).write(w)
		return
	}
	in.broker.stats.requests.Add(1)
	in.forward(w, r, path, echoes, transport)
}

// refuse answers a request that is not sent, and records that.
func (in *inspection) refuse(w http.ResponseWriter, c Connection, by *tally, no *refusal) {
	c.Status, c.Detail = no.status, in.redacted(no.message)
	in.broker.stats.refused.Add(1)
	by.add(c)
	no.write(w)
}

// redacted is text without the values that the container may have learned.
func (in *inspection) redacted(text string) string {
	if in.plain == nil {
		return text
	}
	return in.plain.text(text)
}

// check says why a request is refused, or nothing.
func (in *inspection) check(r *http.Request, path string) *refusal {
	no := func(status int, format string, args ...any) *refusal {
		return &refusal{status: status, code: link.RequestRefused, message: fmt.Sprintf(format, args...)}
	}
	switch {
	case headers(r.Header) > maxHeaders:
		return no(http.StatusRequestHeaderFieldsTooLarge, "the request has more than %d headers", maxHeaders)
	case strings.EqualFold(r.Method, http.MethodConnect) || strings.EqualFold(r.Method, http.MethodTrace):
		return no(http.StatusForbidden, "the method %s is not passed on", printable(r.Method, maxMethod))
	case !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "# "):
		return no(http.StatusForbidden, "the request must be for a path that begins with one slash, without blanks")
	case !in.ownHost(r.Host):
		return no(http.StatusMisdirectedRequest, "the request is for the host %q, the connection is for %s", printable(r.Host, maxDetail), in.terms.Grant())
	}
	if host, found := otherHost(r.Header, in.ownHost); found {
		return no(http.StatusMisdirectedRequest, "a header names the host %q, the connection is for %s", printable(host, maxDetail), in.terms.Grant())
	}
	switch {
	case len(in.terms.Requests) == 0:
		return nil
	case ambiguous(path):
		return no(http.StatusForbidden, "the path can be read in several ways: where request rules hold, dots, empty parts, backslashes and their encoded forms are refused")
	}
	if name, found := override(r.Header); found {
		return no(http.StatusForbidden, "the header %s can make another request of this one: where request rules hold, it is refused", name)
	}
	if in.terms.allowsRequest(r.Method, path) {
		return nil
	}
	missing := RequestRule{Method: r.Method, Path: path}.String()
	refused := no(http.StatusForbidden, "no rule of %s allows %s", in.terms.name, printable(missing, maxPath))
	if _, err := ParseRequestRule(missing); err == nil {
		refused.missing = missing
	}
	return refused
}

// headers counts the values of headers.
func headers(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}

// ownHost says that a request's host is the one that the connection is for.
func (in *inspection) ownHost(host string) bool {
	own := in.terms.Host
	if strings.Contains(own, ":") {
		own = "[" + own + "]"
	}
	return strings.EqualFold(host, own) || strings.EqualFold(host, own+":"+strconv.Itoa(int(in.terms.Port)))
}

// write answers a request that was not sent.
func (no *refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(no.status)
	_ = json.NewEncoder(w).Encode(struct { // the client may be gone
		Error   Code   `json:"error"`
		Message string `json:"message"`
		Missing string `json:"missing,omitempty"` // a request rule
	}{no.code, no.message, no.missing})
}

// forward sends a request and passes the answer on.
func (in *inspection) forward(w http.ResponseWriter, r *http.Request, path string, echoes []pair, transport http.RoundTripper) {
	proxy := httputil.ReverseProxy{
		Transport:    transport,
		ErrorLog:     silent,
		BufferPool:   copyBuffers,
		Rewrite:      func(p *httputil.ProxyRequest) { in.rewrite(p, path) },
		ErrorHandler: passOver,
	}
	if in.plain != nil {
		by := in.plain
		if len(echoes) > 0 {
			by = redactorOf(in.terms.Secrets, echoes...)
		}
		proxy.ModifyResponse = by.response
		w = &earlyRedactor{ResponseWriter: w, by: by}
	}
	proxy.ServeHTTP(w, r)
}

// forwarding are the headers that ReverseProxy takes away and that pass here:
// they are between container and host.
var forwarding = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// rewrite makes the request that is sent: the same one, to the byte in path
// and query.
func (in *inspection) rewrite(p *httputil.ProxyRequest, path string) {
	p.Out.URL = &url.URL{
		Scheme:     "http",
		Host:       net.JoinHostPort(in.terms.Host, strconv.Itoa(int(in.terms.Port))),
		Opaque:     path,
		RawQuery:   p.In.URL.RawQuery,
		ForceQuery: strings.Contains(p.In.RequestURI, "?"),
	}
	if in.secure {
		p.Out.URL.Scheme = "https"
	}
	for _, name := range forwarding {
		if values, ok := p.In.Header[name]; ok {
			p.Out.Header[name] = values
		}
	}
	p.Out.Trailer = p.In.Trailer // filled while the body is read
	if in.plain != nil {
		p.Out.Header.Set("Accept-Encoding", "identity")
	}
}

// passOver answers a request that did not reach the host.
func passOver(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // cut off, or the client is gone
	}
	no := refusal{status: http.StatusBadGateway, code: link.DialFailed, message: "the host did not answer"}
	var d denial
	if errors.As(err, &d) {
		no.code, no.message = d.code, messages[d.code]
	}
	no.write(w)
}

// earlyRedactor replaces values in what a host says before its answer.
type earlyRedactor struct {
	http.ResponseWriter
	by *redactor
}

// WriteHeader implements http.ResponseWriter.
func (w *earlyRedactor) WriteHeader(status int) {
	if status < http.StatusOK {
		w.by.header(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap returns the writer for http.ResponseController.
func (w *earlyRedactor) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// bufferPool holds buffers for copying bodies.
type bufferPool struct{ sync.Pool }

var copyBuffers = &bufferPool{sync.Pool{New: func() any { return new([redactSize]byte) }}}

// Get implements httputil.BufferPool.
func (p *bufferPool) Get() []byte { return p.Pool.Get().(*[redactSize]byte)[:] }

// Put implements httputil.BufferPool.
func (p *bufferPool) Put(b []byte) { p.Pool.Put((*[redactSize]byte)(b)) }
