package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// DoctorOptions are the flags of doctor.
type DoctorOptions struct {
	Home    string
	Engine  string // as in ServeOptions
	Runtime string
}

// What a check can find.
const (
	StatusOK      = "ok"
	StatusWeaker  = "weaker"  // it works, with less isolation or comfort
	StatusMissing = "missing" // ocmt does not work without it
)

// DoctorCheck is one thing that was looked at.
type DoctorCheck struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	// Detail says what was found, and why it matters if it is not ok.
	Detail string `json:"detail"`
	// Fix is a command that mends it, or empty.
	Fix string `json:"fix,omitempty"`
}

// DoctorReport is all that was looked at, in order.
type DoctorReport struct {
	Checks []DoctorCheck `json:"checks"`
}

func (a *app) doctorCommand() *cobra.Command {
	var r reads
	var opts DoctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is missing or weaker on this host",
		Long: `Look at what this host offers and say what is missing or weaker, why that
matters, and which command mends it. "weaker" works, with less protection;
"missing" does not work. It needs no daemon and changes nothing. The exit code
is 1 if something is missing.`,
		Example: `  ocmt doctor
  ocmt doctor --runtime runsc --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(engines, opts.Engine) {
				return usage(cmd, "--engine %q is not one of %s", opts.Engine, strings.Join(engines, ", "))
			}
			dir, err := a.homeDir()
			if err != nil {
				return err
			}
			opts.Home = dir
			report, err := a.env.Doctor(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if err := a.printReport(cmd, report, r.json); err != nil {
				return err
			}
			return missing(report)
		},
	}
	engineFlags(cmd, &opts.Engine, &opts.Runtime)
	r.addJSON(cmd)
	return cmd
}

func (a *app) printReport(cmd *cobra.Command, report DoctorReport, asJSON bool) error {
	if asJSON {
		return a.printJSON(report)
	}
	return printChecks(cmd.OutOrStdout(), report.Checks)
}

// printChecks prints a block for each check: status, name and text in columns
// and, where something can be mended, the fix below. No line is longer than
// textWidth but for words that are.
func printChecks(w io.Writer, checks []DoctorCheck) error {
	name := 0
	for _, c := range checks {
		name = max(name, len(clean(c.Name)))
	}
	margin := strings.Repeat(" ", len(StatusMissing)+2+name+2)
	var weaker, missing int
	for _, c := range checks {
		text := strings.Join(wrap(clean(c.Detail), textWidth-len(margin)), "\n"+margin)
		fmt.Fprintf(w, "%-*s  %-*s  %s\n", len(StatusMissing), clean(c.Status), name, clean(c.Name), text)
		if c.Fix != "" { // further to the left, since few commands can be wrapped
			const label = "         fix: "
			fix := wrap(clean(c.Fix), textWidth-len(label))
			fmt.Fprintf(w, "%s%s\n", label, strings.Join(fix, "\n"+strings.Repeat(" ", len(label))))
		}
		switch c.Status {
		case StatusWeaker:
			weaker++
		case StatusMissing:
			missing++
		}
	}
	_, err := fmt.Fprintf(w, "\n%d ok, %d weaker, %d missing\n", len(checks)-weaker-missing, weaker, missing)
	return err
}

// missing fails if something is.
func missing(report DoctorReport) error {
	var names []string
	for _, c := range report.Checks {
		if c.Status == StatusMissing {
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fault.New(errdefs.ErrFailedPrecondition, "host_incomplete", "ocmt does not work on this host without: %s", strings.Join(names, ", "))
}
