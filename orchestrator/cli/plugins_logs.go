package cli

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *app) logsCommand() *cobra.Command {
	var q v1.LogQuery
	var since string
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Show what a plugin printed",
		Example: `  ocmt plugins logs kitchen-sink -f --tail 20
  ocmt plugins logs kitchen-sink --previous --since 10m`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if q.Since, err = parseSince(since, time.Now()); err != nil {
				return usage(cmd, "--since %q is neither a duration like 10m nor a time like 2026-01-02T15:04:05Z", since)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return a.print(func(w io.Writer) error { return c.Logs(cmd.Context(), a.tenant, args[0], q, w) })
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&q.Follow, "follow", "f", false, "go on until interrupted")
	flags.BoolVarP(&q.Previous, "previous", "p", false, "of the run before the present one")
	flags.IntVar(&q.Tail, "tail", -1, "only so many of the last lines")
	flags.StringVar(&since, "since", "", "only lines after a time, or of the last while (10m)")
	return cmd
}

// parseSince reads a duration before now, or a time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Parse(time.RFC3339, s)
}
