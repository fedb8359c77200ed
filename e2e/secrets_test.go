package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"

	"github.com/ocmt/ocmt/e2e/harness"
)

// keyed is a plugin that is given keys.
const keyed = "keyed"

// vault is a TLS server for localhost that keeps what it is sent and tells it
// back, in pieces.
type vault struct {
	*httptest.Server
	port string

	mu   sync.Mutex
	seen []string // header X-Api-Key, X-Other, query and body of each request
}

func newVault(t *testing.T, cert tls.Certificate) *vault {
	t.Helper()
	v := &vault{}
	v.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		text := strings.Join([]string{r.Method, r.Header.Get("X-Api-Key"), r.Header.Get("X-Other"), r.URL.RawQuery, string(body)}, "|")
		v.mu.Lock()
		v.seen = append(v.seen, text)
		v.mu.Unlock()
		if r.URL.Path == "/beyond" {
			answerBeyond(w, text)
			return
		}
		w.Header().Set("X-Echo", r.Header.Get("X-Api-Key"))
		for _, piece := range strings.SplitAfter(text, "") {
			fmt.Fprint(w, piece)
			w.(http.Flusher).Flush() //nolint:forcetypeassert // as net/http promises
		}
	}))
	v.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	v.StartTLS()
	t.Cleanup(v.Close)
	_, v.port, _ = net.SplitHostPort(v.Listener.Addr().String())
	return v
}

// answerBeyond sends more than its answer is long.
func answerBeyond(w http.ResponseWriter, text string) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	_ = buf.Flush()
	time.Sleep(50 * time.Millisecond) // until the connection is idle
	fmt.Fprint(buf, text)
	_ = buf.Flush()
	_ = conn.Close()
}

func (v *vault) url(path string) string { return "https://localhost:" + v.port + path }

// last returns what the last request said, and that there was none since.
func (v *vault) last() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.seen) == 0 {
		return ""
	}
	return v.seen[len(v.seen)-1]
}

func (v *vault) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.seen)
}

// authorityFor makes a certificate authority of the test's own: the file that
// trusts it, and a certificate for localhost and the names.
func authorityFor(t *testing.T, names ...string) (file string, cert tls.Certificate) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	rootKey, leafKey := newKey(), newKey()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the test's own"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter, DNSNames: append(names, "localhost"), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	rootDER := sign(root, root, rootKey, rootKey)
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, tls.Certificate{Certificate: [][]byte{sign(leaf, root, leafKey, rootKey)}, PrivateKey: leafKey}
}

const (
	firstValue  = "v4lue-of-the-first-key"
	secondValue = "v4lue-of-the-second-key"
	plainValue  = "v4lue-in-plain-for-a-database"
	movedValue  = "v4lue-that-stood-in-config"
)

// TestSecrets gives a plugin keys that it never gets to see.
func TestSecrets(t *testing.T) {
	need(t)
	file, cert := authorityFor(t)
	home := newHome(t)
	opts := harness.Options{Home: home, Env: []string{"SSL_CERT_FILE=" + file}}
	d := serveWith(t, opts)
	t.Cleanup(func() { stop(t, d) })
	c := connect(t, d)
	install(t, d, keyed)
	bound, other := newVault(t, cert), newVault(t, cert)
	for _, v := range []*vault{bound, other} {
		run(t, d, 0, nil, "plugins", "grant", keyed, "network", "localhost:"+v.port, "addresses=127.0.0.1/32")
	}
	for _, tc := range []struct {
		name string
		test func(*testing.T)
	}{
		{"missing", func(t *testing.T) { secretMissing(t, d, bound) }},
		{"placeholder", func(t *testing.T) { secretPlaceholder(t, d, c, bound, other) }},
		{"changed", func(t *testing.T) { secretChanged(t, d, c, bound) }},
		{"rules", func(t *testing.T) { requestRules(t, d, c, bound) }},
		{"plain", func(t *testing.T) { secretPlain(t, d, c) }},
		{"moved", func(t *testing.T) { secretMoved(t, d, c, bound) }},
		{"nowhere", func(t *testing.T) { secretNowhere(t, d) }},
		{"rotated", func(t *testing.T) {
			run(t, d, 0, nil, "secrets", "rotate")
			if err := d.HandOver(); err != nil {
				t.Fatal(err)
			}
			next := serveWith(t, opts)
			*d = *next // the one that is stopped at the end
			eventually(t, 20*time.Second, "it serves again", func() bool {
				got := requestFrom(t, c, bound.url("/rotated"), map[string]string{"X-Api-Key": placeholder(t, c)})
				return got.Status == 200 && strings.Contains(bound.last(), secondValue)
			})
		}},
		{"removed", func(t *testing.T) { secretRemoved(t, d) }},
	} {
		if !t.Run(tc.name, tc.test) {
			return
		}
	}
}

// answer is the result of the plugin's request.
type answer struct {
	Status            int
	Body, Echo, Error string
}

// requestFrom has the plugin make a request, and once more where the connection
// that it kept was cut: that is what a change of what is granted does.
func requestFrom(t *testing.T, c *client.Client, url string, headers map[string]string, more ...string) answer {
	t.Helper()
	params := map[string]any{"url": url}
	if headers != nil {
		params["headers"] = headers
	}
	if len(more) == 2 {
		params["method"], params["body"] = more[0], more[1]
	}
	var got answer
	for range 5 {
		got = answer{}
		invoke(t, c, &got, keyed, "request", string(mustJSON(t, params)))
		if got.Error != "UND_ERR_SOCKET" && got.Error != "ECONNRESET" {
			return got
		}
	}
	return got
}

func holds(t *testing.T, c *client.Client, name string) string {
	t.Helper()
	var got struct{ Value *string }
	invoke(t, c, &got, keyed, "env", `{"name":"`+name+`"}`)
	if got.Value == nil {
		return ""
	}
	return *got.Value
}

func placeholder(t *testing.T, c *client.Client) string {
	t.Helper()
	return holds(t, c, "DEMO_KEY")
}

func setSecret(t *testing.T, d *harness.Daemon, code int, words []string, value string, args ...string) {
	t.Helper()
	args = append([]string{"secrets", "set"}, args...)
	check(t, d.RunInput(t.Context(), strings.NewReader(value), args...), code, words, args...)
}

// secretMissing refuses what could not work.
func secretMissing(t *testing.T, d *harness.Daemon, v *vault) {
	run(t, d, 1, []string{"DEMO_KEY", "is not set", "ocmt secrets set DEMO_KEY"}, "plugins", "grant", keyed, "secret", "DEMO_KEY")
	run(t, d, 0, []string{"DEMO_KEY"}, "approvals", "list")
	host := "localhost:" + v.port
	setSecret(t, d, 2, []string{"empty"}, "", "DEMO_KEY", "--host", host, "--header", "X-Api-Key")
	setSecret(t, d, 2, []string{"line"}, "one\ntwo-and-more", "DEMO_KEY", "--host", host, "--header", "X-Api-Key")
	setSecret(t, d, 2, []string{"16"}, strings.Repeat("x", 17<<10), "DEMO_KEY", "--host", host, "--header", "X-Api-Key")
	setSecret(t, d, 2, []string{"--host"}, firstValue, "DEMO_KEY")
	setSecret(t, d, 2, []string{"--header"}, firstValue, "DEMO_KEY", "--host", host)
	setSecret(t, d, 2, []string{"owner"}, firstValue, "DEMO_KEY", "--host", "*.com", "--header", "X-Api-Key")
	run(t, d, 0, []string{"no secrets"}, "secrets", "list")
}

// secretPlaceholder sends the placeholder to all kinds of places.
func secretPlaceholder(t *testing.T, d *harness.Daemon, c *client.Client, bound, other *vault) {
	setSecret(t, d, 0, nil, firstValue+"\n", "DEMO_KEY", "--host", "localhost:"+bound.port, "--header", "X-Api-Key")
	run(t, d, 0, []string{"the plugin was restarted"}, "plugins", "grant", keyed, "secret", "DEMO_KEY")
	held := placeholder(t, c)
	if !strings.HasPrefix(held, "ocmt-secret-") || strings.Contains(held, firstValue) {
		t.Fatalf("the plugin holds %q", held)
	}
	got := requestFrom(t, c, bound.url("/a"), map[string]string{"X-Api-Key": held})
	if want := "GET|" + firstValue + "|||"; bound.last() != want {
		t.Errorf("the host was sent %q, want %q (%+v)", bound.last(), want, got)
	}
	if want := (answer{Status: 200, Body: "GET|" + held + "|||", Echo: held}); got != want {
		t.Errorf("the plugin got %+v, want %+v", got, want)
	}
	requestFrom(t, c, bound.url("/a?key="+held), map[string]string{"X-Other": held}, "POST", held)
	if want := strings.Join([]string{"POST", "", held, "key=" + held, held}, "|"); bound.last() != want {
		t.Errorf("in other places the host was sent %q, want %q", bound.last(), want)
	}
	requestFrom(t, c, other.url("/a"), map[string]string{"X-Api-Key": held})
	if want := "GET|" + held + "|||"; other.last() != want {
		t.Errorf("another host was sent %q, want %q", other.last(), want)
	}
	requestFrom(t, c, bound.url("/beyond"), map[string]string{"X-Api-Key": held})
	expectRecord(t, d, "network.request", keyed, func(r map[string]any) bool {
		return strings.Contains(string(mustJSON(t, r["details"])), `"secrets":["DEMO_KEY"]`) && r["outcome"] == "allowed"
	})
	run(t, d, 0, []string{"GET", "/a", "DEMO_KEY"}, "network", "log", keyed)
	text := run(t, d, 0, []string{"DEMO_KEY", "localhost", "X-Api-Key", keyed}, "secrets", "list")
	if strings.Contains(text, firstValue) {
		t.Error("the list shows the value")
	}
}

// secretChanged gives the secret another value: the plugin runs on.
func secretChanged(t *testing.T, d *harness.Daemon, c *client.Client, v *vault) {
	before := getInfo(t, d, keyed).Generation
	setSecret(t, d, 0, nil, secondValue, "DEMO_KEY", "--host", "localhost:"+v.port, "--header", "X-Api-Key")
	got := requestFrom(t, c, v.url("/b"), map[string]string{"X-Api-Key": placeholder(t, c)})
	if !strings.Contains(v.last(), secondValue) || strings.Contains(got.Body, "v4lue") {
		t.Errorf("the host was sent %q, the plugin got %+v", v.last(), got)
	}
	if after := getInfo(t, d, keyed).Generation; after != before {
		t.Errorf("generation %d, want %d: the placeholder is the same", after, before)
	}
}

// requestRules lets some requests pass.
func requestRules(t *testing.T, d *harness.Daemon, c *client.Client, v *vault) {
	target := "localhost:" + v.port
	run(t, d, 0, []string{"GET /ok*"}, "plugins", "grant", keyed, "network", target, "addresses=127.0.0.1/32,rules=GET /ok*")
	if got := requestFrom(t, c, v.url("/ok/1"), nil); got.Status != 200 {
		t.Errorf("a request within the rules: %+v", got)
	}
	before := v.count()
	for _, tc := range []struct{ method, path string }{{"POST", "/ok"}, {"GET", "/other"}, {"GET", "/ok/%2e%2e/other"}, {"GET", "/ok//x"}} {
		more := []string{}
		if tc.method == "POST" {
			more = []string{"POST", "x"}
		}
		if got := requestFrom(t, c, v.url(tc.path), nil, more...); got.Status != 403 {
			t.Errorf("%s %s: %+v, want 403", tc.method, tc.path, got)
		}
	}
	if after := v.count(); after != before {
		t.Errorf("%d of them reached the host", after-before)
	}
	run(t, d, 0, []string{"request_refused", "/other"}, "network", "log", keyed, "--denied")
	run(t, d, 0, nil, "plugins", "grant", keyed, "network", target, "addresses=127.0.0.1/32")
}

// secretPlain hands out a value as a variable, which must be in no place that
// the engine or the disk keeps.
func secretPlain(t *testing.T, d *harness.Daemon, c *client.Client) {
	run(t, d, 4, []string{"does not let it out"}, "plugins", "grant", keyed, "env", "DEMO_KEY")
	setSecret(t, d, 0, nil, plainValue, "DB_PASSWORD", "--env")
	run(t, d, 1, []string{"bound to no host"}, "plugins", "grant", keyed, "secret", "DB_PASSWORD")
	run(t, d, 0, nil, "plugins", "grant", keyed, "env", "DB_PASSWORD")
	if got := holds(t, c, "DB_PASSWORD"); got != plainValue {
		t.Errorf("the plugin holds %q", got)
	}
}

// secretMoved moves a key out of config.json.
func secretMoved(t *testing.T, d *harness.Daemon, c *client.Client, v *vault) {
	path := filepath.Join(d.Home, "config.json")
	before := getInfo(t, d, keyed).Generation
	edit(t, path, `"keyed": {`, `"keyed": { "config": {"auth": {"apiKey": "`+movedValue+`" /* keep me */}},`)
	eventually(t, 20*time.Second, "another start", func() bool {
		i := getInfo(t, d, keyed)
		return i.Generation > before && i.State == "running"
	})
	run(t, d, 0, []string{"auth.apiKey in its configuration looks like a key", "ocmt secrets move keyed auth.apiKey"}, "plugins", "info", keyed)
	run(t, d, 3, nil, "secrets", "move", keyed, "auth.other", "MOVED_KEY", "--host", "localhost:"+v.port, "--header", "X-Other")
	run(t, d, 0, nil, "secrets", "move", keyed, "auth.apiKey", "MOVED_KEY", "--host", "localhost:"+v.port, "--header", "X-Other")
	text, err := os.ReadFile(path)
	if err != nil || bytes.Contains(text, []byte(movedValue)) || !bytes.Contains(text, []byte("keep me")) {
		t.Errorf("config.json after the move: %s, %v", text, err)
	}
	var got struct {
		Own struct{ Auth struct{ APIKey string } }
	}
	invoke(t, c, &got, keyed, "config", `{}`)
	if held := holds(t, c, "MOVED_KEY"); got.Own.Auth.APIKey != held || !strings.HasPrefix(held, "ocmt-secret-") {
		t.Errorf("the plugin sees %q in its configuration and holds %q", got.Own.Auth.APIKey, held)
	}
	requestFrom(t, c, v.url("/c"), map[string]string{"X-Other": got.Own.Auth.APIKey})
	if !strings.Contains(v.last(), movedValue) {
		t.Errorf("the host was sent %q", v.last())
	}
}

// secretNowhere looks for the values in all that is kept.
func secretNowhere(t *testing.T, d *harness.Daemon) {
	container, err := d.Container(t.Context(), tenant, keyed)
	if err != nil {
		t.Fatal(err)
	}
	inspected, err := d.Engine().Inspect(t.Context(), container)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string][]byte{
		"the engine's configuration": []byte(inspected), "the daemon's log": []byte(d.Log()),
		"the plugin's log": d.Run(t.Context(), "plugins", "logs", keyed).Stdout,
		"the network log":  d.Run(t.Context(), "network", "log", "--json").Stdout,
		"the audit log":    d.Run(t.Context(), "audit", "export").Stdout,
		"plugins info":     d.Run(t.Context(), "plugins", "info", keyed, "--json").Stdout,
	}
	var events bytes.Buffer
	c := connect(t, d)
	_ = c.Events(t.Context(), v1.EventQuery{Tenant: tenant}, func(e v1.Event) error { return json.NewEncoder(&events).Encode(e) })
	places["events"] = events.Bytes()
	if events.Len() == 0 {
		t.Error("there are no events")
	}
	files := 0
	err = filepath.WalkDir(d.Home, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // what goes away meanwhile
		}
		if info, err := entry.Info(); err == nil && info.Size() < 32<<20 {
			places[path], _ = os.ReadFile(path)
			files++
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("%d files in the home, %v", files, err)
	}
	arguments, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range arguments {
		places[path], _ = os.ReadFile(path)
	}
	for place, text := range places {
		for _, value := range []string{firstValue, secondValue, plainValue, movedValue} {
			if bytes.Contains(text, []byte(value)) {
				t.Errorf("%s holds %q", place, value)
			}
		}
	}
	run(t, d, 0, nil, "audit", "verify")
}

func secretRemoved(t *testing.T, d *harness.Daemon) {
	run(t, d, 1, []string{"is granted to plugin keyed", "plugins revoke"}, "secrets", "rm", "DEMO_KEY")
	run(t, d, 0, nil, "plugins", "revoke", keyed, "secret", "DEMO_KEY")
	run(t, d, 0, nil, "secrets", "rm", "DEMO_KEY")
	run(t, d, 3, nil, "secrets", "rm", "DEMO_KEY")
}
