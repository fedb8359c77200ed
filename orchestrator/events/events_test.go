package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

var boot = time.UnixMilli(1_800_000_000_000)

// all returns what a reader that does not follow gets.
func all(t *testing.T, h *Hub, q v1.EventQuery) (list []v1.Event) {
	t.Helper()
	err := h.Subscribe(t.Context(), q, func(ev v1.Event) error {
		list = append(list, ev)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func types(list []v1.Event) (names []string) {
	for _, ev := range list {
		names = append(names, ev.Type)
	}
	return names
}

func TestReplay(t *testing.T) {
	h := New(boot)
	h.Publish("a", "echo", "one", map[string]int{"n": 1})
	h.Publish("b", "", "two", nil)
	h.Publish("a", "", "three", json.RawMessage(`{ "raw": true }`))
	every := all(t, h, v1.EventQuery{})
	if got, want := types(every), []string{"one", "two", "three"}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	first := every[0]
	if first.Seq != uint64(boot.UnixMilli())<<10+1 || every[2].Seq != first.Seq+2 {
		t.Errorf("numbers %d to %d", first.Seq, every[2].Seq)
	}
	if first.Tenant != "a" || first.Plugin != "echo" || string(first.Data) != `{"n":1}` || first.Time.IsZero() || first.Time.Location() != time.UTC {
		t.Errorf("event %+v", first)
	}
	if every[1].Data != nil || string(every[2].Data) != `{"raw":true}` {
		t.Errorf("data %q, %q", every[1].Data, every[2].Data)
	}
	for _, tc := range []struct {
		name string
		q    v1.EventQuery
		want []string
	}{
		{"of a tenant", v1.EventQuery{Tenant: "a"}, []string{"one", "three"}},
		{"of nobody", v1.EventQuery{Tenant: "c"}, nil},
		{"since the first", v1.EventQuery{Since: first.Seq}, []string{"two", "three"}},
		{"since the last", v1.EventQuery{Since: first.Seq + 2}, nil},
		{"just before the first", v1.EventQuery{Since: first.Seq - 1}, []string{"one", "two", "three"}},
		{"of an earlier boot", v1.EventQuery{Since: first.Seq - 2}, []string{v1.EventGap, "one", "two", "three"}},
		{"of a boot by another clock", v1.EventQuery{Since: first.Seq + 3}, []string{v1.EventGap, "one", "two", "three"}},
		{"of the end of time", v1.EventQuery{Since: math.MaxUint64}, []string{v1.EventGap, "one", "two", "three"}},
		{"of an earlier boot, of a tenant", v1.EventQuery{Since: 1, Tenant: "a"}, []string{v1.EventGap, "one", "three"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := types(all(t, h, tc.q)); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestEmptyHub(t *testing.T) {
	h := New(boot)
	if got := all(t, h, v1.EventQuery{}); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	got := all(t, h, v1.EventQuery{Since: 7, Tenant: "a"})
	if len(got) != 1 || got[0].Type != v1.EventGap || got[0].Tenant != "a" {
		t.Fatalf("got %+v, want a gap", got)
	}
	if again := all(t, h, v1.EventQuery{Since: got[0].Seq}); len(again) != 0 {
		t.Errorf("after the gap: %+v", again)
	}
}

func TestNumbersGrowFromBootToBoot(t *testing.T) {
	if earlier, later := New(boot), New(boot.Add(time.Millisecond)); later.next-earlier.next != 1024 {
		t.Errorf("a millisecond is %d events", later.next-earlier.next)
	}
	if h := New(time.Unix(-5, 0)); h.next != 1 {
		t.Errorf("before 1970 it starts at %d", h.next)
	}
	if h := New(time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)); h.next >= 1<<53 {
		t.Errorf("%d is not exact in JavaScript", h.next)
	}
}

func TestRingIsBounded(t *testing.T) {
	t.Run("in events", func(t *testing.T) {
		h := New(boot)
		for i := range MaxEvents + 10 {
			h.Publish("a", "", "tick", i)
		}
		got := all(t, h, v1.EventQuery{})
		if len(got) != MaxEvents || string(got[0].Data) != "10" {
			t.Errorf("%d events from %s", len(got), got[0].Data)
		}
		since := got[0].Seq - 5
		if got := all(t, h, v1.EventQuery{Since: since}); len(got) != MaxEvents+1 || got[0].Type != v1.EventGap || got[0].Seq != got[1].Seq-1 {
			t.Errorf("%d events, the first %+v", len(got), got[0])
		}
	})
	t.Run("in bytes", func(t *testing.T) {
		h := New(boot)
		data := strings.Repeat("x", MaxData-2)
		for range 200 {
			h.Publish("a", "", "big", data)
		}
		size, got := 0, all(t, h, v1.EventQuery{})
		for _, ev := range got {
			size += sizeOf(ev)
		}
		if size > MaxBytes || size < MaxBytes-MaxData-eventSize*2 || h.bytes != size {
			t.Errorf("%d bytes, counted as %d", size, h.bytes)
		}
		for range MaxEvents {
			h.Publish("a", "", "small", nil)
		}
		if want := MaxEvents * (eventSize + len("a") + len("small")); h.bytes != want {
			t.Errorf("%d bytes are counted, want %d", h.bytes, want)
		}
	})
}

func TestEventsAreBounded(t *testing.T) {
	for _, tc := range []struct {
		name string
		data any
		want string
	}{
		{"fits", strings.Repeat("x", MaxData-2), `"` + strings.Repeat("x", MaxData-2) + `"`},
		{"too large", strings.Repeat("x", MaxData-1), `{"truncated":true}`},
		{"no JSON", json.RawMessage(`{"a":`), `{"truncated":true}`},
		{"cannot be encoded", math.NaN(), `{"truncated":true}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := New(boot)
			h.Publish("a", "", "x", tc.data)
			if got := all(t, h, v1.EventQuery{}); len(got) != 1 || string(got[0].Data) != tc.want {
				t.Errorf("got %.100q, want %.100q", got[0].Data, tc.want)
			}
		})
	}
	h := New(boot)
	long := strings.Repeat("é", MaxName)
	h.Publish(long, long, long, nil)
	ev := all(t, h, v1.EventQuery{})[0]
	for _, s := range []string{ev.Tenant, ev.Plugin, ev.Type} {
		if len(s) > MaxName+3 || !strings.HasSuffix(s, "é...") {
			t.Errorf("name of %d bytes", len(s))
		}
	}
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(boot)
		h.Publish("a", "", "before", nil)
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		ended := make(chan error, 1)
		go func() {
			ended <- h.Subscribe(ctx, v1.EventQuery{Tenant: "a", Follow: true}, func(ev v1.Event) error {
				got = append(got, ev.Type)
				return nil
			})
		}()
		synctest.Wait()
		for range 3 {
			h.Publish("b", "", "other", nil)
			h.Publish("a", "", "now", nil)
			synctest.Wait()
		}
		if want := []string{"before", "now", "now", "now"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestSlowReaderIsToldOfTheGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(boot)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		release := make(chan struct{})
		var got []v1.Event
		go func() {
			_ = h.Subscribe(ctx, v1.EventQuery{Follow: true}, func(ev v1.Event) error {
				got = append(got, ev)
				if len(got) == 1 {
					<-release
				}
				return nil
			})
		}()
		h.Publish("a", "", "x", 0)
		synctest.Wait()
		for i := range 2 * MaxEvents { // never blocks
			h.Publish("a", "", "x", i+1)
		}
		close(release)
		synctest.Wait()
		if len(got) != 1+1+MaxEvents {
			t.Fatalf("%d events", len(got))
		}
		gap, next := got[1], got[2]
		if gap.Type != v1.EventGap || gap.Seq+1 != next.Seq || string(next.Data) != fmt.Sprint(MaxEvents+1) {
			t.Errorf("gap %+v, then %s", gap, next.Data)
		}
	})
}

func TestSendErrorEndsIt(t *testing.T) {
	h := New(boot)
	for range 3 {
		h.Publish("a", "", "x", nil)
	}
	n, broken := 0, errors.New("the client went away")
	err := h.Subscribe(t.Context(), v1.EventQuery{Follow: true}, func(v1.Event) error {
		n++
		return broken
	})
	if !errors.Is(err, broken) || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = h.Subscribe(ctx, v1.EventQuery{}, func(v1.Event) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a reader that is gone got %v", err)
	}
}

// TestNothingIsLostOrDoubled has many publishers and readers at once.
func TestNothingIsLostOrDoubled(t *testing.T) {
	const publishers, each, readers = 4, 500, 4
	h := New(boot)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	stop := errors.New("enough")
	for range readers {
		wg.Go(func() {
			var last uint64
			n := 0
			err := h.Subscribe(ctx, v1.EventQuery{Follow: true}, func(ev v1.Event) error {
				if last != 0 && ev.Seq != last+1 {
					t.Errorf("%d after %d", ev.Seq, last)
				}
				last = ev.Seq
				if n++; n == publishers*each {
					return stop
				}
				return nil
			})
			if !errors.Is(err, stop) {
				t.Errorf("%d events, then %v", n, err)
			}
		})
	}
	for range publishers {
		wg.Go(func() {
			for i := range each {
				h.Publish("a", "", "x", i)
			}
		})
	}
	wg.Wait()
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("subscribers=%d", n), func(b *testing.B) {
			h := New(boot)
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					_ = h.Subscribe(ctx, v1.EventQuery{Follow: true}, func(v1.Event) error { return nil })
				})
			}
			data := v1.HookEvent{Event: "before_tool_call", Status: "block", Detail: "no"}
			b.ReportAllocs()
			for b.Loop() {
				h.Publish("default", "echo", v1.EventHook, data)
			}
			cancel()
			wg.Wait()
		})
	}
}
