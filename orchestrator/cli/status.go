package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) statusCommand() *cobra.Command {
	var r reads
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the daemon and the state of the plugins",
		Long: `Show the daemon, its engine, and the state of the plugins; of those that ended
and do not run, or ended lately, with the last lines that they printed.

With --watch it is shown again whenever something happens, until you interrupt:
on a terminal in place, elsewhere as a line for each change, with --json as the
whole status. A daemon that is restarted is waited for.`,
		Example: `  ocmt status
  ocmt status -A --json
  ocmt status --watch`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if watch {
				return a.watchStatus(cmd, c, r)
			}
			return a.showStatus(cmd, c, r)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again whenever it changes, until interrupted")
	r.addJSON(cmd)
	r.addAll(cmd)
	return cmd
}

func (a *app) showStatus(cmd *cobra.Command, c *client.Client, r reads) error {
	status, err := c.Status(cmd.Context(), a.tenantOf(r))
	if err != nil {
		return err
	}
	if r.json {
		return a.printJSON(status)
	}
	return printStatus(cmd, status, r.all)
}

func printStatus(cmd *cobra.Command, s v1.Status, tenants bool) error {
	out := cmd.OutOrStdout()
	if trouble := engineTrouble(s.Engine); trouble != "" {
		fmt.Fprintf(out, "! %s\n\n", clean(trouble))
	}
	head := [][]string{
		{"daemon", fmt.Sprintf("%s, pid %d, up %s", s.Version.Version, s.PID, time.Since(s.StartedAt).Round(time.Second))},
		{"home", s.Home},
		{"engine", fmt.Sprintf("%s %s, runtime %s", s.Engine.Name, s.Engine.Version, s.Engine.Runtime)},
		{"image", s.Image},
	}
	for _, note := range s.Notes {
		head = append(head, []string{"note", note})
	}
	if err := table(cmd, head); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if err := printPlugins(cmd, s.Plugins, tenants); err != nil {
		return err
	}
	for _, p := range s.Plugins {
		printEnd(out, p, tenants)
	}
	printPending(out, s.Pending, tenants)
	return nil
}

// engineTrouble says what is wrong with the engine, nothing if it answers.
func engineTrouble(e v1.Engine) string {
	if e.State == "" || e.State == v1.EngineOK {
		return ""
	}
	text := "engine: " + e.Name + " does not answer"
	if !e.Since.IsZero() {
		text += " since " + instant(e.Since)
	}
	if e.Error != "" {
		text += ": " + e.Error
	}
	return text + "; running plugins go on, nothing can be started or stopped"
}

// printEnd prints what a plugin printed before it ended, and what starts one
// again that is not started by itself.
func printEnd(w io.Writer, p v1.Plugin, tenants bool) {
	name := p.ID
	if tenants {
		name = p.Tenant + "/" + p.ID
	}
	command := wayOut(p)
	if p.LastExit != nil && p.LastExit.Output != "" {
		fmt.Fprintf(w, "\n%s printed before it ended:\n", clean(name))
		printOutput(w, p.LastExit.Output)
	} else if command != "" {
		fmt.Fprintln(w)
	}
	if command != "" {
		fmt.Fprintf(w, "%s is %s; to start it again: %s\n", clean(name), clean(p.State), clean(command))
	}
	if p.LastExit != nil && p.LastExit.Class == "oom" {
		command := forTenant("ocmt plugins grant "+p.ID+" resource memory SIZE", p.Tenant)
		fmt.Fprintf(w, "%s ran out of memory; to give it more: %s\n", clean(name), clean(command))
	}
}

// printOutput prints lines that a plugin printed.
func printOutput(w io.Writer, output string) {
	for line := range strings.SplitSeq(output, "\n") {
		fmt.Fprintf(w, "    %s\n", clean(line))
	}
}

// wayOut is the command that starts a plugin again which needs a person, if it
// does.
func wayOut(p v1.Plugin) string {
	verb := map[string]string{"crashlooped": "reset", "quarantined": "reinstall"}[p.State]
	if verb == "" {
		return ""
	}
	return forTenant("ocmt plugins "+verb+" "+p.ID, p.Tenant)
}

// printPending prints how many requests wait for a person, and the first of
// them with the command that answers each.
func printPending(w io.Writer, pending []v1.Approval, tenants bool) {
	const shown = 5
	if len(pending) == 0 {
		return
	}
	of := func(p v1.Approval) string {
		if tenants {
			return p.Tenant + "/" + p.Plugin
		}
		return p.Plugin
	}
	var plugins []string
	counts := map[string]int{}
	for _, p := range pending {
		if counts[of(p)]++; counts[of(p)] == 1 {
			plugins = append(plugins, of(p))
		}
	}
	for i, name := range plugins {
		plugins[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	verb := "wait"
	if len(pending) == 1 {
		verb = "waits"
	}
	fmt.Fprintf(w, "\n%s %s for a person: %s\n", count(len(pending), "request"), verb, clean(shorten(strings.Join(plugins, ", "), 200)))
	for _, p := range pending[:min(shown, len(pending))] {
		fmt.Fprintf(w, "  %s: %s\n", clean(of(p)), clean(shorten(p.Title, 200)))
		fmt.Fprintf(w, "      %s\n", clean(answerCommand(p)))
	}
	if len(pending) > shown {
		fmt.Fprintf(w, "  and %d more: ocmt approvals list\n", len(pending)-shown)
	}
}

// answerCommand is what answers a request: an approval or, if it lacks a
// detail, the command that shows what to grant.
func answerCommand(p v1.Approval) string {
	if slices.Contains(p.Decisions, v1.AllowOnce) || slices.Contains(p.Decisions, v1.AllowAlways) {
		return forTenant("ocmt approvals approve "+p.ID, p.Tenant)
	}
	return forTenant("ocmt plugins permissions "+p.Plugin, p.Tenant)
}

// printPlugins prints a list of plugins, with their tenants if they are of
// more than one.
func printPlugins(cmd *cobra.Command, plugins []v1.Plugin, tenants bool) error {
	if len(plugins) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "no plugins are installed")
		return nil
	}
	rows := [][]string{{"ID", "VERSION", "SOURCE", "STATE", "TOOLS", "RESTARTS", "LAST EXIT"}}
	for _, p := range plugins {
		rows = append(rows, []string{p.ID, p.Version, p.Source, stateText(p), strconv.Itoa(p.Tools), strconv.Itoa(p.Restarts), exitText(p.LastExit)})
	}
	if tenants {
		rows[0] = append([]string{"TENANT"}, rows[0]...)
		for i, p := range plugins {
			rows[i+1] = append([]string{p.Tenant}, rows[i+1]...)
		}
	}
	return table(cmd, rows)
}

// stateText is a plugin's state in short, with when it ends if that is known.
func stateText(p v1.Plugin) string {
	text := p.State
	if p.NextAttempt != nil {
		text += " until " + p.NextAttempt.UTC().Format("15:04:05")
	}
	if p.Reason != "" {
		text += " (" + shorten(p.Reason, 40) + ")"
	}
	return text
}

func exitText(e *v1.Exit) string {
	if e == nil {
		return "-"
	}
	text := e.Class
	switch {
	case e.Detail != "":
		text += ": " + shorten(e.Detail, 40)
	case e.Code > 128:
		text += ": signal " + strconv.Itoa(e.Code-128)
	case e.Code > 0:
		text += ": exit code " + strconv.Itoa(e.Code)
	}
	return text + ", " + instant(e.At)
}
