package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/engine"
	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/home"
)

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("plain"), 1},
		{errdefs.ErrConflict, 1},
		{errdefs.ErrDataLoss, 1},
		{context.Canceled, 1},
		{errdefs.ErrInvalidArgument, 2},
		{errdefs.ErrNotFound, 3},
		{errdefs.ErrPermissionDenied, 4},
		{fault.ErrPlugin, 5},
		{context.DeadlineExceeded, 6},
		{errdefs.ErrUnavailable, 7},
		{fmt.Errorf("wrapped: %w", errdefs.ErrNotFound), 3},
		{fault.New(errdefs.ErrUnavailable, "x", "outer class counts: %w", errdefs.ErrNotFound), 7},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%v: got %d, want %d", tc.err, got, tc.want)
		}
	}
}

// The commands find the socket that the daemon's own package names.
func TestAdminSocket(t *testing.T) {
	dir := t.TempDir()
	h, err := home.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := adminSocket(h.Dir()); got != h.AdminSocket() {
		t.Errorf("got %s, want %s", got, h.AdminSocket())
	}
}

// Every command says in short what it does, and how it is used.
func TestEveryCommandIsDocumented(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Name() == "help" || strings.HasPrefix(cmd.CommandPath(), "ocmt completion") {
			return
		}
		if cmd.Short == "" || cmd.Example == "" || cmd.RunE == nil || cmd.Args == nil {
			t.Errorf("%s lacks a text, an example or a check of its arguments", cmd.CommandPath())
		}
		for _, child := range cmd.Commands() {
			visit(child)
		}
	}
	visit(NewRoot(Env{}))
}

// The engines that the flags take are those that there are.
func TestEngines(t *testing.T) {
	if !slices.Equal(engines, engine.Names()) {
		t.Errorf("got %q, want %q", engines, engine.Names())
	}
}

func TestWrap(t *testing.T) {
	for _, tc := range []struct {
		in    string
		width int
		want  []string
	}{
		{"", 10, []string{""}},
		{"one two three", 7, []string{"one two", "three"}},
		{"  one   two ", 80, []string{"one two"}},
		{"é é é é", 3, []string{"é é", "é é"}},
		{"a very-long-word b", 6, []string{"a", "very-long-word", "b"}},
	} {
		if got := wrap(tc.in, tc.width); !slices.Equal(got, tc.want) {
			t.Errorf("wrap(%q, %d) = %q, want %q", tc.in, tc.width, got, tc.want)
		}
	}
}

func TestClean(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"plain é 漢 🙂", "plain é 漢 🙂"},
		{"\x1b[31mred", `\u001b[31mred`},
		{"a\nb\tc\rd\x00", `a\u000ab\u0009c\u000dd\u0000`},
		{"csi \u009b2J, del \x7f", `csi \u009b2J, del \u007f`},
		{"right to left \u202egpj.exe\u2066", `right to left \u202egpj.exe\u2066`},
		{"line \u2028 end", `line \u2028 end`},
		{"invalid \xff\xc3", `invalid \xff\xc3`},
	} {
		if got := clean(tc.in); got != tc.want {
			t.Errorf("clean(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestTerminalWriterKeepsJSON(t *testing.T) {
	var b bytes.Buffer
	a := &app{env: Env{Stdout: &b, IsTerminal: func(any) bool { return true }}}
	want := map[string]string{"a": "\x1b[31m\u009b\u202e<é>"}
	if err := a.printJSON(want); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\u009b\u202e\x1b") {
		t.Errorf("not cleaned: %q", b.String())
	}
	var got map[string]string
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got["a"] != want["a"] {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}

func FuzzTerminalWriter(f *testing.F) {
	f.Add([]byte("plain é 漢 🙂\n"), 3)
	f.Add([]byte("\x1b[2J\xff\xe2\x80"), 1)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		var pieces, whole bytes.Buffer
		w := &terminalWriter{w: &pieces}
		for chunk := range slices.Chunk(text, max(1, min(size, 100))) {
			if n, err := w.Write(chunk); n != len(chunk) || err != nil {
				t.Fatal(n, err)
			}
		}
		one := &terminalWriter{w: &whole}
		if _, err := one.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Flush(), one.Flush()); err != nil {
			t.Fatal(err)
		}
		if pieces.String() != whole.String() {
			t.Errorf("in pieces %q, as a whole %q", pieces.String(), whole.String())
		}
		if !utf8.Valid(whole.Bytes()) {
			t.Errorf("%q is no UTF-8", whole.String())
		}
		for _, r := range whole.String() {
			if unsafe(r) && r != '\n' && r != '\t' {
				t.Errorf("%q holds %U", whole.String(), r)
			}
		}
	})
}

func TestProgressOnTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		p := newProgress(&b, true, false)
		p.show(v1.Progress{Stage: "fetch", Message: "a\x1b[31m", Done: 512, Total: 2048, Unit: "bytes"})
		p.show(v1.Progress{Stage: "fetch", Done: 1024, Total: 2048, Unit: "bytes"}) // too soon
		time.Sleep(progressInterval)
		p.show(v1.Progress{Stage: "fetch", Done: 2048, Total: 2048, Unit: "bytes"})
		p.show(v1.Progress{Stage: strings.Repeat("x", 200)})
		p.warn("left out a")
		p.finish()
		want := "\r\x1b[Kfetch: a\\u001b[31m 512 B of 2.0 KiB (25%)" + "\r\x1b[Kfetch 2.0 KiB of 2.0 KiB (100%)" +
			"\r\x1b[K" + strings.Repeat("x", progressWidth-3) + "..." + "\r\x1b[Kocmt: left out a\n"
		if b.String() != want {
			t.Errorf("got  %q\nwant %q", b.String(), want)
		}
	})
}

func TestProgressElsewhere(t *testing.T) {
	var b, quiet strings.Builder
	for _, p := range []*progress{newProgress(&b, false, false), newProgress(&quiet, true, true)} {
		for i := range int64(5) {
			p.show(v1.Progress{Stage: "fetch", Message: "demo", Done: i, Unit: "packages"})
		}
		p.show(v1.Progress{Stage: "seal"})
		p.finish()
	}
	if b.String() != "fetch: demo\nseal\n" || quiet.String() != "" {
		t.Errorf("got %q and, quiet, %q", b.String(), quiet.String())
	}
}

func TestStepText(t *testing.T) {
	for _, tc := range []struct {
		step v1.Progress
		want string
	}{
		{v1.Progress{Stage: "fetch", Message: "downloading", Done: 3}, "fetch: downloading 3"},
		{v1.Progress{Stage: "fetch", Done: 1, Total: 4}, "fetch 1 of 4 (25%)"},
		{v1.Progress{Stage: "fetch", Done: 1, Total: 4, Unit: "packages"}, "fetch 1 of 4 packages (25%)"},
		{v1.Progress{Stage: "load", Done: 1 << 20, Unit: "bytes"}, "load 1.0 MiB"},
	} {
		if got := stepText(tc.step); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func TestExitText(t *testing.T) {
	for want, exit := range map[string]*v1.Exit{
		"-":                                  nil,
		"error: exit code 7, " + instant(at): {At: at, Class: "error", Code: 7},
		"error: signal 9, " + instant(at):    {At: at, Class: "error", Code: 137},
		"clean, " + instant(at):              {At: at, Class: "clean"},
		"oom: too much, " + instant(at):      {At: at, Class: "oom", Code: 137, Detail: "too much"},
	} {
		if got := exitText(exit); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestParameters(t *testing.T) {
	for schema, want := range map[string]string{
		``:                                  "",
		`"no schema"`:                       "",
		`{"type":"object","properties":{}}`: "",
		`{"properties":{"q":{"type":"string"},"n":{"type":"integer"},"any":{}},"required":["q"]}`: "q string, any?, n? integer",
		`{"properties":{"x":{"type":["string","null"]}}}`:                                         "x?",
	} {
		if got := parameters(json.RawMessage(schema)); got != want {
			t.Errorf("parameters(%s) = %q, want %q", schema, got, want)
		}
	}
}

func TestByKind(t *testing.T) {
	got := byKind([]v1.Registration{{Kind: "hook", Name: "b"}, {Kind: "mcp"}, {Kind: "hook", Name: "a"}, {Kind: "hook"}})
	want := [][]string{{"  hook", "3", "b, a"}, {"  mcp", "1", ""}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestByteSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 512 << 20: "512.0 MiB", 5 << 40: "5.0 TiB", 5 << 50: "5120.0 TiB"} {
		if got := byteSize(n); got != want {
			t.Errorf("byteSize(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for s, want := range map[string]time.Time{"": {}, "10m": now.Add(-10 * time.Minute), "2026-01-01T00:00:00Z": now.Truncate(24 * time.Hour).Add(-24 * time.Hour)} {
		if got, err := parseSince(s, now); err != nil || !got.Equal(want) {
			t.Errorf("parseSince(%q) = %s, %v, want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"yesterday", "-5m", "10"} {
		if got, err := parseSince(s, now); err == nil {
			t.Errorf("parseSince(%q) = %s", s, got)
		}
	}
}

func TestClassify(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := errors.Join(os.Mkdir("dir", 0o700), os.WriteFile("a.tgz", nil, 0o600), os.WriteFile("name", nil, 0o600), os.Mkdir("odd.tgz", 0o700)); err != nil {
		t.Fatal(err)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]origin{
		"dir":          {"path", wd + "/dir", wd + "/dir"},
		"./dir":        {"path", wd + "/dir", wd + "/dir"},
		".":            {"path", wd, wd},
		"odd.tgz":      {"path", wd + "/odd.tgz", wd + "/odd.tgz"},
		"a.tgz":        {"archive", wd + "/a.tgz", wd + "/a.tgz"},
		"name":         {"npm", "name", ""}, // a file, but no archive
		"@scope/x":     {"npm", "@scope/x", ""},
		"x@1.2.3":      {"npm", "x@1.2.3", ""},
		"nothing-here": {"npm", "nothing-here", ""},
	} {
		if got, err := classify(spec); err != nil || got != want {
			t.Errorf("classify(%q) = %+v, %v, want %+v", spec, got, err, want)
		}
	}
	for spec, class := range map[string]error{
		"./none": errdefs.ErrNotFound, "/none/at/all": errdefs.ErrNotFound, "none.tar.gz": errdefs.ErrNotFound,
		"./name": errdefs.ErrInvalidArgument, "x.zip": errdefs.ErrInvalidArgument, " ": errdefs.ErrInvalidArgument, "./a.tgz/x": errdefs.ErrInvalidArgument,
	} {
		if got, err := classify(spec); !errors.Is(fault.Of(err).Class(), class) {
			t.Errorf("classify(%q) = %+v, %v, want %v", spec, got, err, class)
		}
	}
}

func TestPackDirIsReproducible(t *testing.T) {
	pack := func(dir string, at time.Time) []byte {
		for _, name := range []string{"b.js", "a.js"} {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.WriteFile(path, []byte(name), 0o700), os.Chtimes(path, at, at)); err != nil {
				t.Fatal(err)
			}
		}
		var b bytes.Buffer
		if err := packDir(t.Context(), dir, &b, func(s string) { t.Error(s) }); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	first := pack(t.TempDir(), time.Unix(1, 0))
	if second := pack(t.TempDir(), time.Unix(1e9, 0)); !bytes.Equal(first, second) {
		t.Error("two packs of the same files differ")
	}
	header, err := tar.NewReader(bytes.NewReader(first)).Next()
	if err != nil || header.Name != "a.js" || header.Mode != 0o755 || header.Uid != 0 || header.Uname != "" {
		t.Errorf("%+v, %v", header, err)
	}
}

func TestPackDirBounds(t *testing.T) {
	noSkip := func(string) {}
	large := t.TempDir()
	f, err := os.Create(filepath.Join(large, "sparse"))
	if err := errors.Join(err, f.Truncate(maxPackBytes+1), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := packDir(t.Context(), large, io.Discard, noSkip); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too large: %v", err)
	}
	if err := packDir(t.Context(), filepath.Join(large, "none"), io.Discard, noSkip); !errdefs.IsNotFound(err) {
		t.Errorf("missing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := packDir(ctx, large, io.Discard, noSkip); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	many := &packer{ctx: t.Context(), files: maxPackFiles}
	if err := many.add("x", dirEntry(t, large), nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("too many: %v", err)
	}
}

func dirEntry(t *testing.T, dir string) os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return entries[0]
}

func TestResultText(t *testing.T) {
	for _, tc := range []struct {
		result, want string
		isText       bool
	}{
		{`"plain"`, "plain", true},
		{`{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`, "a\nb", true},
		{`{"content":[{"type":"text","text":"a"},{"type":"image","data":"x"}]}`, "", false},
		{`{"content":[]}`, "", false},
		{`{"content":"x"}`, "", false},
		{`{"n":1}`, "", false},
		{`null`, "", false},
		{`[1]`, "", false},
	} {
		if got, isText := resultText(json.RawMessage(tc.result)); got != tc.want || isText != tc.isText {
			t.Errorf("resultText(%s) = %q, %v", tc.result, got, isText)
		}
	}
}

func TestReadObjectBounds(t *testing.T) {
	a := &app{env: Env{Stdin: io.LimitReader(zeros{}, v1.MaxCallBody*2)}}
	if _, err := a.readObject(paramsFlag, "-"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestConfirmInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stdin, hold := io.Pipe()
	defer hold.Close()
	var b strings.Builder
	a := &app{env: Env{Stdin: stdin, Stderr: &b}}
	if err := a.confirm(ctx, origin{source: "npm", spec: "x\x1b[2J"}); exitCode(err) != 4 {
		t.Errorf("got %v", err)
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Errorf("the prompt is not cleaned: %q", b.String())
	}
}
