package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) toolsListCommand() *cobra.Command {
	return lists(a, &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the tools of all plugins",
		Example: `  ocmt tools list
  ocmt tools list --json     with the schemas of the parameters`,
	}, (*client.Client).Tools, printTools)
}

func printTools(cmd *cobra.Command, tools []v1.Tool, tenants bool) error {
	if len(tools) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "there are no tools")
		return nil
	}
	rows := [][]string{{"PLUGIN", "TOOL", "DESCRIPTION"}}
	for _, t := range tools {
		about := shorten(t.Description, 50)
		if t.Shadowed != "" {
			about = "(" + t.Shadowed + " has this name first) " + about
		}
		rows = append(rows, []string{t.Plugin, t.Name, about})
	}
	if tenants {
		rows[0] = append([]string{"TENANT"}, rows[0]...)
		for i, t := range tools {
			rows[i+1] = append([]string{t.Tenant}, rows[i+1]...)
		}
	}
	return table(cmd, rows)
}
