package cli

import "github.com/spf13/cobra"

func (a *app) networkCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "network",
		Short: "See what plugins connect to",
		Example: `  ocmt network log
  ocmt network log my-plugin --denied -f`,
	}, a.networkLogCommand())
}
