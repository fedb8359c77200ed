package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// manifestGrant are the flags of a grant of a whole manifest.
type manifestGrant struct {
	file string
	yes  bool
}

func (m *manifestGrant) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.file, "manifest", "", "grant all that the permission manifest in `FILE` asks for")
	cmd.Flags().BoolVar(&m.yes, "yes", false, "of --manifest: do not ask")
}

// grantManifest shows what a manifest grants, asks a person, and grants it.
func (a *app) grantManifest(cmd *cobra.Command, ref string, m manifestGrant) error {
	for _, name := range []string{"for", "plaintext", "addresses", "rule"} {
		if cmd.Flags().Changed(name) {
			return usage(cmd, "--%s does not go with --manifest", name)
		}
	}
	text, err := readManifest(m.file)
	if err != nil {
		return err
	}
	return a.withClient(func(c *client.Client) error {
		shown, err := c.GrantManifest(cmd.Context(), a.tenant, ref, v1.ManifestRequest{Manifest: text, DryRun: true})
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		printManifest(out, ref, shown)
		if len(shown.Permissions) == 0 {
			return nil
		}
		if !m.yes {
			if err := a.confirmManifest(cmd.Context(), ref); err != nil {
				return err
			}
		}
		done, err := c.GrantManifest(cmd.Context(), a.tenant, ref, v1.ManifestRequest{Manifest: text})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "Granted %s to %s; %s.\n", count(len(done.Permissions), "permission"), clean(ref), restartText(done.Restarted))
		return nil
	})
}

// readManifest reads a manifest and refuses what no daemon would take.
func readManifest(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.New(errdefs.ErrNotFound, "no_file", "cannot read the manifest: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, plugin.MaxPermissionFile+1))
	if err == nil && len(text) > plugin.MaxPermissionFile {
		err = fmt.Errorf("it has more than %d bytes", plugin.MaxPermissionFile)
	}
	if err != nil {
		return nil, fault.New(errdefs.ErrInvalidArgument, "bad_permissions", "cannot read the manifest %s: %w", file, err)
	}
	_, _, err = plugin.ReadPermissions(text)
	var bad *plugin.PermissionError
	if errors.As(err, &bad) {
		return nil, fault.New(errdefs.ErrInvalidArgument, "bad_permissions", "cannot use the manifest %s: %s", file, bad.Error()).WithHint("%s", bad.Hint)
	}
	return text, err
}

func printManifest(w io.Writer, ref string, shown v1.ManifestResult) {
	if len(shown.Permissions) == 0 {
		fmt.Fprintf(w, "The manifest grants nothing to %s.\n", clean(ref))
	} else {
		fmt.Fprintf(w, "The manifest grants to %s:\n", clean(ref))
		for _, g := range groups(shown.Permissions) {
			mark := "  - "
			if g[0].Sensitive {
				mark = "  ! "
			}
			printItem(w, mark, g.text())
		}
	}
	if len(shown.Left) > 0 {
		fmt.Fprintln(w, "It asks for this too, without saying which: grant it by itself:")
		printEach(w, shown.Left)
	}
}

func (a *app) confirmManifest(ctx context.Context, ref string) error {
	if !a.env.IsTerminal(a.env.Stdin) {
		return fault.New(errdefs.ErrPermissionDenied, "refused", "cannot ask whether to grant this to %s: standard input is no terminal", ref).
			WithHint("pass --yes if you want to")
	}
	fmt.Fprintf(a.env.Stderr, "Grant this to %s? [y/N] ", clean(ref))
	line, ok := a.stdin.next(ctx, a.env.Stdin)
	if !ok {
		fmt.Fprintln(a.env.Stderr)
	}
	if answerOf(line) != "y" {
		return fault.New(errdefs.ErrPermissionDenied, "refused", "the manifest was not confirmed; nothing was granted")
	}
	return nil
}
