// Package apitest is a backend of the API in memory, for the tests of all that
// is in front of a backend: the routes, the client, the command line. It keeps
// the promises of the backend's interfaces and runs nothing.
package apitest

import (
	"archive/tar"
	"bytes"
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
// default, whose tools are described at [Backend.Call], and "metrics" in the
// tenant acme.
type Backend struct {
	mu      sync.Mutex
	plugins []v1.PluginDetail
}

// New returns a backend with its plugins.
func New() *Backend {
	tool := func(name string) v1.Tool {
		return v1.Tool{Tenant: "default", Plugin: "demo", Name: name, Description: "does " + name + "\x1b[31m", Parameters: json.RawMessage(`{"type":"object"}`)}
	}
	exit := v1.Exit{At: Epoch, Class: "error", Code: 7, Detail: "exit code 7"}
	demo := v1.PluginDetail{
		Plugin: v1.Plugin{Tenant: "default", ID: "demo", Name: "@scope/demo", Version: "1.2.3", Description: "A demo\x1b]0;owned\x07",
			Source: "npm", Spec: "@scope/demo@latest", Enabled: true, State: "ready", Generation: 3, Restarts: 2, LastExit: &exit, Tools: 5},
		Digest: "sha256:" + strings.Repeat("ab", 32), Form: "erofs", Size: 4096, Files: 12, InstalledAt: Epoch, ReadySince: &Epoch,
		ToolList: []v1.Tool{tool("echo"), tool("text"), tool("hang"), tool("fail"), tool("panic")},
		Registrations: []v1.Registration{
			{Kind: "hook", Name: "message_received"}, {Kind: "hook", Name: "gateway_start"}, {Kind: "command", Name: "demo"},
		},
		Diagnostics: []v1.Diagnostic{{Level: "warn", Message: "registers no schema"}},
	}
	metrics := v1.PluginDetail{
		Plugin: v1.Plugin{Tenant: "acme", ID: "metrics", Name: "metrics", Version: "0.1.0", Source: "path", Spec: "/src/metrics", State: "disabled"},
		Form:   "tree", InstalledAt: Epoch,
	}
	return &Backend{plugins: []v1.PluginDetail{demo, metrics}}
}

// Parts returns b as what httpapi.New takes.
func (b *Backend) Parts() httpapi.Backend {
	return httpapi.Backend{System: b, Plugins: b, Tools: b}
}

// Version returns version 0.0.0-test.
func (b *Backend) Version(context.Context) v1.Version {
	return v1.Version{Version: "0.0.0-test", API: "v1", Go: runtime.Version(), OS: "linux", Arch: "amd64"}
}

// Status names an engine that is not there.
func (b *Backend) Status(ctx context.Context, tenant string) (v1.Status, error) {
	plugins, err := b.List(ctx, tenant)
	return v1.Status{Version: b.Version(ctx), PID: os.Getpid(), StartedAt: Epoch, Home: "/home/demo/.openclaw",
		Engine: v1.Engine{Name: "docker", Version: "20.10.24", Runtime: "runc"}, Image: "sha256:0123", Plugins: plugins,
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
// not found, "broken" cannot be loaded, "hang" ends with ctx. The description
// of a plugin from a path is the list of the upload's files.
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
	return detail, nil
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

// Uninstall removes a plugin.
func (b *Backend) Uninstall(_ context.Context, tenant, ref string, _ bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.find(tenant, ref)
	if err == nil {
		b.plugins = slices.Delete(b.plugins, i, i+1)
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

func (b *Backend) change(tenant, ref string, apply func(*v1.Plugin)) (v1.Plugin, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, err := b.find(tenant, ref)
	if err != nil {
		return v1.Plugin{}, err
	}
	apply(&b.plugins[i].Plugin)
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

// Logs returns a few lines, with terminal escapes among them; with q.Follow it
// then waits for ctx.
func (b *Backend) Logs(ctx context.Context, tenant, ref string, q v1.LogQuery) (io.ReadCloser, error) {
	if _, err := b.Get(ctx, tenant, ref); err != nil {
		return nil, err
	}
	lines := []string{"first line\n", "second \x1b[2Jline\n", "third line é\n"}
	if q.Previous {
		lines = []string{"last words\n"}
	}
	if !q.Since.IsZero() {
		lines = append([]string{"since " + q.Since.UTC().Format(time.DateOnly) + "\n"}, lines...)
	}
	if q.Tail >= 0 && q.Tail < len(lines) {
		lines = lines[len(lines)-q.Tail:]
	}
	text := strings.NewReader(strings.Join(lines, ""))
	if !q.Follow {
		return io.NopCloser(text), nil
	}
	return io.NopCloser(io.MultiReader(text, untilDone{ctx})), nil
}

// untilDone is a reader that ends with its context.
type untilDone struct{ ctx context.Context }

func (u untilDone) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, io.EOF
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

// Call calls a tool of demo: "echo" returns the request, "text" a text with a
// terminal escape, "hang" waits for the timeout or ctx, "panic" panics, and
// "fail" fails with the class that {"class":...} names.
func (b *Backend) Call(ctx context.Context, tenant, ref, tool string, req v1.CallRequest) (json.RawMessage, error) {
	if _, err := b.Get(ctx, tenant, ref); err != nil {
		return nil, err
	}
	switch tool {
	case "echo":
		return json.Marshal(map[string]any{"params": req.Params, "agent": req.Context.AgentID, "timeoutMs": req.TimeoutMillis, "paramBytes": len(req.Params)})
	case "text":
		return json.RawMessage(`{"content":[{"type":"text","text":"hello \u001b[31mred"},{"type":"text","text":"second"}],"details":{}}`), nil
	case "hang":
		return nil, hang(ctx, time.Duration(req.TimeoutMillis)*time.Millisecond)
	case "panic":
		panic("as asked for")
	case "fail":
		return nil, failure(req.Params)
	}
	return nil, fault.New(errdefs.ErrNotFound, "tool_not_found", "plugin %q has no tool %q", ref, tool).WithHint("did you mean echo?")
}

func hang(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	<-ctx.Done()
	return fault.New(ctx.Err(), "timeout", "tool \"hang\" did not answer")
}

func failure(params json.RawMessage) error {
	var ask struct {
		Class   string `json:"class"`
		Message string `json:"message"`
	}
	if err := json.NewDecoder(bytes.NewReader(params)).Decode(&ask); err != nil {
		return fmt.Errorf("no class: %w", errdefs.ErrInvalidArgument)
	}
	if ask.Class == "" {
		return errors.New("an error without a class")
	}
	if ask.Message == "" {
		ask.Message = "failed as asked for"
	}
	return v1.Error{Class: ask.Class, Code: "asked_for", Message: ask.Message, Hint: "ask for\nsomething else", Retryable: true}.Err()
}
