package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func (a *app) secretsSetCommand() *cobra.Command {
	var words useWords
	var file string
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Make a secret, or replace it",
		Long: `Make a secret, or replace it with all that it is for. The value is asked for, or
read from standard input if that is no terminal, or from a file; it is never an
argument, which other users of the host could see. One line end after it is left out.

Say where it is sent: --host, with the --header or the --query parameter that
carries it. A secret that a plugin has to have itself, since it signs with it or
speaks no HTTP, takes --env: then it can be granted in plain.`,
		Example: `  ocmt secrets set EXAMPLE_KEY --host api.example.com --header X-Api-Key
  ocmt secrets set MAPS_KEY --host maps.example.com:8443 --query key --file key.txt
  pass show db | ocmt secrets set DB_PASSWORD --env`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			use, err := words.read(cmd)
			if err != nil {
				return err
			}
			if err := checkSecretName(args[0]); err != nil {
				return err
			}
			value, err := a.secretValue(cmd.Context(), args[0], file)
			if err != nil {
				return err
			}
			return a.setSecret(cmd, args[0], v1.SetSecret{Value: value, SecretUse: use})
		},
	}
	words.addFlags(cmd)
	cmd.Flags().StringVar(&file, "file", "", "read the value from a `FILE`")
	return cmd
}

func (a *app) setSecret(cmd *cobra.Command, name string, req v1.SetSecret) error {
	return a.withClient(func(c *client.Client) error {
		s, err := c.SetSecret(cmd.Context(), a.tenant, name, req)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Set %s: %s\n", clean(s.Name), clean(secretText(s)))
		if len(s.Plugins) == 0 {
			fmt.Fprintf(cmd.OutOrStdout(), "No plugin has it yet; to grant it: %s\n", clean(forTenant("ocmt plugins grant ID secret "+s.Name, a.tenant)))
		}
		return nil
	})
}

func (a *app) secretsMoveCommand() *cobra.Command {
	var words useWords
	cmd := &cobra.Command{
		Use:   "move PLUGIN PATH NAME",
		Short: "Make a secret of a key in a plugin's configuration",
		Long: `Make a secret of a key that stands in a plugin's own configuration in config.json:
a reference takes its place, and the plugin is granted the secret. PATH is the dot
path of the key in that configuration.`,
		Example: `  ocmt secrets move my-plugin auth.apiKey EXAMPLE_KEY --host api.example.com --header X-Api-Key`,
		Args:    exactly("PLUGIN", "PATH", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			use, err := words.read(cmd)
			if err != nil {
				return err
			}
			if err := checkSecretName(args[2]); err != nil {
				return err
			}
			return a.withClient(func(c *client.Client) error {
				s, err := c.MoveSecret(cmd.Context(), a.tenant, args[0], v1.MoveSecret{Path: args[1], Name: args[2], SecretUse: use})
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Moved %s of %s to %s, and left a reference: %s\n", clean(args[1]), clean(args[0]), clean(s.Name), clean(secretText(s)))
				return nil
			})
		},
	}
	words.addFlags(cmd)
	return cmd
}

// useWords are the flags that say what a secret is for.
type useWords struct {
	host, header, query string
	env                 bool
}

func (u *useWords) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&u.host, "host", "", "send it to `HOST[:PORT]`; the port is 443 if absent, \"*.\" stands for one label")
	flags.StringVar(&u.header, "header", "", "send it in the header `NAME`, as in X-Api-Key or Authorization")
	flags.StringVar(&u.query, "query", "", "send it in the query parameter `NAME`")
	flags.BoolVar(&u.env, "env", false, "let it be granted in plain, as an environment variable")
}

// read refuses what no secret can be for.
func (u *useWords) read(cmd *cobra.Command) (v1.SecretUse, error) {
	use := v1.SecretUse{Header: u.header, Query: u.query, Env: u.env}
	switch {
	case u.header != "" && u.query != "":
		return use, usage(cmd, "--header and --query do not go together: a secret has one place in a request")
	case u.host == "" && (u.header != "" || u.query != ""):
		return use, usage(cmd, "--host is missing: it says where the request with the secret may go")
	case u.host == "" && !u.env:
		return use, usage(cmd, "it is not said what the secret is for: write --host HOST with --header or --query, or --env")
	case u.host == "":
		return use, nil
	case u.header == "" && u.query == "":
		return use, usage(cmd, "it is not said what carries the secret: write --header X-Api-Key, --header Authorization or --query key, whichever %s reads it from", plugin.Printable(u.host, 100))
	}
	var err error
	use.Host, use.Port, err = readSecretHost(cmd, u.host)
	return use, err
}

func readSecretHost(cmd *cobra.Command, text string) (host string, port uint16, err error) {
	name, number, hasPort := strings.Cut(text, ":")
	if hasPort && !strings.Contains(text, "://") {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			return "", 0, usage(cmd, "--host %q is not of the form HOST or HOST:PORT", plugin.Printable(text, 200))
		}
		text, port = name, uint16(n)
	}
	host, err = plugin.CanonicalHost(text)
	var bad *plugin.PermissionError
	if errors.As(err, &bad) {
		return "", 0, fault.New(errdefs.ErrInvalidArgument, "bad_secret", "--host %q %s", plugin.Printable(text, 200), bad.Problem).WithHint("%s", bad.Hint)
	}
	return host, port, err
}

func checkSecretName(name string) error {
	var bad *plugin.PermissionError
	if err := plugin.CheckSecretName(name); errors.As(err, &bad) {
		return fault.New(errdefs.ErrInvalidArgument, "bad_secret", "%q %s", plugin.Printable(name, 200), bad.Problem).WithHint("%s", bad.Hint)
	}
	return nil
}

// secretValue reads the value of a secret: from a file if one is named, from a
// person at a terminal, else from standard input. Of one that is too long it
// reads as much as it takes the daemon to refuse it.
func (a *app) secretValue(ctx context.Context, name, file string) (string, error) {
	if file == "" && a.env.IsTerminal(a.env.Stdin) {
		fmt.Fprintf(a.env.Stderr, "Value of %s, which is not shown: ", clean(name))
		value, err := a.env.ReadHidden(ctx, a.env.Stdin)
		fmt.Fprintln(a.env.Stderr)
		if err != nil {
			return "", fault.New(errdefs.ErrPermissionDenied, "refused", "no value was typed; nothing was changed")
		}
		return value, checkSecretText(value)
	}
	from := a.env.Stdin
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", fault.New(errdefs.ErrNotFound, "no_file", "cannot read the value: %w", err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, v1.MaxSecret+int64(len("\r\n"))+1))
	if err != nil {
		return "", fault.New(errdefs.ErrInvalidArgument, "unreadable", "cannot read the value: %w", err)
	}
	text, lineEnd := bytes.CutSuffix(text, []byte("\n"))
	if lineEnd {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	if len(text) > v1.MaxSecret { // perhaps cut within a character
		return strings.ToValidUTF8(string(text), "?"), nil
	}
	return string(text), checkSecretText(string(text))
}

// checkSecretText refuses what JSON would not carry as it is.
func checkSecretText(value string) error {
	if !utf8.ValidString(value) {
		return fault.New(errdefs.ErrInvalidArgument, "bad_secret", "the value is no text: it is not UTF-8").
			WithHint("encode it, for example: base64 -w0 FILE | ocmt secrets set ...")
	}
	return nil
}
