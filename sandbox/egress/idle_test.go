package egress

import (
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	// maxIdleMemory is what a broker without a grant may cost with its socket
	// and its one watcher, in bytes of heap and stacks.
	maxIdleMemory = 40 << 10
	// maxIdleGoroutines likewise.
	maxIdleGoroutines = 3
)

// TestIdleIsCheap has as many brokers as a busy host, each with an empty
// policy and a container that watches it.
func TestIdleIsCheap(t *testing.T) {
	const brokers = 200
	dir := t.TempDir()
	before, goroutines := inUse(), runtime.NumGoroutine()
	for i := range brokers {
		broker, err := NewBroker(Options{Record: func(Connection) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := Listen(filepath.Join(dir, strconv.Itoa(i), "egress.sock"))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- broker.Serve(t.Context(), ln) }()
		t.Cleanup(func() {
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
		watch(t, ln.Addr().String())
	}
	memory := (inUse() - before) / brokers
	each := (runtime.NumGoroutine() - goroutines + brokers - 1) / brokers
	t.Logf("%d bytes and %d goroutines for each of %d idle containers", memory, each, brokers)
	if memory > maxIdleMemory || each > maxIdleGoroutines {
		t.Errorf("want at most %d bytes and %d goroutines", maxIdleMemory, maxIdleGoroutines)
	}
}

// inUse returns the bytes of heap and stacks.
func inUse() int {
	var m runtime.MemStats
	for range 2 { // the second one shrinks stacks and empties pools
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// watch connects to a broker and stays, as a container does.
func watch(t *testing.T, socket string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, link.Request{Watch: true}.String()); err != nil {
		t.Fatal(err)
	}
	if grants, err := link.NewGrantsReader(conn).Read(); err != nil || len(grants) != 0 {
		t.Fatalf("told %v, %v", grants, err)
	}
}
