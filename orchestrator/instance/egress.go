package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

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
func (f *Factory) serveEgress(ctx context.Context, key plugin.Key, dir string, logger *slog.Logger, onClose func(func(context.Context) error)) (*egress.Broker, error) {
	options := egress.Options{Logger: logger, Resolver: f.Resolver}
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
			logger.Error("egress broker ended", "error", err)
		}
	})
	onClose(func(context.Context) error { cancel(); serving.Wait(); return nil })
	return broker, nil
}

// bundleCAs writes the certificates that this host trusts into a file of dir
// and returns its mount, or none where no file of them is left: a proxy that
// inspects TLS is trusted by those alone.
func (f *Factory) bundleCAs(dir string) ([]sandbox.Mount, error) {
	var certificates []byte
	for _, file := range f.CAFiles {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) { // being replaced
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the certificates that this host trusts: %w", err)
		}
		certificates = append(append(certificates, data...), '\n')
	}
	if len(certificates) == 0 {
		return nil, nil
	}
	path := filepath.Join(dir, "ca.pem")
	if err := writeReadable(path, string(certificates)); err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", path, err)
	}
	return []sandbox.Mount{{Source: path, Target: fetch.CATarget, ReadOnly: true, NoExec: true}}, nil
}
