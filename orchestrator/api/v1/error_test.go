package v1

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

func TestErrorRoundTrip(t *testing.T) {
	for _, c := range classes {
		t.Run(c.name, func(t *testing.T) {
			sent := fault.New(c.class, "some_code", "cannot do it: %w", errors.New("why")).
				WithHint("do that").WithRetry().WithDetails([]int{1})
			e, status := ErrorOf(sent)
			if status != c.status || e.Class != c.name {
				t.Errorf("status %d, class %s, want %d, %s", status, e.Class, c.status, c.name)
			}
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var received Error
			if err := json.Unmarshal(text, &received); err != nil {
				t.Fatal(err)
			}
			got := fault.Of(received.Err())
			if !errors.Is(got.Class(), c.class) || got.Code != sent.Code || got.Message != sent.Message || got.Hint != sent.Hint || !got.Retryable {
				t.Errorf("got %+v, want %+v", got, sent)
			}
			if details, ok := got.Details.(json.RawMessage); !ok || string(details) != "[1]" {
				t.Errorf("details %v", got.Details)
			}
		})
	}
}

func TestErrorOfPlain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		status int
		class  string
		code   string
		says   string
	}{
		{"no class", errors.New("disk on fire"), 500, "internal", "internal", "disk on fire"},
		{"class without code", fmt.Errorf("no row: %w", errdefs.ErrNotFound), 404, "not_found", "not_found", "no row"},
		{"unlisted class", fmt.Errorf("later: %w", errdefs.ErrNotImplemented), 500, "internal", "internal", "later"},
		{"wrapped", fmt.Errorf("cannot start: %w", fault.New(errdefs.ErrConflict, "taken", "in use")), 409, "conflict", "taken", "cannot start: in use"},
		{"first class counts", fault.New(errdefs.ErrUnavailable, "down", "down: %w", errdefs.ErrNotFound), 503, "unavailable", "down", "down: not found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, status := ErrorOf(tc.err)
			if status != tc.status || e.Class != tc.class || e.Code != tc.code || e.Message != tc.says {
				t.Errorf("got %d %+v", status, e)
			}
		})
	}
}

func TestErrOfUnknownClass(t *testing.T) {
	if err := (Error{Class: "new_in_v1.9", Code: "x", Message: "m"}).Err(); !errdefs.IsInternal(err) {
		t.Errorf("got %v, want internal", err)
	}
}
