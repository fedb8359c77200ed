package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// maxLogJSON bounds a line of a log in JSON, bytes: each byte may be escaped.
const maxLogJSON = 6*v1.MaxLogLine + 4<<10

// LogLines calls each for every line that a plugin printed, until the end or,
// with q.Follow, until ctx ends, which is no error then. It returns the first
// error of each.
func (c *Client) LogLines(ctx context.Context, tenant, ref string, q v1.LogQuery, each func(v1.LogLine) error) error {
	response, err := c.logs(ctx, tenant, ref, q)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxLogJSON)
	for lines.Scan() {
		var line v1.LogLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return ended(ctx, fmt.Errorf("line of a log: %w", err))
		}
		if err := each(line); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && (!q.Follow || ctx.Err() == nil) {
		return ended(ctx, err)
	}
	return nil
}

func (c *Client) logs(ctx context.Context, tenant, ref string, q v1.LogQuery) (*http.Response, error) {
	tail, format := int64(q.Tail), "json"
	params := gen.PluginLogsParams{Follow: &q.Follow, Previous: &q.Previous, Tail: &tail, Format: &format}
	if !q.Since.IsZero() {
		params.Since = &q.Since
	}
	return send(ctx, c, gen.PluginLogs(tenant, ref, params))
}
