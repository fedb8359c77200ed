package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *app) versionCommand() *cobra.Command {
	var r reads
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this program and of the daemon",
		Example: `  ocmt version --json`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			both := struct {
				Client v1.Version  `json:"client"`
				Daemon *v1.Version `json:"daemon"` // null if none answers
			}{Client: a.version()}
			if c, err := a.client(); err == nil {
				defer c.Close()
				if daemon, err := c.Version(cmd.Context()); err == nil {
					both.Daemon = &daemon
				}
			}
			if r.json {
				return a.printJSON(both)
			}
			rows := [][]string{{"ocmt", versionText(both.Client)}, {"daemon", "none answers"}}
			if both.Daemon != nil {
				rows[1][1] = versionText(*both.Daemon)
			}
			return table(cmd, rows)
		},
	}
	r.addJSON(cmd)
	return cmd
}

func versionText(v v1.Version) string {
	return fmt.Sprintf("%s (API %s, %s/%s, %s)", v.Version, v.API, v.OS, v.Arch, v.Go)
}
