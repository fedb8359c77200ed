// Package httpapi serves the API of package v1 over HTTP: routes, the one
// shape of errors, uploads, and the unix socket it listens on. It decides
// nothing: every request becomes one call of the backend, whose interfaces
// are here.
//
// It promises that every answer that is no success is a v1.Error, that bodies,
// headers and slow clients are bounded, that a panic costs one request, and
// that no path which a caller names is opened.
package httpapi

import (
	"log/slog"
	"net/http"
	"os"

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
}

// api holds what the handlers share.
type api struct {
	backend Backend
	log     *slog.Logger
	uploads *uploads
}

// New returns the handler of all routes.
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
	mux := http.NewServeMux()
	mux.HandleFunc("/", noRoute)
	a := &api{backend: backend, log: opts.Log, uploads: newUploads(opts.UploadDir, opts.MaxUpload)}
	routes := humago.New(mux, config())
	a.systemRoutes(routes)
	a.pluginRoutes(routes)
	a.installRoutes(routes)
	a.toolRoutes(routes)
	dropHumaErrors(routes)
	return observe(opts.Log, mux)
}

func config() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "ocmt",
				Description: "Runs OpenClaw and OCMT plugins in containers. " +
					"Within v1 fields and routes are added, never removed or given another meaning.",
				Version: "1",
			},
			Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)},
		},
		OpenAPIPath:   "/v1/openapi",
		Formats:       huma.DefaultFormats,
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{transformError},
	}
}
