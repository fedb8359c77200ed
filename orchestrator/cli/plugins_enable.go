package cli

import (
	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) enableCommand() *cobra.Command {
	return a.changeCommand("enable", "Enable a plugin and start it", (*client.Client).Enable)
}
