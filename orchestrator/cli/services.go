package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) servicesCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "services",
		Aliases: []string{"service"},
		Short:   "List, start and stop the plugins' background services",
		Example: `  ocmt services list
  ocmt services restart my-plugin poller`,
	},
		a.servicesListCommand(),
		a.serviceCommand("start", "Start a service"),
		a.serviceCommand("stop", "Stop a service and keep it from starting"),
		a.serviceCommand("restart", "Stop a service and start it again"))
}

func (a *app) servicesListCommand() *cobra.Command {
	return lists(a, &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the services of all plugins in the order in which they start",
		Example: `  ocmt services list
  ocmt services list -A --json`,
	}, (*client.Client).Services, printServices)
}

func printServices(cmd *cobra.Command, services []v1.Service, tenants bool) error {
	if len(services) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "there are no services")
		return nil
	}
	rows := [][]string{{"PLUGIN", "SERVICE", "STATE", "SINCE", "RESTARTS", "NOTE"}}
	for _, s := range services {
		rows = append(rows, []string{s.Plugin, shorten(s.ID, maxCell), s.State, instant(s.Since), strconv.Itoa(s.Restarts), serviceNote(s)})
	}
	if tenants {
		rows[0] = append([]string{"TENANT"}, rows[0]...)
		for i, s := range services {
			rows[i+1] = append([]string{s.Tenant}, rows[i+1]...)
		}
	}
	return table(cmd, rows)
}

// serviceNote says why a service does not run, and when it is tried again.
func serviceNote(s v1.Service) string {
	var notes []string
	switch {
	case !s.Desired:
		notes = append(notes, "a person stopped it")
	case s.LastError != "":
		notes = append(notes, shorten(s.LastError, 80))
	}
	if s.NextAttempt != nil {
		notes = append(notes, "tried again at "+instant(*s.NextAttempt))
	}
	return strings.Join(notes, "; ")
}

// serviceCommand makes a command that changes one service's state.
func (a *app) serviceCommand(op, short string) *cobra.Command {
	return &cobra.Command{
		Use:     op + " PLUGIN SERVICE",
		Short:   short,
		Example: fmt.Sprintf("  ocmt services %s my-plugin poller", op),
		Args:    exactly("PLUGIN", "SERVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.ChangeService(cmd.Context(), a.tenant, args[0], args[1], op)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s of %s is %s\n", clean(s.ID), clean(s.Plugin), clean(s.State))
			return nil
		},
	}
}
