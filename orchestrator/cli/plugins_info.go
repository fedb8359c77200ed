package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *app) infoCommand() *cobra.Command {
	var r reads
	cmd := &cobra.Command{
		Use:     "info ID",
		Aliases: []string{"inspect", "show"},
		Short:   "Show all that is known of a plugin",
		Example: `  ocmt plugins info @openclaw/kitchen-sink
  ocmt plugins info @openclaw/kitchen-sink --json`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			p, err := c.Plugin(cmd.Context(), a.tenant, args[0])
			if err != nil {
				return err
			}
			if r.json {
				return a.printJSON(p)
			}
			return printPlugin(cmd, p)
		},
	}
	r.addJSON(cmd)
	return cmd
}

func printPlugin(cmd *cobra.Command, p v1.PluginDetail) error {
	if err := table(cmd, facts(p)); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	printEnd(out, p.Plugin, false)
	if len(p.ToolList) > 0 {
		fmt.Fprintln(out, "\nTools:")
		rows := [][]string{}
		for _, t := range p.ToolList {
			rows = append(rows, []string{"  " + t.Name, shorten(t.Description, 60)})
			if takes := parameters(t.Parameters); takes != "" {
				rows = append(rows, []string{"", "takes " + shorten(takes, 60)})
			}
		}
		if err := table(cmd, rows); err != nil {
			return err
		}
	}
	if len(p.Registrations) > 0 {
		fmt.Fprintln(out, "\nAlso registers:")
		if err := table(cmd, byKind(p.Registrations)); err != nil {
			return err
		}
	}
	if len(p.Diagnostics) > 0 {
		fmt.Fprintln(out, "\nDiagnostics:")
		for _, d := range p.Diagnostics {
			fmt.Fprintf(out, "  %s: %s\n", clean(d.Level), clean(d.Message))
		}
	}
	return printProfile(cmd, p.Profile)
}

// parameters names what a tool takes, by its JSON schema: the required first,
// and the others with a question mark.
func parameters(schema json.RawMessage) string {
	var s struct {
		Properties map[string]struct{ Type any }
		Required   []string
	}
	if json.Unmarshal(schema, &s) != nil {
		return ""
	}
	var required, optional []string
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		text := ""
		if kind, ok := s.Properties[name].Type.(string); ok {
			text = " " + kind
		}
		if slices.Contains(s.Required, name) {
			required = append(required, name+text)
		} else {
			optional = append(optional, name+"?"+text)
		}
	}
	return strings.Join(append(required, optional...), ", ")
}

func facts(p v1.PluginDetail) [][]string {
	state := p.State
	if p.Reason != "" {
		state += ": " + p.Reason
	}
	if p.ReadySince != nil {
		state += ", since " + instant(*p.ReadySince)
	}
	if p.Adopted {
		state += ", in a container of an earlier process of the daemon"
	}
	source := p.Source + ", " + p.Spec
	rows := [][]string{
		{"ID", p.ID},
		{"Package", p.Name},
		{"Version", p.Version},
		{"Description", orDash(p.Description)},
		{"Tenant", p.Tenant},
		{"Source", source},
		{"Installed", instant(p.InstalledAt)},
		{"State", state},
		{"Enabled", strconv.FormatBool(p.Enabled)},
		{"Generation", strconv.FormatUint(p.Generation, 10)},
		{"Restarts", strconv.Itoa(p.Restarts)},
		{"Last exit", exitText(p.LastExit)},
		{"Digest", orDash(p.Digest)},
		{"Payload", fmt.Sprintf("%s, %s in %d files", p.Form, byteSize(p.Size), p.Files)},
	}
	rows = append(rows, confines(p)...)
	if p.NextAttempt != nil {
		rows = append(rows, []string{"Next attempt", nextText(p.Plugin)})
	}
	if p.Integrity != "" {
		rows = append(rows, []string{"Integrity", p.Integrity})
	}
	return rows
}

// confines says what holds a plugin, as far as that is known.
func confines(p v1.PluginDetail) (rows [][]string) {
	if p.Trust != "" {
		rows = append(rows, []string{"Trust", p.Trust})
	}
	if p.Runtime != "" {
		rows = append(rows, []string{"Runtime", p.Runtime})
	}
	if d := p.StateDir; d != nil {
		size := "not bounded"
		if d.Max > 0 {
			size = "of " + byteSize(d.Max)
		}
		rows = append(rows, []string{"State dir", fmt.Sprintf("%s, %s used, %s", d.Kind, byteSize(d.Used), size)})
	}
	if n := p.Network; n != nil {
		rows = append(rows, []string{"Network", fmt.Sprintf("%d open, %d allowed, %d denied, %s looked up in vain; %s up, %s down",
			n.Open, n.Allowed, n.Denied, count(int(n.Reported), "name"), byteSize(n.BytesUp), byteSize(n.BytesDown))})
	}
	return rows
}

// printProfile prints the controls of a sandbox: what each is set to, what it
// stops, and what is to be known of it on this host.
func printProfile(cmd *cobra.Command, profile []v1.ProfileRow) error {
	if len(profile) == 0 {
		return nil
	}
	fmt.Fprintln(cmd.OutOrStdout(), "\nSandbox:")
	var rows [][]string
	for _, c := range profile {
		lines := wrap(c.Setting, textWidth)
		if c.Against != "" {
			lines = append(lines, wrap("against "+c.Against, textWidth)...)
		}
		if c.Note != "" {
			lines = append(lines, wrap("note: "+c.Note, textWidth)...)
		}
		for i, line := range lines {
			name := ""
			if i == 0 {
				name = c.Name
			}
			rows = append(rows, []string{"  " + name, line})
		}
	}
	return table(cmd, rows)
}

// nextText says when a plugin is started again by itself.
func nextText(p v1.Plugin) string {
	text := instant(*p.NextAttempt)
	if p.ShortRuns > 0 {
		text += ", after " + count(p.ShortRuns, "short run")
	}
	return text
}

// byKind counts registrations and names the first of each kind, in the order
// of the kinds' first appearance.
func byKind(registrations []v1.Registration) [][]string {
	const named = 5
	var kinds []string
	names, total := make(map[string][]string), make(map[string]int)
	for _, r := range registrations {
		if !slices.Contains(kinds, r.Kind) {
			kinds = append(kinds, r.Kind)
		}
		total[r.Kind]++
		if r.Name != "" {
			names[r.Kind] = append(names[r.Kind], r.Name)
		}
	}
	var rows [][]string
	for _, kind := range kinds {
		shown := strings.Join(names[kind][:min(named, len(names[kind]))], ", ")
		if len(names[kind]) > named {
			shown += ", ..."
		}
		rows = append(rows, []string{"  " + kind, strconv.Itoa(total[kind]), shorten(shown, 60)})
	}
	return rows
}
