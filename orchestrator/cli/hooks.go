package cli

import "github.com/spf13/cobra"

func (a *app) hooksCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "hooks",
		Aliases: []string{"hook"},
		Short:   "List the plugins' hooks and give them events",
		Long: `List the plugins' hooks and give them events.

A hook is called only for what it was granted: to observe an event, to modify
it, to block it, or to claim it, which answers in the agent's place.`,
		Example: `  ocmt hooks list
  ocmt hooks emit before_tool_call --payload '{"toolName":"search","params":{}}'`,
	}, a.hooksListCommand(), a.hooksEmitCommand())
}
