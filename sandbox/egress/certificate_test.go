package egress

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// issue makes a certificate for a host, signed by ca, or by itself.
func (a authority) issue(t testing.TB, host string, ends time.Time, selfSigned bool) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: ends.Add(-time.Hour), NotAfter: ends, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	parent, err := x509.ParseCertificate(a.cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	signer := a.cert.PrivateKey
	if selfSigned {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestBadCertificates has hosts that cannot prove who they are: no request,
// and with it no value, gets to them.
func TestBadCertificates(t *testing.T) {
	ca := newAuthority(t, apiHost)
	later := time.Now().Add(30 * time.Minute)
	for name, tt := range map[string]struct {
		cert tls.Certificate
		good bool
	}{
		"good":            {ca.issue(t, apiHost, later, false), true},
		"expired":         {ca.issue(t, apiHost, time.Now().Add(-time.Minute), false), false},
		"self-signed":     {ca.issue(t, apiHost, later, true), false},
		"another name":    {ca.issue(t, "evil.test", later, false), false},
		"unknown signer":  {newAuthority(t, apiHost).cert, false},
		"not yet":         {ca.issue(t, apiHost, later.Add(5*time.Hour), false), false},
		"a parent's name": {ca.issue(t, "example.test", later, false), false},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := false
			server := &http.Server{ErrorLog: silent, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived = true })}
			ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{tt.cert}})
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = server.Serve(ln) }()
			t.Cleanup(func() { server.Close() })
			r := newInspectRigTo(t, Limits{}, ln, ca, withSecret())
			req, _ := http.NewRequest("GET", base+"/", nil)
			req.Header.Set("X-Api-Key", testPlaceholder)
			res, err := r.client(t).Do(req)
			if (err == nil) != tt.good || arrived != tt.good {
				t.Errorf("answered %+v, %v, arrived %v", res, err, arrived)
			}
			if tt.good {
				return
			}
			if c := r.wantCode(t, link.Certificate); c.Allowed || c.Phase != PhaseClose || !strings.Contains(c.Detail, "x509") {
				t.Errorf("recorded %+v", c)
			}
			r.wantNoValue(t, testValue)
		})
	}
}

// TestUpstreamWithoutTLS answers the broker's hello with something else.
func TestUpstreamWithoutTLS(t *testing.T) {
	r := newInspectRigTo(t, Limits{Dial: 200 * time.Millisecond}, listen(t, echo), newAuthority(t, apiHost), inspected())
	if _, err := r.client(t).Get(base + "/"); err == nil {
		t.Error("it was answered")
	}
	r.wantCode(t, link.DialFailed)
}

func TestAuthority(t *testing.T) {
	first, err := NewAuthority("plugin \x1b[31mweather\n of default " + strings.Repeat("x", 100))
	if err != nil {
		t.Fatal(err)
	}
	if name := first.cert.Subject.CommonName; !strings.HasPrefix(name, "plugin [31mweather of default xx") || len(name) != maxAuthorityName {
		t.Errorf("named %q", name)
	}
	data, err := first.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseAuthority(data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.CertificatePEM(), again.CertificatePEM()) || bytes.Contains(first.CertificatePEM(), []byte("KEY")) {
		t.Errorf("certificate %s, read again %s", first.CertificatePEM(), again.CertificatePEM())
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(first.CertificatePEM())
	for _, host := range []string{apiHost, "127.0.0.1", "::1"} {
		leaf, err := again.leaf(host)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		for _, other := range []string{"a." + apiHost, "example.test", "evil.test", "127.0.0.2"} {
			if leaf.Leaf.VerifyHostname(other) == nil {
				t.Errorf("the certificate for %s is good for %s", host, other)
			}
		}
		if leaf.Leaf.IsCA || leaf.Leaf.NotAfter.After(time.Now().Add(leafLife+time.Minute)) {
			t.Errorf("%s: %+v", host, leaf.Leaf)
		}
		if kept, _ := again.leaf(host); kept != leaf {
			t.Errorf("%s: made twice", host)
		}
	}
	old, _ := again.leaf(apiHost)
	old.Leaf.NotAfter = time.Now().Add(leafRenew / 2)
	if fresh, _ := again.leaf(apiHost); fresh == old {
		t.Error("a certificate that ends soon was kept")
	}
	for i := range maxLeaves + 10 {
		if _, err := again.leaf(fmt.Sprintf("h%d.test", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(again.leaves); n != maxLeaves {
		t.Errorf("%d certificates are kept, want %d", n, maxLeaves)
	}
	if _, err := NewAuthority("\n"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("without a name: %v", err)
	}
}

func TestParseAuthorityRefuses(t *testing.T) {
	one, err := NewAuthority("one")
	if err != nil {
		t.Fatal(err)
	}
	two, err := NewAuthority("two")
	if err != nil {
		t.Fatal(err)
	}
	data, err := one.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	key, _, _ := bytes.Cut(data, []byte("-----BEGIN CERTIFICATE"))
	leaf, err := one.leaf(apiHost)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaDER, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, data := range map[string][]byte{
		"nothing":             nil,
		"text":                []byte("text"),
		"certificate alone":   one.CertificatePEM(),
		"key alone":           key,
		"another's":           append(bytes.Clone(key), two.CertificatePEM()...),
		"no authority":        append(bytes.Clone(key), block(pemCertificate, leaf.Certificate[0])...),
		"RSA":                 append(block(pemKey, rsaDER), one.CertificatePEM()...),
		"broken key":          append(block(pemKey, []byte("x")), one.CertificatePEM()...),
		"broken certificate":  append(bytes.Clone(key), block(pemCertificate, []byte("x"))...),
		"more":                append(bytes.Clone(data), one.CertificatePEM()...),
		"in the wrong order":  append(one.CertificatePEM(), key...),
		"cut in the middle":   data[:len(data)/2],
		"something behind it": append(bytes.Clone(data), "text"...),
	} {
		if _, err := ParseAuthority(data); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
