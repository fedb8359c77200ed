package logfile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/sandbox"
)

func open(t testing.TB, dir string, size int64, files int) *Writer {
	t.Helper()
	w, err := Open(dir, size, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func printed(t testing.TB, w *Writer, stream, text string) {
	t.Helper()
	if err := w.Copy(stream, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

func output(t testing.TB, dir string, options sandbox.LogOptions) string {
	t.Helper()
	var out bytes.Buffer
	if err := Read(t.Context(), dir, options, nil, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func lines(t testing.TB, dir string, options sandbox.LogOptions) []sandbox.LogLine {
	t.Helper()
	options.JSON = true
	var all []sandbox.LogLine
	for text := range strings.Lines(output(t, dir, options)) {
		var line sandbox.LogLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		all = append(all, line)
	}
	return all
}

// kept is how many bytes the files of a log have, and how many files there are.
func kept(t testing.TB, dir string) (total, files int) {
	t.Helper()
	all, err := numbers(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range all {
		info, err := os.Stat(path(dir, number))
		if err != nil {
			t.Fatal(err)
		}
		total += int(info.Size())
	}
	return total, len(all)
}

func TestAsPrintedAndInLines(t *testing.T) {
	long := strings.Repeat("x", 2*sandbox.MaxLogLine) + "yz"
	for name, c := range map[string]struct {
		text, printed string
		lines         []string
	}{
		"nothing":                           {"", "", nil},
		"lines":                             {"a\nb\n", "a\nb\n", []string{"a", "b"}},
		"empty ones":                        {"\n\n", "\n\n", []string{"", ""}},
		"one that is not finished":          {"a\nb", "a\nb", []string{"a", "b"}},
		"what looks like a piece":           {"\",\"partial\":true}\n{}\n", "\",\"partial\":true}\n{}\n", []string{"\",\"partial\":true}", "{}"}},
		"quotes, tags and carriage returns": {"\"<&>\\\r\n", "\"<&>\\\r\n", []string{"\"<&>\\\r"}},
		"no UTF-8":                          {"a\xffb\x00\n", "a\uFFFDb\x00\n", []string{"a\uFFFDb\x00"}},
		"long":                              {long + "\n", long + "\n", []string{long[:sandbox.MaxLogLine], long[:sandbox.MaxLogLine], "yz"}},
		"long and not finished":             {long, long, []string{long[:sandbox.MaxLogLine], long[:sandbox.MaxLogLine], "yz"}},
		"long, of wide characters":          {strings.Repeat("é€😀", 9000), strings.Repeat("é€😀", 9000), nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			printed(t, open(t, dir, 1<<20, 2), sandbox.Stderr, c.text)
			if got := output(t, dir, sandbox.LogOptions{}); got != c.printed {
				t.Errorf("got %.80q (%d bytes), want %.80q (%d)", got, len(got), c.printed, len(c.printed))
			}
			if c.lines == nil {
				return
			}
			var got []string
			for _, line := range lines(t, dir, sandbox.LogOptions{}) {
				if line.Stream != sandbox.Stderr || time.Since(line.Time) > time.Minute {
					t.Errorf("%.80v, want it on stderr and now", line)
				}
				got = append(got, line.Line)
			}
			if !slices.Equal(got, c.lines) {
				t.Errorf("got %d lines %.80q, want %d", len(got), got, len(c.lines))
			}
		})
	}
}

func TestTailAndSince(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, sandbox.MinLogSize, 2)
	long := strings.Repeat("x", 3000) // several records
	printed(t, w, sandbox.Stdout, "a\nb\n")
	printed(t, w, sandbox.Stderr, long+"\n")
	printed(t, w, sandbox.Stdout, "c")
	for tail, want := range map[int]string{
		0: "a\nb\n" + long + "\nc", 9: "a\nb\n" + long + "\nc",
		3: "b\n" + long + "\nc", 2: long + "\nc", 1: "c",
	} {
		if got := output(t, dir, sandbox.LogOptions{Tail: tail}); got != want {
			t.Errorf("tail %d: %d bytes %.20q, want %d %.20q", tail, len(got), got, len(want), want)
		}
	}
	all := lines(t, dir, sandbox.LogOptions{})
	if len(all) != 4 {
		t.Fatalf("%d lines, want 4", len(all))
	}
	if got := output(t, dir, sandbox.LogOptions{Since: all[3].Time}); got != "c" {
		t.Errorf("since the last one: %.20q", got)
	}
	if got := output(t, dir, sandbox.LogOptions{Since: all[3].Time.Add(time.Nanosecond)}); got != "" {
		t.Errorf("since later: %.20q", got)
	}
}

func TestFilesAreBounded(t *testing.T) {
	for _, c := range []struct {
		size  int64
		files int
		text  string
	}{
		{sandbox.MinLogSize, 1, strings.Repeat("0123456789\n", 5000)},
		{sandbox.MinLogSize, 2, strings.Repeat("\x01", 100_000)}, // six times as long in JSON
		{64 << 10, 2, strings.Repeat("0123456789\n", 50_000)},
		{64 << 10, 3, strings.Repeat(strings.Repeat("x", 40_000)+"\n", 50)},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.files, c.size), func(t *testing.T) {
			dir := t.TempDir()
			printed(t, open(t, dir, c.size, c.files), sandbox.Stdout, c.text+"the end\n")
			all, err := numbers(dir)
			if err != nil || len(all) != c.files {
				t.Fatalf("files %v, %v, want %d", all, err, c.files)
			}
			for _, number := range all {
				if info, err := os.Stat(path(dir, number)); err != nil || info.Size() > c.size {
					t.Errorf("file %d: %d bytes, %v, want at most %d", number, info.Size(), err, c.size)
				}
			}
			if got := output(t, dir, sandbox.LogOptions{}); !strings.HasSuffix(got, "the end\n") || int64(len(got)) < c.size*int64(c.files-1)/9 {
				t.Errorf("%d bytes that end in %q", len(got), got[max(0, len(got)-20):])
			}
		})
	}
}

func TestOpenRefusesBoundsThatHoldNothing(t *testing.T) {
	for _, c := range []struct {
		size  int64
		files int
	}{{sandbox.MinLogSize - 1, 2}, {0, 2}, {-1, 2}, {1 << 20, 0}, {1 << 20, -1}} {
		if _, err := Open(t.TempDir(), c.size, c.files); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Open(%d, %d) = %v, want InvalidArgument", c.size, c.files, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "log"), 1<<20, 2); !errdefs.IsUnavailable(err) {
		t.Errorf("below a file: %v, want Unavailable", err)
	}
	w := open(t, t.TempDir(), 1<<20, 2)
	if err := w.Copy("stdin", strings.NewReader("a")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("unknown stream: %v, want InvalidArgument", err)
	}
}

func TestOpenContinues(t *testing.T) {
	torn := `{"time":"2026-01-02T03:04:05Z","stream":"stdout","line":"half of i`
	for name, c := range map[string]struct{ left, want string }{
		"after a close":              {"{}\n", "a\nb\n"},
		"in the middle of a record":  {torn, "a\nb\n"},
		"after many zeros":           {strings.Repeat("\x00", 3*maxRecord), "a\nb\n"},
		"after a record of nobody's": {"what?\n", "a\nb\n"},
		"after another writer's end": {"{}\n" + torn, "a\nb\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w, err := Open(dir, 1<<20, 2)
			if err != nil {
				t.Fatal(err)
			}
			printed(t, w, sandbox.Stdout, "a\n") // and its process is killed
			file, err := os.OpenFile(path(dir, 1), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if _, err := file.WriteString(c.left); err != nil {
				t.Fatal(err)
			}
			if got := output(t, dir, sandbox.LogOptions{}); got != "a\n" {
				t.Errorf("before: %q", got)
			}
			printed(t, open(t, dir, 1<<20, 2), sandbox.Stdout, "b\n")
			if got := output(t, dir, sandbox.LogOptions{}); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestOpenWithFewerFiles(t *testing.T) {
	dir := t.TempDir()
	printed(t, open(t, dir, sandbox.MinLogSize, 4), sandbox.Stdout, strings.Repeat("0123456789\n", 3000))
	open(t, dir, sandbox.MinLogSize, 2)
	if _, files := kept(t, dir); files != 2 {
		t.Errorf("%d files, want 2", files)
	}
}

// fullDisk returns a directory on a file system of 64 KiB.
func fullDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	disk := fullDisk(t)
	dir, ballast := filepath.Join(disk, "log"), filepath.Join(disk, "ballast")
	var told bytes.Buffer
	w := open(t, dir, 32<<10, 2)
	w.Logger = slog.New(slog.NewTextHandler(&told, nil))
	printed(t, w, sandbox.Stdout, "before\n")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	// More than fits into what is left of the page that the file has already.
	printed(t, w, sandbox.Stdout, strings.Repeat(strings.Repeat("x", 5000)+"\n", 20))
	printed(t, w, sandbox.Stderr, strings.Repeat(strings.Repeat("y", 5000)+"\n", 20))
	if got := strings.Count(told.String(), "\n"); got != 1 || !strings.Contains(told.String(), "no space left") {
		t.Errorf("the logger was told %d times: %s", got, &told)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	printed(t, w, sandbox.Stdout, "after\n")
	if got := output(t, dir, sandbox.LogOptions{}); !strings.HasPrefix(got, "before\n") || !strings.HasSuffix(got, "after\n") {
		t.Errorf("got %.100q", got)
	}
}

// A stream that goes on says what it lost.
func TestLostLinesAreTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	var told bytes.Buffer
	w := open(t, dir, sandbox.MinLogSize, 2)
	w.Logger = slog.New(slog.NewTextHandler(&told, nil))
	from, to := io.Pipe()
	done := make(chan error)
	go func() { done <- w.Copy(sandbox.Stdout, from) }()
	write := func(text string) {
		t.Helper()
		if _, err := io.WriteString(to, text); err != nil {
			t.Fatal(err)
		}
	}
	write("a\n")
	write("") // so that the line before was taken
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 100 { // into the file that is gone, and then into none
		write(strings.Repeat("x", 99) + "\n")
	}
	write("")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write("b\n")
	to.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := output(t, dir, sandbox.LogOptions{})
	var missing int
	if _, err := fmt.Sscanf(got, "ocmt: %d lines are missing here: no such file or directory\nb\n", &missing); err != nil || missing < 50 || missing > 100 {
		t.Errorf("got %q: %v", got, err)
	}
	if n := strings.Count(told.String(), "\n"); n != 1 {
		t.Errorf("the logger was told %d times: %s", n, &told)
	}
}

func TestReadErrors(t *testing.T) {
	dir := t.TempDir()
	printed(t, open(t, dir, 1<<20, 2), sandbox.Stdout, "a\n")
	full := errors.New("full")
	for _, structured := range []bool{false, true} {
		err := Read(t.Context(), dir, sandbox.LogOptions{JSON: structured}, nil, writerFunc(func([]byte) (int, error) { return 0, full }))
		if !errors.Is(err, full) {
			t.Errorf("JSON %v: %v, want the writer's error", structured, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Read(ctx, dir, sandbox.LogOptions{}, nil, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got := output(t, filepath.Join(dir, "none"), sandbox.LogOptions{}); got != "" {
		t.Errorf("without a directory: %q", got)
	}
	if err := os.Mkdir(path(dir, 2), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Read(t.Context(), dir, sandbox.LogOptions{}, nil, io.Discard); !errdefs.IsUnavailable(err) {
		t.Errorf("a directory for a file: %v, want Unavailable", err)
	}
}

func TestCopyReportsItsReader(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("broken")
	w := open(t, dir, 1<<20, 2)
	if err := w.Copy(sandbox.Stdout, io.MultiReader(strings.NewReader("a\nb"), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got := output(t, dir, sandbox.LogOptions{}); got != "a\nb" {
		t.Errorf("got %q, want what came before it", got)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
