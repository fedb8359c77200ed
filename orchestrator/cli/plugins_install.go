package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// installFlags are the flags of install.
type installFlags struct {
	yes, accept, pin, link, json bool
}

func (a *app) installCommand() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:     "install SPEC",
		Aliases: []string{"add"},
		Short:   "Install a plugin",
		Long: `Install a plugin. SPEC is an npm package (name, name@version or name@tag), a
directory (an existing one, or a path that starts with ./), or an archive
(.tgz, .tar.gz, .tar). A directory is packed without node_modules and .git.

Before anything of npm or of an archive is fetched, a warning is shown and you
are asked; --yes skips that and nothing else. The plugin is then fetched,
checked, sealed, and loaded once in a container without network, which shows
what it registers. If it asks for what needs a yes, such as hosts and hooks that
read conversations, you are asked again before it counts as installed; where
nobody can be asked, it is installed without that. --accept-permissions answers
yes beforehand. What can be granted only by name is listed by
"ocmt plugins permissions ID".`,
		Example: `  ocmt plugins install @openclaw/kitchen-sink@0.3.0
  ocmt plugins install ./my-plugin --link
  ocmt plugins install my-plugin-1.0.0.tgz --yes`,
		Args: exactly("SPEC"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.install(cmd.Context(), args[0], f) },
	}
	cmd.Flags().BoolVar(&f.yes, "yes", false, "skip the security warning and its question")
	cmd.Flags().BoolVar(&f.accept, "accept-permissions", false, "grant all that the plugin asks for and that can be granted with its install")
	cmd.Flags().BoolVar(&f.pin, "pin", false, "record the exact version as what was asked for")
	cmd.Flags().BoolVar(&f.link, "link", false, "of a directory: pack and install it again at every restart by command")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON, and no progress")
	return cmd
}

func (a *app) install(ctx context.Context, spec string, f installFlags) error {
	from, err := classify(spec)
	if err != nil {
		return err
	}
	if f.link && from.source != plugin.SourcePath {
		return fault.New(errdefs.ErrInvalidArgument, usageCode, "--link needs a directory, and %s is none", spec)
	}
	mustAsk, canAsk := plugin.NeedsConfirmation(from.source) && !f.yes, a.env.IsTerminal(a.env.Stdin)
	if mustAsk && !canAsk {
		return cannotAsk(from)
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Version(ctx); err != nil { // before a person is asked in vain
		return err
	}
	if mustAsk {
		if err := a.confirm(ctx, from); err != nil {
			return err
		}
	}
	p := newProgress(a.env.Stderr, a.env.IsTerminal(a.env.Stderr), f.json)
	detail, err := a.uploadAndInstall(ctx, c, from, v1.InstallRequest{Pin: f.pin, Link: f.link, Accept: acceptance(f.accept, canAsk)}, p)
	p.finish()
	if ctx.Err() != nil && err != nil {
		return fault.New(context.Canceled, "cancelled", "interrupted: what was begun is undone").
			WithHint("had it just been done, `ocmt plugins list` shows it")
	}
	if err != nil {
		return err
	}
	a.sayPending(ctx, c, detail, !canAsk)
	if f.json {
		return a.printJSON(detail)
	}
	fmt.Fprintf(a.env.Stdout, "installed %s %s from %s: %s, %s\n",
		clean(detail.ID), clean(detail.Version), clean(detail.Source), clean(detail.State), count(len(detail.ToolList), "tool"))
	return nil
}

func (a *app) uploadAndInstall(ctx context.Context, c *client.Client, from origin, req v1.InstallRequest, p *progress) (v1.PluginDetail, error) {
	req.Spec, req.Source, req.Confirmed = from.spec, string(from.source), plugin.NeedsConfirmation(from.source)
	var err error
	if req.Upload, err = a.upload(ctx, c, from, p); err != nil {
		return v1.PluginDetail{}, err
	}
	return c.Install(ctx, a.tenant, req, p.show, a.reviewer(p))
}

// upload sends what is installed, and returns its id; npm needs none.
func (a *app) upload(ctx context.Context, c *client.Client, from origin, p *progress) (string, error) {
	if from.source == plugin.SourceNPM {
		return "", nil
	}
	pack, err := from.open(ctx, func(skipped string) { p.warn(skipped) })
	if err != nil {
		return "", err
	}
	defer pack.Close()
	upload, err := c.Upload(ctx, a.tenant, &counted{Reader: pack, show: p.show})
	return upload.ID, err
}

// reviewer asks a person, once the line of the progress is gone.
func (a *app) reviewer(p *progress) client.Review {
	return func(ctx context.Context, review v1.Review) (string, error) {
		p.finish()
		return a.review(ctx, review), nil
	}
}

// acceptance answers the permission review beforehand; "" is to be asked.
func acceptance(all, canAsk bool) string {
	switch {
	case all:
		return v1.AcceptAll
	case canAsk:
		return ""
	}
	return v1.AcceptBasic
}

// origin is what a SPEC means.
type origin struct {
	source plugin.Source
	spec   string // as it is recorded
	path   string // of a directory or an archive
}

// classify says whether spec is a directory, an archive or an npm package.
func classify(spec string) (origin, error) {
	isPath := isPathLike(spec)
	isArchive := hasSuffix(spec, ".tgz", ".tar.gz", ".tar")
	info, err := os.Stat(spec)
	switch {
	case err == nil && info.IsDir():
		return local(plugin.SourcePath, spec)
	case err == nil && isArchive && info.Mode().IsRegular():
		return local(plugin.SourceArchive, spec)
	case hasSuffix(spec, ".zip"):
		return origin{}, fault.New(errdefs.ErrInvalidArgument, "unknown_archive", "cannot install %s: zip archives are not supported", spec).
			WithHint("unpack it and install the directory, or repack it as .tgz")
	case err == nil && isPath:
		return origin{}, fault.New(errdefs.ErrInvalidArgument, "unknown_archive", "%s is neither a directory nor an archive (.tgz, .tar.gz, .tar)", spec)
	case (isPath || isArchive) && os.IsNotExist(err):
		return origin{}, fault.New(errdefs.ErrNotFound, "no_such_path", "there is no file or directory %s", spec).
			WithHint("a path is relative to the directory that you are in")
	case isPath || isArchive:
		return origin{}, fault.New(errdefs.ErrInvalidArgument, "unreadable_path", "cannot read %s: %w", spec, err)
	case strings.TrimSpace(spec) == "":
		return origin{}, fault.New(errdefs.ErrInvalidArgument, usageCode, "SPEC is empty")
	}
	return origin{source: plugin.SourceNPM, spec: spec}, nil
}

func isPathLike(spec string) bool {
	return filepath.IsAbs(spec) || spec == "." || spec == ".." || strings.HasPrefix(spec, "./") || strings.HasPrefix(spec, "../")
}

func hasSuffix(s string, suffixes ...string) bool {
	for _, suffix := range suffixes {
		if strings.HasSuffix(strings.ToLower(s), suffix) {
			return true
		}
	}
	return false
}

func local(source plugin.Source, path string) (origin, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return origin{}, fmt.Errorf("cannot resolve %s: %w", path, err)
	}
	return origin{source: source, spec: abs, path: abs}, nil
}

// open returns what is to be uploaded: an archive as it is, or a directory as
// a tar that is made while it is read.
func (o origin) open(ctx context.Context, skipped func(string)) (io.ReadCloser, error) {
	if o.source == plugin.SourcePath {
		r, w := io.Pipe()
		go func() { w.CloseWithError(packDir(ctx, o.path, w, skipped)) }()
		return r, nil
	}
	f, err := os.Open(o.path)
	if err != nil {
		return nil, fault.New(openClass(err), "unreadable_path", "cannot read the archive: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() > v1.MaxUploadBody {
		err = fault.New(errdefs.ErrInvalidArgument, "upload_too_large", "%s has %s, at most %s can be installed",
			o.path, byteSize(info.Size()), byteSize(v1.MaxUploadBody))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func openClass(err error) error {
	if os.IsNotExist(err) {
		return errdefs.ErrNotFound
	}
	return errdefs.ErrInvalidArgument
}

// counted shows how much of an upload was read.
type counted struct {
	io.Reader
	show func(v1.Progress)
	read int64
}

// Read reads and shows.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += int64(n)
	c.show(v1.Progress{Stage: "upload", Done: c.read, Unit: "bytes"})
	return n, err
}
