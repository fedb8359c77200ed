package fault

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/containerd/errdefs"
)

func TestMessages(t *testing.T) {
	_, missing := os.Open("/nonexistent/file")
	for _, tc := range []struct {
		name string
		err  error
		want string
		code string
	}{
		{"a class at the end says nothing", fmt.Errorf("cannot reach it: %w", errdefs.ErrUnavailable), "cannot reach it", "unavailable"},
		{"in New too", New(errdefs.ErrInvalidArgument, "bad", "cannot use it: %w", errdefs.ErrInvalidArgument), "cannot use it", "bad"},
		{"only at the end", fmt.Errorf("%w: it is gone", errdefs.ErrUnavailable), "unavailable: it is gone", "unavailable"},
		{"words that are no class", errors.New("it is: unavailable"), "it is: unavailable", "internal"},
		{"what the system said", fmt.Errorf("cannot open it: %w: %w", missing, errdefs.ErrNotFound),
			"cannot open it: open /nonexistent/file: no such file or directory: not found", "not_found"},
		{"what was wrapped around", fmt.Errorf("outer: %w", New(errdefs.ErrConflict, "taken", "inner")), "outer: inner", "taken"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Of(tc.err)
			if got.Message != tc.want || got.Code != tc.code {
				t.Errorf("got %q (%s), want %q (%s)", got.Message, got.Code, tc.want, tc.code)
			}
			if !errors.Is(got, got.Class()) {
				t.Errorf("it is not of its own class %v", got.Class())
			}
		})
	}
}
