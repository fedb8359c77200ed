package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// ServeOptions are the flags of serve.
type ServeOptions struct {
	Home string
	// Socket is where to listen; empty is the home's own.
	Socket string
	// Engine is "auto", "docker" or "containerd".
	Engine string
	// Runtime is the OCI runtime's name; empty is the engine's default.
	Runtime string
	// BaseImage is the digest of another base image; empty is the one that
	// this program was built with.
	BaseImage string
	// CallSockets are other places for the call sockets of tenants.
	CallSockets map[string]string
	// Listen is a TCP address to serve callers with a token on, with TLS; empty
	// is none. The certificate and its key are PEM files.
	Listen, TLSCert, TLSKey string
	// Resolver is the DNS server, HOST:PORT, that names in plugins' connections are
	// looked up at; empty is the host's own.
	Resolver string
	// RequireRuntime names the OCI runtimes that plugins of a level of trust run
	// with: npm, archive, path, verified, or all.
	RequireRuntime map[string]string
	// LogLevel is "debug", "info", "warn" or "error".
	LogLevel string
	// Stderr takes the log.
	Stderr io.Writer
	// HandOver is closed when the daemon is to end without its plugins.
	HandOver <-chan struct{}
}

var (
	engines     = []string{"auto", "docker", "containerd"} // as in package engine
	logLevels   = []string{"debug", "info", "warn", "error"}
	imageDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	trustLevels = []string{v1.TrustNPM, v1.TrustArchive, v1.TrustPath, v1.TrustVerified, allLevels}
	hostName    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
)

func (a *app) serveCommand() *cobra.Command {
	opts := ServeOptions{Stderr: a.env.Stderr}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Run the daemon: it starts the enabled plugins, watches over them, and answers
the other commands on its unix socket. SIGTERM or an interrupt stops it and its
plugins in order; a second one ends it at once.

A daemon that was killed leaves its plugins running, and the next one takes them
over: they are not restarted. SIGUSR2 asks for the same in order, for a new
version of ocmt: replace the program, send SIGUSR2, start it again.

With --listen it answers on a TCP address too: with TLS, and only to who has a
token of "ocmt tokens create".`,
		Example: `  ocmt serve
  ocmt serve --home /var/lib/ocmt --runtime runsc
  ocmt serve --require-runtime npm=runsc --require-runtime archive=runsc
  ocmt serve --listen 10.0.0.5:8443 --tls-cert cert.pem --tls-key key.pem`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Socket = a.socket
			if err := checkServe(cmd, opts); err != nil {
				return err
			}
			dir, err := a.homeDir()
			if err != nil {
				return err
			}
			opts.Home = dir
			defer context.AfterFunc(cmd.Context(), a.sayStopping)()
			handOver, forget := onSignal(syscall.SIGUSR2)
			defer forget()
			opts.HandOver = handOver
			return a.env.Serve(cmd.Context(), opts)
		},
	}
	engineFlags(cmd, &opts.Engine, &opts.Runtime)
	cmd.Flags().StringVar(&opts.BaseImage, "base-image", "", "`DIGEST` of another base image to allow and use")
	cmd.Flags().StringToStringVar(&opts.CallSockets, "call-socket", nil,
		"`TENANT=PATH` of the socket for a tenant's hosts, mode 0660, instead of the home's own; may be repeated")
	cmd.Flags().StringVar(&opts.Resolver, "resolver", "", "DNS server `HOST:PORT` for the connections of plugins (default the host's own)")
	cmd.Flags().StringToStringVar(&opts.RequireRuntime, "require-runtime", nil,
		"`LEVEL=RUNTIME`: run plugins of a level of trust with that OCI runtime, or not at all; LEVEL is "+strings.Join(trustLevels, ", ")+"; may be repeated")
	cmd.Flags().StringVar(&opts.Listen, "listen", "", "also serve callers with a token, with TLS, on a TCP `HOST:PORT`")
	cmd.Flags().StringVar(&opts.TLSCert, "tls-cert", "", "PEM `FILE` with the certificate for --listen; a new one is used when it changes")
	cmd.Flags().StringVar(&opts.TLSKey, "tls-key", "", "PEM `FILE` with its key")
	cmd.Flags().StringVar(&opts.LogLevel, "log-level", "info", "least grave lines to log: "+strings.Join(logLevels, ", "))
	return cmd
}

// onSignal returns a channel that is closed when the process gets sig, and a
// function that ends the wait for it.
func onSignal(sig os.Signal) (<-chan struct{}, func()) {
	signals, got, done := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, sig)
	go func() {
		select {
		case <-signals:
			close(got)
		case <-done:
		}
	}()
	return got, func() { signal.Stop(signals); close(done) }
}

// sayStopping tells a person who interrupted the daemon what it waits for.
func (a *app) sayStopping() {
	if a.env.IsTerminal(a.env.Stderr) {
		fmt.Fprintln(a.env.Stderr, "\nstopping the plugins; interrupt again to end at once")
	}
}

// engineFlags adds the flags that say what runs the containers.
func engineFlags(cmd *cobra.Command, engine, runtime *string) {
	cmd.Flags().StringVar(engine, "engine", "auto", "what runs the containers: "+strings.Join(engines, ", "))
	cmd.Flags().StringVar(runtime, "runtime", "", "OCI `NAME`: runc, runsc or another (default the engine's)")
}

func checkServe(cmd *cobra.Command, opts ServeOptions) error {
	switch {
	case isURL(opts.Socket):
		return usage(cmd, "--socket %q is no path; --listen is for TCP", opts.Socket)
	case !slices.Contains(engines, opts.Engine):
		return usage(cmd, "--engine %q is not one of %s", opts.Engine, strings.Join(engines, ", "))
	case !slices.Contains(logLevels, opts.LogLevel):
		return usage(cmd, "--log-level %q is not one of %s", opts.LogLevel, strings.Join(logLevels, ", "))
	case opts.BaseImage != "" && !imageDigest.MatchString(opts.BaseImage):
		return usage(cmd, "--base-image %q is no digest of the form sha256:<64 hex digits>", opts.BaseImage)
	}
	if err := checkNetwork(cmd, opts); err != nil {
		return err
	}
	return checkListen(cmd, opts)
}

// allLevels stands for plugins of every level of trust.
const allLevels = "all"

// checkNetwork refuses a resolver without a port, and runtimes of levels that
// there are not.
func checkNetwork(cmd *cobra.Command, opts ServeOptions) error {
	if opts.Resolver != "" {
		host, port, err := net.SplitHostPort(opts.Resolver)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			return usage(cmd, "--resolver %q is not of the form HOST:PORT", opts.Resolver)
		}
	}
	for _, level := range slices.Sorted(maps.Keys(opts.RequireRuntime)) {
		switch {
		case !slices.Contains(trustLevels, level):
			return usage(cmd, "--require-runtime: %q is not one of %s", level, strings.Join(trustLevels, ", "))
		case opts.RequireRuntime[level] == "":
			return usage(cmd, "--require-runtime %s= names no runtime", level)
		}
	}
	return nil
}

// checkListen refuses to listen on TCP without TLS.
func checkListen(cmd *cobra.Command, opts ServeOptions) error {
	if opts.Listen == "" {
		if opts.TLSCert != "" || opts.TLSKey != "" {
			return usage(cmd, "--tls-cert and --tls-key are for --listen, which is missing")
		}
		return nil
	}
	host, _, err := net.SplitHostPort(opts.Listen)
	if err != nil {
		return usage(cmd, "--listen %q is not of the form HOST:PORT", opts.Listen)
	}
	if opts.TLSCert == "" || opts.TLSKey == "" {
		return fault.New(errdefs.ErrInvalidArgument, usageCode, "--listen needs --tls-cert and --tls-key: the API is not served without TLS").
			WithHint("to try it out, make a certificate and trust it with OCMT_CA=cert.pem: %s", certificateCommand(host))
	}
	return nil
}

// certificateCommand makes a certificate for host that signs itself.
func certificateCommand(host string) string {
	names := "DNS:localhost,IP:127.0.0.1"
	switch ip := net.ParseIP(host); {
	case ip != nil && !ip.IsUnspecified():
		names = "IP:" + host
	case ip == nil && hostName.MatchString(host):
		names = "DNS:" + host
	}
	return "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=ocmt " +
		"-addext subjectAltName=" + names + " -keyout key.pem -out cert.pem"
}
