package egress

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// TestWebSocket upgrades by hand, with a secret in the request, and talks in
// both directions afterwards.
func TestWebSocket(t *testing.T) {
	r := newInspectRig(t, Limits{BytesDown: 64 << 10}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != testValue || r.Header.Get("Upgrade") != "websocket" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Echo: "+testValue+"\r\n\r\n")
		_, _ = io.Copy(conn, buf)
	}, withSecret())
	conn := r.secure(t)
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nX-Api-Key: %s\r\n\r\n", apiHost, testPlaceholder)
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("X-Echo") != testPlaceholder {
		t.Fatalf("answered %+v, %v", res, err)
	}
	for i := range 10 {
		message := fmt.Sprintf("message %d %s", i, testPlaceholder) // after the upgrade nothing is replaced
		if _, err := io.WriteString(conn, message); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(message))
		if _, err := io.ReadFull(reader, got); err != nil || string(got) != message {
			t.Fatalf("echoed %q, %v", got, err)
		}
	}
	if c := r.request(t); c.Path != "/ws" || fmt.Sprint(c.Secrets) != "[API_KEY]" {
		t.Errorf("recorded %+v", c)
	}
	go func() { _, _ = io.CopyN(conn, zeros{}, 1<<20) }() // beyond the limit
	_, _ = io.Copy(io.Discard, reader)
	if c := r.wantCut(t, link.Limit); c.BytesDown > 64<<10 || !c.Allowed {
		t.Errorf("recorded %+v", c)
	}
	r.wantNoValue(t, testValue)
}

func TestWebSocketEnds(t *testing.T) {
	r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbye")
		conn.Close()
	}, inspected())
	conn := r.secure(t)
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", apiHost)
	got, _ := io.ReadAll(conn)
	if !strings.HasSuffix(string(got), "bye") {
		t.Errorf("read %q", got)
	}
	conn.Close()
	r.wantCut(t, "")
}

// TestStreamsAtOnce has a host that sends one event when the last one was
// read: nothing may be kept back, with redaction or without.
func TestStreamsAtOnce(t *testing.T) {
	for _, rule := range []Rule{inspected(), withSecret()} {
		for _, proto := range []string{protoHTTP1, protoHTTP2} {
			next := make(chan struct{})
			r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for i := range 5 {
					fmt.Fprintf(w, "data: %d\n\n", i)
					_ = http.NewResponseController(w).Flush()
					select {
					case <-next:
					case <-r.Context().Done():
						return
					}
				}
			}, rule)
			res, err := r.client(t, proto).Get(base + "/")
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				want := fmt.Sprintf("data: %d\n\n", i)
				got := make([]byte, len(want))
				if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
					t.Fatalf("%s: event %d is %q, %v", proto, i, got, err)
				}
				next <- struct{}{}
			}
			if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != 0 {
				t.Errorf("%s: the end is %q, %v", proto, rest, err)
			}
		}
	}
}

// TestTrailers go in both directions.
func TestTrailers(t *testing.T) {
	for _, proto := range []string{protoHTTP1, protoHTTP2} {
		r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
			show(w, r)
			_ = http.NewResponseController(w).Flush() // else the length is known, and there are no trailers
			w.Header().Set(http.TrailerPrefix+"X-After", "after")
		}, inspected())
		req, _ := http.NewRequest("POST", base+"/", io.MultiReader(strings.NewReader("body"))) // of unknown length
		req.Trailer = http.Header{"X-Sum": {"42"}}
		res, err := r.client(t, proto).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil || !strings.HasSuffix(string(got), "body=body trailer=42") || res.Trailer.Get("X-After") != "after" {
			t.Errorf("%s: answered %q, %v, trailer %v", proto, got, err, res.Trailer)
		}
	}
}

// TestBigBodies streams much more than may be held.
func TestBigBodies(t *testing.T) {
	const size = 64 << 20
	for _, proto := range []string{protoHTTP1, protoHTTP2} {
		r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
			sum := sha256.New()
			n, _ := io.Copy(sum, r.Body)
			fmt.Fprintf(w, "%d %x\n", n, sum.Sum(nil))
			_, _ = io.CopyN(w, struct{ io.Reader }{zeros{}}, size)
		}, withSecret())
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		sum := sha256.New()
		res, err := r.client(t, proto).Post(base+"/", "", io.TeeReader(io.LimitReader(same('x'), size), sum))
		if err != nil {
			t.Fatal(err)
		}
		body := bufio.NewReader(res.Body)
		line, err := body.ReadString('\n')
		if want := fmt.Sprintf("%d %x\n", size, sum.Sum(nil)); err != nil || line != want {
			t.Errorf("%s: arrived %q, %v, want %q", proto, line, err, want)
		}
		if n, err := io.Copy(io.Discard, body); err != nil || n != size {
			t.Errorf("%s: %d bytes came, %v", proto, n, err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 16<<20 {
			t.Errorf("%s: the heap grew by %d MB", proto, grown>>20)
		}
	}
}

// TestInspectBackPressure has one side that does not read: the other one
// stalls.
func TestInspectBackPressure(t *testing.T) {
	const tooMuch = 64 << 20
	stalled := func(t *testing.T, w io.Writer, deadline func(time.Time) error) {
		t.Helper()
		_ = deadline(time.Now().Add(500 * time.Millisecond))
		n, err := io.CopyN(w, struct{ io.Reader }{zeros{}}, tooMuch)
		if err == nil {
			t.Errorf("%d MB were taken for a side that does not read", n>>20)
		}
	}
	t.Run("down", func(t *testing.T) {
		done := make(chan struct{})
		r := newInspectRig(t, Limits{}, func(w http.ResponseWriter, _ *http.Request) {
			defer close(done)
			w.Header().Set("Content-Length", fmt.Sprint(tooMuch))
			stalled(t, w, http.NewResponseController(w).SetWriteDeadline)
		}, inspected())
		conn := r.secure(t)
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", apiHost)
		<-done
	})
	t.Run("up", func(t *testing.T) {
		end := make(chan struct{})
		r := newInspectRig(t, Limits{}, func(http.ResponseWriter, *http.Request) { <-end }, inspected())
		t.Cleanup(func() { close(end) })
		conn := r.secure(t)
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", apiHost, tooMuch)
		stalled(t, conn, conn.SetWriteDeadline)
	})
}

func TestInspectLimits(t *testing.T) {
	slow := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	flood := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server may reset the connection
		_, _ = io.CopyN(w, zeros{}, 1<<20)
	}
	sink := func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	for name, tt := range map[string]struct {
		limits  Limits
		handler http.HandlerFunc
		detail  string
	}{
		"idle":       {Limits{Idle: 100 * time.Millisecond}, slow, "idle"},
		"duration":   {Limits{Duration: 100 * time.Millisecond}, slow, "lasted too long"},
		"bytes down": {Limits{BytesDown: 100 << 10}, flood, "more bytes"},
		"bytes up":   {Limits{BytesUp: 100 << 10}, sink, "more bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newInspectRig(t, tt.limits, tt.handler, inspected())
			res, err := r.client(t).Post(base+"/", "", io.LimitReader(same('x'), 1<<20))
			if err == nil {
				_, err = io.ReadAll(res.Body)
			}
			if err == nil {
				t.Error("it ended well")
			}
			if c := r.wantCut(t, link.Limit); !strings.Contains(c.Detail, tt.detail) || c.BytesDown > 100<<10 || !c.Allowed {
				t.Errorf("recorded %+v", c)
			}
		})
	}
}

func TestLimitDuration(t *testing.T) {
	r := newRig(t, Limits{Duration: 50 * time.Millisecond}, plain(80))
	r.route(apiAddr, 80, listen(t, echo))
	stream, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(stream)
	if c := r.wantCode(t, link.Limit); !c.Allowed || !strings.Contains(c.Detail, "lasted too long") || c.Duration < 50*time.Millisecond {
		t.Errorf("recorded %+v", c)
	}
}

// TestLimitThroughput shares the bytes of a second among two connections, one
// of them inspected.
func TestLimitThroughput(t *testing.T) {
	const each = 1 << 20 // and as much is there at once
	r := newInspectRig(t, Limits{Throughput: each}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.CopyN(w, struct{ io.Reader }{zeros{}}, each)
	}, inspected(), plain(80))
	r.route(apiAddr, 80, listen(t, echo))
	stream, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	go func() { _, _ = io.CopyN(stream, struct{ io.Reader }{zeros{}}, each/4) }()
	if _, err := io.CopyN(io.Discard, stream, each/4); err != nil { // up and down: half of it
		t.Fatal(err)
	}
	do(t, r.client(t), "GET", base+"/", nil)
	if took := time.Since(began); took < 400*time.Millisecond || took > 10*time.Second {
		t.Errorf("a byte and a half for each in the bucket took %v, want at least half a second", took)
	}
}
