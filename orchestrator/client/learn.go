package client

import (
	"context"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// Learn switches a plugin's learn mode on or off, and returns what it has found
// out.
func (c *Client) Learn(ctx context.Context, tenant, ref string, req v1.LearnRequest) (v1.Learning, error) {
	return do(ctx, c, gen.Learn(tenant, ref, req))
}

// Learning returns what a plugin's learn mode has found out.
func (c *Client) Learning(ctx context.Context, tenant, ref string) (v1.Learning, error) {
	return do(ctx, c, gen.GetLearning(tenant, ref))
}
