package forward_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/ocmt/ocmt/sandbox/egress"
)

// BenchmarkEgress compares HTTPS through forwarder and broker with HTTPS
// straight to the server, all on loopback, with the connection kept and anew.
func BenchmarkEgress(b *testing.B) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 256))
	}))
	defer server.Close()
	const name = "example.com" // that httptest's certificate is for
	f := newFixture(b, server.Listener)
	port := freePort(b).Port()
	f.grant(b, egress.Rule{Host: name, Port: port})
	f.serve(b)
	<-f.forward(b).Ready()

	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	conn, err := f.dial(name, port)
	if err != nil {
		b.Fatal(err)
	}
	inside := conn.RemoteAddr().(*net.TCPAddr).IP.String()
	conn.Close()
	paths := map[string]string{
		"direct": server.Listener.Addr().String(),
		"egress": net.JoinHostPort(inside, strconv.Itoa(int(port))),
	}
	for _, mode := range []string{"keepalive", "new"} {
		for _, path := range []string{"direct", "egress"} {
			b.Run("conn="+mode+"/path="+path, func(b *testing.B) {
				client := http.Client{Transport: &http.Transport{
					TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: name},
					DisableKeepAlives: mode == "new",
				}}
				defer client.CloseIdleConnections()
				for b.Loop() {
					response, err := client.Get("https://" + paths[path] + "/")
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
			})
		}
	}
}
