package httpapi

import (
	"context"
	"net/http"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *api) serviceRoutes(r *routes) {
	const tag = "services"
	listing[v1.Service, v1.ServiceList]{
		name: tag,
		items: func(ctx context.Context, tenant string) ([]v1.Service, error) {
			return a.backend.Services.Services(ctx, tenant)
		},
		key: func(s v1.Service) string { return s.Tenant + "/" + s.Plugin + "/" + s.ID },
		page: func(items []v1.Service, next string) v1.ServiceList {
			return v1.ServiceList{Services: items, Next: next}
		},
	}.register(r)
	handle(r, op(AccessAdmin, http.MethodPost, pluginPath+"/services/{service}/{op}", "change-service", "Start, stop or restart a service", tag), a.changeService)
}

type serviceInput struct {
	PluginParam
	Service string `path:"service" maxLength:"256" doc:"id of the service"`
	Op      string `path:"op" enum:"start,stop,restart"`
}

func (a *api) changeService(ctx context.Context, in *serviceInput) (*answer[v1.Service], error) {
	s, err := a.backend.Services.Change(ctx, in.Tenant, in.ID, in.Service, in.Op)
	return &answer[v1.Service]{s}, err
}
