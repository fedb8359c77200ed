package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

const maxTokenTime = 10 * 365 * 24 * time.Hour // the API's own

func (a *app) tokensCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "tokens",
		Aliases: []string{"token"},
		Short:   "Manage the tokens of callers over TLS",
		Long: `Manage the tokens of callers over TLS, for a daemon that runs with --listen. A token
is for reading and calling in one tenant, or for everything.`,
		Example: `  ocmt tokens create --name ci --expires 30d
  ocmt tokens list -A
  ocmt tokens revoke TOKEN-ID`,
	}, a.tokensCreateCommand(), a.tokensListCommand(), a.tokensRevokeCommand())
}

func (a *app) tokensCreateCommand() *cobra.Command {
	var r reads
	var admin bool
	var req v1.CreateTokenRequest
	var expires string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it, this once",
		Long: `Make a token and print it, this once: only its hash is kept. Who has it may read and
call in the tenant, as on the tenant's call socket; with --admin, do everything.`,
		Example: `  ocmt tokens create --tenant acme --name "acme's gateway" > token
  ocmt tokens create --admin --expires 12h`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			req.Access, req.Tenant = v1.TokenCall, a.tenant
			if admin {
				req.Access, req.Tenant = v1.TokenAdmin, ""
				if cmd.Flags().Changed("tenant") {
					return usage(cmd, "a token with --admin is of all tenants: leave out --tenant")
				}
			}
			if cmd.Flags().Changed("expires") {
				after, err := parseDays(expires)
				if err != nil || after < time.Second || after > maxTokenTime {
					return usage(cmd, "--expires %q is no time between 1s and 3650d, such as 30d or 12h", expires)
				}
				req.ForSeconds = int64(after / time.Second)
			}
			return a.createToken(cmd, req, r.json)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&admin, "admin", false, "let it do everything, in all tenants")
	flags.StringVar(&req.Name, "name", "", "`TEXT` to tell it by")
	flags.StringVar(&expires, "expires", "", "end it after a `TIME` such as 30d or 12h (default never)")
	r.addJSON(cmd)
	return cmd
}

// createToken prints the token alone to standard output, so that it can be
// caught.
func (a *app) createToken(cmd *cobra.Command, req v1.CreateTokenRequest, asJSON bool) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	made, err := c.CreateToken(cmd.Context(), req)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(made)
	}
	fmt.Fprintln(cmd.OutOrStdout(), made.Secret)
	reach, ends := "everything", "until it is revoked"
	if made.Access == v1.TokenCall {
		reach = "reading and calling in tenant " + made.Tenant
	}
	if made.ExpiresAt != nil {
		ends = "until " + instant(*made.ExpiresAt)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Keep it: it is not shown again. It is for %s, %s.\nEnd it with: ocmt tokens revoke %s\n",
		clean(reach), ends, clean(made.ID))
	return nil
}

// parseDays reads a duration, which may be a number of days: 30d.
func parseDays(text string) (time.Duration, error) {
	number, ok := strings.CutSuffix(text, "d")
	if !ok {
		return time.ParseDuration(text)
	}
	days, err := strconv.ParseUint(number, 10, 16)
	return time.Duration(days) * 24 * time.Hour, err
}

func (a *app) tokensListCommand() *cobra.Command {
	return lists(a, &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the tokens that reach a tenant",
		Long: `List the tokens that reach a tenant: its own, and those that may do everything. When
one was used last is noted at most once a minute.`,
		Example: `  ocmt tokens list
  ocmt tokens list -A --json`,
	}, (*client.Client).Tokens, printTokens)
}

func printTokens(cmd *cobra.Command, tokens []v1.Token, _ bool) error {
	if len(tokens) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "there are no tokens")
		return nil
	}
	rows := [][]string{{"ID", "NAME", "ACCESS", "TENANT", "CREATED", "BY", "EXPIRES", "LAST USED"}}
	for _, t := range tokens {
		tenant := t.Tenant
		if t.Access == v1.TokenAdmin {
			tenant = "all"
		}
		expires := orNever(t.ExpiresAt)
		if t.ExpiresAt != nil && !time.Now().Before(*t.ExpiresAt) {
			expires = "expired"
		}
		rows = append(rows, []string{
			t.ID, orDash(t.Name), t.Access, tenant, instant(t.CreatedAt), orDash(t.CreatedBy), expires, orNever(t.LastUsedAt),
		})
	}
	return table(cmd, rows)
}

func orNever(at *time.Time) string {
	if at == nil {
		return "never"
	}
	return instant(*at)
}

func (a *app) tokensRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "End a token at once",
		Long: `End a token at once: requests with it are refused, and those under way are cut off.
ID is that of "ocmt tokens list", not the token.`,
		Example: `  ocmt tokens revoke k2m7qz4w9xac`,
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			token, err := c.RevokeToken(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			text := token.ID
			if token.Name != "" {
				text += " (" + token.Name + ")"
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Revoked", clean(text))
			return nil
		},
	}
}
