package egress

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
)

// echConfigs returns a valid ECHConfigList (RFC 9849, section 4) for a public
// name, so that crypto/tls sends a real encrypted hello.
func echConfigs(t testing.TB, public string) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sized := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
	body := []byte{7, 0, 0x20} // id, DHKEM(X25519)
	body = append(body, sized(key.PublicKey().Bytes())...)
	body = append(body, sized([]byte{0, 1, 0, 1})...) // HKDF-SHA256, AES-128-GCM
	body = append(body, 32, byte(len(public)))
	body = append(body, public...)
	body = append(body, 0, 0) // no extensions
	return sized(append([]byte{0xfe, 0x0d}, sized(body)...))
}

// helloBytes returns the hello that a client with config sends.
func helloBytes(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		_ = tls.Client(near, config).Handshake()
		near.Close()
	}()
	hello, err := readHello(far)
	if err != nil {
		t.Fatal(err)
	}
	return hello.raw
}

func TestReadHelloKeepsEveryByte(t *testing.T) {
	raw := helloBytes(t, &tls.Config{ServerName: apiHost, NextProtos: []string{"h2", "http/1.1"}})
	r := bytes.NewReader(append(bytes.Clone(raw), "what follows"...))
	hello, err := readHello(r)
	if err != nil || hello.sni != apiHost || hello.ech {
		t.Fatalf("readHello = %q, ech %v, %v", hello.sni, hello.ech, err)
	}
	rest, _ := io.ReadAll(r)
	if got := append(hello.raw, rest...); string(got) != string(raw)+"what follows" {
		t.Error("bytes were lost or changed")
	}
	// One byte at a time, and cut into several TLS records.
	if hello, err := readHello(iotestOneByte{bytes.NewReader(fragment(raw, 7))}); err != nil || hello.sni != apiHost {
		t.Errorf("a hello in fragments: %q, %v", hello.sni, err)
	}
	for n := range raw {
		if _, err := readHello(bytes.NewReader(raw[:n])); err == nil {
			t.Errorf("%d of %d bytes were taken for a hello", n, len(raw))
		}
	}
}

// fragment cuts the one record of a hello into records of n bytes.
func fragment(raw []byte, n int) (cut []byte) {
	for body := raw[5:]; len(body) > 0; {
		part := body[:min(n, len(body))]
		body = body[len(part):]
		cut = append(append(cut, 0x16, 3, 1, 0, byte(len(part))), part...)
	}
	return cut
}

type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

func FuzzReadHello(f *testing.F) {
	f.Add(helloBytes(f, &tls.Config{ServerName: apiHost}))
	f.Add(helloBytes(f, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		hello, err := readHello(bytes.NewReader(data))
		if !bytes.HasPrefix(data, hello.raw) || len(hello.raw) > maxHello {
			t.Errorf("%d bytes were kept of %d", len(hello.raw), len(data))
		}
		if err == nil && hello.check(Rule{Host: apiHost, Port: 443}) == nil && !strings.EqualFold(hello.sni, apiHost) {
			t.Errorf("a hello for %q passed", hello.sni)
		}
	})
}
