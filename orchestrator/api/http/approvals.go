package httpapi

import (
	"context"
	"net/http"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *api) approvalRoutes(r *routes) {
	const tag = "approvals"
	listing[v1.Approval, v1.ApprovalList]{
		name: tag,
		items: func(ctx context.Context, tenant string) ([]v1.Approval, error) {
			return a.backend.Approvals.Approvals(ctx, tenant)
		},
		key: func(a v1.Approval) string { return a.Tenant + "/" + a.ID },
		page: func(items []v1.Approval, next string) v1.ApprovalList {
			return v1.ApprovalList{Approvals: each(items, withDecisions), Next: next}
		},
	}.register(r)
	resolve := op(AccessCall, http.MethodPost, tenantPath+"/approvals/{approval}", "resolve-approval", "Resolve an approval", tag)
	resolve.Description = "An approval of kind permission needs the operator's access: allow-always grants it, allow-once grants it for this run, until the plugin's instance ends."
	handle(r, resolve, a.resolve)
}

type resolveInput struct {
	TenantParam
	Approval string `path:"approval" maxLength:"256" doc:"id of the approval"`
	Body     v1.ResolveRequest
}

func (a *api) resolve(ctx context.Context, in *resolveInput) (*answer[v1.Approval], error) {
	approval, err := a.backend.Approvals.Resolve(ctx, in.Tenant, in.Approval, in.Body.Decision)
	return &answer[v1.Approval]{withDecisions(approval)}, err
}

func withDecisions(a v1.Approval) v1.Approval {
	a.Decisions = orEmpty(a.Decisions)
	return a
}

// each returns the items as with changes them.
func each[T any](items []T, with func(T) T) []T {
	changed := make([]T, len(items))
	for i, item := range items {
		changed[i] = with(item)
	}
	return changed
}
