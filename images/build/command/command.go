// Package command is the command line of imagebuild, which `make build` calls:
// it turns flags into a build of the images, or into a new lock file, and
// prints what came out.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/images"
	"github.com/ocmt/ocmt/images/build"
)

// Run runs the command and returns its exit code: 0 done, 1 failed, 2 usage.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c settings
	flags := flag.NewFlagSet("imagebuild", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.options.Arch, "arch", runtime.GOARCH, "`architecture` of the images, amd64 or arm64")
	flags.StringVar(&c.options.Init, "init", "", "`path` of ocmt-init, a static binary for the architecture")
	flags.StringVar(&c.options.Runner, "runner", "", "`path` of the bundled runner")
	flags.StringVar(&c.options.Out, "out", "", "`directory` for the images and "+images.IndexFile)
	flags.StringVar(&c.lock, "lock", "images/lock.json", "`path` of the lock file")
	flags.BoolVar(&c.ldflags, "print-ldflags", false, "print the linker flags that tell ocmt the digests, and nothing else")
	flags.BoolVar(&c.refresh, "refresh-lock", false, "rewrite the lock file with the current versions and build nothing")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if err := c.check(flags.NArg()); err != nil {
		fmt.Fprintln(stderr, "imagebuild:", err)
		return 2
	}
	if err := c.run(ctx, stdout, slog.New(slog.NewTextHandler(stderr, nil))); err != nil {
		fmt.Fprintln(stderr, "imagebuild:", err)
		return 1
	}
	return 0
}

type settings struct {
	options build.Options
	lock    string
	ldflags bool
	refresh bool
}

func (c *settings) check(extra int) error {
	if extra > 0 {
		return fmt.Errorf("cannot take arguments, only flags: %w", errdefs.ErrInvalidArgument)
	}
	if !c.refresh && (c.options.Init == "" || c.options.Runner == "" || c.options.Out == "") {
		return fmt.Errorf("cannot build without --init, --runner and --out: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func (c *settings) run(ctx context.Context, stdout io.Writer, log *slog.Logger) error {
	sources, err := build.HostSources(log)
	if err != nil {
		return err
	}
	c.options.Sources = sources
	if c.refresh {
		return c.refreshLock(ctx, stdout)
	}
	if c.options.Lock, err = build.ReadLock(c.lock); err != nil {
		return err
	}
	result, err := build.Build(ctx, c.options)
	if err != nil {
		return err
	}
	if c.ldflags {
		fmt.Fprintln(stdout, linkerFlags(result))
		return nil
	}
	for _, e := range []images.Entry{result.Base, result.Install} {
		fmt.Fprintf(stdout, "%s %s %d bytes\n", e.File, e.Digest, e.Size)
	}
	return nil
}

// linkerFlags sets the variables of package images.
func linkerFlags(r build.Result) string {
	const pkg = "github.com/ocmt/ocmt/images"
	return fmt.Sprintf("-X %s.BaseDigest=%s -X %s.InstallDigest=%s", pkg, r.Base.Digest, pkg, r.Install.Digest)
}

func (c *settings) refreshLock(ctx context.Context, stdout io.Writer) error {
	old, err := build.ReadLock(c.lock)
	if err != nil {
		old = nil // a lock that is missing or broken is what a refresh mends
	}
	lock, err := build.Refresh(ctx, c.options.Sources, old)
	if err != nil {
		return err
	}
	if lock == old {
		fmt.Fprintln(stdout, c.lock, "is current")
		return nil
	}
	if err := lock.Write(c.lock); err != nil {
		return err
	}
	for _, d := range lock.Debian {
		fmt.Fprintln(stdout, d)
	}
	for _, p := range lock.NPM {
		fmt.Fprintln(stdout, p)
	}
	return nil
}
