package cli

import (
	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) restartCommand() *cobra.Command {
	return a.changeCommand("restart", "Stop a plugin and start it again", (*client.Client).Restart)
}
