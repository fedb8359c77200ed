package cli

import (
	"bufio"
	"context"
	"io"
	"sync"
)

// answers are the lines that a person types, for all questions of a command: a
// reader for each question would swallow the answer to the next.
type answers struct {
	once  sync.Once
	lines chan string // closed at the end of the input
}

// next returns the next line without its end; false when the input or ctx ends
// first.
func (s *answers) next(ctx context.Context, stdin io.Reader) (string, bool) {
	s.once.Do(func() {
		s.lines = make(chan string)
		go func() { // a read cannot be interrupted: this ends with the process
			defer close(s.lines)
			for scanner := bufio.NewScanner(stdin); scanner.Scan(); {
				s.lines <- scanner.Text()
			}
		}()
	})
	select {
	case line, ok := <-s.lines:
		return line, ok
	case <-ctx.Done():
		return "", false
	}
}
