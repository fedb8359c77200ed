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
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

const (
	defaultCallTimeout = 30 * time.Second
	maxCallTimeout     = 10 * time.Minute
	callGrace          = 5 * time.Second // for the daemon to say itself that time is up
)

// callFlags are the flags of tools call.
type callFlags struct {
	params   string
	agent    string
	timeout  time.Duration
	json     bool
	progress bool
}

func (a *app) toolsCallCommand() *cobra.Command {
	var f callFlags
	cmd := &cobra.Command{
		Use:   "call PLUGIN TOOL",
		Short: "Call a tool and print its result",
		Long: `Call a tool and print its result: the text of a result that has text, any other
as JSON. Everything else goes to standard error: interim results, which are
shown on a terminal, what hooks changed, and questions.

If a hook asks for an approval, the call waits for it, and no longer than
--timeout. On a terminal you are asked; from elsewhere it is answered with
"ocmt approvals approve" or "ocmt approvals deny".`,
		Example: `  ocmt tools call @openclaw/kitchen-sink kitchen_sink_search --params '{"query":"openclaw"}'
  ocmt tools call @openclaw/kitchen-sink kitchen_sink_search --params @query.json --json
  ocmt tools call @openclaw/kitchen-sink kitchen_sink_search --params - <query.json`,
		Args: exactly("PLUGIN", "TOOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTimeout(cmd, f.timeout); err != nil {
				return err
			}
			return a.call(cmd.Context(), args[0], args[1], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.params, "params", "{}", "parameters, `JSON`: an object, @FILE, or - for standard input")
	flags.StringVar(&f.agent, "agent", "", "`ID` of the agent to call for")
	flags.DurationVar(&f.timeout, "timeout", defaultCallTimeout, "how long to wait")
	flags.BoolVar(&f.json, "json", false, "print the whole result as JSON")
	flags.BoolVar(&f.progress, "progress", false, "show interim results and questions also where standard error is no terminal")
	return cmd
}

func (a *app) call(ctx context.Context, plugin, tool string, f callFlags) error {
	params, err := a.readObject(paramsFlag, f.params)
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
	req := v1.CallRequest{Params: params, Context: v1.CallContext{AgentID: f.agent}, TimeoutMillis: max(1, f.timeout.Milliseconds())}
	var result v1.CallResult
	if f.progress || a.env.IsTerminal(a.env.Stderr) {
		canAsk := f.params != "-" && a.env.IsTerminal(a.env.Stdin)
		result, err = a.watchCall(ctx, c, canAsk, func(w client.Watch) (v1.CallResult, error) {
			return c.Stream(ctx, a.tenant, plugin, tool, req, w)
		})
	} else {
		result, err = c.Call(ctx, a.tenant, plugin, tool, req)
	}
	if err != nil {
		return retryable(err)
	}
	for _, change := range result.Changes {
		fmt.Fprintf(a.env.Stderr, "ocmt: changed by a hook of %s\n", clean(changeText(change)))
	}
	return a.printResult(result.Result, f.json)
}

// retryable says with a call's error that the same call may well succeed soon.
func retryable(err error) error {
	f := fault.Of(err)
	if !f.Retryable || f.Code == "daemon_unreachable" || strings.Contains(f.Hint, "try again") {
		return err
	}
	advice := "try again in a moment"
	if errors.Is(f.Class(), fault.ErrPlugin) { // it had begun
		advice += ", if it may be done twice"
	}
	if f.Hint != "" {
		advice += "; " + f.Hint
	}
	told := *f
	told.Hint = advice
	return &told
}

func (a *app) printResult(result json.RawMessage, whole bool) error {
	if text, ok := resultText(result); ok && !whole {
		return a.print(func(w io.Writer) error {
			_, err := fmt.Fprintln(w, strings.TrimSuffix(text, "\n"))
			return err
		})
	}
	return a.printJSON(result)
}

// checkTimeout refuses a --timeout that no call may have.
func checkTimeout(cmd *cobra.Command, timeout time.Duration) error {
	if timeout <= 0 || timeout > maxCallTimeout {
		return usage(cmd, "--timeout %s is not between 0 and %s", timeout, maxCallTimeout)
	}
	return nil
}

// objectFlag is a flag whose value means a JSON object.
type objectFlag struct {
	name string
	noun string // what it is to a person,
	is   string // with its verb
}

var (
	paramsFlag  = objectFlag{"params", "parameters", "are"}
	payloadFlag = objectFlag{"payload", "payload", "is"}
)

// readObject returns the JSON object that the value of a flag means.
func (a *app) readObject(f objectFlag, value string) (json.RawMessage, error) {
	text, err := a.readSource(value)
	if err != nil {
		return nil, fault.New(openClass(err), "unreadable_"+f.name, "cannot read the %s: %w", f.noun, err)
	}
	if len(text) > v1.MaxCallBody {
		return nil, fault.New(errdefs.ErrInvalidArgument, f.name+"_too_large", "the %s %s larger than %s", f.noun, f.is, byteSize(v1.MaxCallBody))
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		return nil, notAnObject(f, text, err)
	}
	return text, nil
}

func notAnObject(f objectFlag, text []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		before := text[:min(max(0, int(syntax.Offset)-1), len(text))]
		line := 1 + bytes.Count(before, []byte("\n"))
		column := len(before) - bytes.LastIndexByte(before, '\n')
		return fault.New(errdefs.ErrInvalidArgument, "invalid_"+f.name, "the %s %s no JSON: line %d, column %d: %w", f.noun, f.is, line, column, err)
	}
	return fault.New(errdefs.ErrInvalidArgument, "invalid_"+f.name, "the %s %s no JSON object", f.noun, f.is).
		WithHint(`for example: --%s '{"query":"openclaw"}'`, f.name)
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
