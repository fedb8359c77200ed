package httpapi

import (
	"context"
	"encoding/json"
	"io"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// System tells of the daemon.
type System interface {
	Version(ctx context.Context) v1.Version
	// Status returns the state of the daemon with the plugins of tenant, or
	// of all tenants for "".
	Status(ctx context.Context, tenant string) (v1.Status, error)
}

// Plugins manages installed plugins. A ref is a plugin's id or its package
// name; which one it is, the backend finds out. An unknown ref is NotFound.
type Plugins interface {
	// List returns the plugins of tenant, or of all tenants for "".
	List(ctx context.Context, tenant string) ([]v1.Plugin, error)
	Get(ctx context.Context, tenant, ref string) (v1.PluginDetail, error)
	// Install installs a plugin; it gives up, without a trace, when ctx ends.
	// It may call progress from any goroutine until it returns.
	Install(ctx context.Context, tenant string, req Install, progress func(v1.Progress)) (v1.PluginDetail, error)
	// Reinstall gets an installed plugin once more, whatever its state, and
	// starts it as Reset does if it is enabled. Of req only Confirmed, Accept,
	// Review and Package count; the rest is as it was installed.
	Reinstall(ctx context.Context, tenant, ref string, req Install, progress func(v1.Progress)) (v1.PluginDetail, error)
	Uninstall(ctx context.Context, tenant, ref string, keepState bool) error
	Enable(ctx context.Context, tenant, ref string) (v1.Plugin, error)
	Disable(ctx context.Context, tenant, ref string) (v1.Plugin, error)
	Restart(ctx context.Context, tenant, ref string) (v1.Plugin, error)
	// Reset forgets what went wrong with a plugin, its quarantine included, and
	// returns when it serves if it is enabled. FailedPrecondition while its
	// payload is altered or missing.
	Reset(ctx context.Context, tenant, ref string) (v1.Plugin, error)
	// Verify reads the sealed payload again; a mismatch is DataLoss.
	Verify(ctx context.Context, tenant, ref string) (v1.Verification, error)
	// LogLines calls send for every line that the plugin printed and that q asks
	// for, in order; with q.Follow until ctx ends, which is no error. It returns
	// the first error of send.
	LogLines(ctx context.Context, tenant, ref string, q v1.LogQuery, send func(v1.LogLine) error) error
}

// Install is an install whose upload, if it has one, was found.
type Install struct {
	Spec   string
	Source string // "npm", "path" or "archive", as in config.json
	Pin    bool
	Link   bool
	// Replace allows to install over the same plugin.
	Replace bool
	// Confirmed says that a person agreed to the security warning.
	Confirmed bool
	// Accept is the answer to the permission review: one of v1's Accept*, or
	// empty to ask by Review.
	Accept string
	// Review asks a person; its answer's Accept is v1.AcceptNone when nobody
	// answered in time and when there is an error. The backend fills in all but
	// ID and ExpiresAt. It is set when Accept is empty.
	Review func(ctx context.Context, review v1.Review) (Answer, error)
	// Package is the uploaded package: a tar of source "path", the file as it
	// is of "archive", nil of "npm". It is closed when Install returns.
	Package io.ReadSeeker
}

// Answer is a person's answer to a review.
type Answer struct {
	Accept string // one of v1's Accept*
	Actor  string // who answered
}

// Tools lists and calls tools.
type Tools interface {
	// Tools returns the tools of tenant, or of all tenants for "".
	Tools(ctx context.Context, tenant string) ([]v1.Tool, error)
	// Call calls a tool. It gives the call up when ctx ends. watch, whose
	// functions may be nil, is told what happens meanwhile.
	Call(ctx context.Context, tenant, ref, tool string, req v1.CallRequest, watch CallWatch) (v1.CallResult, error)
}

// CallWatch is told of a running call; its functions must not block, and are
// not called after the call has returned.
type CallWatch struct {
	Update func(update json.RawMessage)
	Ask    func(v1.Approval) // made, and once more when it is resolved
}

// Hooks runs hooks.
type Hooks interface {
	// Hooks returns the hooks of tenant, or of all tenants for "", in the
	// order of the pipeline.
	Hooks(ctx context.Context, tenant string) ([]v1.Hook, error)
	Emit(ctx context.Context, tenant, event string, req v1.EmitRequest, watch CallWatch) (v1.EmitResult, error)
	// Invoke gives an event to one handler of one plugin.
	Invoke(ctx context.Context, tenant, ref string, handler int, req v1.InvokeRequest) (v1.EmitResult, error)
	// Snapshot returns what the tenant's plugins registered, in global order.
	Snapshot(ctx context.Context, tenant string) (v1.Snapshot, error)
}

// Services controls background services.
type Services interface {
	Services(ctx context.Context, tenant string) ([]v1.Service, error)
	// Change starts, stops or restarts a service, and returns when that is
	// done or failed. op is "start", "stop" or "restart".
	Change(ctx context.Context, tenant, ref, service, op string) (v1.Service, error)
}

// Permissions shows and changes what plugins may do.
type Permissions interface {
	Permissions(ctx context.Context, tenant, ref string) (v1.PluginPermissions, error)
	Grant(ctx context.Context, tenant, ref string, req v1.GrantRequest) (v1.GrantResult, error)
	Revoke(ctx context.Context, tenant, ref string, req v1.RevokeRequest) (v1.GrantResult, error)
	// GrantManifest grants all that a permission manifest asks for and that can be
	// granted as it says it, or after an error nothing. It grants nothing with
	// req.DryRun.
	GrantManifest(ctx context.Context, tenant, ref string, req v1.ManifestRequest) (v1.ManifestResult, error)
}

// Learning runs plugins in learn mode.
type Learning interface {
	// Learn switches learn mode on or off, and returns when the plugin serves again
	// if it is enabled. To switch off what is not on is no error.
	Learn(ctx context.Context, tenant, ref string, req v1.LearnRequest) (v1.Learning, error)
	Learning(ctx context.Context, tenant, ref string) (v1.Learning, error)
}

// Secrets keeps the secrets of tenants. No value is in an answer or an error.
type Secrets interface {
	// Secrets returns those of tenant by name.
	Secrets(ctx context.Context, tenant string) ([]v1.Secret, error)
	// SetSecret makes a secret or replaces it. InvalidArgument for a value that is
	// empty, longer than v1.MaxSecret or of several lines.
	SetSecret(ctx context.Context, tenant, name string, req v1.SetSecret) (v1.Secret, error)
	RemoveSecret(ctx context.Context, tenant, name string) error
	// MoveSecret makes a secret of a key in a plugin's configuration. An unknown
	// path is NotFound, a secret of that name AlreadyExists.
	MoveSecret(ctx context.Context, tenant, ref string, req v1.MoveSecret) (v1.Secret, error)
	// RotateSecrets encrypts the secrets of all tenants with a new key.
	RotateSecrets(ctx context.Context) error
}

// Network tells of the connections of plugins.
type Network interface {
	// Connections returns the newest q.Limit entries that q asks for, the oldest
	// first, of tenant or of all tenants for "".
	Connections(ctx context.Context, tenant string, q v1.ConnectionQuery) ([]v1.Connection, error)
}

// Approvals are what waits for a person.
type Approvals interface {
	// Approvals returns those of tenant, or of all tenants for "".
	Approvals(ctx context.Context, tenant string) ([]v1.Approval, error)
	// Resolve is Conflict for one that was resolved, and FailedPrecondition
	// after its time.
	Resolve(ctx context.Context, tenant, id, decision string) (v1.Approval, error)
}

// Events tells what happens.
type Events interface {
	// Events calls send for every event that q asks for, in order, until ctx
	// ends or, without q.Follow, until there is no more.
	Events(ctx context.Context, q v1.EventQuery, send func(v1.Event) error) error
}

// Hosts holds the agent hosts that are attached.
type Hosts interface {
	// Attach registers a host until ctx ends, when it takes no more calls.
	// send queues a message for it, may be called from several goroutines and
	// from within Attach, and does not block: it is ResourceExhausted while the
	// host reads too slowly, InvalidArgument for a message above the limit, and
	// Unavailable once the host is gone. The returned function takes the host's
	// answers, one after the other, and must not block.
	Attach(ctx context.Context, tenant string, hello v1.HostMessage, send func(v1.HostMessage) error) (answer func(v1.HostMessage), err error)
}

// Tokens knows the tokens of callers over TLS.
type Tokens interface {
	// Lookup returns whose token it is. An unknown or expired one is NotFound
	// or Unauthenticated. So that the time it takes says nothing about the
	// tokens there are, it looks for the token's hash.
	Lookup(ctx context.Context, token string) (Caller, error)
}

// TokenAdmin manages the tokens of callers over TLS.
type TokenAdmin interface {
	// Tokens returns those that reach tenant, or all for "", the oldest first.
	Tokens(ctx context.Context, tenant string) ([]v1.Token, error)
	CreateToken(ctx context.Context, req v1.CreateTokenRequest) (v1.CreatedToken, error)
	// RevokeToken ends a token and returns what it was. Requests that it
	// admitted end too.
	RevokeToken(ctx context.Context, id string) (v1.Token, error)
}

// Backend is what the API is in front of. The operations of a part that is nil
// are unavailable.
type Backend struct {
	System      System
	Plugins     Plugins
	Tools       Tools
	Hooks       Hooks
	Services    Services
	Permissions Permissions
	Approvals   Approvals
	Events      Events
	Hosts       Hosts
	TokenAdmin  TokenAdmin
	Learning    Learning
	Secrets     Secrets
	Network     Network
}

// Access is what a caller may do.
type Access string

// The kinds of access. Each operation says which it needs.
const (
	AccessAdmin Access = "admin" // everything, of every tenant
	AccessCall  Access = "call"  // read and call, of one tenant
)

// Caller is who made a request.
type Caller struct {
	// Actor names it in the audit log: "uid:1000" of a unix socket, "token:ID".
	Actor  string
	Access Access
	Tenant string // the only one, of AccessCall
	// Ended is closed when the access ends; the contexts of the caller's requests
	// end then. It may be nil.
	Ended <-chan struct{}
}

type callerKey struct{}

// WithCaller returns a context that carries c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns who made the request; the zero Caller, who may do nothing,
// if ctx is of none.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
