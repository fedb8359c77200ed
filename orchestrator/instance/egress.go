package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/install/fetch"
	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/sandbox"
	"github.com/ocmt/ocmt/sandbox/egress"
)

// egressSocket is the broker's socket in the socket directory.
const egressSocket = "egress.sock"

// SetNetwork puts what the plugin may reach in force, at once: connections
// whose grant is gone are cut off before it returns. A load check reaches
// nothing, whatever is set.
func (in *Instance) SetNetwork(policy egress.Policy) {
	if in.broker != nil {
		in.broker.SetPolicy(policy)
	}
}

// NetworkStats counts what the plugin did on the network since this process
// made or adopted the instance; nothing of a load check.
func (in *Instance) NetworkStats() egress.Stats {
	if in.broker == nil {
		return egress.Stats{}
	}
	return in.broker.Stats()
}

// serveEgress makes the broker behind the egress socket in dir, which records
// its connections as key's and grants nothing yet. onClose ends it.
func (f *Factory) serveEgress(ctx context.Context, key plugin.Key, dir string, options egress.Options, onClose func(func(context.Context) error)) (*egress.Broker, error) {
	options.Resolver = f.Resolver
	if f.OnConnection != nil { // a broker that records nothing is refused
		options.Record = func(c egress.Connection) error { return f.OnConnection(key, c) }
	}
	broker, err := egress.NewBroker(options)
	if err != nil {
		return nil, err
	}
	listener, err := egress.Listen(filepath.Join(dir, egressSocket))
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := broker.Serve(life, listener); err != nil {
			options.Logger.Error("egress broker ended", "error", err)
		}
	})
	onClose(func(context.Context) error { cancel(); serving.Wait(); return nil })
	return broker, nil
}

// authorityName is the file of an instance's authority, in its directory. No
// part of that which is mounted holds it.
const authorityName = "authority.pem"

// makeAuthority gives an instance the authority that signs for what its broker
// inspects. Its key stays on the host.
func (f *Factory) makeAuthority(in *Instance) error {
	if in.plan.Discovery {
		return nil
	}
	authority, err := egress.NewAuthority("ocmt " + in.id)
	if err != nil {
		return fmt.Errorf("cannot make the authority of plugin %s: %w", in.plan.Key, err)
	}
	data, err := authority.MarshalPEM()
	if err == nil {
		err = replaceFile(filepath.Join(f.Home.Instance(in.id), authorityName), data)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the authority of plugin %s: %w", in.plan.Key, err)
	}
	in.authority = authority
	return nil
}

// readAuthority takes the authority that the plugin trusts already.
func (f *Factory) readAuthority(in *Instance) error {
	data, err := readOwn(filepath.Join(f.Home.Instance(in.id), authorityName))
	if err == nil {
		in.authority, err = egress.ParseAuthority(data)
	}
	if err != nil {
		return fmt.Errorf("cannot use its authority: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// bundleCAs writes the certificates of this host, where there are any left, and
// that of the instance's authority into a file of dir and returns its mount: a
// proxy that inspects TLS is trusted by those alone.
func (f *Factory) bundleCAs(dir string, authority *egress.Authority) (sandbox.Mount, error) {
	var certificates []byte
	for _, file := range f.CAFiles {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) { // being replaced
			continue
		}
		if err != nil {
			return sandbox.Mount{}, fmt.Errorf("cannot read the certificates that this host trusts: %w", err)
		}
		certificates = append(append(certificates, data...), '\n')
	}
	certificates = append(certificates, authority.CertificatePEM()...)
	path := filepath.Join(dir, "ca.pem")
	if err := writeReadable(path, string(certificates)); err != nil {
		return sandbox.Mount{}, fmt.Errorf("cannot write %s: %w", path, err)
	}
	return sandbox.Mount{Source: path, Target: fetch.CATarget, ReadOnly: true, NoExec: true}, nil
}
