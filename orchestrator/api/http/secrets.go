package httpapi

import (
	"context"
	"net/http"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *api) secretRoutes(r *routes) {
	const tag, path = "secrets", tenantPath + "/secrets"
	handle(r, op(AccessAdmin, http.MethodGet, path, "list-secrets", "List the secrets of a tenant, without their values", tag), a.listSecrets)
	set := op(AccessAdmin, http.MethodPut, path+"/{secret}", "set-secret", "Make a secret, or replace it", tag)
	set.Description = "The value is kept encrypted and never told again. What runs uses the new one from its next request on."
	handle(r, set, a.setSecret)
	handle(r, op(AccessAdmin, http.MethodDelete, path+"/{secret}", "remove-secret", "Forget a secret", tag), a.removeSecret)
	move := op(AccessAdmin, http.MethodPost, pluginPath+"/secrets/move", "move-secret", "Make a secret of a key in a plugin's configuration", tag)
	move.Description = "A reference to the secret takes the key's place in config.json, and the plugin is granted the secret."
	handle(r, move, a.moveSecret)
	handle(r, op(AccessAdmin, http.MethodPost, "/v1/secrets/rotate", "rotate-secrets", "Encrypt the secrets of all tenants with a new key", tag), a.rotateSecrets)
}

func (a *api) listSecrets(ctx context.Context, in *tenantPage) (*answer[v1.SecretList], error) {
	secrets, err := a.backend.Secrets.Secrets(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	secrets, next, err := page(secrets, in.PageParam, func(s v1.Secret) string { return s.Name })
	return &answer[v1.SecretList]{v1.SecretList{Secrets: each(secrets, withPlugins), Next: next}}, err
}

func withPlugins(s v1.Secret) v1.Secret {
	s.Plugins = orEmpty(s.Plugins)
	return s
}

// SecretParam names a secret; see [TenantParam].
type SecretParam struct {
	TenantParam
	Secret string `path:"secret" maxLength:"128" doc:"name of the secret" example:"EXAMPLE_API_KEY"`
}

type setSecretInput struct {
	SecretParam
	Body v1.SetSecret
}

func (a *api) setSecret(ctx context.Context, in *setSecretInput) (*answer[v1.Secret], error) {
	s, err := a.backend.Secrets.SetSecret(ctx, in.Tenant, in.Secret, in.Body)
	return &answer[v1.Secret]{withPlugins(s)}, err
}

func (a *api) removeSecret(ctx context.Context, in *SecretParam) (*struct{}, error) {
	return nil, a.backend.Secrets.RemoveSecret(ctx, in.Tenant, in.Secret)
}

type moveSecretInput struct {
	PluginParam
	Body v1.MoveSecret
}

func (a *api) moveSecret(ctx context.Context, in *moveSecretInput) (*answer[v1.Secret], error) {
	s, err := a.backend.Secrets.MoveSecret(ctx, in.Tenant, in.ID, in.Body)
	return &answer[v1.Secret]{withPlugins(s)}, err
}

func (a *api) rotateSecrets(ctx context.Context, _ *struct{}) (*struct{}, error) {
	return nil, a.backend.Secrets.RotateSecrets(ctx)
}
