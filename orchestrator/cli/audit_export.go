package cli

import (
	"bufio"
	"errors"

	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/audit"
)

func (a *app) auditExportCommand() *cobra.Command {
	var format, since string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the audit log to standard output",
		Long: `Write the audit log to standard output as JSONL, every line as it is in the log, of
all tenants unless --tenant names one. Who has all lines can check the chain.`,
		Example: `  ocmt audit export --format jsonl > audit.jsonl
  ocmt audit export --since 24h --tenant acme | jq 'select(.outcome == "denied")'`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "jsonl" {
				return usage(cmd, "--format %q is not known; there is jsonl", format)
			}
			var opts audit.ReadOptions
			var err error
			if opts.Since, err = sinceFlag(cmd, since); err != nil {
				return err
			}
			if cmd.Flags().Changed("tenant") {
				opts.Tenant = a.tenant
			}
			dir, err := a.auditLog()
			if err != nil {
				return err
			}
			// Not cleaned, even on a terminal: the strings of a record hold no
			// control characters, and JSON escapes those in details.
			w := bufio.NewWriter(cmd.OutOrStdout())
			return errors.Join(audit.Export(cmd.Context(), dir, opts, w), w.Flush())
		},
	}
	cmd.Flags().StringVar(&format, "format", "jsonl", "`FORMAT` of the lines: jsonl")
	cmd.Flags().StringVar(&since, "since", "", "only records after a `TIME`, or of the last while (10m)")
	return cmd
}
