package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/containerd/errdefs"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

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

func (a *api) pluginRoutes(routes huma.API) {
	const tag = "plugins"
	handle(routes, op(http.MethodGet, "/v1/plugins", "list-all-plugins", "Plugins of all tenants", tag), a.listAll)
	handle(routes, op(http.MethodGet, tenantPath+"/plugins", "list-plugins", "Installed plugins", tag), a.list)
	handle(routes, op(http.MethodGet, pluginPath, "get-plugin", "All that is known of a plugin", tag), a.get)
	handle(routes, op(http.MethodDelete, pluginPath, "uninstall-plugin", "Uninstall a plugin", tag), a.uninstall)
	handle(routes, op(http.MethodPost, pluginPath+"/enable", "enable-plugin", "Enable a plugin", tag), change(a.backend.Plugins.Enable))
	handle(routes, op(http.MethodPost, pluginPath+"/disable", "disable-plugin", "Disable a plugin", tag), change(a.backend.Plugins.Disable))
	handle(routes, op(http.MethodPost, pluginPath+"/restart", "restart-plugin", "Restart a plugin", tag), change(a.backend.Plugins.Restart))
	handle(routes, op(http.MethodPost, pluginPath+"/verify", "verify-plugin", "Read the sealed payload again", tag), a.verify)
	logs := op(http.MethodGet, pluginPath+"/logs", "plugin-logs", "What the plugin printed", tag)
	logs.Responses = content("The lines, streamed", "text/plain")
	handle(routes, logs, a.logs)
}

// content documents a streamed answer.
func content(description, mediaType string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {
		Description: description,
		Content:     map[string]*huma.MediaType{mediaType: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
}

func (a *api) listAll(ctx context.Context, _ *struct{}) (*answer[v1.PluginList], error) {
	plugins, err := a.backend.Plugins.List(ctx, "")
	return &answer[v1.PluginList]{v1.PluginList{Plugins: orEmpty(plugins)}}, err
}

func (a *api) list(ctx context.Context, in *TenantParam) (*answer[v1.PluginList], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	plugins, err := a.backend.Plugins.List(ctx, in.Tenant)
	return &answer[v1.PluginList]{v1.PluginList{Plugins: orEmpty(plugins)}}, err
}

// orEmpty keeps null out of the answers.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (a *api) get(ctx context.Context, in *PluginParam) (*answer[v1.PluginDetail], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
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
	if err := in.check(); err != nil {
		return nil, err
	}
	return nil, a.backend.Plugins.Uninstall(ctx, in.Tenant, in.ID, in.KeepState)
}

// change makes a handler of what changes a plugin's state.
func change(do func(ctx context.Context, tenant, ref string) (v1.Plugin, error)) func(context.Context, *PluginParam) (*answer[v1.Plugin], error) {
	return func(ctx context.Context, in *PluginParam) (*answer[v1.Plugin], error) {
		if err := in.check(); err != nil {
			return nil, err
		}
		p, err := do(ctx, in.Tenant, in.ID)
		return &answer[v1.Plugin]{p}, err
	}
}

func (a *api) verify(ctx context.Context, in *PluginParam) (*answer[v1.Verification], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	v, err := a.backend.Plugins.Verify(ctx, in.Tenant, in.ID)
	return &answer[v1.Verification]{v}, err
}

type logsInput struct {
	PluginParam
	Follow   bool      `query:"follow" doc:"go on until the client hangs up"`
	Previous bool      `query:"previous" doc:"of the generation before"`
	Tail     int       `query:"tail" default:"-1" doc:"the last lines only; all if negative"`
	Since    time.Time `query:"since" doc:"later lines only"`
}

func (a *api) logs(ctx context.Context, in *logsInput) (*huma.StreamResponse, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	lines, err := a.backend.Plugins.Logs(ctx, in.Tenant, in.ID,
		v1.LogQuery{Follow: in.Follow, Previous: in.Previous, Tail: in.Tail, Since: in.Since})
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer lines.Close()
		_, w := humago.Unwrap(hctx)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusOK)
		if err := copyFlushed(w, lines); err != nil && ctx.Err() == nil {
			a.log.Warn("log stream broke off", "tenant", in.Tenant, "plugin", in.ID, "error", err)
			panic(http.ErrAbortHandler) // so that the client knows too
		}
	}}, nil
}

// copyFlushed copies r to w and sends on every piece at once.
func copyFlushed(w http.ResponseWriter, r io.Reader) error {
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if err := control.Flush(); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}
