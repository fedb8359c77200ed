package cli

import (
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
matters, and which command mends it. It needs no daemon and changes nothing.
The exit code is 1 if something is missing.`,
		Example: `  ocmt doctor
  ocmt doctor --engine containerd --runtime runsc --json`,
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
	rows := [][]string{{"CHECK", "STATUS", "WHY", "MENDED BY"}}
	for _, c := range report.Checks {
		rows = append(rows, []string{c.Name, c.Status, c.Detail, c.Fix})
	}
	return table(cmd, rows)
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
