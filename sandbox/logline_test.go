package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// encoded returns the lines that an encoder makes of the pieces, the n-th of
// which came n seconds after the epoch.
func encoded(t *testing.T, pieces ...string) (lines []string, seconds []int64) {
	t.Helper()
	var out bytes.Buffer
	e := NewLogEncoder(&out, Stderr)
	for i, piece := range pieces {
		if err := e.Add(time.Unix(int64(i), 0), []byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	for text := range bytes.Lines(out.Bytes()) {
		var line LogLine
		if err := json.Unmarshal(text, &line); err != nil || line.Stream != Stderr {
			t.Fatalf("%q: %+v, %v", text, line, err)
		}
		lines, seconds = append(lines, line.Line), append(seconds, line.Time.Unix())
	}
	return lines, seconds
}

func TestLogEncoder(t *testing.T) {
	long := strings.Repeat("x", MaxLogLine)
	for name, c := range map[string]struct {
		pieces, want []string
		seconds      []int64
	}{
		"nothing":                      {nil, nil, nil},
		"lines":                        {[]string{"a\nb\n", "c\n"}, []string{"a", "b", "c"}, []int64{0, 0, 1}},
		"empty ones":                   {[]string{"\n\n"}, []string{"", ""}, []int64{0, 0}},
		"the time of the beginning":    {[]string{"a", "b\nc", "d"}, []string{"ab", "cd"}, []int64{0, 1}},
		"characters of HTML":           {[]string{"<&>\n"}, []string{"<&>"}, []int64{0}},
		"no UTF-8":                     {[]string{"a\xffb\n"}, []string{"a\uFFFDb"}, []int64{0}},
		"a character in two pieces":    {[]string{"\xc3", "\xa9\n"}, []string{"é"}, []int64{0}},
		"as long as may be":            {[]string{long + "\n"}, []string{long}, []int64{0}},
		"longer":                       {[]string{long + "yz\n"}, []string{long, "yz"}, []int64{0, 0}},
		"longer by one, without end":   {[]string{long + "y"}, []string{long, "y"}, []int64{0, 0}},
		"no cut through a character":   {[]string{long[:MaxLogLine-1] + "éz\n"}, []string{long[:MaxLogLine-1], "éz"}, []int64{0, 0}},
		"a line after one that is cut": {[]string{long + "y\nz\n"}, []string{long, "y", "z"}, []int64{0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			lines, seconds := encoded(t, c.pieces...)
			if !slices.Equal(lines, c.want) || !slices.Equal(seconds, c.seconds) {
				t.Errorf("got %d lines %.80q at %v, want %d at %v", len(lines), lines, seconds, len(c.want), c.seconds)
			}
		})
	}
}

func TestLogEncoderReportsItsWriter(t *testing.T) {
	full := errors.New("full")
	e := NewLogEncoder(writerFunc(func([]byte) (int, error) { return 0, full }), Stdout)
	if err := e.Add(time.Now(), []byte("a\n")); !errors.Is(err, full) {
		t.Errorf("Add() = %v, want the writer's error", err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// FuzzLogEncoder: wherever the output is cut into pieces, nothing is lost.
func FuzzLogEncoder(f *testing.F) {
	f.Add("a\nb", "c\n")
	f.Add(strings.Repeat("é", MaxLogLine), "\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		if !utf8.ValidString(a) || !utf8.ValidString(b) {
			t.Skip("what is no UTF-8 becomes something else")
		}
		lines, _ := encoded(t, a, b)
		got := strings.Join(lines, "")
		if want := strings.ReplaceAll(a+b, "\n", ""); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		for _, line := range lines {
			if len(line) > MaxLogLine {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
	})
}
