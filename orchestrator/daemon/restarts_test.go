package daemon

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/bus/wire"
	"github.com/ocmt/ocmt/e2e/harness"
	"github.com/ocmt/ocmt/orchestrator/engine"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// scale is the number that OCMT_SCALE sets for tests that then take minutes, or
// what they do in an ordinary run.
func scale(t testing.TB, ordinary int) int {
	t.Helper()
	text := os.Getenv("OCMT_SCALE")
	if text == "" {
		return ordinary
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("OCMT_SCALE=%s: want a number", text)
	}
	return n
}

// Restarts of a plugin leave nothing of its instances behind, and with
// OCMT_SCALE=1000 a thousand do not.
func TestRestartsInMemory(t *testing.T) {
	s := newStageWith(t, restless())
	key := s.install("demo", script{registers: []wire.Registration{tool("echo")}})
	restartsLeaveNothing(t, s.Daemon, key, scale(t, 250), func() ([]string, error) { return nil, nil })
	s.call(key)
}

// The same on the engines of this host.
func TestRestarts(t *testing.T) {
	for name, tool := range map[string]harness.Engine{engine.Docker: harness.Docker(""), engine.Containerd: harness.Containerd("")} {
		t.Run("engine="+name, func(t *testing.T) {
			d := openReal(t, name)
			key := installSmall(t, d, "demo")
			restartsLeaveNothing(t, d, key, scale(t, 60), func() ([]string, error) {
				return tool.Kept(context.WithoutCancel(t.Context()), d.store.HomeID())
			})
		})
	}
}

// restartsLeaveNothing kills the container of a plugin n times, and compares
// what there is then with what there was after the first few.
func restartsLeaveNothing(t *testing.T, d *Daemon, key plugin.Key, n int, kept func() ([]string, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(n)*5*time.Second)
	defer cancel()
	kill := func(times int) {
		t.Helper()
		for i := range times {
			if err := crash(ctx, d, key); err != nil {
				t.Fatalf("restart %d: %v", i, err)
			}
		}
	}
	const warm = 10
	kill(warm)
	before := settled(t, d, kept, nil)
	start := time.Now()
	kill(n)
	took := time.Since(start) / time.Duration(n)
	after := settled(t, d, kept, &before)
	t.Logf("%d restarts, %s each\nbefore %s\nafter  %s", n, took.Round(time.Millisecond/10), before, after)
	if more := after.more(before); more != "" {
		t.Errorf("%d restarts left behind: %s", n, more)
	}
	st, err := d.supervisor.Status(key)
	if err != nil || st.Restarts != warm+n {
		t.Errorf("%d restarts were counted, want %d: %v", st.Restarts, warm+n, err)
	}
}

// holding is what a daemon, its home and its engine hold.
type holding struct {
	goroutines, descriptors, mounts, containers int
	files, kept                                 []string // sockets are files, too
	heap, memory                                int64    // bytes, kB of RssAnon
}

func (h holding) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d mounts, %d files, %d containers, %d things kept by the engine, %d kB of heap, %d kB of anonymous memory",
		h.goroutines, h.descriptors, h.mounts, len(h.files), h.containers, len(h.kept), h.heap>>10, h.memory)
}

// What may be more all the same: a ping or a query that is under way, and in
// memory, lists of bounded length that were not full.
const (
	moreGoroutines  = 8
	moreDescriptors = 6
	moreHeap        = 2 << 20 // bytes
	moreMemory      = 6 << 10 // kB
)

// more says what h has more than an earlier one.
func (h holding) more(than holding) string {
	var more []string
	for _, c := range []struct {
		what            string
		now, was, allow int
	}{
		{"goroutines", h.goroutines, than.goroutines, moreGoroutines},
		{"descriptors", h.descriptors, than.descriptors, moreDescriptors},
		{"mounts", h.mounts, than.mounts, 0},
		{"files", len(h.files), len(than.files), 0},
		{"containers", h.containers, than.containers, 0},
		{"things kept by the engine", len(h.kept), len(than.kept), 0},
		{"bytes of heap", int(h.heap), int(than.heap), moreHeap},
		{"kB of anonymous memory", int(h.memory), int(than.memory), moreMemory},
	} {
		if c.now > c.was+c.allow {
			more = append(more, fmt.Sprintf("%d %s, there were %d", c.now, c.what, c.was))
		}
	}
	if len(h.files) > len(than.files) {
		more = append(more, strings.Join(h.files, " "))
	}
	return strings.Join(more, "; ")
}

// settled returns what is held once that does not change any more, or is no
// more than before: what is left of an instance goes behind its successor's
// back.
func settled(t *testing.T, d *Daemon, kept func() ([]string, error), before *holding) holding {
	t.Helper()
	last := hold(t, d, kept)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		time.Sleep(200 * time.Millisecond)
		now := hold(t, d, kept)
		if before != nil && now.more(*before) == "" || before == nil && now.more(last) == "" && last.more(now) == "" {
			return now
		}
		last = now
	}
	return last
}

func hold(t *testing.T, d *Daemon, kept func() ([]string, error)) holding {
	t.Helper()
	var h holding
	list, err := d.engine.List(t.Context(), d.ours())
	if err != nil {
		t.Fatal(err)
	}
	h.containers = len(list)
	if h.kept, err = kept(); err != nil {
		t.Fatal(err)
	}
	mounts, err := harness.Mounts(d.home.Dir())
	if err != nil {
		t.Fatal(err)
	}
	h.mounts = len(mounts)
	h.files = filesOf(t, d)
	h.process(t)
	return h
}

// process adds what this process holds, without garbage.
func (h *holding) process(t testing.TB) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	h.descriptors = len(files)
	h.goroutines = runtime.NumGoroutine()
	h.heap, h.memory = memoryOf(t)
}

// filesOf lists what is in the home but for the database's and the audit log's
// own files, of which there may be more or fewer at any time.
func filesOf(t *testing.T, d *Daemon) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(d.home.Dir(), func(path string, e fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err): // meanwhile
			return nil
		case err != nil:
			return err
		case path == d.home.Audit(), e.IsDir() && e.Name() == "payload": // sealed
			return fs.SkipDir
		case !strings.HasPrefix(path, d.home.DB()):
			files = append(files, strings.TrimPrefix(path, d.home.Dir()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
