package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	// maxHello bounds a ClientHello with its record headers, in bytes. Large
	// ones, with post-quantum key shares and a session ticket, take 4 KiB.
	maxHello = 32 << 10
	// extensionECH is encrypted_client_hello, RFC 9849.
	extensionECH = 0xfe0d
)

// clientHello is what a TLS connection begins with.
type clientHello struct {
	raw []byte // all that was read, to be passed on as it is
	sni string
	ech bool     // the real server name may be hidden
	alp []string // application protocols, as the client prefers them
}

var errHelloRead = errors.New("the hello was read")

// readHello reads a ClientHello by crypto/tls, which never gets to answer it.
func readHello(r io.Reader) (clientHello, error) {
	var hello clientHello
	rec := &recorder{r: r}
	err := tls.Server(rec, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			hello.sni = info.ServerName
			hello.alp = info.SupportedProtos
			hello.ech = slices.Contains(info.Extensions, extensionECH)
			return nil, errHelloRead
		},
	}).HandshakeContext(context.Background()) // the reader's deadline ends it
	hello.raw = rec.raw
	if !errors.Is(err, errHelloRead) {
		return hello, fmt.Errorf("cannot read a TLS ClientHello: %w", err)
	}
	return hello, nil
}

// check returns a denial unless the hello is openly for the rule's host. A
// loopback address has no server name (RFC 6066, section 3).
func (h clientHello) check(rule Rule) error {
	want := rule.Host
	if rule.literal().IsValid() {
		want = ""
	}
	switch {
	case h.ech:
		return denial{link.SNIMismatch, "the TLS hello is encrypted (ECH)"}
	case !strings.EqualFold(h.sni, want):
		return denial{link.SNIMismatch, fmt.Sprintf("the TLS server name is %q", h.sni)}
	}
	return nil
}

// replay returns a reader of what was read for the hello, and then of rest.
func (h clientHello) replay(rest io.Reader) io.Reader {
	return io.MultiReader(bytes.NewReader(h.raw), rest)
}

// recorder is the connection that crypto/tls reads the hello from. It keeps
// what is read and drops what is written.
type recorder struct {
	r   io.Reader
	raw []byte
}

// Read implements net.Conn.
func (c *recorder) Read(p []byte) (int, error) {
	room := maxHello - len(c.raw)
	if room <= 0 {
		return 0, fmt.Errorf("cannot take a hello of more than %d bytes", maxHello)
	}
	n, err := c.r.Read(p[:min(len(p), room)])
	c.raw = append(c.raw, p[:n]...)
	return n, err
}

// Write implements net.Conn.
func (c *recorder) Write(p []byte) (int, error) { return len(p), nil }

// Close implements net.Conn.
func (c *recorder) Close() error { return nil }

// LocalAddr implements net.Conn.
func (c *recorder) LocalAddr() net.Addr { return nil }

// RemoteAddr implements net.Conn.
func (c *recorder) RemoteAddr() net.Addr { return nil }

// SetDeadline implements net.Conn.
func (c *recorder) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (c *recorder) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (c *recorder) SetWriteDeadline(time.Time) error { return nil }
