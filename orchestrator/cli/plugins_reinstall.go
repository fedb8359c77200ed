package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// reinstallFlags are the flags of reinstall.
type reinstallFlags struct {
	yes, accept, json bool
}

func (a *app) reinstallCommand() *cobra.Command {
	var f reinstallFlags
	cmd := &cobra.Command{
		Use:   "reinstall ID",
		Short: "Get an installed plugin again and put its files back",
		Long: `Get an installed plugin again and put its sealed files back, whatever its state:
the way out of quarantine when the payload was altered, and of a broken install.
Its state, configuration and permissions stay.

Of npm it is the installed version, and nothing else: if the registry now serves
other bytes under that version, it is refused. A directory or an archive is
packed again from where it was installed from, on this machine. If its files are
others than before, the plugin is loaded and reviewed as by "install", and for an
archive you are asked first; --yes skips that. If anything fails, the plugin
stays as it was.`,
		Example: `  ocmt plugins reinstall @openclaw/kitchen-sink`,
		Args:    exactly("ID"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.reinstall(cmd.Context(), args[0], f) },
	}
	cmd.Flags().BoolVar(&f.yes, "yes", false, "of an archive: skip the security warning and its question")
	cmd.Flags().BoolVar(&f.accept, "accept-permissions", false, "grant all that other files ask for and that can be granted with an install")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON, and no progress")
	return cmd
}

func (a *app) reinstall(ctx context.Context, ref string, f reinstallFlags) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	before, err := c.Plugin(ctx, a.tenant, ref)
	if err != nil {
		return err
	}
	from, err := originOf(before.Plugin)
	if err != nil {
		return err
	}
	canAsk := a.env.IsTerminal(a.env.Stdin)
	if from.source == plugin.SourceArchive && !f.yes {
		if !canAsk {
			return cannotAsk(from)
		}
		if err := a.confirm(ctx, from); err != nil {
			return err
		}
	}
	p := newProgress(a.env.Stderr, a.env.IsTerminal(a.env.Stderr), f.json)
	detail, err := a.uploadAndReinstall(ctx, c, before.ID, from, acceptance(f.accept, canAsk), p)
	p.finish()
	if err != nil {
		return err
	}
	files := "the same files"
	if detail.Digest != before.Digest {
		files = "other files than before"
		a.sayPending(ctx, c, detail, !canAsk)
	}
	if f.json {
		return a.printJSON(detail)
	}
	fmt.Fprintf(a.env.Stdout, "reinstalled %s %s: %s, %s\n", clean(detail.ID), clean(detail.Version), files, clean(detail.State))
	return nil
}

func (a *app) uploadAndReinstall(ctx context.Context, c *client.Client, id string, from origin, accept string, p *progress) (v1.PluginDetail, error) {
	req := v1.ReinstallRequest{Confirmed: plugin.NeedsConfirmation(from.source), Accept: accept}
	var err error
	if req.Upload, err = a.upload(ctx, c, from, p); err != nil {
		return v1.PluginDetail{}, err
	}
	return c.Reinstall(ctx, a.tenant, id, req, p.show, a.reviewer(p))
}

// originOf is where a plugin was installed from. What is no package of npm must
// be there on this machine: whose files they are, the daemon finds out.
func originOf(p v1.Plugin) (origin, error) {
	from := origin{source: plugin.Source(p.Source), spec: p.Spec, path: p.Spec}
	if from.source == plugin.SourceNPM {
		return from, nil
	}
	info, err := os.Stat(p.Spec)
	if filepath.IsAbs(p.Spec) && err == nil && info.IsDir() == (from.source == plugin.SourcePath) {
		return from, nil
	}
	return origin{}, fault.New(errdefs.ErrNotFound, "origin_not_here", "%s was installed from %s, which is not on this machine", p.ID, p.Spec).
		WithHint("put it back there, or install from where it is now: ocmt plugins uninstall %s --keep-state, then ocmt plugins install SPEC", p.ID)
}
