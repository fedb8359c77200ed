package httpapi

import (
	"context"
	"net/http"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *api) permissionRoutes(r *routes) {
	const tag = "permissions"
	handle(r, op(AccessCall, http.MethodGet, pluginPath+"/permissions", "get-permissions", "What a plugin may do and would like to", tag), a.permissions)
	handle(r, op(AccessAdmin, http.MethodPost, pluginPath+"/permissions/grant", "grant-permission", "Grant something to a plugin", tag), a.grant)
	handle(r, op(AccessAdmin, http.MethodPost, pluginPath+"/permissions/revoke", "revoke-permission", "Take something back from a plugin", tag), a.revoke)
	manifest := op(AccessAdmin, http.MethodPost, pluginPath+"/permissions/manifest", "grant-manifest", "Grant what a permission manifest asks for", tag)
	manifest.MaxBodyBytes = 2 * v1.MaxSmallBody
	manifest.Description = "All of it or, after an error, nothing; but for what a manifest cannot say in full, which is left and told."
	handle(r, manifest, a.grantManifest)
}

func (a *api) permissions(ctx context.Context, in *PluginParam) (*answer[v1.PluginPermissions], error) {
	p, err := a.backend.Permissions.Permissions(ctx, in.Tenant, in.ID)
	p.Granted, p.Pending = orEmpty(p.Granted), orEmpty(p.Pending)
	return &answer[v1.PluginPermissions]{p}, err
}

type grantInput struct {
	PluginParam
	Body v1.GrantRequest
}

func (a *api) grant(ctx context.Context, in *grantInput) (*answer[v1.GrantResult], error) {
	result, err := a.backend.Permissions.Grant(ctx, in.Tenant, in.ID, in.Body)
	return &answer[v1.GrantResult]{result}, err
}

type revokeInput struct {
	PluginParam
	Body v1.RevokeRequest
}

func (a *api) revoke(ctx context.Context, in *revokeInput) (*answer[v1.GrantResult], error) {
	result, err := a.backend.Permissions.Revoke(ctx, in.Tenant, in.ID, in.Body)
	return &answer[v1.GrantResult]{result}, err
}

type manifestInput struct {
	PluginParam
	Body v1.ManifestRequest
}

func (a *api) grantManifest(ctx context.Context, in *manifestInput) (*answer[v1.ManifestResult], error) {
	result, err := a.backend.Permissions.GrantManifest(ctx, in.Tenant, in.ID, in.Body)
	result.Permissions = orEmpty(result.Permissions)
	return &answer[v1.ManifestResult]{result}, err
}
