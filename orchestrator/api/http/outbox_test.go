package httpapi

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// A client that does not read loses interim results, and no question.
func TestOutboxDropsTheOldest(t *testing.T) {
	o := newOutbox()
	data := json.RawMessage(`"` + strings.Repeat("x", maxOutbox/4) + `"`)
	o.put(outgoing{"ask", data, true})
	for _, name := range []string{"1", "2", "3", "4", "5"} {
		o.put(outgoing{name, data, false})
	}
	o.put(outgoing{"large", json.RawMessage(strings.Repeat("x", 2*maxOutbox)), false})
	o.close()
	o.put(outgoing{"late", data, true})
	var got []string
	o.pump(func(name string, _ any) error { got = append(got, name); return nil })
	if want := []string{"ask", "large"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if o.bytes != 0 || len(o.queue) != 0 {
		t.Errorf("left over: %d bytes", o.bytes)
	}
}

func TestOutboxKeepsTheLatest(t *testing.T) {
	o := newOutbox()
	for _, name := range []string{"1", "2", "3", "4", "5"} {
		o.put(outgoing{name, make(json.RawMessage, maxOutbox/2), false})
	}
	o.close()
	var got []string
	o.pump(func(name string, _ any) error { got = append(got, name); return nil })
	if want := []string{"4", "5"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOutboxEndsWithItsClient(t *testing.T) {
	o := newOutbox()
	o.put(outgoing{"1", nil, true})
	o.pump(func(string, any) error { return errors.New("gone") })
	o.put(outgoing{"2", nil, true})
	if len(o.queue) != 0 {
		t.Errorf("queued for nobody: %v", o.queue)
	}
}
