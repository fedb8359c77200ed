package sandboxtest

import (
	"errors"
	"fmt"
	"slices"
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
	{"since and timestamps", false, func(t *testing.T, s *suite) {
		id := s.start(t, s.spec("print", "1"))
		s.wait(t, id)
		stamp, text, _ := strings.Cut(s.output(t, id, sandbox.LogOptions{Timestamps: true}), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil || text != "line 0\n" {
			t.Fatalf("got %q %q: %v", stamp, text, err)
		}
		if got := s.output(t, id, sandbox.LogOptions{Since: at}); got != "line 0\n" {
			t.Errorf("since then: %q", got)
		}
		if got := s.output(t, id, sandbox.LogOptions{Since: at.Add(time.Second)}); got != "" {
			t.Errorf("since later: %q", got)
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
		err := s.Engine.Logs(s.ctx(t), id, sandbox.LogOptions{}, failing{full})
		if !errors.Is(err, full) {
			t.Errorf("error %v, want the writer's", err)
		}
	}},
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
