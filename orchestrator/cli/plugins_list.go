package cli

import "github.com/spf13/cobra"

func (a *app) listCommand() *cobra.Command {
	var r reads
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List installed plugins",
		Example: `  ocmt plugins list
  ocmt plugins list -A --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			plugins, err := c.Plugins(cmd.Context(), a.tenantOf(r))
			if err != nil {
				return err
			}
			if r.json {
				return a.printJSON(plugins)
			}
			return printPlugins(cmd, plugins, r.all)
		},
	}
	r.addJSON(cmd)
	r.addAll(cmd)
	return cmd
}
