package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// answer is a JSON body.
type answer[T any] struct{ Body T }

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// op starts an operation's description.
func op(method, path, id, summary, tag string) huma.Operation {
	return huma.Operation{Method: method, Path: path, OperationID: id, Summary: summary, Tags: []string{tag}}
}

func (a *api) systemRoutes(routes huma.API) {
	handle(routes, op(http.MethodGet, "/v1/version", "version", "What answers", "system"), a.version)
	handle(routes, op(http.MethodGet, "/v1/status", "status", "State of the daemon and its plugins", "system"), a.status)
}

func (a *api) version(ctx context.Context, _ *struct{}) (*answer[v1.Version], error) {
	return &answer[v1.Version]{a.backend.System.Version(ctx)}, nil
}

type statusInput struct {
	Tenant string `query:"tenant" doc:"only this tenant's plugins; all tenants' if absent"`
}

func (a *api) status(ctx context.Context, in *statusInput) (*answer[v1.Status], error) {
	if in.Tenant != "" {
		if err := plugin.CheckTenant(in.Tenant); err != nil {
			return nil, err
		}
	}
	status, err := a.backend.System.Status(ctx, in.Tenant)
	return &answer[v1.Status]{status}, err
}
