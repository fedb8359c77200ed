package httpapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *api) toolRoutes(routes huma.API) {
	const tag = "tools"
	handle(routes, op(http.MethodGet, "/v1/tools", "list-all-tools", "Tools of all tenants", tag), a.listAllTools)
	handle(routes, op(http.MethodGet, tenantPath+"/tools", "list-tools", "Tools of the tenant's plugins", tag), a.listTools)
	call := op(http.MethodPost, pluginPath+"/tools/{tool}/call", "call-tool", "Call a tool", tag)
	call.MaxBodyBytes = v1.MaxCallBody
	call.Description = "Hanging up cancels the call."
	handle(routes, call, a.call)
}

func (a *api) listAllTools(ctx context.Context, _ *struct{}) (*answer[v1.ToolList], error) {
	tools, err := a.backend.Tools.Tools(ctx, "")
	return &answer[v1.ToolList]{v1.ToolList{Tools: orEmpty(tools)}}, err
}

func (a *api) listTools(ctx context.Context, in *TenantParam) (*answer[v1.ToolList], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	tools, err := a.backend.Tools.Tools(ctx, in.Tenant)
	return &answer[v1.ToolList]{v1.ToolList{Tools: orEmpty(tools)}}, err
}

type callInput struct {
	PluginParam
	Tool string `path:"tool" doc:"name of the tool"`
	Body v1.CallRequest
}

func (a *api) call(ctx context.Context, in *callInput) (*answer[v1.CallResult], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	result, err := a.backend.Tools.Call(ctx, in.Tenant, in.ID, in.Tool, in.Body)
	if err != nil {
		return nil, err
	}
	if result == nil {
		result = json.RawMessage("null")
	}
	return &answer[v1.CallResult]{v1.CallResult{Result: result}}, nil
}
