package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

func (a *app) secretsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "secrets",
		Aliases: []string{"secret"},
		Short:   "Keep API keys and the like from the plugins that use them",
		Long: `Keep API keys and the like from the plugins that use them. A plugin that is granted
a secret gets a placeholder; on the way to the secret's host it is replaced by the
value, in the header or query parameter that the secret names and nowhere else. The
values are kept encrypted, and no command shows them.`,
		Example: `  ocmt secrets set EXAMPLE_KEY --host api.example.com --header X-Api-Key < key.txt
  ocmt plugins grant my-plugin secret EXAMPLE_KEY
  ocmt secrets list`,
	}, a.secretsSetCommand(), a.secretsListCommand(), a.secretsRemoveCommand(), a.secretsMoveCommand(), a.secretsRotateCommand())
}

func (a *app) secretsListCommand() *cobra.Command {
	var r reads
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the secrets of a tenant, without their values",
		Example: `  ocmt secrets list
  ocmt secrets list --tenant acme --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(func(c *client.Client) error {
				secrets, err := c.Secrets(cmd.Context(), a.tenant)
				if err != nil {
					return err
				}
				if r.json {
					return a.printJSON(secrets)
				}
				return printSecrets(cmd, secrets)
			})
		},
	}
	r.addJSON(cmd)
	return cmd
}

// withClient does something with a client of the daemon.
func (a *app) withClient(do func(*client.Client) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

func printSecrets(cmd *cobra.Command, secrets []v1.Secret) error {
	if len(secrets) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "there are no secrets")
		return nil
	}
	rows := [][]string{{"NAME", "SENT TO", "IN", "IN PLAIN", "GRANTED TO", "SET", "BY"}}
	for _, s := range secrets {
		plain := "never"
		if s.Env {
			plain = "if granted"
		}
		rows = append(rows, []string{
			s.Name, orDash(secretHost(s)), orDash(secretPlace(s)), plain, orDash(shorten(strings.Join(s.Plugins, ", "), maxCell)), instant(s.UpdatedAt), orDash(s.Actor),
		})
	}
	return table(cmd, rows)
}

func secretHost(s v1.Secret) string {
	if s.Host == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", s.Host, s.Port)
}

// secretPlace is where in a request a secret is sent.
func secretPlace(s v1.Secret) string {
	switch {
	case s.Header != "":
		return "header " + s.Header
	case s.Query != "":
		return "query " + s.Query
	}
	return ""
}

// secretText says what a secret is for.
func secretText(s v1.Secret) string {
	var uses []string
	if s.Host != "" {
		uses = append(uses, fmt.Sprintf("it is sent to %s in the %s", secretHost(s), secretPlace(s)))
	}
	if s.Env {
		uses = append(uses, "it may be granted in plain, as an environment variable")
	}
	return strings.Join(uses, "; ")
}

func (a *app) secretsRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"remove", "delete"},
		Short:   "Forget a secret",
		Long: `Forget a secret. Plugins that it is granted to go on without it: their placeholder
is not replaced any more.`,
		Example: `  ocmt secrets rm EXAMPLE_KEY`,
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(func(c *client.Client) error {
				if err := c.RemoveSecret(cmd.Context(), a.tenant, args[0]); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Removed %s\n", clean(args[0]))
				return nil
			})
		},
	}
}

func (a *app) secretsRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Encrypt the secrets of all tenants with a new key",
		Long: `Encrypt the secrets of all tenants with a new key. Their values stay: to replace
one, set it again.`,
		Example: `  ocmt secrets rotate`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(func(c *client.Client) error {
				if err := c.RotateSecrets(cmd.Context()); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "The secrets of all tenants are encrypted with a new key")
				return nil
			})
		},
	}
}
