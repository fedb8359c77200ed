package httpapi

import (
	"context"
	"net/http"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *api) networkRoutes(r *routes) {
	const tag = "network"
	handle(r, op(AccessAdmin, http.MethodGet, "/v1/network", "all-connections", "The network log of all tenants", tag),
		func(ctx context.Context, in *NetworkParam) (*answer[v1.ConnectionList], error) {
			return a.connections(ctx, "", *in)
		})
	handle(r, op(AccessCall, http.MethodGet, tenantPath+"/network", "connections", "The network log of a tenant", tag),
		func(ctx context.Context, in *networkInput) (*answer[v1.ConnectionList], error) {
			return a.connections(ctx, in.Tenant, in.NetworkParam)
		})
}

// NetworkParam says which entries of the network log to send; see [TenantParam].
type NetworkParam struct {
	Plugin string    `query:"plugin" doc:"only this one's: its id or, of one tenant, its package name"`
	Denied bool      `query:"denied" doc:"only what was denied or cut off"`
	Since  time.Time `query:"since" doc:"later ones only"`
	Limit  int       `query:"limit" minimum:"1" maximum:"5000" default:"200" doc:"the newest ones only"`
}

func (in *NetworkParam) check() error {
	if in.Plugin == "" {
		return nil
	}
	return checkRef(in.Plugin)
}

type networkInput struct {
	TenantParam
	NetworkParam
}

func (in *networkInput) check() error {
	if err := in.TenantParam.check(); err != nil {
		return err
	}
	return in.NetworkParam.check()
}

func (a *api) connections(ctx context.Context, tenant string, in NetworkParam) (*answer[v1.ConnectionList], error) {
	list, err := a.backend.Network.Connections(ctx, tenant, v1.ConnectionQuery(in))
	return &answer[v1.ConnectionList]{v1.ConnectionList{Connections: orEmpty(list)}}, err
}
