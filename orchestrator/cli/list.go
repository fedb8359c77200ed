package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/client"
)

// lists makes cmd a read that fetches a list and shows it as a table or as
// JSON, of one tenant or of all.
func lists[T any](a *app, cmd *cobra.Command,
	fetch func(*client.Client, context.Context, string) ([]T, error),
	show func(cmd *cobra.Command, list []T, tenants bool) error,
) *cobra.Command {
	var r reads
	cmd.Args = exactly()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		list, err := fetch(c, cmd.Context(), a.tenantOf(r))
		if err != nil {
			return err
		}
		if r.json {
			return a.printJSON(list)
		}
		return show(cmd, list, r.all)
	}
	r.addJSON(cmd)
	r.addAll(cmd)
	return cmd
}
