package bus

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ocmt/ocmt/bus/subject"
)

// TestUnregisteredRefused connects to the server past the bridge.
func TestUnregisteredRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	attach(t, s, identity("default", "p", 1))
	for _, claims := range []string{"", `"user":"host"`, `"user":"runner","pass":"x"`, `"auth_token":"x"`} {
		conn, err := s.nats.InProcessConn()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		r := &raw{Conn: conn, in: bufio.NewReader(conn), t: t}
		r.until("INFO ")
		r.send("CONNECT {" + claims + "}\r\n")
		if got := r.rest(); !strings.Contains(got, "-ERR 'Authorization Violation'") {
			t.Errorf("connect with {%s}: got %q, want an authorization violation", claims, got)
		}
	}
	if s.nats.Addr() != nil {
		t.Errorf("server listens on %s", s.nats.Addr())
	}
}

// foreign returns subjects that are not the runner's, by name.
func foreign(id Identity) map[string]string {
	self := id.subject()
	older := self
	older.Generation--
	newer := self
	newer.Generation++
	plugin := self
	plugin.Plugin = "other"
	tenant := self
	tenant.Tenant = "other"
	return map[string]string{
		"everything":       ">",
		"one token":        "*",
		"inbox":            "_INBOX.x",
		"all inboxes":      "_INBOX.>",
		"system":           "$SYS.REQ.SERVER.PING",
		"all of system":    "$SYS.>",
		"jetstream":        "$JS.API.INFO",
		"all of jetstream": "$JS.>",
		"all of ocmt":      "ocmt.>",
		"all generations":  "ocmt.v1.t.p.*.in.>",
		"older generation": subject.In(older, subject.Tool),
		"newer generation": subject.In(newer, subject.Tool),
		"other plugin":     subject.In(plugin, subject.Tool),
		"other tenant":     subject.In(tenant, subject.Tool),
		"host's request":   subject.HostInbox(newer) + ".1",
	}
}

// TestForeignSubjectsRefused has a runner try what is not its own, with an
// unmodified client.
func TestForeignSubjectsRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{Connections: 64, ConnectBurst: 1000})
	id := identity("t", "p", 5)
	_, socket := attach(t, s, id)
	self := id.subject()

	publish := foreign(id)
	publish["own in"] = subject.In(self, subject.Tool)
	publish["own runner inbox"] = subject.RunnerInbox(self) + ".1"
	subscribe := foreign(id)
	subscribe["own out"] = subject.Out(self, subject.Hello)
	subscribe["all of own out"] = "ocmt.v1.t.p.5.out.>"
	subscribe["own host inbox"] = subject.HostInbox(self) + ".>"
	subscribe["all of own"] = "ocmt.v1.t.p.5.>"

	nc, errs := runner(t, socket, id)
	for name, subj := range publish {
		if err := nc.Publish(subj, []byte("x")); err != nil {
			t.Fatalf("publish to %s: %v", name, err)
		}
		if err := receive(t, "refusal to publish to "+name, errs); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("publish to %s: got %v, want a permission violation", name, err)
		}
	}
	for name, subj := range subscribe {
		if _, err := nc.SubscribeSync(subj); err != nil {
			t.Fatalf("subscribe to %s: %v", name, err)
		}
		if err := receive(t, "refusal to subscribe to "+name, errs); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("subscribe to %s: got %v, want a permission violation", name, err)
		}
		if _, err := nc.QueueSubscribeSync(subj, "q"); err != nil {
			t.Fatalf("subscribe to %s: %v", name, err)
		}
		if err := receive(t, "refusal to join a queue on "+name, errs); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("join a queue on %s: got %v, want a permission violation", name, err)
		}
	}
}

// TestOthersInboxes has runners listen wherever they may while the host talks
// to a victim, whose requests and answers nobody else must see.
func TestOthersInboxes(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	victim := identity("a", "p", 5)
	p, socket := attach(t, s, victim)
	if err := p.Handle(subject.Hello, func(context.Context, []byte) []byte { return []byte("secret") }); err != nil {
		t.Fatal(err)
	}
	heard := make(chan *nats.Msg, 1000)
	for _, id := range []Identity{
		identity("a", "other", 5), // same tenant
		identity("b", "other", 5), // other tenant
		identity("b", "p", 5),     // same plugin id in another tenant
	} {
		_, socket := attach(t, s, id)
		spy, _ := runner(t, socket, id)
		for _, subj := range []string{
			"ocmt.v1.a.p.5.>", subject.In(victim.subject(), subject.Tool),
			subject.HostInbox(victim.subject()) + ".>", subject.RunnerInbox(victim.subject()) + ".>",
			strings.TrimSuffix(subject.In(id.subject(), ""), "=") + ">", // all that is its own
		} {
			if _, err := spy.ChanSubscribe(subj, heard); err != nil {
				t.Fatal(err)
			}
		}
		if err := spy.Flush(); err != nil {
			t.Fatal(err)
		}
		// What it says under the victim's name reaches nobody, either.
		if err := spy.Publish(subject.Reply(victim.subject(), 1), []byte("forged")); err != nil {
			t.Fatal(err)
		}
		if err := spy.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	nc, _ := runner(t, socket, victim)
	echo(t, nc, victim, subject.Tool)
	for i := range 100 {
		if got, want := request(t, p, subject.Tool, fmt.Sprint(i)), fmt.Sprint(i); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if _, err := nc.Request(subject.Out(victim.subject(), subject.Hello), nil, patience); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(heard); n != 0 {
		m := <-heard
		t.Errorf("others heard %d messages; the first on %s: %q", n, m.Subject, m.Data)
	}
}

// TestOlderGenerationHearsNothing keeps the old generation's connection in the
// same account alive past the bridge and has it listen.
func TestOlderGenerationHearsNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	old := identity("a", "p", 1)
	p1, _ := attach(t, s, old)
	spy, err := nats.Connect("", nats.InProcessServer(dialer{s, p1.runner}), nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(spy.Close)
	heard := make(chan *nats.Msg, 1000)
	id := identity("a", "p", 2)
	p2, socket := attach(t, s, id)
	for _, subj := range []string{"ocmt.v1.a.p.1.in.>", "ocmt.v1.a.p.2.in.>", "ocmt.v1.a.p.2.reply.>", "ocmt.v1.a.p.*.in.>", ">"} {
		if _, err := spy.ChanSubscribe(subj, heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := spy.Flush(); err != nil {
		t.Fatal(err)
	}
	nc, _ := runner(t, socket, id)
	echo(t, nc, id, subject.Tool)
	for range 100 {
		request(t, p2, subject.Tool, "x")
	}
	if n := len(heard); n != 0 {
		t.Errorf("the older generation heard %d messages", n)
	}
}

// TestForgedReply asks the host for an answer on a subject of the host's
// choice or a victim's: first through the handler, which does not answer
// there, then with the host's own connection, which the server does not let.
func TestForgedReply(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	id, other := identity("t", "p", 5), identity("t", "victim", 5)
	p, socket := attach(t, s, id)
	_, socketV := attach(t, s, other)
	handled := make(chan struct{}, 100)
	if err := p.Handle(subject.Hello, func(context.Context, []byte) []byte {
		handled <- struct{}{}
		return []byte("answer")
	}); err != nil {
		t.Fatal(err)
	}
	victim, _ := runner(t, socketV, other)
	echo(t, victim, other, subject.Tool)
	heard := make(chan *nats.Msg, 100)
	if _, err := victim.ChanSubscribe("ocmt.v1.t.victim.5.in.>", heard); err != nil {
		t.Fatal(err)
	}
	nc, _ := runner(t, socket, id)
	if _, err := nc.ChanSubscribe("ocmt.v1.t.p.5.in.>", heard); err != nil {
		t.Fatal(err)
	}

	refused := make(chan error, 100)
	host, err := nats.Connect("", nats.NoReconnect(),
		nats.InProcessServer(dialer{s, grant{name: "host", account: p.runner.account, permissions: subject.HostPermissions(p.names)}}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	for name, reply := range foreign(id) {
		if err := nc.PublishRequest(subject.Out(id.subject(), subject.Hello), reply, nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		receive(t, "request with a reply to "+name, handled)
		if err := host.Publish(reply, []byte("answer")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := receive(t, "refusal of an answer to "+name, refused); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("answer to %s: got %v, want a permission violation", name, err)
		}
	}
	for _, c := range []*nats.Conn{nc, victim, p.host} {
		if err := c.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	for len(heard) > 0 {
		if m := <-heard; string(m.Data) == "answer" {
			t.Errorf("a forged reply arrived on %s", m.Subject)
		}
	}
}

// TestTraceHeaderRefused has a runner ask the server itself to publish, by the
// header with which messages are traced.
func TestTraceHeaderRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	id := identity("t", "p", 5)
	p, socket := attach(t, s, id)
	nc, errs := runner(t, socket, id)
	heard := make(chan *nats.Msg, 10)
	if _, err := nc.ChanSubscribe("ocmt.v1.t.p.5.in.>", heard); err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg(subject.Out(id.subject(), subject.Progress))
	m.Header.Set("Nats-Trace-Dest", subject.In(id.subject(), subject.Tool))
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil && !nc.IsClosed() {
		t.Fatal(err)
	}
	select {
	case m := <-heard:
		t.Errorf("the server published on %s: %.100q", m.Subject, m.Data)
	case err := <-errs:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("got %v, want a permission violation", err)
		}
	case <-time.After(patience):
		t.Error("no refusal")
	}
	if p.isClosed() {
		t.Error("peer is closed")
	}
}

// TestForgedConnect claims other identities. The socket's identity is what
// counts; naming an account costs the connection.
func TestForgedConnect(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{Connections: 16, ConnectBurst: 100})
	id, other := identity("t", "p", 5), identity("t", "victim", 5)
	p, socket := attach(t, s, id)
	attach(t, s, other)
	tests := []struct {
		name, claims string
		refused      bool
	}{
		{"user and password", `"user":"host","pass":"x"`, false},
		{"token", `"auth_token":"x"`, false},
		{"jwt", `"jwt":"eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.AAAA","sig":"AAAA"`, false},
		{"nkey", `"nkey":"UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","sig":"AAAA"`, false},
		{"another account", fmt.Sprintf(`"account":%q`, subject.Account(other.subject())), true},
		{"the global account", `"account":"$G"`, true},
		{"a new account", `"account":"x","new_account":true`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := dialRaw(t, socket)
			r.send("CONNECT {" + tt.claims + `,"headers":true,"no_responders":true,"protocol":1}` + "\r\nPING\r\n")
			if tt.refused {
				if got := r.rest(); !strings.Contains(got, "-ERR 'Authorization Violation'") {
					t.Errorf("got %q, want an authorization violation", got)
				}
				return
			}
			r.until("PONG")
			r.send("SUB " + subject.In(other.subject(), subject.Tool) + " 1\r\n")
			r.until("-ERR 'Permissions Violation for Subscription")
			r.send("SUB " + subject.In(id.subject(), subject.Tool) + " 2\r\nPING\r\n")
			r.until("PONG")
			go func() {
				line := r.until("MSG ")
				r.send("PUB " + strings.Fields(line)[3] + " 2\r\nme\r\n")
			}()
			if got := request(t, p, subject.Tool, ""); got != "me" {
				t.Errorf("got %q, want %q", got, "me")
			}
			r.Close()
			waitFor(t, "the connection is gone", func() bool { return p.connections() == 0 })
		})
	}
}

// TestInfo looks at what the server tells a runner.
func TestInfo(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{})
	_, socket := attach(t, s, identity("t", "p", 1))
	line := dialRaw(t, socket).until("INFO ")
	var info map[string]any
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"connect_urls", "ws_connect_urls", "nonce", "cluster", "domain", "jetstream", "tls_required", "tls_available"} {
		if v, ok := info[key]; ok {
			t.Errorf("INFO holds %s: %v", key, v)
		}
	}
	if got, want := info["max_payload"], float64(DefaultLimits().MaxPayload); got != want {
		t.Errorf("max_payload: got %v, want %v", got, want)
	}
}
