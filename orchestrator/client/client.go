// Package client talks to the daemon's API over its unix socket. Its errors
// are those of the daemon, with their class, code and hint; a daemon that is
// not there is Unavailable.
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
	"github.com/ocmt/ocmt/orchestrator/fault"
)

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

func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.exchange(ctx, http.MethodGet, path, query, nil, out)
}

func (c *Client) post(ctx context.Context, path string, in, out any) error {
	return c.exchange(ctx, http.MethodPost, path, nil, in, out)
}

// exchange sends in, if it is not nil, and reads the JSON answer into out, if
// that is not nil.
func (c *Client) exchange(ctx context.Context, method, path string, query url.Values, in, out any) error {
	response, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		return fmt.Errorf("cannot read the daemon's answer: %w", ended(ctx, err))
	}
	return nil
}

// send sends a request and returns a response that is a success.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	contentType := ""
	switch in := in.(type) {
	case nil:
	case io.Reader:
		body, contentType = in, "application/octet-stream"
	default:
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(in); err != nil {
			return nil, fault.New(errdefs.ErrInvalidArgument, "invalid_argument", "cannot write the request: %w", err)
		}
		body, contentType = &text, "application/json"
	}
	target := "http://ocmt" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("cannot write the request: %w", err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode >= 300 {
		defer response.Body.Close()
		return nil, readError(response)
	}
	return response, nil
}

// unreachable says why no answer came.
func (c *Client) unreachable(ctx context.Context, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // it quotes a URL that means nothing to a person
		err = wrapped.Err
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

// route builds a path of literal text and names, which stand for "%s". A name
// is one segment, whatever is in it.
func route(format string, names ...string) (string, error) {
	escaped := make([]any, len(names))
	for i, name := range names {
		switch name {
		case "":
			return "", fault.New(errdefs.ErrInvalidArgument, "empty_name", "a name is empty")
		case ".", "..": // would be resolved like a directory
			escaped[i] = strings.ReplaceAll(name, ".", "%2E")
		default:
			escaped[i] = url.PathEscape(name)
		}
	}
	return fmt.Sprintf(format, escaped...), nil
}
