package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

func wantDenied(t *testing.T, err error, code Code) {
	t.Helper()
	var denied *link.Denied
	if !errors.As(err, &denied) || denied.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestLimitConnections(t *testing.T) {
	r := newRig(t, Limits{Connections: 2}, plain(80))
	r.route(apiAddr, 80, listen(t, echo))
	first, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	r.open(t) // one that says nothing counts too; it is accepted before the next
	_, _, err = r.connect(t, apiHost, 80)
	wantDenied(t, err, link.Limit)
	r.wantCode(t, link.Limit)
	first.Close()
	r.wantCode(t, "")
	for { // the slot is given back just after the record
		if _, _, err = r.connect(t, apiHost, 80); err == nil {
			break
		}
		wantDenied(t, err, link.Limit)
	}
}

func TestLimitRate(t *testing.T) {
	r := newRig(t, Limits{PerSecond: 0.001, Burst: 3}, plain(80))
	r.route(apiAddr, 80, listen(t, echo))
	for range 3 {
		if _, _, err := r.connect(t, apiHost, 80); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := r.connect(t, apiHost, 80)
	wantDenied(t, err, link.Limit)
	if c := r.wantCode(t, link.Limit); !strings.Contains(c.Detail, "per second") {
		t.Errorf("recorded %+v", c)
	}
}

// TestFloodStallsItself opens connections beyond the limits as fast as it can:
// the denials, and with them the records, come slowly.
func TestFloodStallsItself(t *testing.T) {
	r := newRig(t, Limits{PerSecond: 0.001, Burst: 1}, plain(80))
	began := time.Now()
	for range 20 {
		_, _, _ = r.connect(t, apiHost, 80)
	}
	if took := time.Since(began); took < 18*turnAwayPause {
		t.Errorf("19 connections beyond the limit took %v", took)
	}
}

func TestLimitBytes(t *testing.T) {
	r := newRig(t, Limits{BytesUp: 1000, BytesDown: 2000}, plain(80), plain(81))
	r.route(apiAddr, 80, listen(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }))
	r.route(apiAddr, 81, listen(t, func(c *net.TCPConn) { _, _ = io.CopyN(c, zeros{}, 1<<20) }))
	up, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.CopyN(up, zeros{}, 1<<20)
	if c := r.wantCode(t, link.Limit); c.BytesUp > 1000 || !c.Allowed {
		t.Errorf("recorded %+v", c)
	}
	down, _, err := r.connect(t, apiHost, 81)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := io.Copy(io.Discard, down); n > 2000 {
		t.Errorf("read %d bytes", n)
	}
	if c := r.wantCode(t, link.Limit); c.BytesDown > 2000 || !c.Allowed {
		t.Errorf("recorded %+v", c)
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestLimitTimes(t *testing.T) {
	r := newRig(t, Limits{Idle: 50 * time.Millisecond, Dial: 50 * time.Millisecond}, plain(80), plain(81))
	r.route(apiAddr, 80, listen(t, echo))
	r.routes[netip.AddrPortFrom(apiAddr, 81)] = "black hole"

	idle, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(idle); err != nil || len(got) != 0 {
		t.Errorf("read %q, %v", got, err)
	}
	if c := r.wantCode(t, link.Limit); !c.Allowed || !strings.Contains(c.Detail, "idle") {
		t.Errorf("recorded %+v", c)
	}

	_, _, err = r.connect(t, apiHost, 81)
	wantDenied(t, err, link.DialFailed)
	r.wantCode(t, link.DialFailed)
}

// slowResolver answers when its context ends.
type slowResolver struct{}

func (slowResolver) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestLimitResolve(t *testing.T) {
	r := newRig(t, Limits{Resolve: 50 * time.Millisecond}, plain(80))
	r.broker.opts.Resolver = slowResolver{}
	_, _, err := r.connect(t, apiHost, 80)
	wantDenied(t, err, link.ResolveFailed)
	r.wantCode(t, link.ResolveFailed)
}

func TestManyAddressesAreCut(t *testing.T) {
	r := newRig(t, Limits{}, plain(80))
	var addrs []netip.Addr
	for i := range 200 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{93, 184, 1, byte(i)}))
	}
	r.answer(apiHost, addrs...)
	_, _, err := r.connect(t, apiHost, 80)
	wantDenied(t, err, link.DialFailed)
	if got := len(r.dials()); got != maxAddresses {
		t.Errorf("%d addresses were dialled, want %d", got, maxAddresses)
	}
}

func TestConcurrent(t *testing.T) {
	const n = 200
	r := newRig(t, Limits{}, plain(80))
	r.route(apiAddr, 80, listen(t, echo))
	streams := make([]link.Stream, n)
	for i := range streams { // all open at once
		var err error
		if streams[i], _, err = r.connect(t, apiHost, 80); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	var wg sync.WaitGroup
	for i, stream := range streams {
		wg.Go(func() {
			want := strings.Repeat(fmt.Sprintf("%d,", i), 20_000)
			go func() {
				_, _ = io.WriteString(stream, want)
				stream.CloseWrite()
			}()
			if got, err := io.ReadAll(stream); err != nil || string(got) != want {
				t.Errorf("connection %d read %d bytes, %v, want %d", i, len(got), err, len(want))
			}
			stream.Close()
		})
	}
	wg.Wait()
	for range n {
		r.wantCode(t, "")
	}
}

// TestSlowReader has 20 clients that do not read from an upstream that floods:
// the upstream stalls, and the host's memory stays bounded.
func TestSlowReader(t *testing.T) {
	r := newRig(t, Limits{}, plain(80))
	var mu sync.Mutex
	var stalled sync.WaitGroup
	sent := 0
	r.route(apiAddr, 80, listen(t, func(c *net.TCPConn) {
		defer stalled.Done()
		c.SetWriteBuffer(64 << 10)
		c.SetWriteDeadline(time.Now().Add(time.Second))
		n, _ := io.CopyN(c, struct{ io.Reader }{zeros{}}, 1<<30)
		mu.Lock()
		defer mu.Unlock()
		sent += int(n)
	}))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const clients = 20
	stalled.Add(clients)
	for range clients {
		if _, _, err := r.connect(t, apiHost, 80); err != nil {
			t.Fatal(err)
		}
	}
	stalled.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if sent > clients*16<<20 {
		t.Errorf("%d MB were taken for %d clients that do not read", sent>>20, clients)
	}
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > clients*(256<<10) {
		t.Errorf("the heap grew by %d KB for %d clients", grown>>10, clients)
	}
}

func TestPolicyChangeCuts(t *testing.T) {
	r := newRig(t, Limits{}, plain(80), plain(81), plain(82))
	for _, port := range []uint16{80, 81, 82} {
		r.route(apiAddr, port, listen(t, echo))
	}
	streams := map[uint16]link.Stream{}
	for _, port := range []uint16{80, 81, 82} {
		var err error
		if streams[port], _, err = r.connect(t, apiHost, port); err != nil {
			t.Fatal(err)
		}
	}
	narrowed := mustRule(t, apiHost+":81") // no plaintext any more
	r.setPolicy(t, narrowed, plain(82))
	cut := map[uint16]bool{}
	for range 2 {
		c := r.wantCode(t, link.NotGranted)
		cut[c.Port] = c.Allowed
	}
	if want := map[uint16]bool{80: true, 81: true}; !cmp.Equal(cut, want) {
		t.Errorf("cut off %v, want %v", cut, want)
	}
	if _, err := io.WriteString(streams[82], "still here"); err != nil {
		t.Fatal(err)
	}
	streams[82].CloseWrite()
	if got, err := io.ReadAll(streams[82]); err != nil || string(got) != "still here" {
		t.Errorf("the connection that is still granted read %q, %v", got, err)
	}
	_, _, err := r.connect(t, apiHost, 80)
	wantDenied(t, err, link.NotGranted)
	r.setPolicy(t, plain(80))
	if _, _, err := r.connect(t, apiHost, 80); err != nil {
		t.Errorf("after the new grant: %v", err)
	}
}

// TestPolicyChangeCutsFirst finds every connection cut when SetPolicy returns.
func TestPolicyChangeCutsFirst(t *testing.T) {
	r := newRig(t, Limits{})
	r.route(apiAddr, 80, listen(t, echo))
	for range 50 {
		r.setPolicy(t, plain(80))
		_, conn, err := r.connect(t, apiHost, 80)
		if err != nil {
			t.Fatal(err)
		}
		r.setPolicy(t)
		if _, err := io.WriteString(conn, "late"); err == nil {
			t.Fatal("a byte was taken after the grant was revoked")
		}
		r.wantCode(t, link.NotGranted)
	}
}

func TestWatch(t *testing.T) {
	r := newRig(t, Limits{Connections: 2})
	conn := r.open(t)
	if _, err := io.WriteString(conn, "WATCH\n"); err != nil {
		t.Fatal(err)
	}
	policies := link.NewGrantsReader(conn)
	read := func(want ...link.Grant) {
		t.Helper()
		got, err := policies.Read()
		if err != nil || len(got) != len(want) || len(want) > 0 && !cmp.Equal(got, want) {
			t.Fatalf("told %v, %v, want %v", got, err, want)
		}
	}
	read()
	r.setPolicy(t, plain(80), Rule{Host: "npm.corp.example", Port: 443, AllowNonPublic: true})
	read(link.Grant{Host: apiHost, Port: 80}, link.Grant{Host: "npm.corp.example", Port: 443})
	r.setPolicy(t)
	read()
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := policies.Read(); !errors.Is(err, io.EOF) {
		t.Errorf("a watcher that speaks: %v, want EOF", err)
	}
}

func TestServeEnds(t *testing.T) {
	r := newRig(t, Limits{}, plain(80))
	r.route(apiAddr, 80, listen(t, echo))
	stream, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	watcher := r.open(t)
	_, _ = io.WriteString(watcher, "WATCH\n")
	r.stop()
	if c := r.record(t); !c.Allowed {
		t.Errorf("recorded %+v", c)
	}
	if _, err := io.ReadAll(stream); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if _, err := os.Stat(r.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestListen(t *testing.T) {
	// Longer than the address of a socket may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	path := filepath.Join(dir, "egress.sock")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o711, path: fs.ModeSocket | 0o666} {
		if info, err := os.Lstat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if _, err := Listen(path); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a living socket: %v", err)
	}
	ln.(*listener).UnixListener.Close() // as if the process had died
	again, err := Listen(path)
	if err != nil {
		t.Fatalf("a dead socket: %v", err)
	}
	for range 2 {
		if err := again.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket after Close: %v, want none", err)
	}
	if err := os.WriteFile(path, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a file: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "keep" {
		t.Errorf("the file was touched: %q, %v", got, err)
	}
	if _, err := Listen(filepath.Join(dir, "none", "none", "s")); !errdefs.IsNotFound(err) {
		t.Errorf("no directory to make one in: %v", err)
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(dir, "link", "s")); err == nil {
		t.Error("a directory that is a symlink was taken")
	}
}

// TestListenLongPath reaches a socket whose path is longer than an address.
func TestListenLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	ln, err := Listen(filepath.Join(dir, "egress.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	t.Chdir(dir)
	conn, err := net.Dial("unix", "egress.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted.Close()
}

// TestListenWithAnyUmask runs TestListen in a process that makes files for
// nobody else.
func TestListenWithAnyUmask(t *testing.T) {
	child := exec.CommandContext(t.Context(), "sh", "-c", `umask 077 && exec "$0" -test.v -test.run='^TestListen$'`, os.Args[0])
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestListen ") {
		t.Errorf("%v\n%s", err, out)
	}
}
