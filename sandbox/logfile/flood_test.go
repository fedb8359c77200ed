package logfile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocmt/ocmt/sandbox"
)

// flood prints numbered lines of 100 bytes.
type flood struct {
	next, lines int
	left        []byte
}

func (f *flood) Read(p []byte) (int, error) {
	for len(f.left) < len(p) && f.next < f.lines {
		f.left = fmt.Appendf(f.left, "%099d\n", f.next)
		f.next++
	}
	n := copy(p, f.left)
	f.left = f.left[:copy(f.left, f.left[n:])]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// TestFlood prints far more than is kept: how long it takes is the bound of
// reading, what is kept that of keeping, and every line is either there or
// counted as missing.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = 1_000_000 // 100 MB
		dir := t.TempDir()
		w := open(t, dir, 64<<20, 2) // more than is kept of the flood
		begin := time.Now()
		if err := w.Copy(sandbox.Stdout, &flood{lines: all}); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		if want := (all*100 - Burst) / float64(ReadRate); took.Seconds() < want-0.2 || took.Seconds() > want+0.2 {
			t.Errorf("reading it took %s, want %.1f s", took, want)
		}
		bytes, _ := kept(t, dir)
		bound := Burst + (took.Seconds()+1)*(Rate+2*(readSize+tailSize))
		if float64(bytes) > bound || bytes < Burst {
			t.Errorf("%d bytes are kept after %s, want at most %.0f", bytes, took, bound)
		}
		seen, missing, notices := 0, 0, 0
		for _, line := range lines(t, dir, sandbox.LogOptions{}) {
			var n int
			if _, err := fmt.Sscanf(line.Line, "ocmt: %d lines are missing here: more than 256 KiB/s were printed", &n); err == nil {
				missing, notices = missing+n, notices+1
				continue
			}
			if want := fmt.Sprintf("%099d", seen+missing); line.Line != want {
				t.Fatalf("got %q, want %q", line.Line, want)
			}
			seen++
		}
		if seen+missing != all || notices < 5 || notices > 15 {
			t.Errorf("%d lines and %d missing in %d places, want %d in one per second", seen, missing, notices, all)
		}
	})
}

// What a plugin prints last is there, though it is quiet and does not end.
func TestAGapEndsInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := open(t, dir, 16<<20, 2)
		from, to := io.Pipe()
		done := make(chan error)
		go func() { done <- w.Copy(sandbox.Stdout, from) }()
		if _, err := io.Copy(to, &flood{lines: 200_000}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(to, "last\nwords"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * gap)
		if got := output(t, dir, sandbox.LogOptions{Tail: 1}); got != "last\n" {
			t.Errorf("got %q", got)
		}
		to.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := output(t, dir, sandbox.LogOptions{Tail: 1}); got != "words" {
			t.Errorf("got %q", got)
		}
	})
}

// A flood without new lines is bounded too, and told.
func TestFloodOfOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := open(t, dir, 16<<20, 2)
		text := io.LimitReader(endless('x'), 100<<20)
		printedFrom(t, w, io.MultiReader(text, strings.NewReader("\nlast\n")))
		if bytes, _ := kept(t, dir); bytes > Burst+14*Rate {
			t.Errorf("%d bytes are kept", bytes)
		}
		got := output(t, dir, sandbox.LogOptions{})
		if !strings.Contains(got, "x\nocmt: 1 line is missing here: more than 256 KiB/s were printed\n") || !strings.HasSuffix(got, "\nlast\n") {
			t.Errorf("got %d bytes that end in %q", len(got), got[max(0, len(got)-200):])
		}
	})
}

// One stream's flood costs the other nothing.
func TestStreamsHaveABudgetEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := open(t, dir, 16<<20, 2)
		from, to := io.Pipe()
		done := make(chan error)
		go func() { done <- w.Copy(sandbox.Stderr, from) }()
		printedFrom(t, w, &flood{lines: 200_000})
		if _, err := io.WriteString(to, "why it broke\n"); err != nil {
			t.Fatal(err)
		}
		to.Close()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := output(t, dir, sandbox.LogOptions{Tail: 1}); got != "why it broke\n" {
			t.Errorf("got %q", got)
		}
	})
}

func printedFrom(t *testing.T, w *Writer, r io.Reader) {
	t.Helper()
	if err := w.Copy(sandbox.Stdout, r); err != nil {
		t.Fatal(err)
	}
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// FuzzDecode: no bytes in a file do harm, and what is a record is read as it
// was written.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-02T03:04:05Z","stream":"stdout","line":"a","partial":true}`))
	f.Add([]byte(`{"time":"2026-01-02T03:04:05Z","stream":"stderr","line":"\",\"partial\":true}"}`))
	f.Add([]byte("{}"))
	f.Add([]byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		finishes(text)
		r, ok := decode(text)
		if !ok {
			return
		}
		if r.Stream != sandbox.Stdout && r.Stream != sandbox.Stderr {
			t.Errorf("stream %q", r.Stream)
		}
		var out bytes.Buffer
		if err := r.encode(&out); err != nil {
			t.Skip(err) // a time that JSON has no form for
		}
		again, ok := decode(out.Bytes())
		if !ok || again.Line != r.Line || again.Partial != r.Partial || !again.Time.Equal(r.Time) {
			t.Errorf("%+v became %+v", r, again)
		}
		if finishes(out.Bytes()) == r.Partial {
			t.Errorf("finishes(%q) = %v", &out, r.Partial)
		}
	})
}

// FuzzCopy: wherever a stream is cut into pieces, it is read as it was printed.
func FuzzCopy(f *testing.F) {
	f.Add("a\nb", "c\n")
	f.Add(strings.Repeat("é", maxPiece), "\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		dir := t.TempDir()
		w := open(t, dir, 16<<20, 2)
		printedFrom(t, w, io.MultiReader(strings.NewReader(a), strings.NewReader(b)))
		want := strings.ToValidUTF8(a+b, "")
		got := strings.ReplaceAll(output(t, dir, sandbox.LogOptions{}), "\uFFFD", "")
		if want = strings.ReplaceAll(want, "\uFFFD", ""); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// BenchmarkCopy shows what lines cost that are kept, and that are not: cpu-% is
// the part of a CPU that a flood takes at [ReadRate].
func BenchmarkCopy(b *testing.B) {
	for _, size := range []int{20, 200, 2000} {
		b.Run(fmt.Sprintf("what=kept/line=%d", size), func(b *testing.B) {
			w := open(b, b.TempDir(), 4<<20, 2)
			text := bytes.Repeat([]byte(strings.Repeat("x", size-1)+"\n"), (1<<20)/size)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if err := w.Copy(sandbox.Stdout, bytes.NewReader(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("what=flood", func(b *testing.B) {
		w := open(b, b.TempDir(), 4<<20, 2)
		text := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), ReadRate/100)
		b.SetBytes(int64(len(text)))
		before, begin := cpu(b), time.Now()
		r, out, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- w.Copy(sandbox.Stdout, r) }()
		for b.Loop() {
			if _, err := out.Write(text); err != nil {
				b.Fatal(err)
			}
		}
		out.Close()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(100*(cpu(b)-before).Seconds()/time.Since(begin).Seconds(), "cpu-%")
	})
}

// cpu is the CPU time of this process.
func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
