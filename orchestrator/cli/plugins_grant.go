package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

const maxGrantTime = 365 * 24 * time.Hour // the API's own

// kindsHelp says how each kind of permission is written.
const kindsHelp = `    network HOST:PORT [plaintext] [addresses=RANGE,RANGE] [rules=REQUEST...]
                             connections to a host; "*." stands for one label;
                             REQUEST is as in 'GET /v1/*', and inspected
    workspace ro|rw PATH     a directory, at its own path
    secret NAME              a secret
    env NAME                 a variable of the host's environment
    config PATH              a part of config.json: agents.defaults.model
    hook EVENT [RIGHTS]      of observe, modify, block and claim; all if absent
    host METHOD              a call to the agent host: emit
    resource NAME SIZE       memory, cpus, pids or state: memory 512MiB
    registration KIND:NAME   something that it registers: tool:search`

// negative matches what is said of a negative number, which is read as a flag.
var negative = regexp.MustCompile(` in (-[0-9].*)$`)

func (a *app) grantCommand() *cobra.Command {
	var words grantWords
	var manifest manifestGrant
	var forTime time.Duration
	cmd := &cobra.Command{
		Use:   "grant ID KIND WORDS...",
		Short: "Allow a plugin something",
		Long: `Allow a plugin something. KIND and WORDS say what:

` + kindsHelp + `

Connections and hooks are in force at once; for the others a plugin that runs is
restarted. "ocmt plugins permissions ID" shows what it asks for, and the command.

With --manifest it is all that a permission manifest asks for, such as the one that
"ocmt plugins learn" writes: it is shown, and granted as a whole or not at all.`,
		Example: `  ocmt plugins grant my-plugin network api.example.com:443
  ocmt plugins grant my-plugin network db.internal:5432 plaintext addresses=10.1.0.0/16 --for 1h
  ocmt plugins grant my-plugin workspace rw ./project
  ocmt plugins grant my-plugin hook before_tool_call observe,block
  ocmt plugins grant my-plugin --manifest permissions.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if manifest.file != "" {
				return exactly("ID")(cmd, args)
			}
			return wordsOf("ID", "KIND")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if manifest.file != "" {
				return a.grantManifest(cmd, args[0], manifest)
			}
			p, err := words.grant(cmd, args[1:])
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("for") && (forTime < time.Second || forTime > maxGrantTime) {
				return usage(cmd, "--for %s is not between 1s and %s", forTime, maxGrantTime)
			}
			return a.putGrant(cmd, args[0], v1.GrantRequest{
				Kind: p.kind, Target: p.target, Value: p.value, ForSeconds: int64(forTime / time.Second)})
		},
	}
	words.addFlags(cmd)
	manifest.addFlags(cmd)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if number := negative.FindStringSubmatch(err.Error()); number != nil {
			return usage(cmd, "%s is negative", number[1])
		}
		return usage(cmd, "%v", err)
	})
	cmd.Flags().DurationVar(&forTime, "for", 0, "end it by itself after a `TIME` such as 1h (default never)")
	return cmd
}

func (a *app) revokeCommand() *cobra.Command {
	var words grantWords
	cmd := &cobra.Command{
		Use:   "revoke ID KIND WORDS...",
		Short: "Take back what a plugin was granted",
		Long: `Take back what a plugin was granted. KIND and WORDS are those of the grant; how it
was granted, its rights or its size, can be left out:

` + kindsHelp + `

Connections end at once, and hooks are not called any more; for the others a
plugin that runs is restarted.`,
		Example: `  ocmt plugins revoke my-plugin network api.example.com:443
  ocmt plugins revoke my-plugin workspace ./project
  ocmt plugins revoke my-plugin hook before_tool_call`,
		Args: wordsOf("ID", "KIND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := words.revoke(cmd, args[1:])
			if err != nil {
				return err
			}
			return a.takeGrant(cmd, args[0], v1.RevokeRequest{Kind: p.kind, Target: p.target})
		},
	}
	words.addFlags(cmd)
	return cmd
}

// wordsOf asks for at least as many arguments as there are names.
func wordsOf(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage(cmd, "%s is missing", names[len(args)])
		}
		return nil
	}
}

// putGrant grants and says what is in force now.
func (a *app) putGrant(cmd *cobra.Command, ref string, req v1.GrantRequest) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	result, err := c.Grant(cmd.Context(), a.tenant, ref, req)
	if err != nil {
		return err
	}
	printGrant(cmd, "Granted to", ref, result.Permission)
	after, err := c.Permissions(cmd.Context(), a.tenant, ref)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	isIt := func(p v1.Permission) bool {
		return p.Kind == result.Permission.Kind && p.Target == result.Permission.Target
	}
	if slices.ContainsFunc(after.Narrowed, isIt) {
		fmt.Fprintln(out, "  Not in force in full: config.json switches some or all of it off.")
		return nil
	}
	until := ""
	if result.Permission.ExpiresAt != nil {
		until = " until " + instant(*result.Permission.ExpiresAt)
	}
	fmt.Fprintf(out, "  In force now%s; %s.\n", until, restartText(result.Restarted))
	return a.noteUnused(cmd, c, ref, result.Permission)
}

// noteUnused says when a plugin has nothing that a grant is for: the name may
// be mistyped.
func (a *app) noteUnused(cmd *cobra.Command, c *client.Client, ref string, granted v1.Permission) error {
	kind, name := granted.Kind, granted.Target
	if kind == kindRegistration {
		kind, name, _ = strings.Cut(granted.Target, ":")
	} else if kind != kindHook {
		return nil
	}
	p, err := c.Plugin(cmd.Context(), a.tenant, ref)
	if err != nil {
		return err
	}
	if slices.Contains(p.Registrations, v1.Registration{Kind: kind, Name: name}) ||
		kind == "tool" && slices.ContainsFunc(p.ToolList, func(t v1.Tool) bool { return t.Name == name }) {
		return nil
	}
	fmt.Fprintf(cmd.OutOrStdout(), "  It changes nothing yet: %s registers no %s %s.\n", clean(p.ID), clean(kind), clean(name))
	return nil
}

// takeGrant revokes and says so.
func (a *app) takeGrant(cmd *cobra.Command, ref string, req v1.RevokeRequest) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	result, err := c.Revoke(cmd.Context(), a.tenant, ref, req)
	if err != nil {
		return err
	}
	printGrant(cmd, "Taken back from", ref, result.Permission)
	fmt.Fprintf(cmd.OutOrStdout(), "  No longer in force; %s.\n", restartText(result.Restarted))
	return nil
}

func printGrant(cmd *cobra.Command, done, ref string, p v1.Permission) {
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s\n", done, clean(ref), clean(nameOf(p)))
	for _, line := range wrap(p.Sentence, textWidth-2) {
		fmt.Fprintf(cmd.OutOrStdout(), "  %s\n", clean(line))
	}
}

func restartText(restarted bool) string {
	if restarted {
		return "the plugin was restarted for it"
	}
	return "that took no restart"
}
