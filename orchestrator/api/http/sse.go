package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// heartbeat is how often a stream of events that is silent holds a comment, so
// that both ends notice when the other is gone.
const heartbeat = 15 * time.Second

// eventsExtension says in the OpenAPI document what a stream holds: from the
// names of events to the schemas of their data.
const eventsExtension = "x-ocmt-events"

// streams documents that an operation answers with server-sent events.
func streams(r *routes, op *huma.Operation, data map[string]any) {
	refs := make(map[string]*huma.Schema)
	for name, value := range data {
		if value == nil { // any JSON
			refs[name] = &huma.Schema{}
			continue
		}
		refs[name] = r.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(value), true, name)
	}
	op.Extensions[eventsExtension] = refs
	op.Responses = content("Events, streamed", "text/event-stream")
}

// events writes server-sent events. Its methods may be called from several
// goroutines; after close they do nothing.
type events struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
	beat    *time.Timer
	closed  bool
}

func startEvents(w http.ResponseWriter) *events {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	e := &events{w: w, control: http.NewResponseController(w)}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.control.Flush()                                                                  //nolint:errcheck // a client that is gone is not told: its context ends
	e.beat = time.AfterFunc(heartbeat, func() { e.write([]byte(": still here\n\n")) }) //nolint:errcheck // see above
	return e
}

// send writes an event. It fails for a client that is gone, whose request's
// context then ends too.
func (e *events) send(name string, data any) error { return e.sendID("", name, data) }

// sendID writes an event that a client may name in Last-Event-ID.
func (e *events) sendID(id, name string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("cannot encode event %s: %w", name, err)
	}
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", name, text)
	return e.write(b.Bytes())
}

func (e *events) write(text []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return io.ErrClosedPipe
	}
	e.beat.Reset(heartbeat)
	if _, err := e.w.Write(text); err != nil {
		return err
	}
	return e.control.Flush()
}

// close must be called before the request's handler returns.
func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.beat.Stop()
}
