package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) hooksListCommand() *cobra.Command {
	return lists(a, &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the hooks of all plugins in the order in which they run",
		Long: `List the hooks of all plugins, by event and in the order in which they run.

RIGHTS is what was granted. A hook that was granted nothing is not called, and
neither is one that is cut off because it missed its deadline too often; if that
one is a gate, its event is denied until the plugin is disabled or mended.`,
		Example: `  ocmt hooks list
  ocmt hooks list -A --json`,
	}, (*client.Client).Hooks, printHooks)
}

func printHooks(cmd *cobra.Command, hooks []v1.Hook, tenants bool) error {
	if len(hooks) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "there are no hooks")
		return nil
	}
	hooks = slices.Clone(hooks)
	slices.SortStableFunc(hooks, func(a, b v1.Hook) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Event, b.Event))
	})
	rows := [][]string{{"EVENT", "ORDER", "KIND", "PLUGIN", "PRIORITY", "RIGHTS", "NOTE"}}
	order := 0
	for i, h := range hooks {
		if order++; i > 0 && (h.Event != hooks[i-1].Event || h.Tenant != hooks[i-1].Tenant) {
			order = 1
		}
		rows = append(rows, []string{
			shorten(h.Event, maxCell), strconv.Itoa(order), h.Kind, h.Plugin, priorityText(h.Priority), rightsText(h), hookNote(h)})
	}
	if tenants {
		rows[0] = append([]string{"TENANT"}, rows[0]...)
		for i, h := range hooks {
			rows[i+1] = append([]string{h.Tenant}, rows[i+1]...)
		}
	}
	return table(cmd, rows)
}

// priorityText writes a priority, of an unusual one the first digits.
func priorityText(priority float64) string {
	text := strconv.FormatFloat(priority, 'f', -1, 64)
	if len(text) > 12 {
		return strconv.FormatFloat(priority, 'g', 4, 64)
	}
	return text
}

func rightsText(h v1.Hook) string {
	if len(h.Rights) == 0 {
		return "not granted"
	}
	return strings.Join(h.Rights, ",")
}

// hookNote says why a hook does less than it would.
func hookNote(h v1.Hook) string {
	var notes []string
	if h.CutOff {
		notes = append(notes, "cut off")
	}
	if h.Kind == "unknown" {
		notes = append(notes, "no host sends this event")
	}
	lacks := slices.DeleteFunc(slices.Clone(h.Asks), func(right string) bool { return slices.Contains(h.Rights, right) })
	if len(lacks) > 0 {
		notes = append(notes, "asks for "+strings.Join(lacks, ","))
	}
	return strings.Join(notes, "; ")
}
