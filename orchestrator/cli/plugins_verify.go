package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) verifyCommand() *cobra.Command {
	var r reads
	cmd := &cobra.Command{
		Use:   "verify ID",
		Short: "Read a plugin's sealed payload again and compare it",
		Long: `Read a plugin's sealed payload again and compare it with the digest that was
recorded when it was installed. The exit code is 1 if they differ.`,
		Example: `  ocmt plugins verify @openclaw/kitchen-sink`,
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			v, err := c.Verify(cmd.Context(), a.tenant, args[0])
			if err != nil {
				return err
			}
			if r.json {
				return a.printJSON(v)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is unchanged: %s (%s, %s in %.1f ms)\n",
				clean(args[0]), clean(v.Digest), clean(v.Form), byteSize(v.Size), v.Millis)
			return nil
		},
	}
	r.addJSON(cmd)
	return cmd
}
