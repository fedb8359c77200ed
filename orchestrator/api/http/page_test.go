package httpapi

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
)

func FuzzPage(f *testing.F) {
	f.Add("", 1)
	f.Add("YQ", 1000)
	f.Add("%", 3)
	f.Fuzz(func(t *testing.T, cursor string, limit int) {
		if limit < 1 || limit > 1000 {
			t.Skip()
		}
		items := []string{"a", "b", "c/d", "e"}
		part, next, err := page(items, PageParam{Limit: limit, Cursor: cursor}, func(s string) string { return s })
		switch {
		case err != nil && !errdefs.IsInvalidArgument(err) && !errdefs.IsConflict(err):
			t.Errorf("got %v", err)
		case len(part) > limit, err != nil && (part != nil || next != ""), next != "" && len(part) != limit:
			t.Errorf("got %v, next %q, %v", part, next, err)
		}
	})
}

func TestPages(t *testing.T) {
	var items []int
	for i := range 2500 {
		items = append(items, i)
	}
	key := func(i int) string { return fmt.Sprintf("tenant/é %d", i) }
	for _, limit := range []int{1, 7, 1000} {
		var got []int
		in := PageParam{Limit: limit}
		for {
			part, next, err := page(items, in, key)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, part...)
			if in.Cursor = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, items) {
			t.Errorf("limit %d: got %d items, want all", limit, len(got))
		}
	}
	_, next, err := page(items, PageParam{Limit: 5}, key)
	if err != nil {
		t.Fatal(err)
	}
	shorter := slices.Delete(slices.Clone(items), 1, 2) // another item goes
	if part, _, err := page(shorter, PageParam{Limit: 2, Cursor: next}, key); err != nil || !slices.Equal(part, []int{5, 6}) {
		t.Errorf("got %v, %v", part, err)
	}
	if _, _, err := page(items[:3], PageParam{Limit: 2, Cursor: next}, key); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("the cursor's item went: %v", err)
	}
}
