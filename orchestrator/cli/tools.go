package cli

import "github.com/spf13/cobra"

func (a *app) toolsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "tools",
		Aliases: []string{"tool"},
		Short:   "List and call the plugins' tools",
		Example: `  ocmt tools list
  ocmt tools call @openclaw/kitchen-sink kitchen_sink_search --params '{"query":"openclaw"}'`,
	}, a.toolsListCommand(), a.toolsCallCommand())
}
