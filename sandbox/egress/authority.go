package egress

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"time"
)

const (
	// authorityLife is how long an authority's own certificate holds. A
	// container trusts it for as long as it runs.
	authorityLife = 10 * 365 * 24 * time.Hour
	// leafLife is how long a host's certificate holds, and leafRenew how long
	// before its end it is made anew.
	leafLife  = 7 * 24 * time.Hour
	leafRenew = 24 * time.Hour
	// clockSkew is how much a clock may be behind.
	clockSkew = time.Hour
	// maxLeaves bounds the certificates that are kept.
	maxLeaves = 256
	// maxAuthorityName bounds the name in the certificate: X.509's upper bound
	// of a common name, in characters.
	maxAuthorityName = 64
)

// Authority signs certificates for the hosts that a broker inspects. Its key
// is ECDSA P-256 and stays on the host. Its methods may be called from several
// goroutines. However it is formatted, it shows its name alone.
type Authority struct {
	name    string
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	leafKey *ecdsa.PrivateKey // of all leaves; never stored

	mu     sync.Mutex
	leaves map[string]*tls.Certificate // by host
}

// NewAuthority makes an authority with a new key. People see the name where
// they look at certificates; it is cut to 64 bytes.
func NewAuthority(name string) (*Authority, error) {
	name = printable(name, maxAuthorityName)
	if name == "" {
		return nil, invalid("cannot make a certificate authority without a name")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make the key of a certificate authority: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("cannot make the certificate of an authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate of an authority: %w", err)
	}
	return authorityOf(cert, key)
}

// authorityOf has a key for the leaves made.
func authorityOf(cert *x509.Certificate, key *ecdsa.PrivateKey) (*Authority, error) {
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key for certificates: %w", err)
	}
	return &Authority{
		name: printable(cert.Subject.CommonName, maxAuthorityName),
		cert: cert, key: key, leafKey: leafKey, leaves: map[string]*tls.Certificate{},
	}, nil
}

const (
	pemKey         = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
)

// ParseAuthority reads what MarshalPEM wrote. Anything else, and an authority
// whose time is over, is InvalidArgument.
func ParseAuthority(data []byte) (*Authority, error) {
	first, rest := pem.Decode(data)
	if first == nil || first.Type != pemKey {
		return nil, invalid("cannot read a certificate authority: its key is missing")
	}
	second, rest := pem.Decode(rest)
	if second == nil || second.Type != pemCertificate || len(bytes.TrimSpace(rest)) > 0 {
		return nil, invalid("cannot read a certificate authority: it is not one key and one certificate")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(first.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || key.Curve != elliptic.P256() {
		return nil, invalid("cannot read a certificate authority: its key is not one of ECDSA P-256")
	}
	cert, err := x509.ParseCertificate(second.Bytes)
	switch {
	case err != nil:
		return nil, invalid("cannot read a certificate authority: %v", err)
	case !cert.IsCA || !key.PublicKey.Equal(cert.PublicKey):
		return nil, invalid("cannot use a certificate authority: certificate and key do not belong together")
	case time.Now().Add(leafRenew).After(cert.NotAfter):
		return nil, invalid("cannot use a certificate authority: its time is over")
	}
	return authorityOf(cert, key)
}

// MarshalPEM returns key and certificate, for a file of mode 0600.
func (a *Authority) MarshalPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the key of a certificate authority: %w", err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), a.CertificatePEM()...), nil
}

// CertificatePEM returns the certificate alone, for those who are to trust it.
func (a *Authority) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: a.cert.Raw})
}

// Format implements fmt.Formatter for every verb.
func (a *Authority) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "authority "+a.name) }

// leaf returns a certificate for exactly one host.
func (a *Authority) leaf(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if leaf := a.leaves[host]; leaf != nil && now.Add(leafRenew).Before(leaf.Leaf.NotAfter) {
		return leaf, nil
	}
	leaf, err := a.sign(host, now)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate for %s: %w", host, err)
	}
	if len(a.leaves) >= maxLeaves {
		for other := range a.leaves { // any of them: one is made in no time
			delete(a.leaves, other)
			break
		}
	}
	a.leaves[host] = leaf
	return leaf, nil
}

func (a *Authority) sign(host string, now time.Time) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{a.name}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              earlier(now.Add(leafLife), a.cert.NotAfter),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.leafKey.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.leafKey, Leaf: leaf}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// serial returns a serial number that no other certificate has.
func serial() *big.Int {
	var n [16]byte
	_, _ = rand.Read(n[:]) // never fails
	n[0] &= 0x7f           // positive, RFC 5280, section 4.1.2.2
	return new(big.Int).SetBytes(n[:])
}
