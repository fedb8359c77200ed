package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"regexp"

	"github.com/containerd/errdefs"
	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

const (
	tenantPath = "/v1/tenants/{tenant}"
	pluginPath = tenantPath + "/plugins/{id}"
)

// TenantParam names a tenant. It is exported for huma, which reads no other
// embedded fields.
type TenantParam struct {
	Tenant string `path:"tenant" doc:"name of the tenant" example:"default"`
}

func (in *TenantParam) check() error { return plugin.CheckTenant(in.Tenant) }

// PluginParam names a plugin; see [TenantParam].
type PluginParam struct {
	TenantParam
	ID string `path:"id" doc:"id of the plugin, or its package name" example:"kitchen-sink"`
}

func (in *PluginParam) check() error {
	if err := in.TenantParam.check(); err != nil {
		return err
	}
	return checkRef(in.ID)
}

// packageName is what npm accepts, in either case; an older name may have
// capitals. maxPackageName is npm's limit.
var packageName = regexp.MustCompile(`^(@[A-Za-z0-9~-][A-Za-z0-9._~-]*/)?[A-Za-z0-9~-][A-Za-z0-9._~-]*$`)

const maxPackageName = 214

// checkRef reports why ref can be no plugin's id and no package's name.
func checkRef(ref string) error {
	if plugin.CheckID(ref) == nil || (len(ref) <= maxPackageName && packageName.MatchString(ref)) {
		return nil
	}
	return fmt.Errorf("%q (%d characters) is neither a plugin id nor a package name: %w", shorten(ref), len(ref), errdefs.ErrInvalidArgument)
}

func shorten(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

func (a *api) pluginRoutes(r *routes) {
	const tag = "plugins"
	listing[v1.Plugin, v1.PluginList]{
		name: tag,
		items: func(ctx context.Context, tenant string) ([]v1.Plugin, error) {
			return a.backend.Plugins.List(ctx, tenant)
		},
		key:  func(p v1.Plugin) string { return p.Tenant + "/" + p.ID },
		page: func(items []v1.Plugin, next string) v1.PluginList { return v1.PluginList{Plugins: items, Next: next} },
	}.register(r)
	handle(r, op(AccessCall, http.MethodGet, pluginPath, "get-plugin", "All that is known of a plugin", tag), a.get)
	handle(r, op(AccessAdmin, http.MethodDelete, pluginPath, "uninstall-plugin", "Uninstall a plugin", tag), a.uninstall)
	handle(r, op(AccessAdmin, http.MethodPost, pluginPath+"/enable", "enable-plugin", "Enable a plugin", tag), a.change(Plugins.Enable))
	handle(r, op(AccessAdmin, http.MethodPost, pluginPath+"/disable", "disable-plugin", "Disable a plugin", tag), a.change(Plugins.Disable))
	handle(r, op(AccessAdmin, http.MethodPost, pluginPath+"/restart", "restart-plugin", "Restart a plugin", tag), a.change(Plugins.Restart))
	reset := op(AccessAdmin, http.MethodPost, pluginPath+"/reset", "reset-plugin", "Forget what went wrong with a plugin", tag)
	reset.Description = "Ends crashlooped and, if the payload verifies again, quarantined; then starts the plugin if it is enabled. " +
		"An altered payload is refused as payload_altered: reinstall-plugin is the way out."
	handle(r, reset, a.change(Plugins.Reset))
	handle(r, op(AccessAdmin, http.MethodPost, pluginPath+"/verify", "verify-plugin", "Read the sealed payload again", tag), a.verify)
}

// content documents a streamed answer.
func content(description string, mediaTypes ...string) map[string]*huma.Response {
	types := make(map[string]*huma.MediaType)
	for _, name := range mediaTypes {
		types[name] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	return map[string]*huma.Response{"200": {Description: description, Content: types}}
}

func (a *api) get(ctx context.Context, in *PluginParam) (*answer[v1.PluginDetail], error) {
	detail, err := a.backend.Plugins.Get(ctx, in.Tenant, in.ID)
	return &answer[v1.PluginDetail]{withLists(detail)}, err
}

func withLists(p v1.PluginDetail) v1.PluginDetail {
	p.ToolList, p.Registrations = orEmpty(p.ToolList), orEmpty(p.Registrations)
	return p
}

type uninstallInput struct {
	PluginParam
	KeepState bool `query:"keepState" doc:"keep the plugin's state directory"`
}

func (a *api) uninstall(ctx context.Context, in *uninstallInput) (*struct{}, error) {
	return nil, a.backend.Plugins.Uninstall(ctx, in.Tenant, in.ID, in.KeepState)
}

// change makes a handler of what changes a plugin's state.
func (a *api) change(do func(p Plugins, ctx context.Context, tenant, ref string) (v1.Plugin, error)) func(context.Context, *PluginParam) (*answer[v1.Plugin], error) {
	return func(ctx context.Context, in *PluginParam) (*answer[v1.Plugin], error) {
		p, err := do(a.backend.Plugins, ctx, in.Tenant, in.ID)
		return &answer[v1.Plugin]{p}, err
	}
}

func (a *api) verify(ctx context.Context, in *PluginParam) (*answer[v1.Verification], error) {
	v, err := a.backend.Plugins.Verify(ctx, in.Tenant, in.ID)
	return &answer[v1.Verification]{v}, err
}
