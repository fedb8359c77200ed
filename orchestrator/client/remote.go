package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// NewTLS returns a client of the daemon that serves TLS at address, "host" or
// "host:port". It shows the token with every request, to a server whose
// certificate roots verify; nil is the system's roots.
func NewTLS(address, token string, roots *x509.CertPool) *Client {
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableCompression: true,
	}
	return &Client{socket: "https://" + address, http: &http.Client{
		Transport:     &bearer{transport, address, token},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// bearer sends requests to one address, with a token.
type bearer struct {
	*http.Transport
	address, token string
}

// RoundTrip sends the request to the address, whatever its URL says.
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = "https", b.address, ""
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.Transport.RoundTrip(r)
}

// untrusted returns why the certificate of the other side is refused, or nil
// if err is another error.
func untrusted(address string, err error) error {
	var refused *tls.CertificateVerificationError
	if !errors.As(err, &refused) {
		return nil
	}
	return fault.New(errdefs.ErrUnavailable, "untrusted_certificate", "cannot trust what answers on %s: %w", address, refused.Err).
		WithHint("name a file with the certificate, or with that of its authority, in OCMT_CA, and the host as the certificate does")
}
