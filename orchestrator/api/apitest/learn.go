package apitest

import (
	"context"
	"encoding/json"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Learn switches demo's learn mode. Demo then wishes for the host that it asks
// for, under the approval "request-1", and for a variable.
func (b *Backend) Learn(ctx context.Context, tenant, ref string, req v1.LearnRequest) (v1.Learning, error) {
	p, err := b.Get(ctx, tenant, ref)
	if err != nil {
		return v1.Learning{}, err
	}
	if p.ID != "demo" {
		return v1.Learning{}, fault.New(errdefs.ErrFailedPrecondition, "not_enabled", "plugin %s is not enabled", p.ID).
			WithHint("enable it first: ocmt plugins enable %s", p.ID)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !req.On {
		b.learning.On = false
		return b.learning, nil
	}
	since := Epoch
	until := since.Add(time.Duration(req.ForSeconds) * time.Second)
	b.learning = v1.Learning{On: true, Since: &since, Until: &until}
	b.learnUntil = time.Now().Add(until.Sub(since))
	for _, w := range wishes() {
		b.wish(w)
	}
	return b.learning, nil
}

func wishes() []v1.Permission {
	host := permissionRequest().Target
	return []v1.Permission{
		{Kind: "network", Target: host, Sentence: "connect to api.example.net, port 443", Origin: "runtime", Sensitive: true,
			Request: permissionRequest().ID, Command: "ocmt plugins grant demo network " + host},
		{Kind: "env", Target: "DEMO\x1b[31m", Sentence: "read the variable DEMO\x1b[31m", Origin: "runtime", Command: "ocmt plugins grant demo env DEMO"},
	}
}

// wish needs the lock.
func (b *Backend) wish(w v1.Permission) {
	b.learning.Wishes = append(b.learning.Wishes, w)
	b.learning.Manifest = json.RawMessage(`{"network":[{"host":"api.example.net","ports":[443]}],"env":["DEMO"]}`)
	b.eventLocked("default", "demo", v1.EventWish, w)
}

// Wish has demo wish for something more.
func (b *Backend) Wish(w v1.Permission) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wish(w)
}

// Learning returns what demo wished for.
func (b *Backend) Learning(ctx context.Context, tenant, ref string) (v1.Learning, error) {
	p, err := b.Get(ctx, tenant, ref)
	if err != nil || p.ID != "demo" {
		return v1.Learning{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.learning.On = b.learning.On && time.Now().Before(b.learnUntil)
	return b.learning, nil
}

// GrantManifest grants the network and the variables of a manifest, and leaves
// its workspace.
func (b *Backend) GrantManifest(ctx context.Context, tenant, ref string, req v1.ManifestRequest) (v1.ManifestResult, error) {
	p, err := b.Get(ctx, tenant, ref)
	if err != nil {
		return v1.ManifestResult{}, err
	}
	asked, _, err := plugin.ReadPermissions(req.Manifest)
	if err != nil {
		return v1.ManifestResult{}, err
	}
	var out v1.ManifestResult
	for _, n := range asked.Network {
		out.Permissions = append(out.Permissions, v1.Permission{Kind: "network", Target: n.Host + ":443", Sentence: "connect to " + n.Host, Origin: "grant"})
	}
	for _, name := range asked.Env {
		out.Permissions = append(out.Permissions, v1.Permission{Kind: "env", Target: name, Sentence: "read the variable " + name, Origin: "grant"})
	}
	if asked.Workspace != "" {
		out.Left = []v1.Permission{{Kind: "workspace", Target: "PATH", Value: asked.Workspace, Sentence: "read a directory", Command: "ocmt plugins grant " + p.ID + " workspace " + asked.Workspace + " PATH"}}
	}
	if req.DryRun {
		return out, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range out.Permissions {
		b.grant(g)
		b.eventLocked(tenant, p.ID, v1.EventGrant, v1.PermissionChange{Change: "granted", Permission: g})
		out.Restarted = out.Restarted || g.Kind != "network"
	}
	return out, nil
}
