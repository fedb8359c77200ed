package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/install"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// reviewer returns what decides about a candidate: the answer that came with
// the request, or the person who is shown the review. Where nothing is asked
// for that was not granted before there is nothing to show.
func (d *Daemon) reviewer(req httpapi.Install) func(context.Context, plugin.Installed) (install.Consent, error) {
	return func(ctx context.Context, p plugin.Installed) (install.Consent, error) {
		review := policy.NewReview(policy.Candidate{
			Descriptor: p.Descriptor, Surface: p.Surface, Payload: p.Payload.Digest,
			Granted: d.authority.Grants(p.Key), Limits: policy.DefaultLimits(p.Source),
		}, time.Now())
		answer := httpapi.Answer{Accept: req.Accept, Actor: actorOf(ctx)}
		switch {
		case answer.Accept != "":
		case req.Review == nil || len(review.Items) == 0:
			answer.Accept = v1.AcceptBasic
		default:
			var err error
			if answer, err = req.Review(ctx, d.reviewOf(p, review)); err != nil {
				return install.Consent{}, err
			}
		}
		accept, actor := answer.Accept, answer.Actor
		if accept != v1.AcceptAll && accept != v1.AcceptBasic {
			return install.Consent{}, fault.New(errdefs.ErrPermissionDenied, "review_refused", "nobody agreed to what %s may do; nothing was installed", p.Key.ID).
				WithHint("install it again and answer the review, or give --accept-permissions")
		}
		consent := install.Consent{Grants: review.Grants(accept, actor, time.Now().UTC()), Digest: review.Digest, Actor: actor}
		if err := d.checkGrants(p, consent.Grants...); err != nil {
			return install.Consent{}, fmt.Errorf("plugin %s asks for what this host cannot give: %w", p.Key.ID, err)
		}
		return consent, nil
	}
}

// recordConsent records what an install is about to grant.
func (d *Daemon) recordConsent(ctx context.Context, p plugin.Installed, consent install.Consent) error {
	for _, texts := range grantTexts(consent.Grants) {
		rec := audit.Record{
			Tenant: p.Key.Tenant, Plugin: p.Key.ID, Actor: consent.Actor, Action: "permission.accept", Target: consent.Digest,
			Outcome: outcomeBegun, Details: map[string][]string{"grants": texts},
		}
		if err := d.note(ctx, rec); err != nil {
			return err
		}
	}
	return nil
}

// reviewOf is the review as a person is shown it. What its answer cannot
// decide is listed with the rest: it becomes a request.
func (d *Daemon) reviewOf(p plugin.Installed, r policy.Review) v1.Review {
	out := v1.Review{
		Digest: r.Digest, Plugin: p.Key.ID, Name: p.Descriptor.Name, Version: p.Descriptor.Version, Update: r.Update,
		Permissions: make([]v1.Permission, 0, len(r.Items)+len(r.Later)),
	}
	for _, item := range r.Items {
		out.Permissions = append(out.Permissions, permissionOfAsk(item))
	}
	for _, item := range r.Later {
		later := permissionOfAsk(item)
		later.Command = policy.Command(p.Key, item)
		out.Permissions = append(out.Permissions, later)
	}
	for _, diag := range p.Surface.Diagnostics {
		out.Diagnostics = append(out.Diagnostics, v1.Diagnostic(diag))
	}
	out.Diagnostics = append(out.Diagnostics, d.compared(p)...)
	return out
}

// compared says what a person should know of a candidate beside what else is
// installed: names of tools that others have, and what the version before asked
// for and this one does not.
func (d *Daemon) compared(p plugin.Installed) []v1.Diagnostic {
	var notes []v1.Diagnostic
	first := d.firstWith(p.Key.Tenant)
	for _, t := range p.Surface.Tools() {
		if by := first[tenantTool{p.Key.Tenant, t.Name}]; by != "" && by != p.Key.ID {
			notes = append(notes, v1.Diagnostic{Level: "warn", Message: fmt.Sprintf(
				"plugin %s has a tool %s too; both can be called by plugin and tool, hosts that know the tool's name alone use the one of %s", by, t.Name, by)})
		}
	}
	if before, ok := d.catalog.Installed(p.Key); ok {
		_, removed := policy.Diff(before.Descriptor.Permissions, p.Descriptor.Permissions, policy.DefaultLimits(p.Source))
		for _, a := range removed {
			notes = append(notes, v1.Diagnostic{Level: "info", Message: "it no longer asks for this, which it keeps if it was granted: " + a.Explain()})
		}
	}
	return notes
}
