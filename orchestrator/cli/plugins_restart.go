package cli

import (
	"context"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func (a *app) restartCommand() *cobra.Command {
	cmd := a.changeCommand("restart", "Stop a plugin and start it again", a.restart)
	cmd.Long = `Stop a plugin and start it again. One that was installed with --link is packed
from its directory and installed anew first; if that fails, what runs goes on.
What the new one asks for and needs a yes waits in "ocmt plugins permissions ID".`
	return cmd
}

// restart restarts a plugin. The directory of a linked one is read here, with
// the rights of whoever runs the command: the daemon opens no path for a
// caller.
func (a *app) restart(c *client.Client, ctx context.Context, tenant, ref string) (v1.Plugin, error) {
	p, err := c.Plugin(ctx, tenant, ref)
	if err != nil {
		return v1.Plugin{}, err
	}
	if !p.Linked {
		return c.Restart(ctx, tenant, ref)
	}
	from, err := local(plugin.SourcePath, p.Spec)
	if err != nil {
		return v1.Plugin{}, err
	}
	progress := newProgress(a.env.Stderr, a.env.IsTerminal(a.env.Stderr), false)
	defer progress.finish()
	detail, err := a.uploadAndInstall(ctx, c, from, v1.InstallRequest{Link: true, Replace: true, Accept: v1.AcceptBasic}, progress)
	return detail.Plugin, err
}
