package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

func (a *app) eventsCommand() *cobra.Command {
	var r reads
	var q v1.EventQuery
	var last int
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happens: states, grants, connections, hooks",
		Long: `Show what happened of late, and with -f what happens: a line for each event, with
the time, the plugin and the type. The daemon keeps the newest events only; the
record of who did what is "ocmt audit".`,
		Example: `  ocmt events -f
  ocmt events -n 20
  ocmt events -A --since 1200 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			q.Tenant = a.tenantOf(r)
			if cmd.Flags().Changed("lines") && last < 0 {
				return fault.New(errdefs.ErrInvalidArgument, "usage", "-n must not be negative")
			}
			if cmd.Flags().Changed("lines") {
				if err := skipEvents(cmd.Context(), c, &q, last); err != nil {
					return err
				}
			}
			return a.print(func(w io.Writer) error {
				return c.Events(cmd.Context(), q, func(e v1.Event) error {
					if r.json {
						return printLine(w, e)
					}
					_, err := fmt.Fprintln(w, clean(eventLine(e, r.all)))
					return err
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&q.Follow, "follow", "f", false, "go on until you interrupt")
	flags.Uint64Var(&q.Since, "since", 0, "only events after the one with the sequence number `SEQ`, as --json shows it")
	flags.IntVarP(&last, "lines", "n", 0, "of what happened before, only the last `N` events")
	r.addJSON(cmd)
	r.addAll(cmd)
	return cmd
}

// skipEvents has q begin at the last n of the events that there are.
func skipEvents(ctx context.Context, c *client.Client, q *v1.EventQuery, n int) error {
	var seqs []uint64
	backlog := *q
	backlog.Follow = false
	err := c.Events(ctx, backlog, func(e v1.Event) error {
		seqs = append(seqs, e.Seq)
		return nil
	})
	if before := len(seqs) - n; err == nil && before > 0 {
		q.Since = seqs[before-1]
	}
	return err
}

func eventLine(e v1.Event, tenants bool) string {
	parts := []string{instant(e.Time)}
	if tenants {
		parts = append(parts, orDash(e.Tenant))
	}
	parts = append(parts, orDash(e.Plugin), e.Type)
	if text := eventText(e); text != "" {
		parts = append(parts, shorten(text, 300))
	}
	return strings.Join(parts, "  ")
}

// eventText says in short what happened; of an event that it does not
// understand, the data.
func eventText(e v1.Event) string {
	describe, ok := eventTexts[e.Type]
	if !ok {
		return compact(e.Data)
	}
	text, err := describe(e.Data)
	if err != nil {
		return compact(e.Data)
	}
	return text
}

// eventTexts describes each type of event by its data.
var eventTexts = map[string]func(json.RawMessage) (string, error){
	v1.EventState: describes(func(p v1.Plugin) string { return withReason(p.State, p.Reason) }),
	v1.EventService: describes(func(s v1.Service) string {
		return fmt.Sprintf("%s is %s", s.ID, withReason(s.State, serviceNote(s)))
	}),
	v1.EventApproval: describes(func(p v1.Approval) string {
		if p.Decision != "" {
			return decisionText(p)
		}
		return fmt.Sprintf("asks: %s (%s)", p.Title, p.ID)
	}),
	v1.EventGrant: describes(func(c v1.PermissionChange) string { return c.Change + ": " + c.Permission.Sentence }),
	v1.EventConnection: describes(func(c v1.Connection) string {
		text := withReason(verdict(c)+": "+target(c), c.Code)
		if c.Command != "" {
			text += "; to grant it: " + c.Command
		}
		return text
	}),
	v1.EventWish:      describes(func(p v1.Permission) string { return "tried: " + p.Sentence }),
	v1.EventConfig:    func(json.RawMessage) (string, error) { return "config.json was changed", nil },
	v1.EventInstalled: describes(func(p v1.Plugin) string { return fmt.Sprintf("%s %s from %s", p.Name, p.Version, p.Source) }),
	v1.EventRemoved:   func(json.RawMessage) (string, error) { return "", nil },
	v1.EventPlugin:    describes(func(p v1.PluginEvent) string { return strings.TrimSpace(p.Event + " " + compact(p.Payload)) }),
	v1.EventHook:      describes(func(h v1.HookEvent) string { return withReason(h.Event+": "+h.Status, h.Detail) }),
	v1.EventGap: func(json.RawMessage) (string, error) {
		return "events were lost: they came faster than they were read", nil
	},
}

// describes makes a function of an event's data one of its JSON.
func describes[T any](text func(T) string) func(json.RawMessage) (string, error) {
	return func(data json.RawMessage) (string, error) {
		var value T
		if err := json.Unmarshal(data, &value); err != nil {
			return "", err
		}
		return text(value), nil
	}
}

func withReason(text, reason string) string {
	if reason == "" {
		return text
	}
	return text + " (" + reason + ")"
}
