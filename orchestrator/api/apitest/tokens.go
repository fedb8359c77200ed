package apitest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Tokens returns those that reach tenant. There are none at first.
func (b *Backend) Tokens(_ context.Context, tenant string) ([]v1.Token, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []v1.Token
	for _, t := range b.tokens {
		if tenant == "" || t.Tenant == "" || t.Tenant == tenant {
			list = append(list, t)
		}
	}
	return list, nil
}

// CreateToken numbers the tokens: "token-1" is the id of "ocmt_secret-1".
func (b *Backend) CreateToken(ctx context.Context, req v1.CreateTokenRequest) (v1.CreatedToken, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokensMade++
	t := v1.Token{
		ID: fmt.Sprintf("token-%d", b.tokensMade), Name: req.Name, Access: req.Access, Tenant: req.Tenant,
		CreatedBy: httpapi.CallerOf(ctx).Actor, CreatedAt: Epoch,
	}
	if req.ForSeconds > 0 {
		ends := Epoch.Add(time.Duration(req.ForSeconds) * time.Second)
		t.ExpiresAt = &ends
	}
	b.tokens = append(b.tokens, t)
	return v1.CreatedToken{Token: t, Secret: fmt.Sprintf("ocmt_secret-%d", b.tokensMade)}, nil
}

// RevokeToken forgets a token.
func (b *Backend) RevokeToken(_ context.Context, id string) (v1.Token, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.tokens, func(t v1.Token) bool { return t.ID == id })
	if i < 0 {
		return v1.Token{}, fault.New(errdefs.ErrNotFound, "token_not_found", "there is no token %q", id).
			WithHint("see them with: ocmt tokens list -A")
	}
	revoked := b.tokens[i]
	b.tokens = slices.Delete(b.tokens, i, i+1)
	return revoked, nil
}
