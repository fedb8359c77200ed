package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// download is how much of a body is downloaded at a time, in bytes.
const download = 100 << 20

// BenchmarkInspect compares, all on loopback and in one run, HTTPS straight to
// a server, through the broker uninspected, and inspected: with the connection
// kept, anew for each request, and for a download. "x-direct" is the ratio to
// the straight way.
func BenchmarkInspect(b *testing.B) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/download" {
			_, _ = io.CopyN(w, struct{ io.Reader }{zeros{}}, download)
			return
		}
		_, _ = w.Write(make([]byte, 256))
	}
	limits := Limits{PerSecond: 1e6, Burst: 1e6, RequestsPerSecond: 1e9, Throughput: 1 << 40}
	secret := inspected("GET /*")
	secret.Secrets = withSecret().Secrets
	rules := map[string][]Rule{"direct": nil, "egress": {mustRule(b, apiHost+":443")}, "inspect": {inspected("GET /*")}, "secret": {secret}}
	for _, what := range []struct {
		name, path string
		fresh      bool
	}{{"request", "/", false}, {"connection", "/", true}, {"download", "/download", false}} {
		for _, proto := range []string{protoHTTP1, protoHTTP2} {
			direct := 0.0
			for _, by := range []string{"direct", "egress", "inspect", "secret"} {
				b.Run(fmt.Sprintf("what=%s/proto=%s/path=%s", what.name, proto, by), func(b *testing.B) {
					r := newInspectRig(b, limits, handler, rules[by]...)
					drain := r.discardRecords()
					defer drain()
					client := r.benchClient(b, by, proto, what.fresh)
					for b.Loop() {
						get(b, client, base+what.path)
					}
					each := float64(b.Elapsed()) / float64(b.N)
					if by == "direct" {
						direct = each
					}
					if direct > 0 {
						b.ReportMetric(each/direct, "x-direct")
					}
					if what.path == "/download" {
						b.SetBytes(download)
					}
				})
			}
		}
	}
}

// discardRecords keeps the rig's channels from filling up.
func (ir *inspectRig) discardRecords() (stop func()) {
	ir.refuseWith(nil)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-ir.records:
			case <-ir.opens:
			case <-done:
				return
			}
		}
	}()
	return func() {
		ir.stop()
		close(done)
	}
}

// benchClient trusts whoever answers on that path.
func (ir *inspectRig) benchClient(b *testing.B, by, proto string, fresh bool) *http.Client {
	client := ir.client(b, proto)
	transport := client.Transport.(*http.Transport)
	transport.DisableKeepAlives = fresh
	if by == "inspect" || by == "secret" {
		return client
	}
	roots := x509.NewCertPool()
	roots.AddCert(ir.upstream.Certificate())
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: apiHost}
	if by == "direct" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: 10 * time.Second}
			return d.DialContext(ctx, "tcp", ir.upstream.Listener.Addr().String())
		}
	}
	return client
}

func get(b *testing.B, client *http.Client, url string) {
	b.Helper()
	res, err := client.Get(url)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
		b.Fatalf("answered %d, %v", res.StatusCode, err)
	}
}
