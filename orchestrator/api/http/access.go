package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// accessExtension says in the OpenAPI document which access an operation needs.
const accessExtension = "x-ocmt-access"

// maxToken bounds a bearer token, bytes.
const maxToken = 512

// op starts an operation's description: which access it needs, and so on. Its
// tag names the part of the backend that it needs.
func op(access Access, method, path, id, summary, tag string) huma.Operation {
	return huma.Operation{
		Method: method, Path: path, OperationID: id, Summary: summary, Tags: []string{tag},
		Extensions: map[string]any{accessExtension: access},
	}
}

// guard lets an operation's callers through, before anything of the request
// but its path is read.
func (r *routes) guard(op huma.Operation) func(huma.Context, func(huma.Context)) {
	need, tag := op.Extensions[accessExtension].(Access), op.Tags[0]
	ofTenant := strings.HasPrefix(op.Path, tenantPath+"/")
	return func(ctx huma.Context, next func(huma.Context)) {
		err := CallerOf(ctx.Context()).check(need, ofTenant, ctx.Param("tenant"))
		if err == nil && !r.parts[tag] {
			err = fault.New(errdefs.ErrUnavailable, "not_served", "this daemon does not serve %s", tag)
		}
		if err != nil {
			_, w := humago.Unwrap(ctx)
			writeError(w, err)
			return
		}
		next(ctx)
	}
}

// check reports why c may not use an operation that needs the given access, of
// the tenant if it is one of a tenant. It returns nil if c may.
func (c Caller) check(need Access, ofTenant bool, tenant string) error {
	if c.Access == AccessAdmin {
		return nil
	}
	if c.Access != AccessCall || need != AccessCall {
		return fault.New(errdefs.ErrPermissionDenied, "permission_denied", "this needs the operator's access").
			WithHint("use the operator's socket, run/admin.sock, or a token with access admin")
	}
	if ofTenant && tenant != c.Tenant {
		return fault.New(errdefs.ErrPermissionDenied, "permission_denied", "this socket or token is of tenant %q, not of %q", c.Tenant, shorten(tenant)).
			WithHint("use that tenant's own socket or token")
	}
	return nil
}

// identify returns who makes a request: over TLS whose token it carries, else
// whom the socket is for.
func (a *api) identify(r *http.Request) (Caller, error) {
	if r.TLS != nil {
		return a.tokenCaller(r)
	}
	if c := CallerOf(r.Context()); c.Access != "" {
		return c, nil
	}
	return Caller{}, fault.New(errdefs.ErrUnauthenticated, "unauthenticated", "cannot tell who is asking").
		WithHint("use a unix socket of the daemon, or TLS with a token")
}

// tokenCaller returns whose token a request carries. While too many requests of
// its address fail it is not looked at: a right guess would be told apart.
func (a *api) tokenCaller(r *http.Request) (Caller, error) {
	failed := a.guesses.of(r.RemoteAddr)
	if failed.Tokens() < 1 {
		a.guesses.log.Do(func() { a.log.Warn("requests without a valid token are held off", "address", r.RemoteAddr) })
		return Caller{}, errTooManyGuesses()
	}
	c, err := a.lookup(r)
	if errdefs.IsUnauthorized(err) {
		failed.Allow()
	}
	return c, err
}

func (a *api) lookup(r *http.Request) (Caller, error) {
	refused := fault.New(errdefs.ErrUnauthenticated, "unauthenticated", "the request carries no valid token").
		WithHint("send one in the header Authorization: Bearer TOKEN; ocmt takes it from OCMT_TOKEN")
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if a.tokens == nil || !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken {
		return Caller{}, refused
	}
	c, err := a.tokens.Lookup(r.Context(), token)
	switch {
	case errdefs.IsNotFound(err), errdefs.IsUnauthorized(err), err == nil && c.Access == "":
		return Caller{}, refused
	case err != nil:
		return Caller{}, err
	}
	return c, nil
}

// while returns a context that ends with the caller's access.
func (c Caller) while(ctx context.Context) (context.Context, func()) {
	if c.Ended == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-c.Ended:
			cancel(fault.New(errdefs.ErrUnauthenticated, "token_ended", "the token was revoked, or has expired"))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
