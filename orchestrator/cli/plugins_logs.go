package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *app) logsCommand() *cobra.Command {
	var q v1.LogQuery
	var since string
	var asJSON, timestamps bool
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Show what a plugin printed",
		Long: `Show what a plugin printed, both its streams: of the present run, or of the last
one if it does not run.`,
		Example: `  ocmt plugins logs @openclaw/kitchen-sink -f --since 10m
  ocmt plugins logs @openclaw/kitchen-sink --previous --tail 20`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			switch {
			case q.Previous && (q.Follow || since != ""):
				return usage(cmd, "--previous goes with --tail only")
			case q.Tail < 0:
				return usage(cmd, "--tail %d is less than 0", q.Tail)
			case q.Tail == 0:
				q.Tail = -1 // all
			}
			if q.Since, err = parseSince(since, time.Now()); err != nil {
				return usage(cmd, "--since %q is neither a duration like 10m nor a time like 2026-01-02T15:04:05Z", since)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return a.print(func(w io.Writer) error {
				return c.LogLines(cmd.Context(), a.tenant, args[0], q, func(line v1.LogLine) error {
					if asJSON {
						return printLine(w, line)
					}
					_, err := fmt.Fprintln(w, logText(line, timestamps))
					return err
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&q.Follow, "follow", "f", false, "go on until the run ends, or you interrupt")
	flags.BoolVarP(&q.Previous, "previous", "p", false, "what the run before the present one printed")
	flags.IntVar(&q.Tail, "tail", 0, "only the last `N` lines (default all)")
	flags.StringVar(&since, "since", "", "only lines after a `TIME`, or of the last while (10m)")
	flags.BoolVar(&timestamps, "timestamps", false, "show when each line was printed")
	flags.BoolVar(&asJSON, "json", false, "print a JSON object for each line, with its time and stream")
	return cmd
}

// logText is a line as the plugin printed it.
func logText(line v1.LogLine, timestamps bool) string {
	text := line.Line
	if line.Cut {
		text += " ... (cut off)"
	}
	if timestamps {
		text = line.Time.UTC().Format("2006-01-02T15:04:05.000Z") + " " + text
	}
	return text
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
