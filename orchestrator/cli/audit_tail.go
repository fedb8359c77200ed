package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/audit"
)

func (a *app) auditTailCommand() *cobra.Command {
	var r reads
	var opts audit.ReadOptions
	var since string
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the last records of the audit log",
		Long: `Show the last records of the audit log: the time in UTC, the tenant and plugin,
what was done to what, how it ended, and who did it.

Records of the host itself, which belong to no tenant, are shown with -A.`,
		Example: `  ocmt audit tail -n 100
  ocmt audit tail -f -A
  ocmt audit tail --since 1h --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Tail < 0 {
				return usage(cmd, "-n %d is less than 0", opts.Tail)
			}
			var err error
			if opts.Since, err = sinceFlag(cmd, since); err != nil {
				return err
			}
			opts.Tenant = a.tenantOf(r)
			dir, err := a.auditLog()
			if err != nil {
				return err
			}
			return a.print(func(w io.Writer) error {
				return audit.Read(cmd.Context(), dir, opts, func(e audit.Entry) error { return printEntry(w, e, r.json) })
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&opts.Follow, "follow", "f", false, "go on until you interrupt")
	flags.IntVarP(&opts.Tail, "lines", "n", 20, "only the last `N` records; 0 is all")
	flags.StringVar(&since, "since", "", "only records after a `TIME`, or of the last while (10m)")
	r.addJSON(cmd)
	r.addAll(cmd)
	return cmd
}

// printEntry writes a record on one line: as it is in the log, or for a person.
func printEntry(w io.Writer, e audit.Entry, raw bool) error {
	var err error
	switch {
	case raw && e.Problem == "":
		_, err = fmt.Fprintf(w, "%s\n", e.Raw)
	case raw:
		err = json.NewEncoder(w).Encode(map[string]any{"file": e.File, "line": e.Line, "problem": e.Problem})
	default:
		_, err = fmt.Fprintln(w, clean(entryText(e)))
	}
	return err
}

func entryText(e audit.Entry) string {
	if e.Problem != "" {
		return fmt.Sprintf("!! %s, line %d: %s (see ocmt audit verify)", e.File, e.Line, e.Problem)
	}
	parts := []string{e.Time.UTC().Format("2006-01-02 15:04:05.000"), subjectText(e), e.Action}
	if e.Target != "" {
		parts = append(parts, e.Target)
	}
	result := e.Outcome
	if e.Code != "" {
		result += " (" + e.Code + ")"
	}
	if result != "" {
		parts = append(parts, result)
	}
	if e.DurationMicros != 0 {
		parts = append(parts, (time.Duration(e.DurationMicros) * time.Microsecond).String())
	}
	if e.Actor != "" {
		parts = append(parts, "by "+e.Actor)
	}
	return strings.Join(parts, "  ")
}

// subjectText names the tenant and the plugin; "host" where there is neither.
func subjectText(e audit.Entry) string {
	switch {
	case e.Tenant == "" && e.Plugin == "":
		return "host"
	case e.Plugin == "":
		return e.Tenant
	}
	return e.Tenant + "/" + e.Plugin
}
