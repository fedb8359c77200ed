package daemon

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox/egress"
)

// readOptions checks what an operator asks for besides the engine.
func (d *Daemon) readOptions(context.Context) (err error) {
	var texts []string
	for _, level := range slices.Sorted(maps.Keys(d.opts.RequireRuntime)) {
		texts = append(texts, level+"="+d.opts.RequireRuntime[level])
	}
	if d.required, err = plugin.ParseRequirements(texts); err != nil {
		return err
	}
	for level, runtime := range d.required {
		if !slices.Contains(d.info.Runtimes, runtime) {
			return fault.New(errdefs.ErrInvalidArgument, "unknown_runtime", "engine %s has no runtime %q, which plugins of the level %s are required to run with", d.info.Name, runtime, level).
				WithHint("it has: %s", strings.Join(d.info.Runtimes, ", "))
		}
	}
	return d.readResolver()
}

// runtimeOf names the OCI runtime that the operator requires for the plugins of
// a source; empty is the daemon's own.
func (d *Daemon) runtimeOf(source plugin.Source) string { return d.required[plugin.TrustOf(source)] }

// readResolver makes the resolver of plugins' connections.
func (d *Daemon) readResolver() error {
	if d.opts.Resolver == "" {
		return nil
	}
	server, err := netip.ParseAddrPort(d.opts.Resolver)
	if err != nil {
		return fault.New(errdefs.ErrInvalidArgument, "bad_resolver", "the resolver %.100q is no address with a port", d.opts.Resolver).
			WithHint("write it as 192.0.2.53:53 or [2001:db8::53]:53")
	}
	d.resolver = egress.NewResolver(&net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.String())
	}})
	return nil
}
