package httpapi

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// certificate is a certificate with its key, in two PEM files. Files that
// change are read again at the next handshake; while what they hold is of no
// use, the certificate before is used.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	read    [2]fileState // of the files when they were read
}

// fileState tells whether a file changed.
type fileState struct {
	modified time.Time
	size     int64
}

// openCertificate reads the files. InvalidArgument: they are of no use.
func openCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	state, err := c.state()
	if err == nil {
		err = c.load(state)
	}
	if err != nil {
		return nil, fault.New(errdefs.ErrInvalidArgument, "bad_certificate", "cannot use the certificate %s: %w", certFile, classed(err)).
			WithHint("name a PEM file with the certificate and its chain, and one with its key")
	}
	return c, nil
}

// get is for tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state, err := c.state()
	if err != nil || state == c.read {
		return c.current, nil // a file that is gone is being replaced
	}
	if err := c.load(state); err != nil {
		c.log.Error("the new certificate is not used", "cert", c.certFile, "error", err)
	} else {
		c.log.Info("using a new certificate", "cert", c.certFile)
	}
	return c.current, nil
}

// state looks at the files before they are read: one that changes meanwhile
// has another state afterwards.
func (c *certificate) state() (state [2]fileState, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return state, err
		}
		state[i] = fileState{info.ModTime(), info.Size()}
	}
	return state, nil
}

func (c *certificate) load(state [2]fileState) error {
	c.read = state // also of files of no use, which are not to be read at every handshake
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current = &cert
	return nil
}
