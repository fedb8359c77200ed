// Package cli is the command line of ocmt: one file per command, each of which
// makes one or two requests of the daemon and prints what it answers.
//
// It promises exit codes that a script can act on (see exitCode), that
// results go to standard output and everything else to standard error, and
// that no text which a plugin made reaches a terminal with its control
// characters.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Env is what the commands need from outside.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	// IsTerminal says whether one of the three streams is a terminal.
	IsTerminal func(stream any) bool
	// ReadHidden reads a line from a stream that is a terminal, without showing it.
	// It leaves the terminal as it was, also when ctx ends first.
	ReadHidden func(ctx context.Context, stream any) (string, error)
	// Version is the release of this program.
	Version string
	// Serve runs the daemon until its context ends.
	Serve func(context.Context, ServeOptions) error
	// Doctor looks at what the host offers.
	Doctor func(context.Context, DoctorOptions) (DoctorReport, error)
}

// Main runs the command line args, without the program's name, and returns
// the exit code. The first interrupt or SIGTERM cancels the command, a second
// one ends the process.
func Main(ctx context.Context, env Env, args []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := NewRoot(env)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		printError(env.Stderr, err, root.PersistentFlags().Lookup("tenant").Value.String())
	}
	return exitCode(err)
}

// app is what the commands of one tree share.
type app struct {
	env    Env
	home   string
	socket string
	tenant string
	stdin  answers
}

// NewRoot returns the tree of all commands.
func NewRoot(env Env) *cobra.Command {
	a := &app{env: env}
	root := group(&cobra.Command{
		Use:   "ocmt",
		Short: "Run untrusted OpenClaw and OCMT plugins in containers",
		Long: `ocmt runs unmodified npm plugins for OpenClaw and OCMT, each in a container of
its own: without network, with a read-only root, without capabilities.

Start the daemon with "ocmt serve"; the other commands talk to it.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 denied or refused,
5 the plugin failed, 6 timed out, 7 daemon or engine unreachable.`,
		Example: `  ocmt serve
  ocmt plugins install @openclaw/kitchen-sink
  ocmt tools call @openclaw/kitchen-sink kitchen_sink_search --params '{"query":"openclaw"}'`,
	},
		a.serveCommand(), a.doctorCommand(), a.statusCommand(), a.eventsCommand(), a.pluginsCommand(), a.toolsCommand(),
		a.hooksCommand(), a.servicesCommand(), a.approvalsCommand(), a.auditCommand(), a.tokensCommand(),
		a.secretsCommand(), a.networkCommand(), a.versionCommand())
	flags := root.PersistentFlags()
	flags.StringVar(&a.home, "home", "", "home `DIR` (default $OCMT_HOME, else ~/.openclaw)")
	flags.StringVar(&a.socket, "socket", "", "the daemon's socket, or https://HOST:PORT with $OCMT_TOKEN and $OCMT_CA (default ocmt/run/admin.sock in the home)")
	flags.StringVar(&a.tenant, "tenant", plugin.DefaultTenant, "`NAME` of the tenant to work in")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%v", err) })
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.InitDefaultCompletionCmd()
	return root
}

// group makes cmd a command that only holds others: alone it prints its help,
// with a word that names none of them it is wrong usage.
func group(cmd *cobra.Command, children ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(children...)
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		err := fault.New(errdefs.ErrInvalidArgument, usageCode, "unknown command %q for %q", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return err.WithHint("did you mean %s?", strings.Join(near, " or "))
		}
		return err.WithHint("%s --help lists the commands", cmd.CommandPath())
	}
	return cmd
}

// exactly asks for as many arguments as there are names.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage(cmd, "%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return usage(cmd, "%q is one argument too many", args[len(names)])
		}
		return nil
	}
}

// usageCode is the code of errors about how a command was called.
const usageCode = "usage"

// usage says that cmd was called in the wrong way.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return fault.New(errdefs.ErrInvalidArgument, usageCode, format, args...).
		WithHint("usage: %s", cmd.UseLine())
}

// client returns a client of the daemon. The tenant is checked by it.
func (a *app) client() (*client.Client, error) {
	if isURL(a.socket) {
		return a.remote()
	}
	if a.socket != "" {
		return client.New(a.socket), nil
	}
	dir, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	return client.New(adminSocket(dir)), nil
}

func (a *app) homeDir() (string, error) {
	if a.home != "" {
		return a.home, nil
	}
	return home.Default(a.env.Getenv)
}

// adminSocket is home.Home.AdminSocket for a home that is not opened, which
// would make its directories.
func adminSocket(dir string) string { return filepath.Join(dir, "ocmt", "run", "admin.sock") }

// version is what this program is.
func (a *app) version() v1.Version {
	return v1.Version{Version: a.env.Version, API: "v1", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
}

// reads are the flags of commands that read.
type reads struct {
	json bool
	all  bool
}

func (r *reads) addJSON(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.json, "json", false, "print JSON")
}

func (r *reads) addAll(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&r.all, "all-tenants", "A", false, "show those of all tenants")
}

// tenantOf is the tenant to ask for; "" is all.
func (a *app) tenantOf(r reads) string {
	if r.all {
		return ""
	}
	return a.tenant
}
