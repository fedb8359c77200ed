// Package apitest is a backend of the API in memory, for the tests of all that
// is in front of a backend: the routes, the client, the command line. It keeps
// the promises of the backend's interfaces and runs nothing.
package apitest

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Epoch is when everything in a [Backend] happened.
var Epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Backend holds plugins: "demo" of the package @scope/demo in the tenant
// default, whose tools are described at [Backend.Call], its hooks at
// [Backend.Emit], its services at [Backend.Change] and its permissions at
// [Backend.Grant]; and "metrics" in the tenant acme.
type Backend struct {
	mu        sync.Mutex
	plugins   []v1.PluginDetail
	services  []v1.Service
	granted   []v1.Permission // of demo
	approvals []approval
	events    []v1.Event
	happened  chan struct{} // closed by the next event
	hosts     []*host

	tokens     []v1.Token
	tokensMade int

	secrets  []secret
	rotated  int
	learning v1.Learning // of demo

	learnUntil time.Time
}

// New returns a backend with its plugins.
func New() *Backend {
	tool := func(name string) v1.Tool {
		return v1.Tool{Tenant: "default", Plugin: "demo", Name: name, Description: "does " + name + "\x1b[31m", Parameters: json.RawMessage(`{"type":"object"}`)}
	}
	exit := v1.Exit{At: Epoch, Class: "error", Code: 7, Detail: "exit code 7", Output: "loading\nError: no \x1b[31mway"}
	demo := v1.PluginDetail{
		Plugin: v1.Plugin{Tenant: "default", ID: "demo", Name: "@scope/demo", Version: "1.2.3", Description: "A demo\x1b]0;owned\x07",
			Source: "npm", Spec: "@scope/demo@latest", Enabled: true, State: "ready", Generation: 3, Restarts: 2, LastExit: &exit, Tools: 5},
		Digest: "sha256:" + strings.Repeat("ab", 32), Form: "erofs", Size: 4096, Files: 12, InstalledAt: Epoch, ReadySince: &Epoch,
		ToolList: []v1.Tool{tool("echo"), tool("text"), tool("hang"), tool("fail"), tool("panic")},
		Registrations: []v1.Registration{
			{Kind: "hook", Name: "message_received"}, {Kind: "hook", Name: "gateway_start"}, {Kind: "command", Name: "demo"},
		},
		Diagnostics: []v1.Diagnostic{{Level: "warn", Message: "registers no schema"}},
		Trust:       v1.TrustNPM, Runtime: "runc", StateDir: &v1.StateUse{Kind: "image", Max: 256 << 20, Used: 3 << 20},
		Network: &v1.NetworkStats{Open: 1, Allowed: 4, Denied: 2, Reported: 1, BytesUp: 2048, BytesDown: 5 << 20},
		Profile: []v1.ProfileRow{
			{Name: "capabilities", Setting: "none", Against: "whatever root may do"},
			{Name: "network", Setting: "none", Against: "reaching anything by itself", Note: "granted hosts are reached through the broker"},
		},
	}
	metrics := v1.PluginDetail{
		Plugin: v1.Plugin{Tenant: "acme", ID: "metrics", Name: "metrics", Version: "0.1.0", Source: "path", Spec: "/src/metrics", State: "disabled"},
		Form:   "tree", InstalledAt: Epoch,
	}
	b := &Backend{plugins: []v1.PluginDetail{demo, metrics}, services: services(), granted: granted(), happened: make(chan struct{})}
	b.approvals = []approval{{Approval: permissionRequest(), resolved: make(chan struct{})}}
	b.event("default", "demo", v1.EventInstalled, demo.Plugin)
	b.event("acme", "metrics", v1.EventInstalled, metrics.Plugin)
	b.event("default", "demo", v1.EventState, demo.Plugin)
	return b
}

// Parts returns b as what httpapi.New takes.
func (b *Backend) Parts() httpapi.Backend {
	return httpapi.Backend{System: b, Plugins: b, Tools: b, Hooks: b, Services: b, Permissions: b, Approvals: b, Events: b, Hosts: b, TokenAdmin: b,
		Learning: b, Secrets: b, Network: b}
}

// Version returns version 0.0.0-test.
func (b *Backend) Version(context.Context) v1.Version {
	return v1.Version{Version: "0.0.0-test", API: "v1", Go: runtime.Version(), OS: "linux", Arch: "amd64"}
}

// Status names an engine that is not there.
func (b *Backend) Status(ctx context.Context, tenant string) (v1.Status, error) {
	plugins, err := b.List(ctx, tenant)
	if err != nil {
		return v1.Status{}, err
	}
	pending, err := b.Approvals(ctx, tenant)
	return v1.Status{Version: b.Version(ctx), PID: os.Getpid(), StartedAt: Epoch, Home: "/home/demo/.openclaw",
		Engine: v1.Engine{Name: "docker", Version: "20.10.24", Runtime: "runc", State: v1.EngineOK}, Image: "sha256:0123", Plugins: plugins, Pending: pending,
		Notes: []string{"runc shares the host's kernel"}}, err
}

// List lists plugins by tenant and id.
func (b *Backend) List(_ context.Context, tenant string) ([]v1.Plugin, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := []v1.Plugin{}
	for _, p := range b.plugins {
		if tenant == "" || p.Tenant == tenant {
			list = append(list, p.Plugin)
		}
	}
	return list, nil
}

// find needs the lock.
func (b *Backend) find(tenant, ref string) (int, error) {
	i := slices.IndexFunc(b.plugins, func(p v1.PluginDetail) bool {
		return p.Tenant == tenant && (p.ID == ref || p.Name == ref)
	})
	if i < 0 {
		return 0, fault.New(errdefs.ErrNotFound, "plugin_not_found", "there is no plugin %q in tenant %s", ref, tenant).
			WithHint("see what is installed: ocmt plugins list")
	}
	return i, nil
}

// Get returns a plugin.
func (b *Backend) Get(_ context.Context, tenant, ref string) (v1.PluginDetail, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.find(tenant, ref)
	if err != nil {
		return v1.PluginDetail{}, err
	}
	return b.plugins[i], nil
}

// Install installs whatever is asked for, but for these specs: "missing" is
// not found, "broken" cannot be loaded, "hang" ends with ctx, and "asking" asks
// for permissions, which is reviewed. The description of a plugin from a path is
// the list of the upload's files.
func (b *Backend) Install(ctx context.Context, tenant string, req httpapi.Install, progress func(v1.Progress)) (v1.PluginDetail, error) {
	progress(v1.Progress{Stage: "fetch", Message: req.Spec, Done: 512 << 10, Total: 1 << 20, Unit: "bytes"})
	switch req.Spec {
	case "missing":
		return v1.PluginDetail{}, fault.New(errdefs.ErrNotFound, "package_not_found", "there is no package %q", req.Spec)
	case "broken":
		return v1.PluginDetail{}, fault.New(fault.ErrPlugin, "load", "cannot load %s: SyntaxError", req.Spec)
	case "hang":
		<-ctx.Done()
		return v1.PluginDetail{}, ctx.Err()
	}
	progress(v1.Progress{Stage: "load check"})
	if req.Spec == "asking" {
		if err := review(ctx, req); err != nil {
			return v1.PluginDetail{}, err
		}
	}
	detail := v1.PluginDetail{
		Plugin: v1.Plugin{Tenant: tenant, ID: "new", Name: "new", Version: "2.0.0", Source: req.Source, Spec: req.Spec, Enabled: true, State: "ready", Generation: 1},
		Digest: "sha256:" + strings.Repeat("cd", 32), Form: "erofs", InstalledAt: Epoch,
	}
	if req.Pin {
		detail.Spec = "new@2.0.0"
	}
	if req.Package != nil {
		names, err := describe(req.Package)
		if err != nil {
			return v1.PluginDetail{}, err
		}
		detail.Description = names
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.plugins = append(b.plugins, detail)
	b.eventLocked(tenant, detail.ID, v1.EventInstalled, detail.Plugin)
	return detail, nil
}

// review asks for a sensitive hook and for a host that nobody grants unasked.
func review(ctx context.Context, req httpapi.Install) error {
	accept := req.Accept
	if accept == "" {
		answer, err := req.Review(ctx, v1.Review{
			Digest: "sha256:" + strings.Repeat("ef", 32), Plugin: "new", Name: "new", Version: "2.0.0",
			Permissions: []v1.Permission{
				{Kind: "registration", Target: "tool:search", Sentence: "offer the tool \"search\"", Origin: "registration"},
				{Kind: "hook", Target: "before_tool_call", Value: "block", Sentence: "see every tool call and stop it", Origin: "registration", Sensitive: true},
				{Kind: "network", Target: "api.example.com:443", Sentence: "connect to api.example.com, port 443", Origin: "manifest", Sensitive: true},
			},
		})
		if err != nil {
			return err
		}
		accept = answer.Accept
	}
	if accept == v1.AcceptNone {
		return fault.New(errdefs.ErrPermissionDenied, "consent_refused", "the permissions of new were refused; nothing was installed")
	}
	return nil
}

// describe lists a tar's files with their sizes and links.
func describe(r io.Reader) (string, error) {
	var names []string
	files := tar.NewReader(r)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, " "), nil
		}
		if err != nil {
			return "", fault.New(fault.ErrPlugin, "bad_archive", "cannot read the archive: %w", err)
		}
		switch header.Typeflag {
		case tar.TypeDir:
			names = append(names, header.Name)
		case tar.TypeSymlink:
			names = append(names, header.Name+"->"+header.Linkname)
		default:
			names = append(names, fmt.Sprintf("%s:%d", header.Name, header.Size))
		}
	}
}

// Reinstall mends the payload of a plugin. The files of one from a path are
// others, which is reviewed, if their list is not its description.
func (b *Backend) Reinstall(ctx context.Context, tenant, ref string, req httpapi.Install, progress func(v1.Progress)) (v1.PluginDetail, error) {
	p, err := b.Get(ctx, tenant, ref)
	if err != nil {
		return v1.PluginDetail{}, err
	}
	progress(v1.Progress{Stage: "fetch", Message: p.Spec})
	if (p.Source != "npm") != (req.Package != nil) {
		return v1.PluginDetail{}, fault.New(errdefs.ErrInvalidArgument, "invalid_argument", "an install from %s needs the files", p.Source)
	}
	if req.Package != nil {
		names, err := describe(req.Package)
		if err != nil {
			return v1.PluginDetail{}, err
		}
		if names != p.Description {
			if err := review(ctx, req); err != nil {
				return v1.PluginDetail{}, err
			}
			p.Description, p.Digest = names, "sha256:"+strings.Repeat("ef", 32)
		}
	}
	p.Form, p.Reason = "erofs", ""
	if p.State = "stopped"; p.Enabled {
		p.State = "running"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.find(tenant, ref)
	if err != nil {
		return v1.PluginDetail{}, err
	}
	b.plugins[i] = p
	b.eventLocked(tenant, p.ID, v1.EventInstalled, p.Plugin)
	return p, nil
}

// Uninstall removes a plugin.
func (b *Backend) Uninstall(_ context.Context, tenant, ref string, _ bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.find(tenant, ref)
	if err == nil {
		id := b.plugins[i].ID
		b.plugins = slices.Delete(b.plugins, i, i+1)
		b.eventLocked(tenant, id, v1.EventRemoved, nil)
	}
	return err
}

// Enable makes a plugin ready.
func (b *Backend) Enable(_ context.Context, tenant, ref string) (v1.Plugin, error) {
	return b.change(tenant, ref, func(p *v1.Plugin) { p.Enabled, p.State = true, "ready" })
}

// Disable disables a plugin.
func (b *Backend) Disable(_ context.Context, tenant, ref string) (v1.Plugin, error) {
	return b.change(tenant, ref, func(p *v1.Plugin) { p.Enabled, p.State = false, "disabled" })
}

// Restart counts a generation.
func (b *Backend) Restart(_ context.Context, tenant, ref string) (v1.Plugin, error) {
	return b.change(tenant, ref, func(p *v1.Plugin) { p.Generation++ })
}

// Reset forgets failures, and the quarantine of a payload that [Backend.Verify]
// finds as it was.
func (b *Backend) Reset(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	if _, err := b.Verify(ctx, tenant, ref); errdefs.IsDataLoss(err) {
		return v1.Plugin{}, fault.New(errdefs.ErrFailedPrecondition, "payload_altered", "%s cannot be reset: its payload is altered", ref).
			WithHint("get it again: ocmt plugins reinstall %s", ref)
	}
	return b.change(tenant, ref, func(p *v1.Plugin) {
		if p.ShortRuns, p.NextAttempt, p.Reason = 0, nil, ""; p.Enabled {
			p.State = "running"
		}
	})
}

func (b *Backend) change(tenant, ref string, apply func(*v1.Plugin)) (v1.Plugin, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.find(tenant, ref)
	if err != nil {
		return v1.Plugin{}, err
	}
	apply(&b.plugins[i].Plugin)
	b.eventLocked(tenant, b.plugins[i].ID, v1.EventState, b.plugins[i].Plugin)
	return b.plugins[i].Plugin, nil
}

// Verify finds the payload of form erofs as it was, and every other changed.
func (b *Backend) Verify(ctx context.Context, tenant, ref string) (v1.Verification, error) {
	p, err := b.Get(ctx, tenant, ref)
	if err != nil {
		return v1.Verification{}, err
	}
	if p.Form != "erofs" {
		return v1.Verification{}, fault.New(errdefs.ErrDataLoss, "payload_tampered", "the payload of %s was changed", p.ID)
	}
	return v1.Verification{Digest: p.Digest, Form: p.Form, Size: p.Size, Millis: 1.5}, nil
}

// LogLines sends a few lines, with terminal escapes among them; with q.Follow it
// then waits for ctx.
func (b *Backend) LogLines(ctx context.Context, tenant, ref string, q v1.LogQuery, send func(v1.LogLine) error) error {
	if _, err := b.Get(ctx, tenant, ref); err != nil {
		return err
	}
	lines := []v1.LogLine{
		{Time: Epoch, Stream: "stdout", Line: "first line"},
		{Time: Epoch.Add(time.Second), Stream: "stderr", Line: "second \x1b[2Jline"},
		{Time: Epoch.Add(2 * time.Second), Stream: "stdout", Line: "third line é"},
	}
	if q.Previous {
		lines = []v1.LogLine{{Time: Epoch, Stream: "stdout", Line: "last words"}}
	}
	if !q.Since.IsZero() {
		lines = append([]v1.LogLine{{Time: Epoch, Stream: "stdout", Line: "since " + q.Since.UTC().Format(time.DateOnly)}}, lines...)
	}
	if q.Tail >= 0 && q.Tail < len(lines) {
		lines = lines[len(lines)-q.Tail:]
	}
	for _, line := range lines {
		if err := send(line); err != nil {
			return err
		}
	}
	if q.Follow {
		<-ctx.Done()
	}
	return nil
}

// Tools lists the tools of all plugins of tenant.
func (b *Backend) Tools(_ context.Context, tenant string) ([]v1.Tool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := []v1.Tool{}
	for _, p := range b.plugins {
		if tenant == "" || p.Tenant == tenant {
			list = append(list, p.ToolList...)
		}
	}
	return list, nil
}
