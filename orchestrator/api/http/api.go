// Package httpapi serves the API of package v1 over HTTP: routes, who may use
// which, the one shape of errors, streams, uploads, answers that are given
// twice, and the sockets it listens on. It decides nothing else: every request
// becomes one call of the backend, whose interfaces are here.
//
// It promises that every answer that is no success is a v1.Error, that a
// request without a caller is refused and one of a tenant's caller stays in
// that tenant, that bodies, headers, queues, connections over TLS and slow
// clients are bounded, that a client that hangs up, or whose token is revoked,
// ends what it asked for, that a panic costs one request, and that no path
// which a caller names is opened.
package httpapi

import (
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// Options are the rest of what an API needs.
type Options struct {
	Log *slog.Logger
	// UploadDir is where uploads are kept, as files without a name; "" is the
	// system's directory for temporary files.
	UploadDir string
	// MaxUpload bounds an upload, bytes; 0 is v1.MaxUploadBody.
	MaxUpload int64
	// WriteTimeout bounds each write of an answer: a client that does not read for
	// so long is dropped; 0 is 30 s.
	WriteTimeout time.Duration
	// Tokens admits callers over TLS; nil admits none.
	Tokens Tokens
}

// api holds what the handlers share.
type api struct {
	backend Backend
	log     *slog.Logger
	tokens  Tokens
	guesses *guesses

	writeTimeout time.Duration

	uploads *uploads
	reviews *reviews
	replays *replays
}

// New returns the handler of all routes. It serves whoever [Serve], or
// [WithCaller] on a request's context, says is asking.
func New(backend Backend, opts Options) http.Handler {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.UploadDir == "" {
		opts.UploadDir = os.TempDir()
	}
	if opts.MaxUpload == 0 {
		opts.MaxUpload = v1.MaxUploadBody
	}
	if opts.WriteTimeout == 0 {
		opts.WriteTimeout = writeTimeout
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", noRoute)
	a := &api{
		backend: backend, log: opts.Log, tokens: opts.Tokens, guesses: newGuesses(), writeTimeout: opts.WriteTimeout,
		uploads: newUploads(opts.UploadDir, opts.MaxUpload), reviews: newReviews(), replays: newReplays(),
	}
	r := &routes{API: humago.New(mux, config()), parts: backend.parts()}
	a.systemRoutes(r)
	a.pluginRoutes(r)
	a.logRoutes(r)
	a.installRoutes(r)
	a.permissionRoutes(r)
	a.approvalRoutes(r)
	a.toolRoutes(r)
	a.hookRoutes(r)
	a.serviceRoutes(r)
	a.eventRoutes(r)
	a.hostRoutes(r)
	a.tokenRoutes(r)
	a.secretRoutes(r)
	a.networkRoutes(r)
	a.learnRoutes(r)
	dropHumaErrors(r)
	return a.observe(mux)
}

// routes is where operations are registered.
type routes struct {
	huma.API
	parts map[string]bool // the tags whose part of the backend is there
}

// parts returns which parts there are, by the tag of their operations.
func (b Backend) parts() map[string]bool {
	return map[string]bool{
		"system": b.System != nil, "plugins": b.Plugins != nil, "tools": b.Tools != nil, "hooks": b.Hooks != nil,
		"services": b.Services != nil, "permissions": b.Permissions != nil, "approvals": b.Approvals != nil,
		"events": b.Events != nil, "hosts": b.Hosts != nil, "tokens": b.TokenAdmin != nil,
		"secrets": b.Secrets != nil, "network": b.Network != nil, "learn": b.Learning != nil,
	}
}

func config() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "ocmt",
				Description: "Runs OpenClaw and OCMT plugins in containers. " +
					"Within v1 fields and routes are added, never removed or given another meaning.",
				License: &huma.License{Name: "Apache 2.0", Identifier: "Apache-2.0"},
				Version: "1",
			},
			Servers: []*huma.Server{
				{URL: "http://ocmt", Description: "a unix socket of the daemon, whatever the host's name"},
				{URL: "https://localhost:8443", Description: "the address that the daemon listens on, with TLS"},
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "over TLS; a unix socket asks for none"},
				},
			},
			Security: []map[string][]string{{"token": {}}, {}},
		},
		OpenAPIPath:   "/v1/openapi",
		Formats:       huma.DefaultFormats,
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{transformError},
	}
}
