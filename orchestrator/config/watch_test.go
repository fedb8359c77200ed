package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// told is one call of onChange.
type told struct {
	file *File
	err  error
}

// startWatch watches path until the test ends.
func startWatch(t *testing.T, path string, recheck time.Duration) <-chan told {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	calls := make(chan told, 100)
	ended := make(chan error, 1)
	go func() { ended <- watch(ctx, path, recheck, func(f *File, err error) { calls <- told{f, err} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Watch = %v", err)
		}
	})
	return calls
}

func next(t *testing.T, calls <-chan told) told {
	t.Helper()
	select {
	case c := <-calls:
		return c
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was told within 10 s")
		panic("unreachable")
	}
}

// want waits for a call that says the plugin x is on or off. A file that is
// written in place is empty for an instant, which a slow machine may show.
func want(t *testing.T, calls <-chan told, on bool) {
	t.Helper()
	c := next(t, calls)
	for c.err != nil && strings.Contains(c.err.Error(), "the file is empty") {
		c = next(t, calls)
	}
	if c.err != nil {
		t.Fatal(c.err)
	}
	if e, ok := c.file.Entry("x"); !ok || e.On() != on {
		t.Fatalf("told %s, want x on %v", c.file.Raw(), on)
	}
}

const (
	xOn  = `{"plugins": {"entries": {"x": {"enabled": true}}}}`
	xOff = `{"plugins": {"entries": {"x": {"enabled": false}}}}`
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	path := writeFile(t, xOn)
	dir := filepath.Dir(path)
	calls := startWatch(t, path, time.Hour)
	want(t, calls, true)

	write(t, path, xOff) // in place
	want(t, calls, false)

	write(t, filepath.Join(dir, "4913"), xOn) // as vim does: move away, write anew
	if err := os.Rename(path, path+"~"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "4913"), path); err != nil {
		t.Fatal(err)
	}
	want(t, calls, true)

	if err := Update(t.Context(), path, func(e *Edit) error { return e.SetEnabled("x", false) }); err != nil {
		t.Fatal(err)
	}
	want(t, calls, false)

	write(t, path, "{ broken")
	if c := next(t, calls); !errdefs.IsInvalidArgument(c.err) || c.file != nil {
		t.Fatalf("told %v, want InvalidArgument", c.err)
	}
	write(t, path, xOn)
	want(t, calls, true)

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if c := next(t, calls); c.err != nil || string(c.file.Raw()) != "{}" {
		t.Fatalf("told %v, want an empty file", c.err)
	}
	write(t, path, xOn)
	want(t, calls, true)
}

func TestWatchIsQuietAboutNothing(t *testing.T) {
	path := writeFile(t, xOn)
	calls := startWatch(t, path, 10*time.Millisecond)
	want(t, calls, true)
	write(t, filepath.Join(filepath.Dir(path), "other.json"), xOff)
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	write(t, path+".new", xOn)
	if err := os.Rename(path+".new", path); err != nil { // the same content
		t.Fatal(err)
	}
	write(t, path+".new", xOff)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	want(t, calls, false) // and nothing before it
}

func TestWatchJoinsABurst(t *testing.T) {
	path := writeFile(t, xOn)
	calls := startWatch(t, path, time.Hour)
	want(t, calls, true)
	const writes = 200
	for n := range writes {
		write(t, path, fmt.Sprintf(`{"n": %d}`, n))
	}
	write(t, path, xOff)
	n := 1
	for c := next(t, calls); c.err != nil || len(c.file.entries) == 0; c = next(t, calls) {
		n++
	}
	if n > writes/10 { // ordinarily one
		t.Errorf("%d calls for one burst", n)
	}
}

func TestWatchOfADirectoryThatComesLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants", "acme", "config.json")
	calls := startWatch(t, path, 20*time.Millisecond)
	if c := next(t, calls); c.err != nil || string(c.file.Raw()) != "{}" {
		t.Fatalf("told %v, want an empty file", c.err)
	}
	if err := Update(t.Context(), path, func(e *Edit) error { return e.SetEnabled("x", false) }); err != nil {
		t.Fatal(err)
	}
	want(t, calls, false)

	old := filepath.Dir(path) + ".old" // the directory is replaced
	if err := os.Rename(filepath.Dir(path), old); err != nil {
		t.Fatal(err)
	}
	if c := next(t, calls); c.err != nil || string(c.file.Raw()) != "{}" {
		t.Fatalf("told %v, want an empty file", c.err)
	}
	if err := Update(t.Context(), path, func(e *Edit) error { return e.SetEnabled("x", true) }); err != nil {
		t.Fatal(err)
	}
	want(t, calls, true)
}
