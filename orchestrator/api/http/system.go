package httpapi

import (
	"context"
	"net/http"
	"reflect"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// answer is a JSON body.
type answer[T any] struct{ Body T }

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

func (a *api) systemRoutes(r *routes) {
	handle(r, op(AccessCall, http.MethodGet, "/v1/version", "version", "What answers", "system"), a.version)
	handle(r, op(AccessAdmin, http.MethodGet, "/v1/status", "status", "State of the daemon and its plugins", "system"), a.status)
}

func (a *api) version(ctx context.Context, _ *struct{}) (*answer[v1.Version], error) {
	return &answer[v1.Version]{a.backend.System.Version(ctx)}, nil
}

type statusInput struct {
	Tenant string `query:"tenant" doc:"only this tenant's plugins; all tenants' if absent"`
}

func (in *statusInput) check() error { return checkTenantQuery(in.Tenant) }

// checkTenantQuery accepts a tenant, and none for all.
func checkTenantQuery(tenant string) error {
	if tenant == "" {
		return nil
	}
	return plugin.CheckTenant(tenant)
}

func (a *api) status(ctx context.Context, in *statusInput) (*answer[v1.Status], error) {
	status, err := a.backend.System.Status(ctx, in.Tenant)
	status.Plugins = orEmpty(status.Plugins)
	return &answer[v1.Status]{status}, err
}
