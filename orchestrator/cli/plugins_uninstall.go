package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) uninstallCommand() *cobra.Command {
	var keepState bool
	cmd := &cobra.Command{
		Use:     "uninstall ID",
		Aliases: []string{"remove", "rm"},
		Short:   "Stop a plugin and remove it",
		Long: `Stop a plugin and remove it with its state directory, unless --keep-state is
given; a later install of the same plugin finds the state again then.`,
		Example: `  ocmt plugins uninstall @openclaw/kitchen-sink --keep-state`,
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.Uninstall(cmd.Context(), a.tenant, args[0], keepState); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "uninstalled %s\n", clean(args[0]))
			return nil
		},
	}
	cmd.Flags().BoolVar(&keepState, "keep-state", false, "keep the plugin's state directory")
	return cmd
}
