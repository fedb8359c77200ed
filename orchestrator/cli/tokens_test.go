package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func TestTokensCommands(t *testing.T) {
	d := newDaemon(t)
	if out, _ := d.ocmt(t, 0, "tokens", "list", "-A"); out != "there are no tokens\n" {
		t.Errorf("got %q", out)
	}
	out, notes := d.ocmt(t, 0, "tokens", "create", "--name", "the \x1b[2Jgateway", "--expires", "30d")
	if out != "ocmt_secret-1\n" {
		t.Errorf("standard output %q, want the token alone", out)
	}
	contains(t, notes, "not shown again", "reading and calling in tenant default", "until 2026-02-01 03:04:05 UTC", "tokens revoke token-1")
	_, notes = d.ocmt(t, 0, "tokens", "create", "--admin")
	contains(t, notes, "everything, until it is revoked")
	out, _ = d.ocmt(t, 0, "tokens", "create", "--tenant", "acme", "--expires", "90s", "--json")
	var made v1.CreatedToken
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Secret != "ocmt_secret-3" || made.Tenant != "acme" || !made.ExpiresAt.Equal(apitest.Epoch.Add(90*time.Second)) {
		t.Errorf("got %s, %v", out, err)
	}

	out, _ = d.ocmt(t, 0, "tokens", "list", "-A")
	contains(t, out, "ID       NAME", `token-1  the \u001b[2Jgateway  call    default  2026-01-02 03:04:05 UTC`, "token-2  -", "all", "token-3", "never", "expired")
	out, _ = d.ocmt(t, 0, "tokens", "list", "--tenant", "acme", "--json")
	var list []v1.Token
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 2 || list[0].Access != v1.TokenAdmin || list[1].ID != "token-3" || strings.Contains(out, "secret") {
		t.Errorf("those that reach acme: %s, %v", out, err)
	}

	out, _ = d.ocmt(t, 0, "tokens", "revoke", "token-1")
	if out != `Revoked token-1 (the \u001b[2Jgateway)`+"\n" {
		t.Errorf("got %q", out)
	}
	_, notes = d.ocmt(t, 3, "tokens", "revoke", "token-1")
	contains(t, notes, "there is no token", "hint: ")
	_, notes = d.ocmt(t, 2, "tokens", "revoke")
	contains(t, notes, "ID is missing")
	_, notes = d.ocmt(t, 2, "tokens", "create", "--admin", "--tenant", "acme")
	contains(t, notes, "leave out --tenant")
	for _, expires := range []string{"", "d", "0d", "-1h", "1ms", "3651d", "soon", "1.5d", "99999d"} {
		_, notes = d.ocmt(t, 2, "tokens", "create", "--expires", expires)
		contains(t, notes, "--expires")
	}
}

// bearerOnly admits the holder of one token to everything.
type bearerOnly string

func (b bearerOnly) Lookup(_ context.Context, token string) (httpapi.Caller, error) {
	if token != string(b) {
		return httpapi.Caller{}, errdefs.ErrNotFound
	}
	return httpapi.Caller{Actor: "token:1", Access: httpapi.AccessAdmin}, nil
}

func TestRemoteDaemon(t *testing.T) {
	handler := httpapi.New(apitest.New().Parts(), httpapi.Options{Tokens: bearerOnly("good"), UploadDir: t.TempDir()})
	server := httptest.NewTLSServer(handler)
	defer server.Close()
	dir := t.TempDir()
	ca, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "empty.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, text := range map[string][]byte{ca: text, empty: nil} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name, socket, token, ca string
		code                    int
		says                    string
	}{
		{"works", server.URL, "good\n", ca, 0, "demo"},
		{"with a slash", server.URL + "/", "good", ca, 0, "demo"},
		{"bad token", server.URL, "bad", ca, 1, "no valid token"},
		{"no token", server.URL, "", ca, 2, "OCMT_TOKEN is not set"},
		{"unknown certificate", server.URL, "good", "", 7, "OCMT_CA"},
		{"no such file", server.URL, "good", "/nonexistent", 2, "cannot read"},
		{"no certificate", server.URL, "good", empty, 2, "no certificate"},
		{"no TLS", "http://127.0.0.1:1", "good", ca, 2, "https://HOST:PORT"},
		{"path", server.URL + "/v1", "good", ca, 2, "https://HOST:PORT"},
		{"password", "https://a:b@127.0.0.1:1", "good", ca, 2, "https://HOST:PORT"},
		{"nobody there", "https://127.0.0.1:1", "good", ca, 7, "no daemon answers on https://127.0.0.1:1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := Main(t.Context(), Env{
				Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, IsTerminal: func(any) bool { return false },
				Getenv: func(name string) string { return map[string]string{"OCMT_TOKEN": tc.token, "OCMT_CA": tc.ca}[name] },
			}, []string{"--socket", tc.socket, "plugins", "list"})
			if code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			contains(t, out.String()+errs.String(), tc.says)
		})
	}
}

// serve refuses to listen on TCP without TLS, before it starts anything.
func TestServeListen(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		says []string // empty: it starts
	}{
		{"all", []string{"--listen", "127.0.0.1:0", "--tls-cert", "c", "--tls-key", "k"}, nil},
		{"every network", []string{"--listen", ":8443", "--tls-cert", "c", "--tls-key", "k"}, nil},
		{"neither", []string{"--listen", "192.0.2.1:1"}, []string{"--tls-cert and --tls-key", "openssl req -x509", "subjectAltName=IP:192.0.2.1 "}},
		{"no key", []string{"--listen", "host.example:1", "--tls-cert", "c"}, []string{"without TLS", "subjectAltName=DNS:host.example "}},
		{"no certificate", []string{"--listen", ":1", "--tls-key", "k"}, []string{"without TLS", "subjectAltName=DNS:localhost,IP:127.0.0.1 "}},
		{"a strange host", []string{"--listen", "a;b:1"}, []string{"subjectAltName=DNS:localhost,IP:127.0.0.1 "}},
		{"no address", []string{"--tls-cert", "c", "--tls-key", "k"}, []string{"--listen, which is missing"}},
		{"no port", []string{"--listen", "127.0.0.1", "--tls-cert", "c", "--tls-key", "k"}, []string{"HOST:PORT"}},
		{"a URL for a socket", []string{"--socket", "https://127.0.0.1:1"}, []string{"is no path"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var errs bytes.Buffer
			var served *ServeOptions
			code := Main(t.Context(), Env{
				Stdout: &errs, Stderr: &errs, IsTerminal: func(any) bool { return false }, Getenv: func(string) string { return "" },
				Serve: func(_ context.Context, o ServeOptions) error { served = &o; return nil },
			}, append([]string{"serve", "--home", t.TempDir()}, tc.args...))
			if len(tc.says) == 0 {
				if code != 0 || served == nil || served.Listen != tc.args[1] || served.TLSCert != "c" || served.TLSKey != "k" {
					t.Errorf("exit code %d, options %+v\n%s", code, served, &errs)
				}
				return
			}
			if code != 2 || served != nil {
				t.Errorf("exit code %d, started: %v, want 2 and not", code, served != nil)
			}
			contains(t, errs.String(), tc.says...)
		})
	}
}

// serve knows the levels of trust, and a resolver when it sees one.
func TestServeNetwork(t *testing.T) {
	for _, tc := range []struct {
		args string
		says string // empty: it starts
	}{
		{"--resolver 192.0.2.53:53 --require-runtime npm=runsc --require-runtime all=runc", ""},
		{"--resolver [2001:db8::53]:53", ""},
		{"--resolver 192.0.2.53", "HOST:PORT"},
		{"--resolver :53", "HOST:PORT"},
		{"--resolver 192.0.2.53:dns", "HOST:PORT"},
		{"--resolver 192.0.2.53:0", "HOST:PORT"},
		{"--require-runtime pip=runsc", `"pip" is not one of npm, archive, path, verified, all`},
		{"--require-runtime npm=", "npm= names no runtime"},
		{"--require-runtime npm", "must be formatted as key=value"},
	} {
		var errs bytes.Buffer
		var served *ServeOptions
		code := Main(t.Context(), Env{
			Stdout: &errs, Stderr: &errs, IsTerminal: func(any) bool { return false }, Getenv: func(string) string { return "" },
			Serve: func(_ context.Context, o ServeOptions) error { served = &o; return nil },
		}, append([]string{"serve", "--home", t.TempDir()}, strings.Fields(tc.args)...))
		if tc.says == "" {
			if code != 0 || served == nil || !strings.Contains(tc.args, served.Resolver) || strings.Contains(tc.args, "npm=") && served.RequireRuntime["npm"] != "runsc" {
				t.Errorf("%s: exit code %d, options %+v\n%s", tc.args, code, served, &errs)
			}
			continue
		}
		if code != 2 || served != nil {
			t.Errorf("%s: exit code %d, started: %v, want 2 and not", tc.args, code, served != nil)
		}
		contains(t, errs.String(), tc.says)
	}
}
