package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) pluginsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "plugins",
		Aliases: []string{"plugin"},
		Short:   "Install and manage plugins",
		Long: `Install and manage plugins. Where a command takes an ID, the plugin's package
name will do as well.`,
		Example: `  ocmt plugins install @openclaw/kitchen-sink
  ocmt plugins info @openclaw/kitchen-sink`,
	},
		a.installCommand(), a.listCommand(), a.infoCommand(), a.enableCommand(), a.disableCommand(),
		a.uninstallCommand(), a.reinstallCommand(), a.logsCommand(), a.restartCommand(), a.resetCommand(), a.verifyCommand(),
		a.permissionsCommand(), a.grantCommand(), a.revokeCommand(), a.learnCommand())
}

// changeCommand makes a command that changes one plugin's state.
func (a *app) changeCommand(verb, short string, change func(*client.Client, context.Context, string, string) (v1.Plugin, error)) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " ID",
		Short:   short,
		Example: fmt.Sprintf("  ocmt plugins %s @openclaw/kitchen-sink", verb),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			p, err := change(c, cmd.Context(), a.tenant, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", clean(p.ID), clean(p.State))
			return nil
		},
	}
}
