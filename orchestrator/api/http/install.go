package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func (a *api) installRoutes(r *routes) {
	const tag = "plugins"
	upload := op(AccessAdmin, http.MethodPost, tenantPath+"/uploads", "upload-package", "Upload a package to install", tag)
	upload.BodyReadTimeout = uploadTimeout
	upload.DefaultStatus = http.StatusCreated
	binary := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	upload.RequestBody = &huma.RequestBody{
		Description: "a tar of the package's directory, or a .tar, .tar.gz or .tgz file",
		Required:    true,
		Content:     map[string]*huma.MediaType{"application/x-tar": binary, "application/octet-stream": binary},
	}
	handle(r, upload, a.upload)

	install := op(AccessAdmin, http.MethodPost, tenantPath+"/plugins", "install-plugin", "Install a plugin", tag)
	installs(r, &install)
	handle(r, install, a.install)

	reinstall := op(AccessAdmin, http.MethodPost, pluginPath+"/reinstall", "reinstall-plugin", "Get an installed plugin once more", tag)
	installs(r, &reinstall)
	reinstall.Description = "Puts a plugin's sealed files back, whatever its state, and keeps its state, configuration and grants; then starts it if it is enabled. " +
		"Of npm it is the installed version, and a package with another integrity is refused as package_changed. " + reinstall.Description
	handle(r, reinstall, a.reinstall)

	review := op(AccessAdmin, http.MethodPost, tenantPath+"/reviews/{review}", "answer-review", "Answer the review of an install", tag)
	review.Description = "A digest that is not the review's is refused as review_changed, a second answer as already_answered."
	handle(r, review, a.answerReview)
}

// installs documents the events of an install.
func installs(r *routes, o *huma.Operation) {
	o.Description = "Answers with server-sent events: any number of \"progress\" (Progress) and, if accept is absent, at most one \"review\" " +
		"(Review), for whose answer (answer-review) the install waits; then \"done\" (PluginDetail) or \"error\" (Error). Hanging up cancels the install."
	streams(r, o, map[string]any{
		v1.EventProgress: v1.Progress{}, v1.EventReview: v1.Review{}, v1.EventDone: v1.PluginDetail{}, v1.EventError: v1.Error{},
	})
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
	u, err := a.uploads.keep(in.Tenant, in.body)
	return &answer[v1.Upload]{u}, err
}

type installInput struct {
	TenantParam
	Body v1.InstallRequest
}

func (a *api) install(ctx context.Context, in *installInput) (*huma.StreamResponse, error) {
	req := in.Body
	if err := checkInstall(req); err != nil {
		return nil, err
	}
	install := Install{Spec: req.Spec, Source: req.Source, Pin: req.Pin, Link: req.Link, Replace: req.Replace, Confirmed: req.Confirmed, Accept: req.Accept}
	return a.streamInstall(in.Tenant, req.Upload, install, func(install Install, progress func(v1.Progress)) (v1.PluginDetail, error) {
		return a.backend.Plugins.Install(ctx, in.Tenant, install, progress)
	})
}

type reinstallInput struct {
	PluginParam
	Body v1.ReinstallRequest
}

func (a *api) reinstall(ctx context.Context, in *reinstallInput) (*huma.StreamResponse, error) {
	install := Install{Confirmed: in.Body.Confirmed, Accept: in.Body.Accept}
	return a.streamInstall(in.Tenant, in.Body.Upload, install, func(install Install, progress func(v1.Progress)) (v1.PluginDetail, error) {
		return a.backend.Plugins.Reinstall(ctx, in.Tenant, in.ID, install, progress)
	})
}

// streamInstall carries an install out, with its upload and its review, and
// answers with its events.
func (a *api) streamInstall(
	tenant, upload string, install Install, do func(Install, func(v1.Progress)) (v1.PluginDetail, error),
) (*huma.StreamResponse, error) {
	closePackage := func() {}
	if upload != "" {
		file, err := a.uploads.take(tenant, upload)
		if err != nil {
			return nil, err
		}
		install.Package, closePackage = file, func() { file.Close() }
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer closePackage()
		_, w := humago.Unwrap(hctx)
		events := startEvents(w)
		defer events.close()
		if install.Accept == "" {
			install.Review = func(ctx context.Context, review v1.Review) (Answer, error) {
				return a.reviews.ask(ctx, tenant, review, func(r v1.Review) error { return events.send(v1.EventReview, r) })
			}
		}
		progress := func(p v1.Progress) { events.send(v1.EventProgress, p) } //nolint:errcheck // the install ends with the client
		detail, err := do(install, progress)
		if err != nil {
			events.send(v1.EventError, newAPIError(err)) //nolint:errcheck // see above
			return
		}
		events.send(v1.EventDone, withLists(detail)) //nolint:errcheck // see above
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
