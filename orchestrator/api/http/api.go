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
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

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
	Uninstall(ctx context.Context, tenant, ref string, keepState bool) error
	Enable(ctx context.Context, tenant, ref string) (v1.Plugin, error)
	Disable(ctx context.Context, tenant, ref string) (v1.Plugin, error)
	Restart(ctx context.Context, tenant, ref string) (v1.Plugin, error)
	// Verify reads the sealed payload again; a mismatch is DataLoss.
	Verify(ctx context.Context, tenant, ref string) (v1.Verification, error)
	// Logs returns what the plugin printed, as text. With q.Follow the reader
	// ends when ctx does.
	Logs(ctx context.Context, tenant, ref string, q v1.LogQuery) (io.ReadCloser, error)
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
	// Package is the uploaded package: a tar of source "path", the file as it
	// is of "archive", nil of "npm". It is closed when Install returns.
	Package io.ReadSeeker
}

// Tools lists and calls tools.
type Tools interface {
	// Tools returns the tools of tenant, or of all tenants for "".
	Tools(ctx context.Context, tenant string) ([]v1.Tool, error)
	Call(ctx context.Context, tenant, ref, tool string, req v1.CallRequest) (json.RawMessage, error)
}

// Backend is what the API is in front of.
type Backend struct {
	System  System
	Plugins Plugins
	Tools   Tools
}

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
