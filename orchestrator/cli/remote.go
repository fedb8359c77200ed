package cli

import (
	"crypto/x509"
	"net/url"
	"os"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Variables for a daemon that --socket names by its URL.
const (
	tokenVariable = "OCMT_TOKEN" // what "ocmt tokens create" printed
	caVariable    = "OCMT_CA"    // a PEM file with the certificates to trust; the system's if there is none
)

// isURL says whether --socket names no path.
func isURL(socket string) bool { return strings.Contains(socket, "://") }

// remote returns a client of the daemon that --socket names by its URL.
func (a *app) remote() (*client.Client, error) {
	u, err := url.Parse(a.socket)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fault.New(errdefs.ErrInvalidArgument, usageCode, "--socket %q is neither a path nor of the form https://HOST:PORT", a.socket)
	}
	token := strings.TrimSpace(a.env.Getenv(tokenVariable))
	if token == "" {
		return nil, fault.New(errdefs.ErrInvalidArgument, usageCode, "%s is not set", tokenVariable).
			WithHint("set it to a token, which `ocmt tokens create` prints on the daemon's host")
	}
	roots, err := trusted(a.env.Getenv(caVariable))
	if err != nil {
		return nil, err
	}
	return client.NewTLS(u.Host, token, roots), nil
}

// trusted reads the certificates to trust; nil is the system's.
func trusted(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.New(errdefs.ErrInvalidArgument, usageCode, "cannot read what %s names: %w", caVariable, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fault.New(errdefs.ErrInvalidArgument, usageCode, "%s names %s, which holds no certificate in PEM", caVariable, file)
	}
	return roots, nil
}
