package bus

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/bus/subject"
)

// bystander is another plugin, whose calls must go on whatever happens.
func bystander(t *testing.T, s *Server) (check func(what string)) {
	t.Helper()
	id := identity("t", "bystander", 1)
	p, socket := attach(t, s, id)
	nc, _ := runner(t, socket, id)
	echo(t, nc, id, subject.Tool)
	return func(what string) {
		t.Helper()
		for range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			_, err := p.Request(ctx, subject.Tool, []byte("x"))
			cancel()
			if err != nil {
				t.Fatalf("bystander, %s: %v", what, err)
			}
		}
	}
}

// TestViolations sends what no client may. The connection ends, the plugin's
// other connection and other plugins go on.
func TestViolations(t *testing.T) {
	t.Parallel()
	const limit = 1 << 16
	s := newServer(t, Limits{MaxPayload: limit, ConnectBurst: 1000})
	check := bystander(t, s)
	id := identity("t", "p", 1)
	p, socket := attach(t, s, id)
	nc, _ := runner(t, socket, id)
	echo(t, nc, id, subject.Tool)
	out := subject.Out(id.subject(), subject.Progress)
	tests := []struct{ name, send, want string }{
		{"payload", fmt.Sprintf("PUB %s %d\r\n", out, limit+1), "Maximum Payload Violation"},
		{"payload with headers", fmt.Sprintf("HPUB %s 12 %d\r\n", out, limit+1), "Maximum Payload Violation"},
		{"payload of 10 digits", "PUB " + out + " 1000000000\r\n", "Unknown Protocol Operation"},
		{"negative payload", "PUB " + out + " -1\r\n", "Unknown Protocol Operation"},
		{"no size", "PUB \r\n", "Unknown Protocol Operation"},
		{"line", "SUB " + strings.Repeat("x", maxControlLine), "Maximum Control Line Exceeded"},
		{"unknown operation", "RS+ a b\r\n", "Unknown Protocol Operation"},
		{"second connect", "CONNECT {}\r\n", "Unknown Protocol Operation"},
		{"bare line feed", "PING\n", "Unknown Protocol Operation"},
		{"payload without its end", "PUB " + out + " 1\r\nxxx", "Unknown Protocol Operation"}, // the server's finding
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := connectRaw(t, socket)
			r.send(tt.send)
			if got := r.rest(); !strings.Contains(got, "-ERR '"+tt.want+"'") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			waitFor(t, "the connection is gone", func() bool { return p.connections() == 1 })
			if got := request(t, p, subject.Tool, "x"); got != "x" {
				t.Errorf("the other connection answers %q", got)
			}
			check("after a violation")
		})
	}
}

// TestLargestPayloadPasses sends what is just allowed, in small pieces.
func TestLargestPayloadPasses(t *testing.T) {
	t.Parallel()
	const limit = 1000
	s := newServer(t, Limits{MaxPayload: limit})
	id := identity("t", "p", 1)
	p, socket := attach(t, s, id)
	got := make(chan int, 1)
	if err := p.Handle(subject.Progress, func(_ context.Context, data []byte) []byte {
		got <- len(data)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	r := connectRaw(t, socket)
	msg := fmt.Sprintf("PUB %s %d\r\n%s\r\nPING\r\n", subject.Out(id.subject(), subject.Progress), limit, strings.Repeat("\n", limit))
	for i := range len(msg) {
		r.send(msg[i : i+1])
	}
	r.until("PONG")
	if n := receive(t, "message", got); n != limit {
		t.Errorf("got %d bytes, want %d", n, limit)
	}
}

func TestSubscriptionLimit(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{Subscriptions: 10})
	check := bystander(t, s)
	id := identity("t", "p", 1)
	p, socket := attach(t, s, id)
	r := connectRaw(t, socket)
	for i := range 10 {
		r.send(fmt.Sprintf("SUB %s%d %d\r\n", subject.In(id.subject(), "x"), i, i))
	}
	r.send("PING\r\n")
	if got := r.until("PONG"); strings.Contains(got, "-ERR") {
		t.Fatalf("within the limit: %q", got)
	}
	r.send("SUB " + subject.In(id.subject(), "more") + " 11\r\nPING\r\n")
	if got := r.until("PONG"); !strings.Contains(got, "-ERR 'maximum subscriptions exceeded'") {
		t.Errorf("beyond the limit: got %q", got)
	}
	if err := p.Handle(subject.Hello, func(context.Context, []byte) []byte { return nil }); err != nil {
		t.Errorf("host: %v", err)
	}
	check("after the subscription limit")
}

// TestConnectionLimit fills a plugin's connections and expects that the host
// keeps its own, even if it has to connect again.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{Connections: 2, ConnectBurst: 100})
	check := bystander(t, s)
	id := identity("t", "p", 1)
	p, socket := attach(t, s, id)
	nc, _ := runner(t, socket, id)
	echo(t, nc, id, subject.Tool)
	connectRaw(t, socket)
	for range 5 {
		if got := dialRaw(t, socket).rest(); got != "" {
			t.Errorf("connection beyond the limit: got %q, want nothing", got)
		}
	}
	cid, err := p.host.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.nats.DisconnectClientByID(cid); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the host is back", func() bool {
		now, err := p.host.GetClientID()
		return err == nil && now != cid && p.host.IsConnected()
	})
	if got := request(t, p, subject.Tool, "x"); got != "x" {
		t.Errorf("got %q", got)
	}
	nc.Close()
	waitFor(t, "the connection is gone", func() bool { return p.connections() == 1 })
	connectRaw(t, socket) // its place is free again
	check("after the connection limit")
}

// TestSocketLimit has one plugin use up the sockets that all share; those that
// are connected go on.
func TestSocketLimit(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{Sockets: 3, Connections: 2})
	check := bystander(t, s)
	_, socket := attach(t, s, identity("t", "p", 1))
	connectRaw(t, socket)
	first := connectRaw(t, socket)
	id := identity("t", "late", 1)
	late, socketLate := attach(t, s, id)
	if got := dialRaw(t, socketLate).rest(); got != "" {
		t.Errorf("socket beyond the limit: got %q, want nothing", got)
	}
	check("with no socket left")
	first.Close()
	waitFor(t, "a socket is free", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.sockets == 2
	})
	nc, _ := runner(t, socketLate, id)
	echo(t, nc, id, subject.Tool)
	request(t, late, subject.Tool, "x")
}

// TestReconnectStorm connects as fast as it goes for a while.
func TestReconnectStorm(t *testing.T) {
	t.Parallel()
	const perSecond, burst = 20, 10
	s := newServer(t, Limits{ConnectsPerSecond: perSecond, ConnectBurst: burst})
	check := bystander(t, s)
	_, socket := attach(t, s, identity("t", "p", 1))
	start, served := time.Now(), 0
	for time.Since(start) < time.Second {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			continue // the queue is full
		}
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if n, _ := conn.Read(make([]byte, 1)); n > 0 {
			served++
		}
		conn.Close()
	}
	if most := burst + int(perSecond*time.Since(start).Seconds()) + 1; served > most || served < burst/2 {
		t.Errorf("%d connections were served in %s, want %d to %d", served, time.Since(start), burst/2, most)
	}
	check("after a reconnect storm")
}

// TestRevocation closes a peer while its runners send, listen and are stuck.
func TestRevocation(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{Connections: 8, ConnectBurst: 100, MessagesPerSecond: 1, MessageBurst: 10})
	check := bystander(t, newServer(t, Limits{}))
	id := identity("t", "p", 1)
	p, socket := attach(t, s, id)
	idle := connectRaw(t, socket)
	silent := dialRaw(t, socket) // has not sent CONNECT
	silent.until("INFO ")
	throttled := connectRaw(t, socket)
	throttled.send(strings.Repeat("PING\r\n", 1000))
	waitFor(t, "all are connected", func() bool { return p.connections() == 3 })
	start := time.Now()
	p.Close()
	if took := time.Since(start); took > time.Second {
		t.Errorf("close took %s", took)
	}
	for name, r := range map[string]*raw{"idle": idle, "silent": silent, "throttled": throttled} {
		r.rest()
		if _, err := r.Write([]byte("PING\r\n")); err == nil {
			t.Errorf("%s connection can still write", name)
		}
	}
	if n := s.nats.NumClients(); n != 0 {
		waitFor(t, "the server has no client", func() bool { return s.nats.NumClients() == 0 })
	}
	if n := s.gate.waiting(); n != 0 {
		t.Errorf("%d grants are left behind", n)
	}
	check("after a revocation")
}

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.grants)
}

// rssAnon is the process's anonymous memory in use, bytes.
func rssAnon(t *testing.T) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no RssAnon in /proc/self/status")
	return 0
}

const floodTime, memoryBound = 2 * time.Second, 128 << 20

// bounded runs flood for a while and wants the memory to stay within bounds.
func bounded(t *testing.T, during func(), flood func(stop <-chan struct{})) {
	t.Helper()
	before, most := rssAnon(t), int64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		flood(stop)
	}()
	for start := time.Now(); time.Since(start) < floodTime; {
		during()
		most = max(most, rssAnon(t)-before)
	}
	close(stop)
	receive(t, "end of the flood", done)
	t.Logf("memory grew by at most %d MiB", most>>20)
	if most > memoryBound {
		t.Errorf("memory grew by %d MiB, want at most %d", most>>20, memoryBound>>20)
	}
}

// TestFloodingWriter publishes as fast as it goes: to a handler that is stuck,
// to where nobody listens, and to where it may not.
func TestFloodingWriter(t *testing.T) { // not parallel: it measures the process
	id := identity("t", "p", 1)
	for _, tt := range []struct{ name, subj string }{
		{"stuck handler", subject.Out(id.subject(), subject.Progress)},
		{"answers to nobody", subject.Reply(id.subject(), 1<<40)},
		{"nobody listens", subject.Out(id.subject(), "nothing")},
		{"forbidden", "_INBOX.x"},
	} {
		for _, size := range []int{16, 1 << 20} {
			t.Run(fmt.Sprintf("%s, %d bytes", tt.name, size), func(t *testing.T) {
				s := newServer(t, Limits{})
				check := bystander(t, s)
				p, socket := attach(t, s, id)
				if err := p.Handle(subject.Progress, func(ctx context.Context, _ []byte) []byte {
					<-ctx.Done()
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				r := connectRaw(t, socket)
				drained := make(chan struct{})
				go func() { // it reads, so that nothing but the flood is in its way
					defer close(drained)
					buf := make([]byte, 64<<10)
					for {
						if _, err := r.Read(buf); err != nil {
							return
						}
					}
				}()
				one := []byte(fmt.Sprintf("PUB %s %d\r\n%s\r\n", tt.subj, size, strings.Repeat("x", size)))
				many := bytes.Repeat(one, max(1, 64<<10/len(one)))
				_ = r.SetDeadline(time.Time{})
				sent := 0
				bounded(t, func() { check("during the flood") }, func(stop <-chan struct{}) {
					for {
						select {
						case <-stop:
							return
						default:
						}
						_ = r.SetWriteDeadline(time.Now().Add(time.Second))
						n, err := r.Write(many)
						sent += n
						if err != nil && !os.IsTimeout(err) {
							return
						}
					}
				})
				l := DefaultLimits()
				most := float64(l.ByteBurst) + float64(l.BytesPerSecond)*(floodTime+2*time.Second).Seconds()
				t.Logf("took %d MiB", sent>>20)
				if float64(sent) > most {
					t.Errorf("took %d bytes, the throttle allows %.0f", sent, most)
				}
				p.Close()
				receive(t, "end of the reader", drained)
			})
		}
	}
}

// TestNeverReads sends to a runner that does not read.
func TestNeverReads(t *testing.T) { // not parallel: it measures the process
	s := newServer(t, Limits{WriteDeadline: 500 * time.Millisecond})
	check := bystander(t, s)
	id := identity("t", "p", 1)
	p, socket := attach(t, s, id)
	r := connectRaw(t, socket)
	r.send("SUB " + subject.In(id.subject(), subject.Tool) + " 1\r\nPING\r\n")
	r.until("PONG")
	gone := p.Disconnected()
	data := make([]byte, 64<<10)
	bounded(t, func() { check("beside one that never reads") }, func(stop <-chan struct{}) {
		for {
			select {
			case <-stop:
				return
			default:
				_ = p.Publish(subject.Tool, data)
			}
		}
	})
	receive(t, "end of its connection", gone)
}

// TestNeverReadsItsErrors provokes answers and does not read them.
func TestNeverReadsItsErrors(t *testing.T) {
	t.Parallel()
	s := newServer(t, Limits{WriteDeadline: 200 * time.Millisecond})
	check := bystander(t, s)
	p, socket := attach(t, s, identity("t", "p", 1))
	r := connectRaw(t, socket)
	gone := p.Disconnected()
	_ = r.SetWriteDeadline(time.Now().Add(patience))
	for {
		if _, err := r.Write([]byte(strings.Repeat("PING\r\nPUB x 0\r\n\r\n", 1000))); err != nil {
			break
		}
	}
	receive(t, "end of its connection", gone)
	check("after one that never reads its errors")
}

// TestThrottle sends at full speed and compares with what the limits say.
func TestThrottle(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		limits   Limits
		size     int
		messages int // that need about a second
	}{
		{"messages", Limits{MessagesPerSecond: 1000, MessageBurst: 100}, 1, 1100},
		{"bytes", Limits{BytesPerSecond: 1 << 20, ByteBurst: 64 << 10}, 64 << 10, 17},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, tt.limits)
			id := identity("t", "p", 1)
			_, socket := attach(t, s, id)
			nc, _ := runner(t, socket, id)
			data, start := make([]byte, tt.size), time.Now()
			for range tt.messages {
				if err := nc.Publish(subject.Out(id.subject(), subject.Progress), data); err != nil {
					t.Fatal(err)
				}
			}
			if err := nc.FlushTimeout(patience); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < 900*time.Millisecond {
				t.Errorf("took %s, want about a second", took)
			}
		})
	}
}

// TestDefaultThrottle holds the defaults to what they promise: 20,000 small
// messages and 64 MiB in a second.
func TestDefaultThrottle(t *testing.T) {
	t.Parallel()
	l := DefaultLimits()
	if l.MessagesPerSecond < 20_000 || l.BytesPerSecond < 64<<20 {
		t.Errorf("got %d messages/s and %d bytes/s", l.MessagesPerSecond, l.BytesPerSecond)
	}
	if l.MaxPending < l.MaxPayload || l.ByteBurst < l.MaxPayload {
		t.Errorf("got max pending %d, burst %d for a payload of %d", l.MaxPending, l.ByteBurst, l.MaxPayload)
	}
}
