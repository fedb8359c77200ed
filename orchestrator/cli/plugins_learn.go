package cli

import (
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
	maxLearnTime  = 24 * time.Hour   // the API's own
	learnInterval = time.Second      // between looks at what was wished
	learnEndTime  = 60 * time.Second // to switch learn mode off
)

// learnFlags are the flags of learn.
type learnFlags struct {
	forTime time.Duration
	ask     bool
	output  string
	stop    bool
}

func (a *app) learnCommand() *cobra.Command {
	var f learnFlags
	cmd := &cobra.Command{
		Use:   "learn ID",
		Short: "Find out what permissions a plugin needs",
		Long: `Find out what permissions a plugin needs. It is restarted in learn mode: nothing more
is allowed than before, and all that it tries and is not granted is shown and noted:
connections, parts of the configuration, variables, hooks. Files are not: what it does
not have it cannot see.

Use the plugin meanwhile. At the end, when you interrupt or after --for, learn mode is
switched off, and the smallest permission manifest that covers it all is printed, to
edit and to approve with "ocmt plugins grant ID --manifest FILE". A plugin that gives up
at the first refusal shows more with --ask, where you allow one thing after the other.`,
		Example: `  ocmt plugins learn my-plugin --for 10m --output permissions.json
  ocmt plugins learn my-plugin --ask
  ocmt plugins learn my-plugin --stop`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkLearn(cmd, f); err != nil {
				return err
			}
			return a.withClient(func(c *client.Client) error {
				l := &learner{app: a, client: c, ref: args[0], flags: f, seen: map[string]bool{}}
				if f.stop {
					return l.end(cmd.Context())
				}
				return l.run(cmd.Context())
			})
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.forTime, "for", time.Hour, "end by itself after a `TIME`")
	flags.BoolVar(&f.ask, "ask", false, "ask about each thing that it tries: allow it for this run, grant it, or deny it")
	flags.StringVar(&f.output, "output", "", "write the manifest to a `FILE` (default standard output)")
	flags.BoolVar(&f.stop, "stop", false, "only switch learn mode off, and show what it found out")
	return cmd
}

func (a *app) checkLearn(cmd *cobra.Command, f learnFlags) error {
	switch {
	case f.stop && (f.ask || cmd.Flags().Changed("for")):
		return usage(cmd, "--stop goes with --output only")
	case f.forTime < time.Second || f.forTime > maxLearnTime:
		return usage(cmd, "--for %s is not between 1s and %s", f.forTime, maxLearnTime)
	case f.ask && !a.env.IsTerminal(a.env.Stdin):
		return fault.New(errdefs.ErrPermissionDenied, "refused", "--ask cannot ask: standard input is no terminal").
			WithHint("leave out --ask: then all is noted, and nothing is allowed")
	}
	return nil
}

// learner watches a plugin in learn mode.
type learner struct {
	app    *app
	client *client.Client
	ref    string
	flags  learnFlags
	seen   map[string]bool // wishes that were shown
}

// run switches learn mode on and shows what is wished, until ctx or learn mode
// ends. Then it is switched off.
func (l *learner) run(ctx context.Context) error {
	state, err := l.client.Learn(ctx, l.app.tenant, l.ref, v1.LearnRequest{On: true, ForSeconds: int64(l.flags.forTime / time.Second)})
	if err != nil && ctx.Err() != nil { // it may be on all the same
		_, off := l.off(ctx)
		return errors.Join(err, off)
	}
	if err != nil {
		return err
	}
	l.say("%s is in learn mode for %s, or until you interrupt. Use it now: what it tries and is not granted is shown here.", l.ref, l.flags.forTime)
	tick := time.NewTicker(learnInterval)
	defer tick.Stop()
	for state.On && ctx.Err() == nil {
		l.show(ctx, state.Wishes)
		select {
		case <-tick.C:
			if state, err = l.client.Learning(ctx, l.app.tenant, l.ref); err != nil && ctx.Err() == nil {
				return err // learn mode ends with the daemon
			}
		case <-ctx.Done():
		}
	}
	return l.end(ctx)
}

// off switches learn mode off, also after an interrupt.
func (l *learner) off(ctx context.Context) (v1.Learning, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), learnEndTime)
	defer cancel()
	return l.client.Learn(ctx, l.app.tenant, l.ref, v1.LearnRequest{})
}

// end switches learn mode off and gives out the manifest.
func (l *learner) end(ctx context.Context) error {
	state, err := l.off(ctx)
	if err != nil {
		return err
	}
	if state.Since == nil {
		return fault.New(errdefs.ErrFailedPrecondition, "never_learned", "%s was not in learn mode", l.ref).
			WithHint("switch it on: ocmt plugins learn %s", l.ref)
	}
	for _, w := range l.unseen(state.Wishes) {
		l.print(w)
	}
	tried := "nothing"
	if len(state.Wishes) > 0 {
		tried = count(len(state.Wishes), "thing")
	}
	l.say("Learn mode is off. %s tried %s that it was not granted.", l.ref, tried)
	return l.giveOut(state.Manifest)
}

// giveOut writes the manifest to where it was asked for. One that cannot be
// written there is printed.
func (l *learner) giveOut(manifest json.RawMessage) (failed error) {
	if len(manifest) == 0 {
		return nil
	}
	text := strings.Join(jsonLines(manifest), "\n") + "\n"
	file := l.flags.output
	if file != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			failed = fault.New(errdefs.ErrFailedPrecondition, "not_written", "cannot write the manifest, which is printed instead: %w", err)
		}
	}
	if file == "" || failed != nil {
		file = "FILE"
		if err := l.app.print(func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
			return err
		}
	}
	l.say("The manifest covers it all. Take out what %s should not have, and approve the rest:", l.ref)
	fmt.Fprintf(l.app.env.Stderr, "      %s\n", clean(forTenant("ocmt plugins grant "+l.ref+" --manifest "+file, l.app.tenant)))
	return failed
}
