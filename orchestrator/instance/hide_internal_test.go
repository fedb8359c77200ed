package instance

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/sandbox"
)

// TestHiddenIsDocumented compares what is hidden with what people are told.
func TestHiddenIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/files.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			rows[strings.TrimSpace(cells[1])] = strings.TrimSpace(cells[2])
		}
	}
	quoted := func(names []string, end string) string {
		var out []string
		for _, name := range names {
			out = append(out, "`"+name+end+"`")
		}
		return strings.Join(out, " ")
	}
	for row, want := range map[string]string{
		"files": quoted(secretFiles, ""), "directories": quoted(secretDirectories, "/"), "not hidden": quoted(publicFiles, ""),
	} {
		if rows[row] != want {
			t.Errorf("docs/files.md, %s: %s, want %s", row, rows[row], want)
		}
	}
}

// TestSearchIsBounded: what a plugin can write to has to be looked at in whole.
func TestSearchIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		path := filepath.Join(dir, fmt.Sprint(i), "deep")
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, ".env"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "1", ".env"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		most     int
		readOnly bool
		found    int
		refused  bool
		warned   bool
	}{
		{most: 152, found: 51},
		{most: 152, readOnly: true, found: 51},
		{most: 151, found: 51, refused: true},
		{most: 110, readOnly: true, found: 10, warned: true}, // the upper levels first
		{most: 110, refused: true, found: 10},
		{most: 10, readOnly: true, warned: true},
	} {
		var log bytes.Buffer
		s := &search{logger: slog.New(slog.NewTextHandler(&log, nil)), most: c.most}
		err := s.workspace(t.Context(), sandbox.Mount{Source: dir, Target: "/w", ReadOnly: c.readOnly})
		if (err != nil) != c.refused || strings.Contains(log.String(), "too large") != c.warned || len(s.found) != c.found {
			t.Errorf("%+v: %v, found %d, log %q", c, err, len(s.found), log.String())
		}
		if c.refused && (!errdefs.IsFailedPrecondition(err) || fault.Of(err).Code != "workspace_too_large" || fault.Of(err).Hint == "") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// BenchmarkSearch looks through a tree of 10,000 files.
func BenchmarkSearch(b *testing.B) {
	dir := b.TempDir()
	for i := range 500 {
		path := filepath.Join(dir, fmt.Sprint(i%20), fmt.Sprint(i))
		if err := os.MkdirAll(path, 0o755); err != nil {
			b.Fatal(err)
		}
		for j := range 20 {
			if err := os.WriteFile(filepath.Join(path, fmt.Sprint("file-", j, ".ts")), nil, 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		s := &search{logger: slog.New(slog.DiscardHandler), most: maxSearched}
		if err := s.workspace(b.Context(), sandbox.Mount{Source: dir, Target: "/w"}); err != nil {
			b.Fatal(err)
		}
	}
}
