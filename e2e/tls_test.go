package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// serverCertificate makes a certificate for 127.0.0.1 that signs itself.
func serverCertificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// remote is a daemon as it is reached over TLS.
type remote struct {
	*harness.Daemon
	url    string
	ca     string // a file
	client *http.Client
}

func startRemote(t *testing.T) remote {
	t.Helper()
	certFile, keyFile := serverCertificate(t)
	d := start(t, "--listen", "127.0.0.1:0", "--tls-cert", certFile, "--tls-key", keyFile)
	serving := regexp.MustCompile(`serving with TLS.*address=(127\.0\.0\.1:\d+)`)
	var found []string
	eventually(t, time.Minute, "the log names the address", func() bool {
		found = serving.FindStringSubmatch(d.Log())
		return found != nil
	})
	text, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(client.CloseIdleConnections)
	return remote{d, "https://" + found[1], certFile, client}
}

// token is what the tests look at of `tokens create --json`.
type token struct {
	ID, Secret, CreatedBy, LastUsedAt string
}

func newToken(t *testing.T, d *harness.Daemon, args ...string) token {
	t.Helper()
	var made token
	if err := d.JSON(t.Context(), &made, append([]string{"tokens", "create"}, args...)...); err != nil {
		t.Fatal(err)
	}
	return made
}

// as runs a command over TLS with a token.
func (r remote) as(t *testing.T, token string, code int, words []string, args ...string) string {
	t.Helper()
	args = append([]string{"--home", r.Home, "--socket", r.url}, args...)
	return check(t, harness.Run(t.Context(), []string{"OCMT_CA=" + r.ca, "OCMT_TOKEN=" + token}, args...), code, words, args...)
}

// get starts a request over TLS with a token.
func (r remote) get(t *testing.T, token, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestTokensOverTLS(t *testing.T) {
	r := startRemote(t)
	install(t, r.Daemon, "seed-esm", "--yes")
	call, other, admin := newToken(t, r.Daemon), newToken(t, r.Daemon, "--tenant", "acme"), newToken(t, r.Daemon, "--admin", "--expires", "1h")
	echo := []string{"tools", "call", "seed-esm", "seed_echo", "--params", `{"text":"ab","times":2}`, "--json"}

	t.Run("access", func(t *testing.T) {
		r.as(t, call.Secret, 0, []string{"abab"}, echo...)
		r.as(t, call.Secret, 4, []string{"operator's access"}, "status")
		r.as(t, call.Secret, 4, []string{"operator's access"}, "plugins", "disable", "seed-esm")
		r.as(t, call.Secret, 4, []string{"operator's access"}, "tokens", "create", "--admin")
		r.as(t, call.Secret, 4, []string{`of tenant "default"`}, "--tenant", "acme", "tools", "list")
		r.as(t, other.Secret, 4, []string{`of tenant "acme"`}, echo...)
		r.as(t, admin.Secret, 0, []string{"abab"}, echo...)
		r.as(t, admin.Secret, 0, []string{"seed-esm"}, "status")
		r.as(t, call.Secret+"x", 1, []string{"no valid token"}, "tools", "list")
	})
	t.Run("audit", func(t *testing.T) {
		records := run(t, r.Daemon, 0, nil, "audit", "tail", "--lines", "0", "-A", "--json")
		for _, want := range []string{
			`"actor":"token:` + call.ID + `","action":"tool.call"`, `"action":"token.create","target":"` + admin.ID + " admin until ",
		} {
			if !strings.Contains(records, want) {
				t.Errorf("no record holds %s:\n%s", want, records)
			}
		}
	})
	t.Run("revoke", func(t *testing.T) {
		stream := r.get(t, call.Secret, "/v1/tenants/default/events?follow=true")
		events := bufio.NewReader(stream.Body)
		if line, err := events.ReadString('\n'); err != nil || !strings.HasPrefix(line, "id: ") {
			t.Fatalf("the stream begins with %q, %v", line, err)
		}
		r.as(t, admin.Secret, 0, []string{"Revoked " + call.ID}, "tokens", "revoke", call.ID)
		ended := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, events)
			ended <- err
		}()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the stream breaks with %v, want its end", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the stream of a revoked token goes on")
		}
		if res := r.get(t, call.Secret, "/v1/version"); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("a request with a revoked token: %s", res.Status)
		}
		r.as(t, other.Secret, 0, nil, "--tenant", "acme", "tools", "list")
		var left []token
		if err := r.JSON(t.Context(), &left, "tokens", "list", "-A"); err != nil || len(left) != 2 || left[0].Secret != "" || left[0].LastUsedAt == "" {
			t.Errorf("the tokens that are left: %+v, %v", left, err)
		}
	})
	t.Run("plain HTTP", func(t *testing.T) {
		res, err := http.Get("http://" + strings.TrimPrefix(r.url, "https://") + "/v1/version")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusBadRequest || json.Valid(body) {
			t.Errorf("got %s %s, %v, want a refusal by the TLS listener", res.Status, body, err)
		}
	})
	t.Run("guesses", func(t *testing.T) {
		seen := map[int]int{}
		for range 30 {
			seen[r.get(t, "ocmt_guess", "/v1/version").StatusCode]++
		}
		if seen[http.StatusUnauthorized] < 5 || seen[http.StatusTooManyRequests] < 5 || len(seen) != 2 {
			t.Errorf("statuses %v, want some 401 and then 429", seen)
		}
		run(t, r.Daemon, 0, []string{"abab"}, echo...) // the operator's socket knows no such bound
	})
}

// A daemon that cannot listen as it was told ends before it starts anything.
func TestServeRefusesWithoutTLS(t *testing.T) {
	need(t)
	certFile, _ := serverCertificate(t)
	for name, tc := range map[string]struct {
		args  []string
		words []string
	}{
		"no certificate":     {nil, []string{"not served without TLS", "openssl req -x509"}},
		"no key in the file": {[]string{"--tls-cert", certFile, "--tls-key", certFile}, []string{"cannot use the certificate"}},
		"no such file":       {[]string{"--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"}, []string{"cannot use the certificate"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"serve", "--home", newHome(t), "--listen", "127.0.0.1:0"}, tc.args...)
			res := harness.Run(t.Context(), []string{"DOCKER_HOST=unix:///nonexistent", "CONTAINERD_ADDRESS=/nonexistent"}, args...) // an engine is not looked for
			if res.Code != 2 {
				t.Errorf("exit code %d, want 2", res.Code)
			}
			for _, word := range tc.words {
				if !strings.Contains(string(res.Stderr), word) {
					t.Errorf("it does not say %q:\n%s", word, res.Stderr)
				}
			}
		})
	}
}
