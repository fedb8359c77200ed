package client

import (
	"context"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// Secrets lists the secrets of tenant by name, without their values.
func (c *Client) Secrets(ctx context.Context, tenant string) ([]v1.Secret, error) {
	request := func(cursor *string) gen.Request[v1.SecretList] {
		return gen.ListSecrets(tenant, gen.ListSecretsParams{Cursor: cursor})
	}
	return list(ctx, c, tenant, request, request, func(l v1.SecretList) ([]v1.Secret, string) { return l.Secrets, l.Next })
}

// SetSecret makes a secret of tenant, or replaces it.
func (c *Client) SetSecret(ctx context.Context, tenant, name string, req v1.SetSecret) (v1.Secret, error) {
	return do(ctx, c, gen.SetSecret(tenant, name, req))
}

// RemoveSecret forgets a secret of tenant.
func (c *Client) RemoveSecret(ctx context.Context, tenant, name string) error {
	_, err := do(ctx, c, gen.RemoveSecret(tenant, name))
	return err
}

// MoveSecret makes a secret of a key in a plugin's configuration.
func (c *Client) MoveSecret(ctx context.Context, tenant, ref string, req v1.MoveSecret) (v1.Secret, error) {
	return do(ctx, c, gen.MoveSecret(tenant, ref, req))
}

// RotateSecrets has the secrets of all tenants encrypted with a new key.
func (c *Client) RotateSecrets(ctx context.Context) error {
	_, err := do(ctx, c, gen.RotateSecrets())
	return err
}
