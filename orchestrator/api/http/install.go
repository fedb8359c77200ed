package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func (a *api) installRoutes(routes huma.API) {
	const tag = "plugins"
	upload := op(http.MethodPost, tenantPath+"/uploads", "upload-package", "Upload a package to install", tag)
	upload.BodyReadTimeout = uploadTimeout
	upload.DefaultStatus = http.StatusCreated
	binary := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	upload.RequestBody = &huma.RequestBody{
		Description: "a tar of the package's directory, or a .tar, .tar.gz or .tgz file",
		Required:    true,
		Content:     map[string]*huma.MediaType{"application/x-tar": binary, "application/octet-stream": binary},
	}
	handle(routes, upload, a.upload)

	install := op(http.MethodPost, tenantPath+"/plugins", "install-plugin", "Install a plugin", tag)
	install.Description = "Answers with server-sent events: any number of \"progress\" (Progress), " +
		"then \"done\" (PluginDetail) or \"error\" (Error). Hanging up cancels the install."
	install.Responses = content("Events, streamed", "text/event-stream")
	install.MaxBodyBytes = 64 << 10
	handle(routes, install, a.install)
	routes.OpenAPI().Components.Schemas.Schema(typeOf[v1.Progress](), true, "Progress") // of events
}

type uploadInput struct {
	TenantParam
	body io.Reader
}

// Resolve takes the body, which huma would read into memory.
func (in *uploadInput) Resolve(ctx huma.Context) []error {
	in.body = ctx.BodyReader()
	return nil
}

func (a *api) upload(_ context.Context, in *uploadInput) (*answer[v1.Upload], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	u, err := a.uploads.keep(in.Tenant, in.body)
	return &answer[v1.Upload]{u}, err
}

type installInput struct {
	TenantParam
	Body v1.InstallRequest
}

func (a *api) install(ctx context.Context, in *installInput) (*huma.StreamResponse, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	req := in.Body
	if err := checkInstall(req); err != nil {
		return nil, err
	}
	install := Install{Spec: req.Spec, Source: req.Source, Pin: req.Pin, Link: req.Link, Replace: req.Replace, Confirmed: req.Confirmed}
	closePackage := func() {}
	if req.Upload != "" {
		file, err := a.uploads.take(in.Tenant, req.Upload)
		if err != nil {
			return nil, err
		}
		install.Package, closePackage = file, func() { file.Close() }
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer closePackage()
		_, w := humago.Unwrap(hctx)
		events := startEvents(w)
		detail, err := a.backend.Plugins.Install(ctx, in.Tenant, install, func(p v1.Progress) { events.send(v1.EventProgress, p) })
		if err != nil {
			events.send(v1.EventError, newAPIError(err))
			return
		}
		events.send(v1.EventDone, withLists(detail))
	}}, nil
}

// checkInstall refuses what needs an upload and has none, and what a person
// should have been asked about and was not.
func checkInstall(req v1.InstallRequest) error {
	isUpload := plugin.Source(req.Source) != plugin.SourceNPM
	switch {
	case isUpload && req.Upload == "":
		return fmt.Errorf("an install from a %s needs an upload: %w", req.Source, errdefs.ErrInvalidArgument)
	case req.Link && plugin.Source(req.Source) != plugin.SourcePath:
		return fmt.Errorf("cannot link to %s: only a directory can be linked: %w", req.Source, errdefs.ErrInvalidArgument)
	case !isUpload && req.Upload != "":
		return fmt.Errorf("an install from %s takes no upload: %w", req.Source, errdefs.ErrInvalidArgument)
	case plugin.NeedsConfirmation(plugin.Source(req.Source)) && !req.Confirmed:
		return fault.New(errdefs.ErrPermissionDenied, "confirmation_required",
			"installing %s from %s was not confirmed", shorten(req.Spec), req.Source).
			WithHint("show the security warning to a person and set \"confirmed\" if they agree")
	}
	return nil
}

// events writes server-sent events.
type events struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
}

func startEvents(w http.ResponseWriter) *events {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return &events{w: w, control: http.NewResponseController(w)}
}

// send writes an event. A client that is gone is not told: its context ends.
func (e *events) send(name string, data any) {
	text, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("event %s: %v", name, err)) // our own types
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	fmt.Fprintf(e.w, "event: %s\ndata: %s\n\n", name, text)
	e.control.Flush() //nolint:errcheck // see above
}
