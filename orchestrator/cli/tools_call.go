package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

const (
	defaultCallTimeout = 30 * time.Second
	maxCallTimeout     = 10 * time.Minute
	callGrace          = 5 * time.Second // for the daemon to say itself that time is up
)

// callFlags are the flags of tools call.
type callFlags struct {
	params  string
	agent   string
	timeout time.Duration
	json    bool
}

func (a *app) toolsCallCommand() *cobra.Command {
	var f callFlags
	cmd := &cobra.Command{
		Use:   "call PLUGIN TOOL",
		Short: "Call a tool and print its result",
		Long: `Call a tool and print its result: the text of a result that has text, any other
as JSON.`,
		Example: `  ocmt tools call @openclaw/kitchen-sink kitchen_sink_search --params '{"query":"openclaw"}'
  ocmt tools call @openclaw/kitchen-sink kitchen_sink_search --params @query.json --json
  ocmt tools call @openclaw/kitchen-sink kitchen_sink_search --params - <query.json`,
		Args: exactly("PLUGIN", "TOOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.timeout <= 0 || f.timeout > maxCallTimeout {
				return usage(cmd, "--timeout %s is not between 0 and %s", f.timeout, maxCallTimeout)
			}
			return a.call(cmd.Context(), args[0], args[1], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.params, "params", "{}", "parameters, `JSON`: an object, @FILE, or - for standard input")
	flags.StringVar(&f.agent, "agent", "", "`ID` of the agent to call for")
	flags.DurationVar(&f.timeout, "timeout", defaultCallTimeout, "how long to wait")
	flags.BoolVar(&f.json, "json", false, "print the whole result as JSON")
	return cmd
}

func (a *app) call(ctx context.Context, plugin, tool string, f callFlags) error {
	params, err := a.readParams(f.params)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, f.timeout+callGrace)
	defer cancel()
	result, err := c.Call(ctx, a.tenant, plugin, tool, v1.CallRequest{
		Params: params, Context: v1.CallContext{AgentID: f.agent}, TimeoutMillis: max(1, f.timeout.Milliseconds())})
	if err != nil {
		return err
	}
	if text, ok := resultText(result); ok && !f.json {
		return a.print(func(w io.Writer) error {
			_, err := fmt.Fprintln(w, strings.TrimSuffix(text, "\n"))
			return err
		})
	}
	return a.printJSON(result)
}

// readParams returns the parameters that --params means.
func (a *app) readParams(from string) (json.RawMessage, error) {
	text, err := a.readSource(from)
	if err != nil {
		return nil, fault.New(openClass(err), "unreadable_params", "cannot read the parameters: %w", err)
	}
	if len(text) > v1.MaxCallBody {
		return nil, fault.New(errdefs.ErrInvalidArgument, "params_too_large", "the parameters have more than %s", byteSize(v1.MaxCallBody))
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		return nil, notAnObject(text, err)
	}
	return text, nil
}

func notAnObject(text []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		before := text[:min(max(0, int(syntax.Offset)-1), len(text))]
		line := 1 + bytes.Count(before, []byte("\n"))
		column := len(before) - bytes.LastIndexByte(before, '\n')
		return fault.New(errdefs.ErrInvalidArgument, "invalid_params", "the parameters are no JSON: line %d, column %d: %w", line, column, err)
	}
	return fault.New(errdefs.ErrInvalidArgument, "invalid_params", "the parameters are no JSON object").
		WithHint(`for example: --params '{"query":"openclaw"}'`)
}

// readSource reads the literal text, @file or standard input.
func (a *app) readSource(from string) ([]byte, error) {
	var r io.Reader = strings.NewReader(from)
	if from == "-" {
		r = a.env.Stdin
	} else if name, ok := strings.CutPrefix(from, "@"); ok {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	return io.ReadAll(io.LimitReader(r, v1.MaxCallBody+1))
}

// resultText returns the text of a result in OpenClaw's form, if text is all
// that its content is.
func resultText(result json.RawMessage) (string, bool) {
	var r struct {
		Content []struct {
			Type string `json:"type"`
			Text string `json:"text"`
		} `json:"content"`
	}
	var plain *string
	if json.Unmarshal(result, &plain) == nil && plain != nil {
		return *plain, true
	}
	if json.Unmarshal(result, &r) != nil || len(r.Content) == 0 {
		return "", false
	}
	var texts []string
	for _, part := range r.Content {
		if part.Type != "text" {
			return "", false
		}
		texts = append(texts, part.Text)
	}
	return strings.Join(texts, "\n"), true
}
