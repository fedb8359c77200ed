package client

import (
	"context"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// Tokens lists the tokens of callers over TLS that reach tenant, the oldest
// first.
func (c *Client) Tokens(ctx context.Context, tenant string) ([]v1.Token, error) {
	request := func(cursor *string) gen.Request[v1.TokenList] {
		return gen.ListTokens(gen.ListTokensParams{Tenant: given(tenant), Cursor: cursor})
	}
	return list(ctx, c, tenant, request, request, func(l v1.TokenList) ([]v1.Token, string) { return l.Tokens, l.Next })
}

// CreateToken makes a token. What it returns is told this once.
func (c *Client) CreateToken(ctx context.Context, req v1.CreateTokenRequest) (v1.CreatedToken, error) {
	return do(ctx, c, gen.CreateToken(req))
}

// RevokeToken ends a token, and with it the requests that it admitted.
func (c *Client) RevokeToken(ctx context.Context, id string) (v1.Token, error) {
	return do(ctx, c, gen.RevokeToken(id))
}
