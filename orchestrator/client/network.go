package client

import (
	"context"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// Connections returns the newest entries of the network log that q asks for, the
// oldest first, of tenant or of all tenants for "". Without q.Limit they are
// v1.DefaultConnections at most.
func (c *Client) Connections(ctx context.Context, tenant string, q v1.ConnectionQuery) ([]v1.Connection, error) {
	var since *time.Time
	if !q.Since.IsZero() {
		since = &q.Since
	}
	var limit *int64
	if q.Limit != 0 {
		n := int64(q.Limit)
		limit = &n
	}
	params := gen.ConnectionsParams{Plugin: given(q.Plugin), Denied: &q.Denied, Since: since, Limit: limit}
	request := gen.Connections(tenant, params)
	if tenant == "" {
		request = gen.AllConnections(gen.AllConnectionsParams(params))
	}
	answer, err := do(ctx, c, request)
	return answer.Connections, err
}
