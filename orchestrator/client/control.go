package client

import (
	"context"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// Services lists the services of tenant in the order in which they start.
func (c *Client) Services(ctx context.Context, tenant string) ([]v1.Service, error) {
	return list(ctx, c, tenant,
		func(cursor *string) gen.Request[v1.ServiceList] {
			return gen.ListAllServices(gen.ListAllServicesParams{Cursor: cursor})
		},
		func(cursor *string) gen.Request[v1.ServiceList] {
			return gen.ListServices(tenant, gen.ListServicesParams{Cursor: cursor})
		},
		func(l v1.ServiceList) ([]v1.Service, string) { return l.Services, l.Next })
}

// ChangeService does op, which is "start", "stop" or "restart", to a service
// and returns when that is done or failed.
func (c *Client) ChangeService(ctx context.Context, tenant, ref, service, op string) (v1.Service, error) {
	return do(ctx, c, gen.ChangeService(tenant, ref, service, op))
}

// Permissions returns what a plugin may do and would like to.
func (c *Client) Permissions(ctx context.Context, tenant, ref string) (v1.PluginPermissions, error) {
	return do(ctx, c, gen.GetPermissions(tenant, ref))
}

// Grant grants something to a plugin.
func (c *Client) Grant(ctx context.Context, tenant, ref string, req v1.GrantRequest) (v1.GrantResult, error) {
	return do(ctx, c, gen.GrantPermission(tenant, ref, req))
}

// Revoke takes something back from a plugin.
func (c *Client) Revoke(ctx context.Context, tenant, ref string, req v1.RevokeRequest) (v1.GrantResult, error) {
	return do(ctx, c, gen.RevokePermission(tenant, ref, req))
}

// GrantManifest grants all that a permission manifest asks for, or nothing.
func (c *Client) GrantManifest(ctx context.Context, tenant, ref string, req v1.ManifestRequest) (v1.ManifestResult, error) {
	return do(ctx, c, gen.GrantManifest(tenant, ref, req))
}

// Approvals lists what waits for a person in tenant, the oldest first.
func (c *Client) Approvals(ctx context.Context, tenant string) ([]v1.Approval, error) {
	return list(ctx, c, tenant,
		func(cursor *string) gen.Request[v1.ApprovalList] {
			return gen.ListAllApprovals(gen.ListAllApprovalsParams{Cursor: cursor})
		},
		func(cursor *string) gen.Request[v1.ApprovalList] {
			return gen.ListApprovals(tenant, gen.ListApprovalsParams{Cursor: cursor})
		},
		func(l v1.ApprovalList) ([]v1.Approval, string) { return l.Approvals, l.Next })
}

// Resolve resolves an approval with one of its decisions. It is Conflict if
// somebody did before, and FailedPrecondition after its time.
func (c *Client) Resolve(ctx context.Context, tenant, id, decision string) (v1.Approval, error) {
	return do(ctx, c, gen.ResolveApproval(tenant, id, v1.ResolveRequest{Decision: decision}))
}
