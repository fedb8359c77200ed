package hostile

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// Addresses of the internet that there is. Whatever address is asked for, the
// world has it: it listens on all of them.
const (
	hostAddress  = "198.18.0.1" // the host's, towards the world
	worldAddress = "198.18.0.2"
	ownPublic    = "8.8.4.4" // the host's, too
	ownPublic6   = "2606:4700::8844"
	nameServer   = "198.18.0.53:53"
	site         = "93.184.216.34" // where names lead that say nothing else
	strictSite   = "93.184.216.99" // see [internet.strictly]
)

// internet is the whole network of a daemon: two network namespaces, one with
// the daemon and the host's own addresses in it, and one that has every other
// address. Neither leads anywhere else, so that nothing leaves this machine
// whatever a defence lets pass.
type internet struct {
	host, world *namespace
	tap         *tap
	names       *names
	authority   *authority
	foreign     *authority // signs for names that begin so
	trusted     string     // a file with the authority's certificate

	mu     sync.Mutex
	visits []visit      // requests that came, to the world or the host
	heads  []strictHead // that came to the strict site
	bytes  map[string]int
}

// visit is a request as a server in the world got it.
type visit struct {
	to            string // address and port
	tls           string // the server name; "-" without TLS
	proto         string
	method, uri   string
	host          string
	header        http.Header
	body, trailer string
	remote        string
}

// newInternet skips the test where there can be none; if E2E_REQUIRE names the
// engine, that is a failure.
func newInternet(t *testing.T) *internet {
	t.Helper()
	in := &internet{bytes: map[string]int{}}
	if err := in.connect(); err != nil {
		if slices.Contains(strings.Split(os.Getenv("E2E_REQUIRE"), ","), harness.EngineName()) {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		in.host.file.Close()
		in.world.file.Close()
	})
	in.tap = newTap(t, in.host)
	in.authority = newAuthority(t, "the world's authority")
	in.trusted = filepath.Join(newDir(t), "ca.pem")
	if err := os.WriteFile(in.trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: in.authority.cert.Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	in.serve(t)
	return in
}

// connect makes the namespaces and the wire between them.
func (in *internet) connect() error {
	if os.Geteuid() != 0 {
		return errors.New("only root can make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("iproute2 is needed to make a network for the tests: %w", err)
	}
	var err, err2 error
	in.host, err = newNamespace()
	in.world, err2 = newNamespace()
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	err = in.host.ip(
		"link set lo up",
		fmt.Sprintf("link add wire type veth peer name wire netns /proc/%d/fd/%d", os.Getpid(), in.world.file.Fd()),
		"addr add "+hostAddress+"/30 dev wire", "addr add fd00:18::1/64 dev wire nodad", "link set wire up",
		"addr add "+ownPublic+"/32 dev lo", "addr add "+ownPublic6+"/128 dev lo nodad",
		"addr add 10.9.9.9/32 dev lo",
	)
	if err != nil {
		return err
	}
	// "local" has every address answered for.
	err = in.world.ip(
		"link set lo up",
		"addr add "+worldAddress+"/30 dev wire", "addr add fd00:18::2/64 dev wire nodad", "link set wire up",
		"route add local 0.0.0.0/1 dev lo", "route add local 128.0.0.0/1 dev lo",
		"route add local 2000::/3 dev lo", "route add local ::/3 dev lo", "route add local fc00::/7 dev lo",
		"route add "+hostAddress+"/32 dev wire table local", "route add fd00:18::1/128 dev wire table local",
	)
	if err != nil {
		return err
	}
	return in.host.ip("route add default via "+worldAddress, "route add ::/0 via fd00:18::2")
}

// start runs a daemon in the host's namespace.
func (in *internet) start(ctx context.Context, opts harness.Options) (d *harness.Daemon, err error) {
	opts.Args = append(opts.Args, "--resolver", nameServer)
	opts.Env = append(opts.Env, "SSL_CERT_FILE="+in.trusted)
	err = in.host.do(func() error {
		d, err = harness.StartWith(ctx, opts)
		return err
	})
	return d, err
}

// listen listens in a namespace until the test ends.
func (in *internet) listen(t *testing.T, n *namespace, address string) net.Listener {
	t.Helper()
	var ln net.Listener
	if err := n.do(func() (err error) {
		ln, err = net.Listen("tcp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// Ports that the world listens on, and the host.
var (
	tlsPorts   = []string{"443", "8443"}
	plainPorts = []string{"80", "8080", "2375"}
	bannerPort = []string{"22", "25"}
)

func (in *internet) serve(t *testing.T) {
	t.Helper()
	in.names = newNames(t, in.world)
	for _, n := range []*namespace{in.host, in.world} {
		for _, port := range tlsPorts {
			in.serveHTTP(t, in.listen(t, n, ":"+port), &tls.Config{GetCertificate: in.certificate, MinVersion: tls.VersionTLS12})
		}
		for _, port := range plainPorts {
			in.serveHTTP(t, in.listen(t, n, ":"+port), nil)
		}
		for _, port := range bannerPort {
			go in.serveBanner(in.listen(t, n, ":"+port))
		}
	}
}

// certificate is a good one, but for names that say otherwise.
func (in *internet) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := hello.ServerName
	switch label, _, _ := strings.Cut(name, "."); label {
	case "foreign":
		in.mu.Lock()
		defer in.mu.Unlock()
		return in.foreign.sign(time.Now().Add(time.Hour), name)
	case "expired":
		return in.authority.sign(time.Now().Add(-time.Hour), name)
	case "other-name":
		return in.authority.sign(time.Now().Add(time.Hour), "somebody-else.example")
	case "self-signed":
		own, err := makeAuthority(name)
		if err != nil {
			return nil, err
		}
		return &tls.Certificate{Certificate: [][]byte{own.cert.Raw}, PrivateKey: own.key}, nil
	case "unknown":
		own, err := makeAuthority("somebody else's authority")
		if err != nil {
			return nil, err
		}
		return own.sign(time.Now().Add(time.Hour), name)
	}
	return in.authority.sign(time.Now().Add(time.Hour), name)
}

// takeOver has the world sign with another authority for names that begin with
// "foreign".
func (in *internet) takeOver(t *testing.T, pair tls.Certificate) {
	t.Helper()
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil || !ok {
		t.Fatalf("%v, a key of type %T", err, pair.PrivateKey)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.foreign = &authority{cert, key}
}

func (in *internet) serveHTTP(t *testing.T, ln net.Listener, secure *tls.Config) {
	t.Helper()
	server := &http.Server{Handler: http.HandlerFunc(in.answer), TLSConfig: secure, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	t.Cleanup(func() { server.Close() })
	counted := countingListener{ln, in}
	go func() {
		if secure == nil {
			_ = server.Serve(counted)
		} else {
			_ = server.ServeTLS(counted, "", "")
		}
	}()
}

// answer notes a request and says what was sent, in pieces.
func (in *internet) answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	v := visit{
		to: localAddr(r), tls: "-", proto: r.Proto, method: r.Method, uri: r.RequestURI, host: r.Host,
		header: r.Header.Clone(), body: string(body), trailer: fmt.Sprint(r.Trailer), remote: r.RemoteAddr,
	}
	if r.TLS != nil {
		v.tls = r.TLS.ServerName
	}
	in.mu.Lock()
	in.visits = append(in.visits, v)
	in.mu.Unlock()
	pages(w, r, string(body))
}

func localAddr(r *http.Request) string {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return unmapped(addr)
}

func unmapped(addr net.Addr) string {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String()
}

// serveBanner says who it is before it is asked, as SSH does.
func (in *internet) serveBanner(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		in.count(conn.LocalAddr(), 0)
		_, _ = io.WriteString(conn, "SSH-2.0-decoy\r\n")
		conn.Close()
	}
}

// countingListener counts the bytes that come, by address, and gives those of
// the strict site to another server.
type countingListener struct {
	net.Listener
	in *internet
}

type countingConn struct {
	net.Conn
	in *internet
}

// Accept implements net.Listener.
func (l countingListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.in.count(conn.LocalAddr(), 0)
		if unmapped(conn.LocalAddr()) != strictSite+":443" {
			return countingConn{conn, l.in}, nil
		}
		go l.in.strictly(conn)
	}
}

// Read implements net.Conn.
func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.count(c.LocalAddr(), n)
	return n, err
}

func (in *internet) count(at net.Addr, n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.bytes[unmapped(at)] += n
}

// received returns the bytes that came to an address and port; none means that
// nobody connected.
func (in *internet) received(where string) (n int, connected bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n, connected = in.bytes[where]
	return n, connected
}

// visited returns the requests for a host that came, whatever they name it.
func (in *internet) visited(fits func(visit) bool) []visit {
	in.mu.Lock()
	defer in.mu.Unlock()
	var found []visit
	for _, v := range in.visits {
		if fits(v) {
			found = append(found, v)
		}
	}
	return found
}

// of is for [internet.visited]: what came by TLS for a name, or for a host.
func of(name string) func(visit) bool {
	return func(v visit) bool { return v.tls == name || hostOf(v.host) == name }
}

func hostOf(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return hostport
	}
	return host
}

// holds says that a request holds a text anywhere.
func (v visit) holds(text string) bool {
	var head bytes.Buffer
	_ = v.header.Write(&head)
	return strings.Contains(strings.Join([]string{v.method, v.uri, v.host, head.String(), v.body, v.trailer, v.tls}, "\n"), text)
}

// authority is one that signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a, err := makeAuthority(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func makeAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"authority.example"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key}, err
}

// sign makes a certificate for a name.
func (a *authority) sign(until time.Time, name string) (*tls.Certificate, error) {
	if name == "" {
		name = "no-name.example"
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
