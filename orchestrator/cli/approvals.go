package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) approvalsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "approvals",
		Aliases: []string{"approval"},
		Short:   "Decide what waits for a person",
		Long: `Decide what waits for a person: tool calls that a hook wants to have approved,
and permissions that plugins ask for.`,
		Example: `  ocmt approvals list
  ocmt approvals approve req_0123456789abcdef`,
	}, a.approvalsListCommand(), a.approveCommand(), a.denyCommand())
}

func (a *app) approvalsListCommand() *cobra.Command {
	return lists(a, &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List what waits for a person",
		Example: `  ocmt approvals list
  ocmt approvals list -A --json     with the parameters of calls`,
	}, (*client.Client).Approvals, printApprovals)
}

func printApprovals(cmd *cobra.Command, approvals []v1.Approval, tenants bool) error {
	if len(approvals) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "nothing waits for a person")
		return nil
	}
	rows := [][]string{{"ID", "KIND", "PLUGIN", "EXPIRES", "WHAT"}}
	for _, p := range approvals {
		expires := "-"
		if p.ExpiresAt != nil {
			expires = instant(*p.ExpiresAt)
		}
		rows = append(rows, []string{p.ID, p.Kind, p.Plugin, expires, shorten(p.Title, 100)})
	}
	if tenants {
		rows[0] = append([]string{"TENANT"}, rows[0]...)
		for i, p := range approvals {
			rows[i+1] = append([]string{p.Tenant}, rows[i+1]...)
		}
	}
	return table(cmd, rows)
}

func (a *app) approveCommand() *cobra.Command {
	var once, always bool
	cmd := a.resolveCommand("approve", "Allow a tool call, or grant a permission that is asked for", func(kind string) string {
		if always || kind == kindPermission && !once {
			return v1.AllowAlways
		}
		return v1.AllowOnce
	})
	cmd.Long = `Allow a tool call, or grant a permission that is asked for: for good, or with --once
for this run, until the plugin's container ends. A permission that lacks a detail,
such as the directory, is granted with "ocmt plugins grant"; "ocmt plugins
permissions ID" shows the command.`
	cmd.Flags().BoolVar(&once, "once", false, "of a permission: for this run of the plugin only; there is that for connections and hooks")
	cmd.Flags().BoolVar(&always, "always", false, "of a call: tell the plugin that asks to allow those like it from now on; ocmt itself asks again")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if once && always {
			return usage(cmd, "--once and --always do not go together")
		}
		return nil
	}
	return cmd
}

func (a *app) denyCommand() *cobra.Command {
	return a.resolveCommand("deny", "Refuse a tool call, or turn down a permission that is asked for", func(string) string { return v1.Deny })
}

// kindPermission is the kind of approvals of permissions.
const kindPermission = "permission"

// resolveCommand makes a command that resolves approvals, each with the decision
// for its kind.
func (a *app) resolveCommand(verb, short string, decision func(kind string) string) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " ID...",
		Short:   short,
		Example: fmt.Sprintf("  ocmt approvals %s req_0123456789abcdef", verb),
		Args:    wordsOf("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(func(c *client.Client) error {
				waiting, err := c.Approvals(cmd.Context(), a.tenant)
				if err != nil {
					return err
				}
				kinds := map[string]string{}
				for _, p := range waiting {
					kinds[p.ID] = p.Kind
				}
				for _, id := range args {
					approval, err := c.Resolve(cmd.Context(), a.tenant, id, decision(kinds[id]))
					if err != nil {
						return err
					}
					fmt.Fprintln(cmd.OutOrStdout(), clean(decisionText(approval)))
				}
				return nil
			})
		},
	}
}

// decisionText says how an approval ended.
func decisionText(p v1.Approval) string {
	text := map[string]string{
		v1.AllowOnce: "allowed", v1.AllowAlways: "always allowed", v1.Deny: "denied",
	}[p.Decision]
	if p.Kind == kindPermission {
		switch p.Decision {
		case v1.AllowOnce:
			text = "allowed for this run"
		case v1.AllowAlways:
			text = "granted"
		}
	}
	if text == "" {
		text = p.Decision // it timed out or was given up
	}
	if p.Actor != "" {
		text += " by " + p.Actor
	}
	return fmt.Sprintf("%s: %s", text, p.Title)
}
