package daemon

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/instance"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/policy"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// checkGrants refuses what could not be put into force on this host: each grant
// for itself, and all with what the plugin has.
func (d *Daemon) checkGrants(p plugin.Installed, grants ...policy.Grant) error {
	for _, g := range grants {
		if err := d.checkGrant(p, g); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(grants, func(g policy.Grant) bool { return g.Kind == policy.Network || g.Kind == policy.Secret }) {
		return nil
	}
	return d.checkNetwork(p, policy.Merge(d.authority.Grants(p.Key), grants))
}

// checkGrant refuses what could not be put into force on this host.
func (d *Daemon) checkGrant(p plugin.Installed, g policy.Grant) error {
	switch g.Kind {
	case policy.Workspace:
		return d.checkWorkspace(p, g)
	case policy.Resource:
		return d.checkResource(p, g)
	case policy.Secret:
		_, err := d.boundSecret(p.Key, g.Target)
		return err
	case policy.Env:
		switch s, err := d.secrets.Get(p.Key.Tenant, g.Target); {
		case err == nil && !s.Env:
			return errNotPlain(p.Key.Tenant, g.Target)
		case err != nil && !errdefs.IsNotFound(err):
			return err
		}
	}
	return nil
}

// checkWorkspace refuses a directory that no plugin is given, or not in this way.
func (d *Daemon) checkWorkspace(p plugin.Installed, g policy.Grant) error {
	if err := instance.CheckWorkspace(g.Target, d.home); err != nil {
		return err
	}
	if err := d.checkOwnSockets(g.Target); err != nil || g.Value != plugin.WorkspaceRW {
		return err
	}
	return instance.CheckWritable(g.Target, cmp.Or(d.runtimeOf(p.Source), d.runtime()))
}

// checkOwnSockets refuses a directory with a socket of ours in it that was given
// another place: whoever reaches it speaks for people, or for a tenant.
func (d *Daemon) checkOwnSockets(dir string) error {
	for _, socket := range append(slices.Collect(maps.Values(d.opts.CallSockets)), d.opts.Socket) {
		if path, err := filepath.Abs(socket); err == nil && socket != "" && policy.Within(path, dir) {
			return fault.New(errdefs.ErrPermissionDenied, "workspace_refused", "%s cannot be granted: it holds %s, a socket of ocmt", dir, path).
				WithHint("give the socket another place, or grant another directory")
		}
	}
	return nil
}

// isOurs says that a destination is where ocmt itself listens.
func (d *Daemon) isOurs(n policy.NetworkRule) bool {
	if d.remote == nil {
		return false
	}
	at, ok := d.remote.Addr().(*net.TCPAddr)
	if !ok || int(n.Port) != at.Port {
		return false
	}
	ip := at.AddrPort().Addr().Unmap()
	return n.Host == plugin.Localhost || slices.ContainsFunc(n.Addresses, func(p netip.Prefix) bool { return ip.IsUnspecified() || p.Contains(ip) })
}

// checkNetwork refuses grants that cannot be in force together: that would send
// a secret in plain text, or that the broker does not take.
func (d *Daemon) checkNetwork(p plugin.Installed, grants []policy.Grant) error {
	together := policy.Resolve(time.Now(), grants, policy.Narrowing{}, policy.DefaultLimits(p.Source))
	granted := d.grantedSecrets(p.Key, together)
	network := withSecretHosts(together.Network, granted)
	if len(network) > link.MaxGrants {
		return fault.New(errdefs.ErrFailedPrecondition, "too_many_destinations", "plugin %s would have %d destinations, at most %d are possible", p.Key.ID, len(network), link.MaxGrants).
			WithHint("revoke some that it does not need, or grant a wildcard in their place")
	}
	for _, n := range network {
		for _, s := range granted {
			if n.Plaintext && goesTo(s, n) {
				return fault.New(errdefs.ErrInvalidArgument, "secret_in_plaintext", "the secret %s goes to %s:%d, where plain text may pass", s.Name, n.Host, n.Port).
					WithHint("grant that destination without plaintext: ocmt plugins grant %s%s network %s:%d", p.Key.ID, tenantFlag(p.Key.Tenant), n.Host, n.Port)
			}
		}
		if _, err := d.ruleOf(p.Key, n, granted); err != nil {
			return fault.New(errdefs.ErrFailedPrecondition, "not_enforceable", "%s:%d cannot be put into force: %w", n.Host, n.Port, err).
				WithHint("grant less of what belongs to this destination")
		}
	}
	return nil
}

// checkResource refuses a limit that this host does not have.
func (d *Daemon) checkResource(p plugin.Installed, g policy.Grant) error {
	asked := policy.Resolve(time.Now(), []policy.Grant{g}, policy.Narrowing{}, policy.DefaultLimits(p.Source)).Resources
	limits := sandbox.LimitsFor(sandbox.RolePlugin)
	limits.Memory, limits.CPUs, limits.PIDs = asked.Memory, asked.CPUs, asked.PIDs
	if err := limits.CheckHost(d.info); err != nil {
		return fault.New(errdefs.ErrInvalidArgument, "limits_too_large", "this host has less than that: %w", err).
			WithHint("it has %d CPUs and %s of memory; grant less", d.info.CPUs, humanSize(d.info.Memory))
	}
	return nil
}
