// Package gen makes the requests of the API: a function for each operation of
// the OpenAPI document, with the types of package v1. It sends nothing; package
// client does, and is the face of both.
//
// Code generated from the OpenAPI document by make generate. DO NOT EDIT.
package gen

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// Request is a request of an operation whose answer is a T: a type of package
// v1, [None], or [Stream].
type Request[T any] struct {
	Method string
	Path   string // escaped; a name that was empty left "//" or a last "/"
	Query  url.Values
	Header http.Header
	Body   any // to be sent as JSON, or as it is if it is an io.Reader; may be nil
}

// None is the answer of operations that have none.
type None struct{}

// Stream is the answer of operations whose answer is read as it comes.
type Stream struct{}

// segment escapes a name so that it stays one segment of a path, whatever is
// in it; "." and ".." would be resolved like directories.
func segment(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}

func set[T any](to map[string][]string, name string, value *T) {
	if value == nil {
		return
	}
	text := fmt.Sprint(*value)
	if at, ok := any(*value).(time.Time); ok {
		text = at.UTC().Format(time.RFC3339Nano)
	}
	to[name] = []string{text}
}

// ListAllApprovalsParams are the optional parameters of [ListAllApprovals].
type ListAllApprovalsParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListAllApprovals is GET /v1/approvals: List the approvals of all tenants.
func ListAllApprovals(params ListAllApprovalsParams) Request[v1.ApprovalList] {
	r := Request[v1.ApprovalList]{
		Method: http.MethodGet,
		Path:   "/v1/approvals",
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// AllEventsParams are the optional parameters of [AllEvents].
type AllEventsParams struct {
	Tenant      *string // only this tenant's; all tenants' if absent
	Since       *int64  // events with a larger seq only
	Follow      *bool   // go on with those to come, until the client hangs up
	LastEventID *int64  // the same, of a client that comes back; counts more than since
}

// AllEvents is GET /v1/events: What happens, in all tenants or one.
func AllEvents(params AllEventsParams) Request[Stream] {
	r := Request[Stream]{
		Method: http.MethodGet,
		Path:   "/v1/events",
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "tenant", params.Tenant)
	set(r.Query, "since", params.Since)
	set(r.Query, "follow", params.Follow)
	set(r.Header, http.CanonicalHeaderKey("Last-Event-ID"), params.LastEventID)
	return r
}

// ListAllHooksParams are the optional parameters of [ListAllHooks].
type ListAllHooksParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListAllHooks is GET /v1/hooks: List the hooks of all tenants.
func ListAllHooks(params ListAllHooksParams) Request[v1.HookList] {
	r := Request[v1.HookList]{
		Method: http.MethodGet,
		Path:   "/v1/hooks",
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// AllConnectionsParams are the optional parameters of [AllConnections].
type AllConnectionsParams struct {
	Plugin *string    // only this one's: its id or, of one tenant, its package name
	Denied *bool      // only what was denied or cut off
	Since  *time.Time // later ones only
	Limit  *int64     // the newest ones only
}

// AllConnections is GET /v1/network: The network log of all tenants.
func AllConnections(params AllConnectionsParams) Request[v1.ConnectionList] {
	r := Request[v1.ConnectionList]{
		Method: http.MethodGet,
		Path:   "/v1/network",
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "plugin", params.Plugin)
	set(r.Query, "denied", params.Denied)
	set(r.Query, "since", params.Since)
	set(r.Query, "limit", params.Limit)
	return r
}

// ListAllPluginsParams are the optional parameters of [ListAllPlugins].
type ListAllPluginsParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListAllPlugins is GET /v1/plugins: List the plugins of all tenants.
func ListAllPlugins(params ListAllPluginsParams) Request[v1.PluginList] {
	r := Request[v1.PluginList]{
		Method: http.MethodGet,
		Path:   "/v1/plugins",
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// RotateSecrets is POST /v1/secrets/rotate: Encrypt the secrets of all tenants with a new key.
func RotateSecrets() Request[None] {
	r := Request[None]{
		Method: http.MethodPost,
		Path:   "/v1/secrets/rotate",
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// ListAllServicesParams are the optional parameters of [ListAllServices].
type ListAllServicesParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListAllServices is GET /v1/services: List the services of all tenants.
func ListAllServices(params ListAllServicesParams) Request[v1.ServiceList] {
	r := Request[v1.ServiceList]{
		Method: http.MethodGet,
		Path:   "/v1/services",
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// StatusParams are the optional parameters of [Status].
type StatusParams struct {
	Tenant *string // only this tenant's plugins; all tenants' if absent
}

// Status is GET /v1/status: State of the daemon and its plugins.
func Status(params StatusParams) Request[v1.Status] {
	r := Request[v1.Status]{
		Method: http.MethodGet,
		Path:   "/v1/status",
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "tenant", params.Tenant)
	return r
}

// ListApprovalsParams are the optional parameters of [ListApprovals].
type ListApprovalsParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListApprovals is GET /v1/tenants/{tenant}/approvals: List the approvals of a tenant.
func ListApprovals(tenant string, params ListApprovalsParams) Request[v1.ApprovalList] {
	r := Request[v1.ApprovalList]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/approvals", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// ResolveApproval is POST /v1/tenants/{tenant}/approvals/{approval}: Resolve an approval.
func ResolveApproval(tenant string, approval string, body v1.ResolveRequest) Request[v1.Approval] {
	r := Request[v1.Approval]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/approvals/%s", segment(tenant), segment(approval)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// EventsParams are the optional parameters of [Events].
type EventsParams struct {
	Since       *int64 // events with a larger seq only
	Follow      *bool  // go on with those to come, until the client hangs up
	LastEventID *int64 // the same, of a client that comes back; counts more than since
}

// Events is GET /v1/tenants/{tenant}/events: What happens in a tenant.
func Events(tenant string, params EventsParams) Request[Stream] {
	r := Request[Stream]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/events", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "since", params.Since)
	set(r.Query, "follow", params.Follow)
	set(r.Header, http.CanonicalHeaderKey("Last-Event-ID"), params.LastEventID)
	return r
}

// ListHooksParams are the optional parameters of [ListHooks].
type ListHooksParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListHooks is GET /v1/tenants/{tenant}/hooks: List the hooks of a tenant.
func ListHooks(tenant string, params ListHooksParams) Request[v1.HookList] {
	r := Request[v1.HookList]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/hooks", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// EmitHookParams are the optional parameters of [EmitHook].
type EmitHookParams struct {
	IdempotencyKey *string // the same request with the same key gets the first answer again, for ten minutes
}

// EmitHook is POST /v1/tenants/{tenant}/hooks/{event}/emit: Give an event to the hooks of a tenant.
func EmitHook(tenant string, event string, params EmitHookParams, body v1.EmitRequest) Request[v1.EmitResult] {
	r := Request[v1.EmitResult]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/hooks/%s/emit", segment(tenant), segment(event)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	set(r.Header, http.CanonicalHeaderKey("Idempotency-Key"), params.IdempotencyKey)
	return r
}

// AttachHost is GET /v1/tenants/{tenant}/host: Attach a host, which then answers host.* calls.
func AttachHost(tenant string) Request[None] {
	r := Request[None]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/host", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// ConnectionsParams are the optional parameters of [Connections].
type ConnectionsParams struct {
	Plugin *string    // only this one's: its id or, of one tenant, its package name
	Denied *bool      // only what was denied or cut off
	Since  *time.Time // later ones only
	Limit  *int64     // the newest ones only
}

// Connections is GET /v1/tenants/{tenant}/network: The network log of a tenant.
func Connections(tenant string, params ConnectionsParams) Request[v1.ConnectionList] {
	r := Request[v1.ConnectionList]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/network", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "plugin", params.Plugin)
	set(r.Query, "denied", params.Denied)
	set(r.Query, "since", params.Since)
	set(r.Query, "limit", params.Limit)
	return r
}

// ListPluginsParams are the optional parameters of [ListPlugins].
type ListPluginsParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListPlugins is GET /v1/tenants/{tenant}/plugins: List the plugins of a tenant.
func ListPlugins(tenant string, params ListPluginsParams) Request[v1.PluginList] {
	r := Request[v1.PluginList]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// InstallPlugin is POST /v1/tenants/{tenant}/plugins: Install a plugin.
func InstallPlugin(tenant string, body v1.InstallRequest) Request[Stream] {
	r := Request[Stream]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// UninstallPluginParams are the optional parameters of [UninstallPlugin].
type UninstallPluginParams struct {
	KeepState *bool // keep the plugin's state directory
}

// UninstallPlugin is DELETE /v1/tenants/{tenant}/plugins/{id}: Uninstall a plugin.
func UninstallPlugin(tenant string, id string, params UninstallPluginParams) Request[None] {
	r := Request[None]{
		Method: http.MethodDelete,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "keepState", params.KeepState)
	return r
}

// GetPlugin is GET /v1/tenants/{tenant}/plugins/{id}: All that is known of a plugin.
func GetPlugin(tenant string, id string) Request[v1.PluginDetail] {
	r := Request[v1.PluginDetail]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// DisablePlugin is POST /v1/tenants/{tenant}/plugins/{id}/disable: Disable a plugin.
func DisablePlugin(tenant string, id string) Request[v1.Plugin] {
	r := Request[v1.Plugin]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/disable", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// EnablePlugin is POST /v1/tenants/{tenant}/plugins/{id}/enable: Enable a plugin.
func EnablePlugin(tenant string, id string) Request[v1.Plugin] {
	r := Request[v1.Plugin]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/enable", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// InvokeHandlerParams are the optional parameters of [InvokeHandler].
type InvokeHandlerParams struct {
	IdempotencyKey *string // the same request with the same key gets the first answer again, for ten minutes
}

// InvokeHandler is POST /v1/tenants/{tenant}/plugins/{id}/handlers/{handler}/invoke: Give an event to one handler of one plugin.
func InvokeHandler(tenant string, id string, handler int64, params InvokeHandlerParams, body v1.InvokeRequest) Request[v1.EmitResult] {
	r := Request[v1.EmitResult]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/handlers/%s/invoke", segment(tenant), segment(id), segment(fmt.Sprint(handler))),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	set(r.Header, http.CanonicalHeaderKey("Idempotency-Key"), params.IdempotencyKey)
	return r
}

// GetLearning is GET /v1/tenants/{tenant}/plugins/{id}/learn: What a plugin's learn mode has found out.
func GetLearning(tenant string, id string) Request[v1.Learning] {
	r := Request[v1.Learning]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/learn", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// Learn is POST /v1/tenants/{tenant}/plugins/{id}/learn: Switch a plugin's learn mode on or off.
func Learn(tenant string, id string, body v1.LearnRequest) Request[v1.Learning] {
	r := Request[v1.Learning]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/learn", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// PluginLogsParams are the optional parameters of [PluginLogs].
type PluginLogsParams struct {
	Follow   *bool      // go on until the client hangs up
	Previous *bool      // of the generation before
	Tail     *int64     // the last lines only; all if negative
	Since    *time.Time // later lines only
	Format   *string    // text is the lines alone, of stdout and stderr
}

// PluginLogs is GET /v1/tenants/{tenant}/plugins/{id}/logs: What the plugin printed.
func PluginLogs(tenant string, id string, params PluginLogsParams) Request[Stream] {
	r := Request[Stream]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/logs", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "follow", params.Follow)
	set(r.Query, "previous", params.Previous)
	set(r.Query, "tail", params.Tail)
	set(r.Query, "since", params.Since)
	set(r.Query, "format", params.Format)
	return r
}

// GetPermissions is GET /v1/tenants/{tenant}/plugins/{id}/permissions: What a plugin may do and would like to.
func GetPermissions(tenant string, id string) Request[v1.PluginPermissions] {
	r := Request[v1.PluginPermissions]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/permissions", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// GrantPermission is POST /v1/tenants/{tenant}/plugins/{id}/permissions/grant: Grant something to a plugin.
func GrantPermission(tenant string, id string, body v1.GrantRequest) Request[v1.GrantResult] {
	r := Request[v1.GrantResult]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/permissions/grant", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// GrantManifest is POST /v1/tenants/{tenant}/plugins/{id}/permissions/manifest: Grant what a permission manifest asks for.
func GrantManifest(tenant string, id string, body v1.ManifestRequest) Request[v1.ManifestResult] {
	r := Request[v1.ManifestResult]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/permissions/manifest", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// RevokePermission is POST /v1/tenants/{tenant}/plugins/{id}/permissions/revoke: Take something back from a plugin.
func RevokePermission(tenant string, id string, body v1.RevokeRequest) Request[v1.GrantResult] {
	r := Request[v1.GrantResult]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/permissions/revoke", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// ReinstallPlugin is POST /v1/tenants/{tenant}/plugins/{id}/reinstall: Get an installed plugin once more.
func ReinstallPlugin(tenant string, id string, body v1.ReinstallRequest) Request[Stream] {
	r := Request[Stream]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/reinstall", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// ResetPlugin is POST /v1/tenants/{tenant}/plugins/{id}/reset: Forget what went wrong with a plugin.
func ResetPlugin(tenant string, id string) Request[v1.Plugin] {
	r := Request[v1.Plugin]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/reset", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// RestartPlugin is POST /v1/tenants/{tenant}/plugins/{id}/restart: Restart a plugin.
func RestartPlugin(tenant string, id string) Request[v1.Plugin] {
	r := Request[v1.Plugin]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/restart", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// MoveSecret is POST /v1/tenants/{tenant}/plugins/{id}/secrets/move: Make a secret of a key in a plugin's configuration.
func MoveSecret(tenant string, id string, body v1.MoveSecret) Request[v1.Secret] {
	r := Request[v1.Secret]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/secrets/move", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// ChangeService is POST /v1/tenants/{tenant}/plugins/{id}/services/{service}/{op}: Start, stop or restart a service.
func ChangeService(tenant string, id string, service string, op string) Request[v1.Service] {
	r := Request[v1.Service]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/services/%s/%s", segment(tenant), segment(id), segment(service), segment(op)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// CallToolParams are the optional parameters of [CallTool].
type CallToolParams struct {
	IdempotencyKey *string // the same request with the same key gets the first answer again, for ten minutes
}

// CallTool is POST /v1/tenants/{tenant}/plugins/{id}/tools/{tool}/call: Call a tool.
func CallTool(tenant string, id string, tool string, params CallToolParams, body v1.CallRequest) Request[v1.CallResult] {
	r := Request[v1.CallResult]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/tools/%s/call", segment(tenant), segment(id), segment(tool)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	set(r.Header, http.CanonicalHeaderKey("Idempotency-Key"), params.IdempotencyKey)
	return r
}

// StreamToolParams are the optional parameters of [StreamTool].
type StreamToolParams struct {
	IdempotencyKey *string // the same request with the same key gets the first answer again, for ten minutes
}

// StreamTool is POST /v1/tenants/{tenant}/plugins/{id}/tools/{tool}/stream: Call a tool and follow the call.
func StreamTool(tenant string, id string, tool string, params StreamToolParams, body v1.CallRequest) Request[Stream] {
	r := Request[Stream]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/tools/%s/stream", segment(tenant), segment(id), segment(tool)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	set(r.Header, http.CanonicalHeaderKey("Idempotency-Key"), params.IdempotencyKey)
	return r
}

// VerifyPlugin is POST /v1/tenants/{tenant}/plugins/{id}/verify: Read the sealed payload again.
func VerifyPlugin(tenant string, id string) Request[v1.Verification] {
	r := Request[v1.Verification]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/plugins/%s/verify", segment(tenant), segment(id)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// ListRegistrationsParams are the optional parameters of [ListRegistrations].
type ListRegistrationsParams struct {
	IfNoneMatch *string // ETags of lists that the caller has
}

// ListRegistrations is GET /v1/tenants/{tenant}/registrations: All registrations of a tenant's plugins, in global order.
func ListRegistrations(tenant string, params ListRegistrationsParams) Request[v1.Snapshot] {
	r := Request[v1.Snapshot]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/registrations", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Header, http.CanonicalHeaderKey("If-None-Match"), params.IfNoneMatch)
	return r
}

// AnswerReview is POST /v1/tenants/{tenant}/reviews/{review}: Answer the review of an install.
func AnswerReview(tenant string, review string, body v1.ReviewAnswer) Request[None] {
	r := Request[None]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/reviews/%s", segment(tenant), segment(review)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// ListSecretsParams are the optional parameters of [ListSecrets].
type ListSecretsParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListSecrets is GET /v1/tenants/{tenant}/secrets: List the secrets of a tenant, without their values.
func ListSecrets(tenant string, params ListSecretsParams) Request[v1.SecretList] {
	r := Request[v1.SecretList]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/secrets", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// RemoveSecret is DELETE /v1/tenants/{tenant}/secrets/{secret}: Forget a secret.
func RemoveSecret(tenant string, secret string) Request[None] {
	r := Request[None]{
		Method: http.MethodDelete,
		Path:   fmt.Sprintf("/v1/tenants/%s/secrets/%s", segment(tenant), segment(secret)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// SetSecret is PUT /v1/tenants/{tenant}/secrets/{secret}: Make a secret, or replace it.
func SetSecret(tenant string, secret string, body v1.SetSecret) Request[v1.Secret] {
	r := Request[v1.Secret]{
		Method: http.MethodPut,
		Path:   fmt.Sprintf("/v1/tenants/%s/secrets/%s", segment(tenant), segment(secret)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// ListServicesParams are the optional parameters of [ListServices].
type ListServicesParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListServices is GET /v1/tenants/{tenant}/services: List the services of a tenant.
func ListServices(tenant string, params ListServicesParams) Request[v1.ServiceList] {
	r := Request[v1.ServiceList]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/services", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// ListToolsParams are the optional parameters of [ListTools].
type ListToolsParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListTools is GET /v1/tenants/{tenant}/tools: List the tools of a tenant.
func ListTools(tenant string, params ListToolsParams) Request[v1.ToolList] {
	r := Request[v1.ToolList]{
		Method: http.MethodGet,
		Path:   fmt.Sprintf("/v1/tenants/%s/tools", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// UploadPackage is POST /v1/tenants/{tenant}/uploads: Upload a package to install.
func UploadPackage(tenant string, body io.Reader) Request[v1.Upload] {
	r := Request[v1.Upload]{
		Method: http.MethodPost,
		Path:   fmt.Sprintf("/v1/tenants/%s/uploads", segment(tenant)),
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// ListTokensParams are the optional parameters of [ListTokens].
type ListTokensParams struct {
	Tenant *string // only those that reach this tenant: its own, and those of access admin
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListTokens is GET /v1/tokens: List the tokens of callers over TLS.
func ListTokens(params ListTokensParams) Request[v1.TokenList] {
	r := Request[v1.TokenList]{
		Method: http.MethodGet,
		Path:   "/v1/tokens",
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "tenant", params.Tenant)
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// CreateToken is POST /v1/tokens: Make a token for callers over TLS.
func CreateToken(body v1.CreateTokenRequest) Request[v1.CreatedToken] {
	r := Request[v1.CreatedToken]{
		Method: http.MethodPost,
		Path:   "/v1/tokens",
		Query:  url.Values{},
		Header: http.Header{},
		Body:   body,
	}
	return r
}

// RevokeToken is DELETE /v1/tokens/{token}: End a token.
func RevokeToken(token string) Request[v1.Token] {
	r := Request[v1.Token]{
		Method: http.MethodDelete,
		Path:   fmt.Sprintf("/v1/tokens/%s", segment(token)),
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}

// ListAllToolsParams are the optional parameters of [ListAllTools].
type ListAllToolsParams struct {
	Limit  *int64  // items of the page
	Cursor *string // where the page begins: next of the page before
}

// ListAllTools is GET /v1/tools: List the tools of all tenants.
func ListAllTools(params ListAllToolsParams) Request[v1.ToolList] {
	r := Request[v1.ToolList]{
		Method: http.MethodGet,
		Path:   "/v1/tools",
		Query:  url.Values{},
		Header: http.Header{},
	}
	set(r.Query, "limit", params.Limit)
	set(r.Query, "cursor", params.Cursor)
	return r
}

// Version is GET /v1/version: What answers.
func Version() Request[v1.Version] {
	r := Request[v1.Version]{
		Method: http.MethodGet,
		Path:   "/v1/version",
		Query:  url.Values{},
		Header: http.Header{},
	}
	return r
}
