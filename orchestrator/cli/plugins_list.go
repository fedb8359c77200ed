package cli

import (
	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) listCommand() *cobra.Command {
	return lists(a, &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List installed plugins",
		Example: `  ocmt plugins list
  ocmt plugins list -A --json`,
	}, (*client.Client).Plugins, printPlugins)
}
