package bus

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ocmt/ocmt/bus/subject"
)

// TestNoLeak attaches and closes many times, with a runner that works, and
// expects goroutines and descriptors to be back where they were.
func TestNoLeak(t *testing.T) { // not parallel: it counts for the process
	s := newServer(t, Limits{})
	parent := socketParent(t)
	cycle := func(generation uint64) {
		id := identity("default", "p", generation)
		dir := filepath.Join(parent, fmt.Sprint(generation))
		p, err := s.Attach(t.Context(), id, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Handle(subject.Hello, nil); err != nil {
			t.Fatal(err)
		}
		nc, _ := runner(t, filepath.Join(dir, SocketName), id)
		defer nc.Close()
		echo(t, nc, id, subject.Tool)
		request(t, p, subject.Tool, "x")
		if generation%2 == 0 {
			p.Close() // otherwise the next generation closes it
		}
	}
	cycle(1)
	cycle(2)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for g := range uint64(200) {
		cycle(g + 3)
	}
	const slack = 5
	waitFor(t, fmt.Sprintf("about %d goroutines, as before", goroutines), func() bool {
		return runtime.NumGoroutine() <= goroutines+slack
	})
	waitFor(t, fmt.Sprintf("about %d descriptors, as before", files), func() bool {
		return openFiles(t) <= files+slack
	})
	waitFor(t, "the server has no client", func() bool { return s.nats.NumClients() == 0 })
	waitFor(t, "the server has no subscription of a client", func() bool { return s.nats.NumSubscriptions() == 0 })
	if n := len(s.accounts); n != 1 {
		t.Errorf("got %d accounts for one plugin", n)
	}
	for name, a := range s.accounts {
		if a.peer.Load() != nil {
			t.Errorf("account %s holds a peer that is closed", name)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
