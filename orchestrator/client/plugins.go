package client

import (
	"context"
	"io"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client/gen"
)

// Version says what the daemon is.
func (c *Client) Version(ctx context.Context) (v1.Version, error) {
	return do(ctx, c, gen.Version())
}

// Status returns the daemon's state with the plugins of tenant.
func (c *Client) Status(ctx context.Context, tenant string) (v1.Status, error) {
	return do(ctx, c, gen.Status(gen.StatusParams{Tenant: given(tenant)}))
}

// Plugins lists the plugins of tenant.
func (c *Client) Plugins(ctx context.Context, tenant string) ([]v1.Plugin, error) {
	return list(ctx, c, tenant,
		func(cursor *string) gen.Request[v1.PluginList] {
			return gen.ListAllPlugins(gen.ListAllPluginsParams{Cursor: cursor})
		},
		func(cursor *string) gen.Request[v1.PluginList] {
			return gen.ListPlugins(tenant, gen.ListPluginsParams{Cursor: cursor})
		},
		func(l v1.PluginList) ([]v1.Plugin, string) { return l.Plugins, l.Next })
}

// Plugin returns all that is known of a plugin.
func (c *Client) Plugin(ctx context.Context, tenant, ref string) (v1.PluginDetail, error) {
	return do(ctx, c, gen.GetPlugin(tenant, ref))
}

// Enable enables a plugin and returns its new state.
func (c *Client) Enable(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return do(ctx, c, gen.EnablePlugin(tenant, ref))
}

// Disable disables a plugin.
func (c *Client) Disable(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return do(ctx, c, gen.DisablePlugin(tenant, ref))
}

// Restart restarts a plugin.
func (c *Client) Restart(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return do(ctx, c, gen.RestartPlugin(tenant, ref))
}

// Reset forgets what went wrong with a plugin, and starts it if it is enabled.
// FailedPrecondition while its payload is altered: see [Client.Reinstall].
func (c *Client) Reset(ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	return do(ctx, c, gen.ResetPlugin(tenant, ref))
}

// Verify reads a plugin's sealed payload again; a mismatch is DataLoss.
func (c *Client) Verify(ctx context.Context, tenant, ref string) (v1.Verification, error) {
	return do(ctx, c, gen.VerifyPlugin(tenant, ref))
}

// Uninstall uninstalls a plugin.
func (c *Client) Uninstall(ctx context.Context, tenant, ref string, keepState bool) error {
	_, err := do(ctx, c, gen.UninstallPlugin(tenant, ref, gen.UninstallPluginParams{KeepState: &keepState}))
	return err
}

// Upload sends a package for an install to use.
func (c *Client) Upload(ctx context.Context, tenant string, body io.Reader) (v1.Upload, error) {
	return do(ctx, c, gen.UploadPackage(tenant, body))
}

// given is nil for "": a parameter that is left out.
func given(value string) *string {
	if value == "" {
		return nil
	}
	return &value
}
