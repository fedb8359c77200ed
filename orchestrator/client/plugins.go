package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// Version says what the daemon is.
func (c *Client) Version(ctx context.Context) (v1.Version, error) {
	var out v1.Version
	err := c.get(ctx, "/v1/version", nil, &out)
	return out, err
}

// Status returns the daemon's state with the plugins of tenant, or of all
// tenants for "".
func (c *Client) Status(ctx context.Context, tenant string) (v1.Status, error) {
	var query url.Values
	if tenant != "" {
		query = url.Values{"tenant": {tenant}}
	}
	var out v1.Status
	err := c.get(ctx, "/v1/status", query, &out)
	return out, err
}

// Plugins lists the plugins of tenant, or of all tenants for "".
func (c *Client) Plugins(ctx context.Context, tenant string) ([]v1.Plugin, error) {
	path, err := listRoute(tenant, "plugins")
	if err != nil {
		return nil, err
	}
	var out v1.PluginList
	err = c.get(ctx, path, nil, &out)
	return out.Plugins, err
}

// Plugin returns all that is known of a plugin, named by id or package name.
func (c *Client) Plugin(ctx context.Context, tenant, ref string) (v1.PluginDetail, error) {
	path, err := route("/v1/tenants/%s/plugins/%s", tenant, ref)
	if err != nil {
		return v1.PluginDetail{}, err
	}
	var out v1.PluginDetail
	err = c.get(ctx, path, nil, &out)
	return out, err
}

// Enable enables a plugin and returns its new state.
func (c *Client) Enable(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return c.change(ctx, tenant, ref, "enable")
}

// Disable disables a plugin.
func (c *Client) Disable(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return c.change(ctx, tenant, ref, "disable")
}

// Restart restarts a plugin.
func (c *Client) Restart(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return c.change(ctx, tenant, ref, "restart")
}

func (c *Client) change(ctx context.Context, tenant, ref, verb string) (v1.Plugin, error) {
	path, err := route("/v1/tenants/%s/plugins/%s/%s", tenant, ref, verb)
	if err != nil {
		return v1.Plugin{}, err
	}
	var out v1.Plugin
	err = c.post(ctx, path, nil, &out)
	return out, err
}

// Verify reads a plugin's sealed payload again; a mismatch is DataLoss.
func (c *Client) Verify(ctx context.Context, tenant, ref string) (v1.Verification, error) {
	path, err := route("/v1/tenants/%s/plugins/%s/verify", tenant, ref)
	if err != nil {
		return v1.Verification{}, err
	}
	var out v1.Verification
	err = c.post(ctx, path, nil, &out)
	return out, err
}

// Uninstall uninstalls a plugin.
func (c *Client) Uninstall(ctx context.Context, tenant, ref string, keepState bool) error {
	path, err := route("/v1/tenants/%s/plugins/%s", tenant, ref)
	if err != nil {
		return err
	}
	query := url.Values{"keepState": {strconv.FormatBool(keepState)}}
	return c.exchange(ctx, http.MethodDelete, path, query, nil, nil)
}

// Logs copies what a plugin printed to w until the end or, with q.Follow,
// until ctx ends, which is no error then.
func (c *Client) Logs(ctx context.Context, tenant, ref string, q v1.LogQuery, w io.Writer) error {
	path, err := route("/v1/tenants/%s/plugins/%s/logs", tenant, ref)
	if err != nil {
		return err
	}
	query := url.Values{"tail": {strconv.Itoa(q.Tail)}}
	if q.Follow {
		query.Set("follow", "true")
	}
	if q.Previous {
		query.Set("previous", "true")
	}
	if !q.Since.IsZero() {
		query.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	response, err := c.send(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(w, response.Body); err != nil && (!q.Follow || ctx.Err() == nil) {
		return ended(ctx, err)
	}
	return nil
}

// Upload sends a package for an install to use.
func (c *Client) Upload(ctx context.Context, tenant string, body io.Reader) (v1.Upload, error) {
	path, err := route("/v1/tenants/%s/uploads", tenant)
	if err != nil {
		return v1.Upload{}, err
	}
	var out v1.Upload
	err = c.post(ctx, path, io.NopCloser(body), &out)
	return out, err
}

// Install installs a plugin and calls progress for every step. When ctx ends
// the daemon gives up, without a trace.
func (c *Client) Install(ctx context.Context, tenant string, req v1.InstallRequest, progress func(v1.Progress)) (v1.PluginDetail, error) {
	path, err := route("/v1/tenants/%s/plugins", tenant)
	if err != nil {
		return v1.PluginDetail{}, err
	}
	response, err := c.send(ctx, http.MethodPost, path, nil, req)
	if err != nil {
		return v1.PluginDetail{}, err
	}
	defer response.Body.Close()
	detail, err := readInstall(response.Body, progress)
	var broken *brokenStream
	if errors.As(err, &broken) {
		return v1.PluginDetail{}, ended(ctx, broken.err)
	}
	return detail, err
}

// brokenStream is an event stream without its last event.
type brokenStream struct{ err error }

func (b *brokenStream) Error() string { return b.err.Error() }

// maxEvent bounds a line of an event stream, bytes.
const maxEvent = 32 << 20

// readInstall reads the events of an install up to its end.
func readInstall(r io.Reader, progress func(v1.Progress)) (v1.PluginDetail, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	event := ""
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
			continue
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		detail, last, err := readEvent(event, data, progress)
		if last || err != nil {
			return detail, err
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return v1.PluginDetail{}, &brokenStream{err}
}

func readEvent(event, data string, progress func(v1.Progress)) (detail v1.PluginDetail, last bool, err error) {
	var step v1.Progress
	var failure v1.Error
	switch event {
	case v1.EventProgress:
		if err = json.Unmarshal([]byte(data), &step); err == nil && progress != nil {
			progress(step)
		}
	case v1.EventDone:
		last, err = true, json.Unmarshal([]byte(data), &detail)
	case v1.EventError:
		if err = json.Unmarshal([]byte(data), &failure); err == nil {
			return detail, true, failure.Err()
		}
	}
	if err != nil {
		err = &brokenStream{fmt.Errorf("event %q: %w", event, err)}
	}
	return detail, last, err
}

// Tools lists the tools of tenant, or of all tenants for "".
func (c *Client) Tools(ctx context.Context, tenant string) ([]v1.Tool, error) {
	path, err := listRoute(tenant, "tools")
	if err != nil {
		return nil, err
	}
	var out v1.ToolList
	err = c.get(ctx, path, nil, &out)
	return out.Tools, err
}

// Call calls a tool and returns its result.
func (c *Client) Call(ctx context.Context, tenant, ref, tool string, req v1.CallRequest) (json.RawMessage, error) {
	path, err := route("/v1/tenants/%s/plugins/%s/tools/%s/call", tenant, ref, tool)
	if err != nil {
		return nil, err
	}
	var out v1.CallResult
	err = c.post(ctx, path, req, &out)
	return out.Result, err
}

func listRoute(tenant, what string) (string, error) {
	if tenant == "" {
		return "/v1/" + what, nil
	}
	return route("/v1/tenants/%s/"+what, tenant)
}
