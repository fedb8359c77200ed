package sandboxtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/sandbox"
)

var logRows = []row{
	{"all of both streams", false, func(t *testing.T, s *suite) {
		_, out := s.run(t, s.spec("print", "6"))
		got := strings.Split(strings.TrimSpace(out), "\n")
		slices.Sort(got) // the order between two streams is nobody's promise
		if want := numbered(0, 6); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}},
	{"tail", false, func(t *testing.T, s *suite) {
		id := s.start(t, s.spec("print", "9"))
		s.wait(t, id)
		if got := strings.Count(s.output(t, id, sandbox.LogOptions{Tail: 3}), "\n"); got != 3 {
			t.Errorf("%d lines, want 3", got)
		}
		if got := strings.Count(s.output(t, id, sandbox.LogOptions{Tail: 100}), "\n"); got != 9 {
			t.Errorf("%d lines, want 9", got)
		}
	}},
	{"since", false, func(t *testing.T, s *suite) {
		id := s.start(t, s.spec("print", "1"))
		s.wait(t, id)
		at := s.logLines(t, id, sandbox.LogOptions{})[0].Time
		if got := s.output(t, id, sandbox.LogOptions{Since: at}); got != "line 0\n" {
			t.Errorf("since then: %q", got)
		}
		if got := s.output(t, id, sandbox.LogOptions{Since: at.Add(time.Second)}); got != "" {
			t.Errorf("since later: %q", got)
		}
	}},
	{"time and stream of every line", false, timeAndStream},
	{"a line longer than the engine's messages", false, func(t *testing.T, s *suite) {
		const size = 2*sandbox.MaxLogLine + 10
		spec := s.spec("line", strconv.Itoa(size))
		spec.Limits.LogSize = 1 << 20
		id := s.start(t, spec)
		s.wait(t, id)
		var got []int
		for _, line := range s.logLines(t, id, sandbox.LogOptions{}) {
			got = append(got, strings.Count(line.Line, "x"))
		}
		if want := []int{sandbox.MaxLogLine, sandbox.MaxLogLine, 10}; !slices.Equal(got, want) {
			t.Errorf("lines of %d bytes, want %d", got, want)
		}
		if got := strings.Count(s.output(t, id, sandbox.LogOptions{}), "x"); got != size {
			t.Errorf("%d bytes as text, want %d", got, size)
		}
	}},
	{"follow ends with the container", false, func(t *testing.T, s *suite) {
		id := s.startSleeping(t, "print", "2", "0")
		out := make(chan string)
		go func() { out <- s.output(t, id, sandbox.LogOptions{Follow: true}) }()
		s.stop(t, id, grace)
		if got := <-out; strings.Count(got, "\n") != 3 {
			t.Errorf("got %q", got)
		}
	}},
	{"follow after the end", false, func(t *testing.T, s *suite) {
		id := s.start(t, s.spec("print", "2"))
		s.wait(t, id)
		if got := s.output(t, id, sandbox.LogOptions{Follow: true}); strings.Count(got, "\n") != 2 {
			t.Errorf("got %q", got)
		}
	}},
	{"while it runs", false, func(t *testing.T, s *suite) {
		id := s.startSleeping(t, "print", "2", "0")
		if got := s.output(t, id, sandbox.LogOptions{}); strings.Count(got, "\n") != 3 {
			t.Errorf("got %q", got)
		}
	}},
	{"never started", false, func(t *testing.T, s *suite) {
		id := s.create(t, s.spec("print", "2"))
		for _, follow := range []bool{false, true} {
			if got := s.output(t, id, sandbox.LogOptions{Follow: follow}); got != "" {
				t.Errorf("got %q", got)
			}
		}
	}},
	{"size is bounded", false, func(t *testing.T, s *suite) {
		spec := s.spec("print", "60000") // about 640 KB, ten times the limit
		id := s.start(t, spec)
		s.wait(t, id)
		out := s.output(t, id, sandbox.LogOptions{})
		if bound := int(spec.Limits.LogSize) * sandbox.LogFiles; len(out) > bound || len(out) == 0 {
			t.Errorf("%d bytes, want at most %d and some", len(out), bound)
		}
		// One stream may run ahead of the other, so that its very last line is
		// not among the newest.
		if !strings.Contains(out, "line 5999") {
			t.Errorf("the end is missing, the last is %q", out[len(out)-12:])
		}
	}},
	{"writer that fails", false, func(t *testing.T, s *suite) {
		id := s.start(t, s.spec("print", "2"))
		s.wait(t, id)
		full := errors.New("full")
		for _, structured := range []bool{false, true} {
			err := s.Engine.Logs(s.ctx(t), id, sandbox.LogOptions{JSON: structured}, failing{full})
			if !errors.Is(err, full) {
				t.Errorf("JSON %v: error %v, want the writer's", structured, err)
			}
		}
	}},
}

// timeAndStream follows the output of a running container, line by line.
func timeAndStream(t *testing.T, s *suite) {
	before := time.Now().Add(-time.Second)
	id := s.startSleeping(t, "print", "4", "0")
	s.stop(t, id, grace)
	for _, options := range []sandbox.LogOptions{{}, {Follow: true}, {Tail: 2}} {
		lines := s.logLines(t, id, options)
		want := 5
		if options.Tail > 0 {
			want = options.Tail
		}
		if len(lines) != want {
			t.Errorf("%+v: got %+v, want %d lines", options, lines, want)
		}
		for _, line := range lines {
			stream := sandbox.Stdout
			if line.Line == "line 1" || line.Line == "line 3" {
				stream = sandbox.Stderr
			}
			if line.Stream != stream || line.Time.Before(before) || line.Time.After(time.Now().Add(time.Second)) {
				t.Errorf("%+v, want it on %s and now", line, stream)
			}
		}
	}
}

// logLines returns the output as the engine takes it apart.
func (s *suite) logLines(t *testing.T, id string, options sandbox.LogOptions) []sandbox.LogLine {
	t.Helper()
	options.JSON = true
	var lines []sandbox.LogLine
	for text := range strings.Lines(s.output(t, id, options)) {
		var line sandbox.LogLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

func numbered(from, to int) []string {
	var lines []string
	for i := from; i < to; i++ {
		lines = append(lines, fmt.Sprintf("line %d", i))
	}
	return lines
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
