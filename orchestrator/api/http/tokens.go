package httpapi

import (
	"context"
	"net/http"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func (a *api) tokenRoutes(r *routes) {
	const tag, path = "tokens", "/v1/tokens"
	handle(r, op(AccessAdmin, http.MethodGet, path, "list-tokens", "List the tokens of callers over TLS", tag), a.listTokens)
	create := op(AccessAdmin, http.MethodPost, path, "create-token", "Make a token for callers over TLS", tag)
	create.DefaultStatus = http.StatusCreated
	handle(r, create, a.createToken)
	revoke := op(AccessAdmin, http.MethodDelete, path+"/{token}", "revoke-token", "End a token", tag)
	revoke.Description = "Requests with it are refused from now on, and those under way end: streams are cut, calls cancelled."
	handle(r, revoke, a.revokeToken)
}

type listTokensInput struct {
	Tenant string `query:"tenant" doc:"only those that reach this tenant: its own, and those of access admin"`
	PageParam
}

func (in *listTokensInput) check() error { return checkTenantQuery(in.Tenant) }

func (a *api) listTokens(ctx context.Context, in *listTokensInput) (*answer[v1.TokenList], error) {
	tokens, err := a.backend.TokenAdmin.Tokens(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	tokens, next, err := page(tokens, in.PageParam, func(t v1.Token) string { return t.ID })
	return &answer[v1.TokenList]{v1.TokenList{Tokens: orEmpty(tokens), Next: next}}, err
}

type createTokenInput struct{ Body v1.CreateTokenRequest }

func (in *createTokenInput) check() error {
	if in.Body.Access == v1.TokenCall {
		return plugin.CheckTenant(in.Body.Tenant)
	}
	if in.Body.Tenant != "" {
		return fault.New(errdefs.ErrInvalidArgument, "invalid_argument", "a token of access %s is of all tenants", in.Body.Access).
			WithHint("leave out the tenant, or ask for access call")
	}
	return nil
}

// createdToken is not to be kept by anything on its way.
type createdToken struct {
	CacheControl string `header:"Cache-Control"`
	Body         v1.CreatedToken
}

func (a *api) createToken(ctx context.Context, in *createTokenInput) (*createdToken, error) {
	token, err := a.backend.TokenAdmin.CreateToken(ctx, in.Body)
	return &createdToken{"no-store", token}, err
}

type tokenInput struct {
	Token string `path:"token" maxLength:"64" doc:"id of the token"`
}

func (a *api) revokeToken(ctx context.Context, in *tokenInput) (*answer[v1.Token], error) {
	token, err := a.backend.TokenAdmin.RevokeToken(ctx, in.Token)
	return &answer[v1.Token]{token}, err
}
