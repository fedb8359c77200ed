package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func (a *app) permissionsCommand() *cobra.Command {
	var r reads
	cmd := &cobra.Command{
		Use:   "permissions ID",
		Short: "Show what a plugin may do, and what it asks for",
		Long: `Show what a plugin may do, since when and by whose word; what config.json switches
off of that; and what it asks for, with the command that grants it.`,
		Example: `  ocmt plugins permissions @openclaw/kitchen-sink
  ocmt plugins permissions @openclaw/kitchen-sink --json`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			p, err := c.Permissions(cmd.Context(), a.tenant, args[0])
			if err != nil {
				return err
			}
			if r.json {
				return a.printJSON(p)
			}
			printPermissions(cmd.OutOrStdout(), p)
			return nil
		},
	}
	r.addJSON(cmd)
	return cmd
}

func printPermissions(w io.Writer, p v1.PluginPermissions) {
	if len(p.Granted) == 0 {
		fmt.Fprintf(w, "Nothing is granted to %s.\n", clean(p.Plugin))
	} else {
		fmt.Fprintf(w, "Granted to %s:\n", clean(p.Plugin))
		printGranted(w, p.Granted)
	}
	if len(p.Narrowed) > 0 {
		fmt.Fprintln(w, "\nGranted, but switched off by config.json:")
		printGranted(w, p.Narrowed)
	}
	if len(p.Pending) > 0 {
		fmt.Fprintln(w, "\nAsked for and not granted:")
		printEach(w, p.Pending)
	}
	if len(p.Problems) > 0 {
		fmt.Fprintln(w, "\nParts of its manifest that cannot be used:")
		for _, problem := range p.Problems {
			printItem(w, "  - ", problem)
		}
	}
}

// printGranted prints what is granted, and who granted it when.
func printGranted(w io.Writer, permissions []v1.Permission) {
	for _, g := range groups(permissions) {
		printItem(w, "  - ", g.text())
		fmt.Fprintf(w, "      %s\n", clean(g.name()+grantText(g[0])))
	}
}

// printEach prints what is asked for, and the command that grants it.
func printEach(w io.Writer, permissions []v1.Permission) {
	for _, p := range permissions {
		printItem(w, "  - ", p.Sentence)
		fmt.Fprintf(w, "      %s\n", clean(askedText(p)))
	}
}

// printItem prints a text of several lines as an item of a list, after its
// mark of four characters.
func printItem(w io.Writer, mark, text string) {
	for i, line := range wrap(text, textWidth-4) {
		if i > 0 {
			mark = "    "
		}
		fmt.Fprintln(w, mark+clean(line))
	}
}

// grantText says since when something is granted, and by whose word.
func grantText(p v1.Permission) string {
	text := ""
	if p.GrantedAt != nil {
		text += ", since " + instant(*p.GrantedAt)
	}
	if p.Actor != "" {
		text += " by " + p.Actor
	}
	if p.Origin != "" {
		text += " (" + p.Origin + ")"
	}
	if p.ExpiresAt != nil {
		text += ", until " + instant(*p.ExpiresAt)
	}
	return text
}

// askedText is the command that grants what is asked for.
func askedText(p v1.Permission) string {
	if p.Command == "" {
		return nameOf(p)
	}
	return p.Command
}

// nameOf is a permission in the words of "plugins grant".
func nameOf(p v1.Permission) string {
	words := []string{p.Kind, p.Target, p.Value}
	if p.Kind == kindWorkspace {
		words = []string{p.Kind, p.Value, p.Target}
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}
