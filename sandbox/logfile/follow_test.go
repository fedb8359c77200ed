package logfile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/sandbox"
)

// followed reads a log line by line while it is written.
type followed struct {
	lines *bufio.Scanner
	ended chan struct{}
	done  chan error
}

func follow(t *testing.T, dir string) *followed {
	from, to := io.Pipe()
	f := &followed{bufio.NewScanner(from), make(chan struct{}), make(chan error, 1)}
	go func() {
		err := Read(t.Context(), dir, sandbox.LogOptions{Follow: true}, f.ended, to)
		to.CloseWithError(err)
		f.done <- err
	}()
	return f
}

func (f *followed) want(t *testing.T, want string) {
	t.Helper()
	if !f.lines.Scan() || f.lines.Text() != want {
		t.Fatalf("got %.80q (%v), want %.80q", f.lines.Text(), f.lines.Err(), want)
	}
}

func (f *followed) wantEnd(t *testing.T) {
	t.Helper()
	if f.lines.Scan() {
		t.Errorf("got %.80q after the end", f.lines.Text())
	}
	if err := <-f.done; err != nil {
		t.Error(err)
	}
}

func TestFollow(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	f := follow(t, dir) // before there is anything
	w := open(t, dir, sandbox.MinLogSize, 2)
	for i := range 300 { // several files
		line := fmt.Sprintf("line %d", i)
		printed(t, w, sandbox.Stdout, line+"\n")
		f.want(t, line)
	}
	printed(t, w, sandbox.Stderr, "the end")
	close(f.ended)
	f.want(t, "the end")
	f.wantEnd(t)
}

func TestFollowEndsWithTheWriter(t *testing.T) {
	dir := t.TempDir()
	w, err := Open(dir, 1<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	printed(t, w, sandbox.Stdout, "a\n")
	f := follow(t, dir)
	f.want(t, "a")
	printed(t, w, sandbox.Stdout, "b\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f.want(t, "b")
	f.wantEnd(t)
	printed(t, w, sandbox.Stdout, "too late\n")
	if got := output(t, dir, sandbox.LogOptions{}); got != "a\nb\n" {
		t.Errorf("got %q", got)
	}
	again := open(t, dir, 1<<20, 2) // the container goes on
	f = follow(t, dir)
	f.want(t, "a")
	f.want(t, "b")
	printed(t, again, sandbox.Stdout, "c\n")
	f.want(t, "c")
	close(f.ended)
	f.wantEnd(t)
}

// A follower that is slower than the writer loses what was removed meanwhile,
// and goes on with what there is.
func TestFollowThroughAGap(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, sandbox.MinLogSize, 2)
	printed(t, w, sandbox.Stdout, "first\n")
	f := follow(t, dir)
	f.want(t, "first")
	printed(t, w, sandbox.Stdout, strings.Repeat(strings.Repeat("x", 99)+"\n", 2000)+"last\n")
	close(f.ended)
	got := ""
	for f.lines.Scan() {
		got = f.lines.Text()
		if got != "last" && got != strings.Repeat("x", 99) {
			t.Fatalf("garbled: %q", got)
		}
	}
	if err := <-f.done; err != nil || got != "last" {
		t.Errorf("the last line is %q, %v", got, err)
	}
}

// What is written so far of a record is not shown, nor lost when it is undone.
func TestFollowWaitsForWholeRecords(t *testing.T) {
	dir := t.TempDir()
	printed(t, open(t, dir, 1<<20, 2), sandbox.Stdout, "a\n")
	file, err := os.OpenFile(path(dir, 1), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(`{"time":"2026-01-02T03:04:05Z","stream":"stdo`); err != nil {
		t.Fatal(err)
	}
	f := follow(t, dir)
	f.want(t, "a")
	printed(t, open(t, dir, 1<<20, 2), sandbox.Stdout, "b\n")
	f.want(t, "b")
	close(f.ended)
	f.wantEnd(t)
}

func TestFollowEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	err := Read(ctx, t.TempDir(), sandbox.LogOptions{Follow: true}, nil, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

const otherProcess = "OCMT_TEST_FOLLOW"

// TestFollowFromAnotherProcess runs itself as that process.
func TestFollowFromAnotherProcess(t *testing.T) {
	if dir := os.Getenv(otherProcess); dir != "" {
		if err := Read(t.Context(), dir, sandbox.LogOptions{Follow: true}, nil, os.Stderr); err != nil {
			t.Fatal(err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestFollowFromAnotherProcess$")
	cmd.Env = append(os.Environ(), otherProcess+"="+dir)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w, err := Open(dir, sandbox.MinLogSize, 2)
	if err != nil {
		t.Fatal(err)
	}
	got := bufio.NewScanner(pipe)
	for i := range 100 {
		line := fmt.Sprintf("line %d", i)
		printed(t, w, sandbox.Stdout, line+"\n")
		if !got.Scan() || got.Text() != line {
			t.Fatalf("got %q (%v), want %q", got.Text(), got.Err(), line)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got.Scan() {
		t.Errorf("got %q after the end", got.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// Both streams are written while readers come and go.
func TestTogether(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 16<<10, 2)
	line := strings.Repeat("x", 50) + "\n"
	done := make(chan error, 2)
	for _, stream := range []string{sandbox.Stdout, sandbox.Stderr} {
		go func() { done <- w.Copy(stream, strings.NewReader(strings.Repeat(line, 3000))) }()
	}
	f := follow(t, dir)
	go func() {
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		close(f.ended)
	}()
	for f.lines.Scan() {
		if f.lines.Text()+"\n" != line {
			t.Errorf("garbled: %q", f.lines.Text())
		}
		if got := output(t, dir, sandbox.LogOptions{Tail: 2}); strings.ReplaceAll(got, line, "") != "" {
			t.Errorf("garbled: %q", got)
		}
	}
	if err := <-f.done; err != nil {
		t.Error(err)
	}
}
