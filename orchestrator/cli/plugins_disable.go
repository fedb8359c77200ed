package cli

import (
	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) disableCommand() *cobra.Command {
	return a.changeCommand("disable", "Stop a plugin and keep it from starting", (*client.Client).Disable)
}
