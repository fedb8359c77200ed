// Package client talks to the daemon's API, over its unix socket or TLS. Its errors
// are those of the daemon, with their class, code and hint; a daemon that is
// not there, or breaks off, is Unavailable. A call whose ctx ends is cancelled
// in the daemon too. Where an error is Retryable, by fault.Of, the same request
// may well succeed soon: the plugin ended during the call and is restarting, or
// the daemon does. Whether a call that is repeated so does something twice is
// the tool's to say. Package gen holds the requests, generated from the OpenAPI
// document.
//
// Where a method takes a tenant for a list, "" is all tenants; ref is a
// plugin's id or its package name.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// origin stands for the daemon in URLs; the socket is what counts.
const origin = "http://ocmt"

// maxErrorBody bounds the answer that is read as an error, bytes.
const maxErrorBody = 1 << 20

// Client calls one daemon. It is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// New returns a client of the daemon that listens on socket. It connects when
// it is first used.
func New(socket string) *Client {
	var dialer net.Dialer
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableCompression: true,
	}
	return &Client{socket: socket, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// do sends a request and reads its answer.
func do[T any](ctx context.Context, c *Client, r gen.Request[T]) (T, error) {
	var out T
	response, err := send(ctx, c, r)
	if err != nil {
		return out, err
	}
	defer response.Body.Close()
	if _, none := any(out).(gen.None); none {
		return out, nil
	}
	if err := json.NewDecoder(response.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("cannot read the daemon's answer: %w", ended(ctx, err))
	}
	return out, nil
}

// send sends a request and returns a response that is a success.
func send[T any](ctx context.Context, c *Client, r gen.Request[T]) (*http.Response, error) {
	if err := checkNames(r.Path); err != nil {
		return nil, err
	}
	if key, ok := r.Header[v1.IdempotencyKey]; ok && key[0] == "" { // which would count as none
		return nil, fault.New(errdefs.ErrInvalidArgument, "empty_key", "the idempotency key is empty")
	}
	body, contentType, err := encode(r.Body)
	if err != nil {
		return nil, err
	}
	target := origin + r.Path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, target, body)
	if err != nil {
		return nil, fault.New(errdefs.ErrInvalidArgument, "invalid_argument", "cannot write the request: %w", err)
	}
	request.Header = r.Header
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		defer response.Body.Close()
		return nil, readError(response)
	}
	return response, nil
}

// checkNames refuses a path that an empty name has left a hole in.
func checkNames(path string) error {
	if strings.Contains(path, "//") || strings.HasSuffix(path, "/") {
		return fault.New(errdefs.ErrInvalidArgument, "empty_name", "a name is empty")
	}
	return nil
}

// encode returns what is sent as a body, and its type.
func encode(body any) (io.Reader, string, error) {
	switch body := body.(type) {
	case nil:
		return nil, "", nil
	case io.Reader:
		return io.NopCloser(body), "application/octet-stream", nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, "", fault.New(errdefs.ErrInvalidArgument, "invalid_argument", "cannot write the request: %w", err)
	}
	return &text, "application/json", nil
}

// unreachable says why no answer came.
func (c *Client) unreachable(ctx context.Context, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // it quotes a URL that means nothing to a person
		err = wrapped.Err
	}
	if err := untrusted(c.socket, err); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return ended(ctx, err)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return fault.New(errdefs.ErrUnavailable, "daemon_unreachable", "no daemon answers on %s", c.socket).
			WithHint("start it with `ocmt serve`, or name another with --home or --socket").WithRetry()
	case errors.Is(err, fs.ErrPermission):
		return fault.New(errdefs.ErrPermissionDenied, "daemon_forbidden", "you may not use the daemon's socket %s", c.socket).
			WithHint("run this as the user that runs `ocmt serve`")
	}
	return fault.New(errdefs.ErrUnavailable, "daemon_unreachable", "cannot reach the daemon on %s: %w", c.socket, err).
		WithHint("see whether `ocmt serve` still runs").WithRetry()
}

// ended gives an error that ctx caused its class.
func ended(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fault.New(context.DeadlineExceeded, "timeout", "the daemon did not answer in time")
	case ctx.Err() != nil:
		return fault.New(context.Canceled, "cancelled", "interrupted")
	}
	return fault.New(errdefs.ErrUnavailable, "daemon_lost", "the daemon broke off: %w", err).
		WithHint("see whether `ocmt serve` still runs")
}

func readError(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxErrorBody))
	var e v1.Error
	if err != nil || json.Unmarshal(text, &e) != nil || e.Code == "" {
		return fault.New(errdefs.ErrUnavailable, "no_daemon", "what answers on the socket is no ocmt daemon (HTTP %s)", response.Status)
	}
	return e.Err()
}
