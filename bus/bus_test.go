package bus

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ocmt/ocmt/bus/subject"
)

const patience = 10 * time.Second // for what must happen; far more than it takes

func newServer(t testing.TB, limits Limits) *Server {
	t.Helper()
	s, err := New(Options{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func identity(tenant, plugin string, generation uint64) Identity {
	return Identity{Tenant: tenant, Plugin: plugin, Generation: generation, Instance: fmt.Sprintf("%s-%s-%d", tenant, plugin, generation)}
}

// attach returns a peer and the path of its socket.
func attach(t testing.TB, s *Server, id Identity) (*Peer, string) {
	t.Helper()
	dir := filepath.Join(socketParent(t), "i")
	p, err := s.Attach(t.Context(), id, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, filepath.Join(dir, SocketName)
}

// socketParent is a directory with a short name, not yet made.
func socketParent(t testing.TB) string {
	t.Helper()
	base, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	return filepath.Join(base, "run")
}

type unixDialer string

func (d unixDialer) Dial(string, string) (net.Conn, error) { return net.Dial("unix", string(d)) }

// runner connects to a socket as an unmodified NATS client, the way a
// well-meaning runner would. The channel takes what goes wrong.
func runner(t testing.TB, socket string, id Identity, opts ...nats.Option) (*nats.Conn, <-chan error) {
	t.Helper()
	errs := make(chan error, 64)
	opts = append([]nats.Option{
		nats.SetCustomDialer(unixDialer(socket)),
		nats.CustomInboxPrefix(subject.RunnerInbox(id.subject())),
		nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case errs <- err:
			default:
			}
		}),
	}, opts...)
	nc, err := nats.Connect("nats://127.0.0.1", opts...) // not dialled; a name would be looked up
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, errs
}

// echo answers every request under verb with its own data.
func echo(t testing.TB, nc *nats.Conn, id Identity, verb string) {
	t.Helper()
	if _, err := nc.Subscribe(subject.In(id.subject(), verb), func(m *nats.Msg) {
		_ = m.Respond(m.Data)
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// raw is a client that speaks the protocol by hand.
type raw struct {
	net.Conn
	in *bufio.Reader
	t  testing.TB
}

func dialRaw(t testing.TB, socket string) *raw {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &raw{Conn: conn, in: bufio.NewReader(conn), t: t}
}

// connectRaw has shaken hands.
func connectRaw(t testing.TB, socket string) *raw {
	t.Helper()
	r := dialRaw(t, socket)
	r.send("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\nPING\r\n")
	r.until("PONG")
	return r
}

func (r *raw) send(text string) {
	r.t.Helper()
	if err := r.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.Write([]byte(text)); err != nil {
		r.t.Fatalf("cannot send %.40q: %v", text, err)
	}
}

// until reads lines up to one that starts with prefix and returns all of them.
func (r *raw) until(prefix string) string {
	r.t.Helper()
	text, ok := r.read(prefix)
	if !ok {
		r.t.Fatalf("connection ended before %q; it said %q", prefix, text)
	}
	return text
}

// rest reads until the connection ends.
func (r *raw) rest() string {
	r.t.Helper()
	text, _ := r.read("\x00")
	return text
}

func (r *raw) read(prefix string) (text string, found bool) {
	r.t.Helper()
	var all strings.Builder
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	for {
		line, err := r.in.ReadString('\n')
		all.WriteString(line)
		if strings.HasPrefix(line, prefix) {
			return all.String(), true
		}
		if os.IsTimeout(err) {
			r.t.Fatalf("connection still open after %s; it said %q", patience, all.String())
		}
		if err != nil {
			return all.String(), false
		}
	}
}

// receive waits for one value.
func receive[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %s", what, patience)
		panic("unreachable")
	}
}

// waitFor waits until cond holds.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// request is a call that must succeed.
func request(t testing.TB, p *Peer, verb, data string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer, err := p.Request(ctx, verb, []byte(data))
	if err != nil {
		t.Fatalf("request %s: %v", verb, err)
	}
	return string(answer)
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
