package daemon

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
)

// GrantManifest grants what a person has read in a permission manifest, all of
// it or nothing.
func (b permissionAPI) GrantManifest(ctx context.Context, tenant, ref string, req v1.ManifestRequest) (v1.ManifestResult, error) {
	p, err := b.d.catalog.get(tenant, ref)
	if err != nil {
		return v1.ManifestResult{}, err
	}
	grants, out, err := b.d.readManifest(p, req.Manifest)
	if err != nil || req.DryRun || len(grants) == 0 {
		return out, err
	}
	for i := range grants {
		grants[i].Origin, grants[i].Actor, grants[i].At = policy.OriginGrant, actorOf(ctx), time.Now().UTC()
		out.Permissions[i] = permissionOf(grants[i])
	}
	out.Restarted, err = b.d.grant(ctx, p, grants...)
	return out, err
}

// readManifest returns the grants that a manifest comes to, and shows them and
// what lacks a detail.
func (d *Daemon) readManifest(p plugin.Installed, manifest []byte) ([]policy.Grant, v1.ManifestResult, error) {
	permissions, _, err := plugin.ReadPermissions(manifest)
	if err != nil {
		return nil, v1.ManifestResult{}, fault.New(errdefs.ErrInvalidArgument, "bad_permissions", "cannot use the permission manifest: %w", err).
			WithHint("mend the file; docs/permissions.schema.json describes it")
	}
	var grants []policy.Grant
	out := v1.ManifestResult{Permissions: []v1.Permission{}}
	for _, ask := range policy.AskedBy(permissions, policy.DefaultLimits(p.Source)) {
		g, err := policy.ParseGrant(string(ask.Kind), ask.Target, ask.Value)
		if err == nil {
			err = d.checkGrant(p, g)
		}
		switch {
		case err == nil:
			grants, out.Permissions = append(grants, g), append(out.Permissions, permissionOf(g))
		case ask.Class == policy.NeedsDetail:
			left := permissionOfAsk(ask)
			left.Command = policy.Command(p.Key, ask)
			out.Left = append(out.Left, left)
		default:
			return nil, v1.ManifestResult{}, err
		}
	}
	if err := d.checkGrants(p, grants...); err != nil {
		return nil, v1.ManifestResult{}, err
	}
	return grants, out, nil
}
