package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

const defaultEmitTimeout = 2 * time.Minute // the API's own

// emitFlags are the flags of hooks emit.
type emitFlags struct {
	payload string
	agent   string
	timeout time.Duration
	json    bool
}

func (a *app) hooksEmitCommand() *cobra.Command {
	var f emitFlags
	cmd := &cobra.Command{
		Use:   "emit EVENT",
		Short: "Give an event to the hooks and show what becomes of it",
		Long: `Give an event to the hooks, as an agent host would, and show what becomes of it:
the payload and the result, who changed what, who blocked it and why, and what
each handler did.

The exit code is 4 if the event was blocked. If a handler asks for an approval,
that is waited for: answer it elsewhere, see "ocmt approvals list".`,
		Example: `  ocmt hooks emit before_tool_call --payload '{"toolName":"search","params":{}}'
  ocmt hooks emit agent:message:before --payload @message.json --json
  ocmt hooks emit message_received --payload - <message.json`,
		Args: exactly("EVENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTimeout(cmd, f.timeout); err != nil {
				return err
			}
			return a.emit(cmd, args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.payload, "payload", "{}", "the event, `JSON`: an object, @FILE, or - for standard input")
	flags.StringVar(&f.agent, "agent", "", "`ID` of the agent that it is about")
	flags.DurationVar(&f.timeout, "timeout", defaultEmitTimeout, "how long to wait for all handlers, and for approvals")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func (a *app) emit(cmd *cobra.Command, event string, f emitFlags) error {
	payload, err := a.readObject(payloadFlag, f.payload)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout+callGrace)
	defer cancel()
	result, err := c.Emit(ctx, a.tenant, event, v1.EmitRequest{
		Payload: payload, Context: v1.CallContext{AgentID: f.agent}, TimeoutMillis: max(1, f.timeout.Milliseconds())})
	if err != nil {
		return err
	}
	if f.json {
		err = a.printJSON(result)
	} else {
		err = printEmit(cmd, result)
	}
	if err == nil && result.Outcome == v1.OutcomeBlock {
		return blocked(result)
	}
	return err
}

// blocked is the error of an event that was blocked.
func blocked(r v1.EmitResult) error {
	by := v1.HookBlock{Plugin: "a hook"}
	if r.BlockedBy != nil {
		by = *r.BlockedBy
	}
	what := "blocked"
	if by.Failed {
		what = "failed as a gate of"
	}
	err := fault.New(errdefs.ErrPermissionDenied, "event_blocked", "%s %s %s", by.Plugin, what, r.Event)
	if by.Reason != "" {
		err = fault.New(errdefs.ErrPermissionDenied, "event_blocked", "%s %s %s: %s", by.Plugin, what, r.Event, by.Reason)
	}
	if by.Failed {
		err = err.WithHint("see why: ocmt plugins logs %s", by.Plugin)
	}
	return err
}

func printEmit(cmd *cobra.Command, r v1.EmitResult) error {
	out := cmd.OutOrStdout()
	if err := table(cmd, outcomeFacts(r)); err != nil {
		return err
	}
	printValue(cmd, "Payload", r.Payload)
	printValue(cmd, "Result", r.Result)
	if len(r.Changes) > 0 {
		fmt.Fprintln(out, "\nChanges:")
		for _, change := range r.Changes {
			fmt.Fprintf(out, "  %s\n", clean(changeText(change)))
		}
	}
	if len(r.Handlers) == 0 {
		fmt.Fprintln(out, "\nNo hook is on this event.")
		return nil
	}
	fmt.Fprintln(out, "\nHandlers:")
	rows := [][]string{{"  PLUGIN", "HANDLER", "STATUS", "MS", "DETAIL"}}
	for _, h := range r.Handlers {
		detail := h.Detail
		if len(h.Outcome) > 0 {
			detail += " " + string(h.Outcome)
		}
		rows = append(rows, []string{"  " + h.Plugin, strconv.Itoa(h.Handler), h.Status, strconv.FormatFloat(h.Millis, 'f', 1, 64), shorten(detail, 80)})
	}
	return table(cmd, rows)
}

func outcomeFacts(r v1.EmitResult) [][]string {
	rows := [][]string{{"Event", r.Event}, {"Outcome", r.Outcome}}
	if by := r.BlockedBy; by != nil {
		rows = append(rows, []string{"Blocked by", by.Plugin})
		if by.Failed {
			rows = append(rows, []string{"", "its gate failed, nobody decided so"})
		}
		if by.Reason != "" {
			rows = append(rows, []string{"Reason", by.Reason})
		}
	}
	if r.ClaimedBy != "" {
		rows = append(rows, []string{"Claimed by", r.ClaimedBy})
	}
	if r.Approval != nil {
		rows = append(rows, []string{"Approval", decisionText(*r.Approval)})
	}
	return rows
}

// printValue prints JSON, indented and cleaned, under a heading.
func printValue(cmd *cobra.Command, heading string, value json.RawMessage) {
	if len(value) == 0 {
		return
	}
	fmt.Fprintf(cmd.OutOrStdout(), "\n%s:\n", heading)
	for _, line := range jsonLines(value) {
		fmt.Fprintf(cmd.OutOrStdout(), "  %s\n", clean(line))
	}
}

// changeText says who changed what. What was or is not there is "nothing".
func changeText(c v1.HookChange) string {
	side := func(value json.RawMessage) string {
		if len(value) == 0 {
			return "nothing"
		}
		return shorten(compact(value), 60)
	}
	return fmt.Sprintf("%s: %s %s -> %s", c.Plugin, c.Path, side(c.Before), side(c.After))
}
