package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"

	"github.com/ocmt/ocmt/e2e/harness"
)

// decoy is a server of the test on this machine's loopback.
type decoy struct {
	*httptest.Server
	port string
	hits atomic.Int64
	held chan struct{} // gets one for every request of /held, which is never answered in full
}

func newDecoy(t *testing.T) *decoy {
	t.Helper()
	d := &decoy{held: make(chan struct{}, 16)}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.hits.Add(1)
		fmt.Fprint(w, "decoy")
		if r.URL.Path == "/held" {
			w.(http.Flusher).Flush() //nolint:forcetypeassert // as net/http promises
			d.held <- struct{}{}
			<-r.Context().Done()
		}
	}))
	t.Cleanup(d.CloseClientConnections)
	t.Cleanup(d.Close)
	_, d.port, _ = net.SplitHostPort(d.Listener.Addr().String())
	return d
}

func (d *decoy) url(path string) string { return "http://localhost:" + d.port + path }

// fetched is the result of a plugin's fetch.
type fetched struct {
	Status      int
	Body, Error string
}

func fetchWith(t *testing.T, c *client.Client, id, url string) fetched {
	t.Helper()
	var got fetched
	invoke(t, c, &got, id, "fetch", `{"url":"`+url+`"}`)
	return got
}

// connections returns what was told of connections to a host, the newest last.
func connections(t *testing.T, c *client.Client, host string) []v1.Connection {
	t.Helper()
	var list []v1.Connection
	err := c.Events(t.Context(), v1.EventQuery{Tenant: tenant}, func(e v1.Event) error {
		var conn v1.Connection
		if e.Type != v1.EventConnection {
			return nil
		}
		if err := json.Unmarshal(e.Data, &conn); err != nil {
			return err
		}
		if conn.Host == host && e.Plugin == worker {
			list = append(list, conn)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestNetwork grants connections to a running plugin. Whatever it reaches is a
// server of the test on loopback; what it must not reach are names that are
// refused before anybody looks them up.
func TestNetwork(t *testing.T) {
	d := start(t)
	c := connect(t, d)
	install(t, d, worker)
	install(t, d, "conformance-seed-esm")
	server := newDecoy(t)
	before := instanceOf(t, c)
	for _, tc := range []struct {
		name string
		test func(*testing.T)
	}{
		{"not granted", func(t *testing.T) { networkDenied(t, d, c, server) }},
		{"granted", func(t *testing.T) { networkGranted(t, d, c, server) }},
		{"plain text", func(t *testing.T) { networkPlaintext(t, d, c, server) }},
		{"revoked", func(t *testing.T) { networkRevoked(t, d, c, server) }},
		{"for a while", func(t *testing.T) { networkExpires(t, d, c, server) }},
		{"narrowed by config.json", func(t *testing.T) { networkNarrowed(t, d, c, server) }},
		{"bad grants", func(t *testing.T) { networkBadGrants(t, d, c) }},
	} {
		if !t.Run(tc.name, tc.test) {
			return
		}
	}
	if after := instanceOf(t, c); after != before {
		t.Errorf("the plugin runs as %s, before all this as %s: it was restarted", after, before)
	}
}

func instanceOf(t *testing.T, c *client.Client) string {
	t.Helper()
	p, err := c.Plugin(t.Context(), tenant, worker)
	if err != nil || p.Instance == "" {
		t.Fatalf("it runs as %q, %v", p.Instance, err)
	}
	return p.Instance
}

// networkDenied has the plugin try names and addresses.
func networkDenied(t *testing.T, d *harness.Daemon, c *client.Client, server *decoy) {
	const name = "nowhere.perm.example"
	if got := fetchWith(t, c, worker, "https://"+name+"/secret"); got.Error != "ENOTFOUND" {
		t.Errorf("a name that was not granted: %+v, want ENOTFOUND", got)
	}
	const command = "ocmt plugins grant perm-worker network nowhere.perm.example:443"
	var told []v1.Connection
	eventually(t, 5*time.Second, "the event", func() bool {
		told = connections(t, c, name)
		return len(told) > 0
	})
	if e := told[0]; e.Allowed || e.Code != "not_granted" || e.Command != command {
		t.Errorf("the event says %+v, want it denied, with %q", e, command)
	}
	expectRecord(t, d, "network.denied", worker, func(r map[string]any) bool {
		return r["target"] == name && r["actor"] == "plugin:"+worker && r["outcome"] == "denied" && r["code"] == "not_granted"
	})
	run(t, d, 0, []string{command}, "plugins", "permissions", worker)
	list, err := c.Approvals(t.Context(), tenant)
	if err != nil || !slices.ContainsFunc(list, func(a v1.Approval) bool { return strings.Contains(a.Description, command) }) {
		t.Errorf("the approvals do not name the command: %v, %v", list, err)
	}

	for _, host := range []string{"localhost", "127.0.0.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1", "192.0.2.1", "2130706433"} {
		if got := fetchWith(t, c, worker, "http://"+host+":"+server.port+"/"); got.Error == "" || got.Status != 0 {
			t.Errorf("fetching from %s: %+v", host, got)
		}
	}
	if n := server.hits.Load(); n != 0 {
		t.Errorf("the server was reached %d times", n)
	}
}

// networkGranted grants the server on loopback to one of two plugins.
func networkGranted(t *testing.T, d *harness.Daemon, c *client.Client, server *decoy) {
	words := []string{"In force now", "that took no restart"}
	run(t, d, 0, words, "plugins", "grant", worker, "network", "localhost:"+server.port, "plaintext,addresses=127.0.0.1/32")
	eventually(t, 5*time.Second, "the grant is in force", func() bool {
		return fetchWith(t, c, worker, server.url("/")) == fetched{Status: 200, Body: "decoy"}
	})
	hits := server.hits.Load()
	other := newDecoy(t)
	for _, tc := range []struct{ id, url string }{
		{worker, other.url("/")},
		{"conformance-seed-esm", server.url("/")},
		{worker, "http://10.0.0.1:" + server.port + "/"},
		{worker, "http://localhost.perm.example:" + server.port + "/"},
	} {
		if got := fetchWith(t, c, tc.id, tc.url); got.Error == "" || got.Status != 0 {
			t.Errorf("%s fetched %s: %+v", tc.id, tc.url, got)
		}
	}
	if server.hits.Load() != hits || other.hits.Load() != 0 {
		t.Errorf("the servers were reached %d and %d times more", server.hits.Load()-hits, other.hits.Load())
	}
	expectRecord(t, d, "network.open", worker, func(r map[string]any) bool {
		return r["target"] == "localhost:"+server.port && r["outcome"] == "allowed" && strings.Contains(string(mustJSON(t, r["details"])), `"127.0.0.1`)
	})
	expectRecord(t, d, "permission.grant", worker, func(r map[string]any) bool {
		return r["target"] == "network localhost:"+server.port+" plaintext,addresses=127.0.0.1/32" && r["actor"] == currentActor() && r["outcome"] == "done"
	})
	told := connections(t, c, "localhost")
	if len(told) == 0 || !told[len(told)-1].Allowed {
		t.Errorf("the events are %+v", told)
	}
}

// networkPlaintext grants the same for TLS alone.
func networkPlaintext(t *testing.T, d *harness.Daemon, c *client.Client, server *decoy) {
	run(t, d, 0, nil, "plugins", "grant", worker, "network", "localhost:"+server.port, "addresses=127.0.0.1/32")
	hits := server.hits.Load()
	var got struct{ Body, Error string }
	eventually(t, 5*time.Second, "plain text is refused", func() bool {
		params := fmt.Sprintf(`{"host":"localhost","port":%s,"text":"GET / HTTP/1.0\r\n\r\n"}`, server.port)
		invoke(t, c, &got, worker, "send", params)
		return got.Body == ""
	})
	if got := fetchWith(t, c, worker, server.url("/")); got.Status != 0 {
		t.Errorf("fetched without TLS: %+v", got)
	}
	if n := server.hits.Load() - hits; n > 1 { // one may come before the grant is in force
		t.Errorf("the server was reached %d times", n)
	}
	eventually(t, 5*time.Second, "the refusal is recorded", func() bool {
		return slices.ContainsFunc(audited(t, d, "network.close", worker), func(r map[string]any) bool {
			return r["code"] == "tls_required" && r["outcome"] == "denied"
		})
	})
	if told := connections(t, c, "localhost"); !slices.ContainsFunc(told, func(e v1.Connection) bool { return !e.Allowed && e.Code == "tls_required" }) {
		t.Errorf("the events are %+v", told)
	}
}

// networkRevoked takes a connection away from under the plugin.
func networkRevoked(t *testing.T, d *harness.Daemon, c *client.Client, server *decoy) {
	grant := []string{"plugins", "grant", worker, "network", "localhost:" + server.port, "plaintext,addresses=127.0.0.1/32"}
	run(t, d, 0, nil, grant...)
	eventually(t, 5*time.Second, "granted", func() bool { return fetchWith(t, c, worker, server.url("/")).Status == 200 })
	cut := make(chan fetched, 1)
	go func() {
		result, err := c.Call(t.Context(), tenant, worker, "fetch", v1.CallRequest{Params: json.RawMessage(`{"url":"` + server.url("/held") + `"}`)})
		var got fetched
		if err == nil {
			err = json.Unmarshal(result.Result, &got)
		}
		if err != nil {
			got.Body = err.Error()
		}
		cut <- got
	}()
	select {
	case <-server.held:
	case <-time.After(10 * time.Second):
		t.Fatal("the connection did not come")
	}
	run(t, d, 0, []string{"that took no restart"}, "plugins", "revoke", worker, "network", "localhost:"+server.port)
	select {
	case got := <-cut:
		if got.Error == "" || got.Status != 0 {
			t.Errorf("the connection that was open: %+v, want it cut off", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("the connection that was open is open still")
	}
	hits := server.hits.Load()
	if got := fetchWith(t, c, worker, server.url("/")); got.Status != 0 || server.hits.Load() != hits {
		t.Errorf("after the revocation: %+v, with %d requests", got, server.hits.Load()-hits)
	}
	expectRecord(t, d, "permission.revoke", worker, func(r map[string]any) bool {
		return r["target"] == "network localhost:"+server.port && r["actor"] == currentActor() && r["outcome"] == "done"
	})
	run(t, d, 3, []string{"was not granted"}, "plugins", "revoke", worker, "network", "localhost:"+server.port)
}

// networkExpires grants for two seconds.
func networkExpires(t *testing.T, d *harness.Daemon, c *client.Client, server *decoy) {
	run(t, d, 0, []string{"until"}, "plugins", "grant", worker, "network", "localhost:"+server.port, "plaintext,addresses=127.0.0.1/32", "--for", "2s")
	eventually(t, 2*time.Second, "granted", func() bool { return fetchWith(t, c, worker, server.url("/")).Status == 200 })
	eventually(t, 5*time.Second, "the grant ends", func() bool { return fetchWith(t, c, worker, server.url("/")).Error != "" })
	granted, _ := permissions(t, c, worker)
	if slices.ContainsFunc(granted, func(g string) bool { return strings.HasPrefix(g, "network") }) {
		t.Errorf("granted %q after its time", granted)
	}
	eventually(t, 5*time.Second, "the end is recorded", func() bool {
		return slices.ContainsFunc(audited(t, d, "permission.expire", worker), func(r map[string]any) bool {
			return strings.HasPrefix(fmt.Sprint(r["target"]), "network localhost:"+server.port) && r["actor"] == "ocmt"
		})
	})
}

// networkNarrowed cuts a grant off by an edit of config.json.
func networkNarrowed(t *testing.T, d *harness.Daemon, c *client.Client, server *decoy) {
	path := filepath.Join(d.Home, "config.json")
	const narrow = `"permissions": {"network": []},`
	run(t, d, 0, nil, "plugins", "grant", worker, "network", "localhost:"+server.port, "plaintext,addresses=127.0.0.1/32")
	eventually(t, 5*time.Second, "granted", func() bool { return fetchWith(t, c, worker, server.url("/")).Status == 200 })
	edit(t, path, `"perm-worker": {`, `"perm-worker": {`+narrow)
	eventually(t, 5*time.Second, "cut off", func() bool { return fetchWith(t, c, worker, server.url("/")).Error != "" })
	run(t, d, 0, []string{"switched off by config.json"}, "plugins", "permissions", worker)
	edit(t, path, narrow, "")
	eventually(t, 5*time.Second, "back", func() bool { return fetchWith(t, c, worker, server.url("/")).Status == 200 })
	run(t, d, 0, nil, "plugins", "revoke", worker, "network", "localhost:"+server.port)
}

// networkBadGrants names destinations that cannot be granted.
func networkBadGrants(t *testing.T, d *harness.Daemon, c *client.Client) {
	before, _ := permissions(t, c, worker)
	for _, tc := range []struct{ target, value string }{
		{"https://a.example.com:443", ""}, {"a.example.com", ""}, {"a.example.com:0", ""}, {"a.example.com:65536", ""}, {"a.example.com:-1", ""},
		{"*.com:443", ""}, {"*:443", ""}, {"a.*.example.com:443", ""}, {"*a.example.com:443", ""}, {"127.0.0.1:80", "plaintext,addresses=127.0.0.1/32"},
		{"10.0.0.1:443", ""}, {"[::1]:443", ""}, {"2130706433:443", ""}, {"localhost:80", "plaintext"}, {"localhost:80", "addresses=10.0.0.0/8"},
		{"a.example.com:443", "addresses=127.0.0.0/8"}, {"a.example.com:443", "addresses=169.254.0.0/16"}, {"a.example.com:443", "addresses=0.0.0.0/0"},
		{"a.example.com:443", "addresses=10.0.0.1/8"}, {"a.example.com:443", "anything"}, {"a b.example.com:443", ""}, {"a..example.com:443", ""},
		{strings.Repeat("a", 64) + ".example.com:443", ""}, {"a.example.com:443\n", ""},
	} {
		_, err := c.Grant(t.Context(), tenant, worker, v1.GrantRequest{Kind: "network", Target: tc.target, Value: tc.value})
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("granting %q %q: %v, want it refused", tc.target, tc.value, err)
		}
	}
	run(t, d, 2, []string{"scheme", "hint"}, "plugins", "grant", worker, "network", "https://a.example.com:443")
	run(t, d, 2, []string{"hint"}, "plugins", "grant", worker, "network", "localhost:80")
	if after, _ := permissions(t, c, worker); !slices.Equal(before, after) {
		t.Errorf("granted %q, before %q", after, before)
	}
}
