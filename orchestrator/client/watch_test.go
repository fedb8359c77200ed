package client_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
	"github.com/ocmt/ocmt/orchestrator/fault"
)

func TestLogLines(t *testing.T) {
	c, ctx := demo(t), t.Context()
	var got []string
	each := func(l v1.LogLine) error {
		got = append(got, l.Stream+" "+l.Line)
		return nil
	}
	if err := c.LogLines(ctx, "default", "demo", v1.LogQuery{Tail: 2}, each); err != nil || !slices.Equal(got, []string{"stderr second \x1b[2Jline", "stdout third line é"}) {
		t.Errorf("got %q, %v", got, err)
	}
	stop := errors.New("enough")
	if err := c.LogLines(ctx, "default", "demo", v1.LogQuery{Tail: -1}, func(v1.LogLine) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of each", err)
	}
	if err := c.LogLines(ctx, "default", "nope", v1.LogQuery{}, each); !errdefs.IsNotFound(err) {
		t.Errorf("unknown plugin: %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	err := c.LogLines(ctx, "default", "demo", v1.LogQuery{Tail: 1, Follow: true}, func(v1.LogLine) error { cancel(); return nil })
	if err != nil {
		t.Errorf("followed: %v", err)
	}
}

func TestLongestLogLine(t *testing.T) {
	line := strings.Repeat("\x01", v1.MaxLogLine)
	text, err := json.Marshal(v1.LogLine{Time: apitest.Epoch, Stream: "stdout", Line: line, Cut: true})
	if err != nil {
		t.Fatal(err)
	}
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%s\n", text) }))
	err = c.LogLines(t.Context(), "default", "demo", v1.LogQuery{}, func(l v1.LogLine) error {
		if l.Line != line || !l.Cut {
			t.Errorf("got %d bytes", len(l.Line))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBrokenLogs(t *testing.T) {
	for _, body := range []string{"{", "no JSON\n", strings.Repeat("x", 1<<20)} {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
		if err := c.LogLines(t.Context(), "default", "demo", v1.LogQuery{}, func(v1.LogLine) error { return nil }); !errdefs.IsUnavailable(err) {
			t.Errorf("%.10q: %v, want unavailable", body, err)
		}
	}
}

func TestEvents(t *testing.T) {
	c, ctx := demo(t), t.Context()
	for _, tc := range []struct {
		name  string
		query v1.EventQuery
		want  []uint64
	}{
		{"all", v1.EventQuery{}, []uint64{1, 2, 3}},
		{"of a tenant", v1.EventQuery{Tenant: "default"}, []uint64{1, 3}},
		{"since", v1.EventQuery{Since: 2}, []uint64{3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []uint64
			err := c.Events(ctx, tc.query, func(e v1.Event) error {
				got = append(got, e.Seq)
				return nil
			})
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
	stop := errors.New("enough")
	if err := c.Events(ctx, v1.EventQuery{Follow: true}, func(v1.Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of each", err)
	}
	if err := c.Events(ctx, v1.EventQuery{Tenant: "no/tenant", Follow: true}, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad tenant: %v", err)
	}
	if err := client.New("/nowhere.sock").Events(ctx, v1.EventQuery{Follow: true}, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("no daemon: %v", err)
	}
}

func TestEventsFollow(t *testing.T) {
	backend := apitest.New()
	c := with(t, backend)
	ctx, cancel := context.WithCancel(t.Context())
	var got []string
	err := c.Events(ctx, v1.EventQuery{Tenant: "default", Since: 2, Follow: true}, func(e v1.Event) error {
		if got = append(got, e.Type); len(got) == 1 {
			_, err := backend.Disable(ctx, "default", "demo")
			return err
		}
		cancel()
		return nil
	})
	if err != nil || !slices.Equal(got, []string{v1.EventState, v1.EventState}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// A connection that breaks, in whatever way, costs no event and repeats none.
func TestEventsComeBack(t *testing.T) {
	var asked []string
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Last-Event-ID"))
		event := func(seq int) { fmt.Fprintf(w, "id: %d\nevent: x\ndata: {\"seq\":%d}\n\n", seq, seq) }
		switch len(asked) {
		case 1: // cut in the middle of an event
			event(1)
			io.WriteString(w, "id: 2\nevent: x\ndata: {\"se")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case 2: // ends, as at a shutdown
			event(2)
		case 3: // is not there for a moment
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"class":"unavailable","code":"starting","message":"starting"}`)
		case 4: // breaks off and says so
			event(3)
			io.WriteString(w, "event: error\ndata: {\"class\":\"unavailable\",\"code\":\"slow\",\"message\":\"slow\"}\n\n")
		case 5:
			event(4)
			io.WriteString(w, "event: error\ndata: {\"class\":\"internal\",\"code\":\"broken\",\"message\":\"broken\"}\n\n")
		}
	}))
	var got []uint64
	err := c.Events(t.Context(), v1.EventQuery{Tenant: "default", Follow: true}, func(e v1.Event) error {
		got = append(got, e.Seq)
		return nil
	})
	if want := []uint64{1, 2, 3, 4}; !slices.Equal(got, want) || !errdefs.IsInternal(err) || fault.Of(err).Code != "broken" {
		t.Errorf("got %v, %v", got, err)
	}
	if diff := cmp.Diff([]string{"0", "1", "2", "2", "3"}, asked); diff != "" {
		t.Error(diff)
	}
}

func TestBrokenEvents(t *testing.T) {
	for _, body := range []string{"event: x\ndata: {\n\n", "event: error\ndata: {\n\n"} {
		c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
		if err := c.Events(t.Context(), v1.EventQuery{}, func(v1.Event) error { return nil }); !errdefs.IsUnavailable(err) {
			t.Errorf("%q: %v, want unavailable", body, err)
		}
	}
}

func TestAttach(t *testing.T) {
	backend := apitest.New()
	c := with(t, backend)
	ctx, cancel := context.WithCancel(t.Context())
	noticed := make(chan v1.HostMessage, 1)
	host, err := c.Attach(ctx, "default", "tester", []string{v1.HostEmit}, func(_ context.Context, m v1.HostMessage) (json.RawMessage, error) {
		switch string(m.Params) {
		case `"fail"`:
			return nil, fault.New(errdefs.ErrNotFound, "no_agent", "there is no agent").WithHint("make one")
		case `"large"`:
			return json.Marshal(strings.Repeat("x", v1.MaxHostMessage))
		case `"nonsense"`:
			return json.RawMessage("{"), nil
		}
		if m.Type == v1.HostNoticeType {
			noticed <- m
		}
		return m.Params, nil
	})
	if err != nil || !slices.Equal(backend.AttachedHosts("default"), []string{"tester"}) {
		t.Fatalf("attached %v, %v", backend.AttachedHosts("default"), err)
	}
	for params, want := range map[string]error{`{"event":"x"}`: nil, `"fail"`: errdefs.ErrNotFound, `"large"`: errdefs.ErrInvalidArgument, `"nonsense"`: errdefs.ErrInternal} {
		got, err := backend.CallHost(ctx, "default", v1.HostEmit, json.RawMessage(params))
		if !errors.Is(err, want) || want == nil && string(got) != params {
			t.Errorf("%s: got %s, %v, want %v", params, got, err, want)
		}
		if params == `"fail"` && (fault.Of(err).Code != "no_agent" || fault.Of(err).Hint != "make one") {
			t.Errorf("got %+v", fault.Of(err))
		}
	}
	if err := backend.NotifyHosts("default", v1.HostLog, json.RawMessage(`{"message":"hi"}`)); err != nil {
		t.Error(err)
	}
	if m := <-noticed; m.Plugin != "demo" || m.Method != v1.HostLog {
		t.Errorf("noticed %+v", m)
	}
	cancel()
	if err := host.Wait(); err != nil {
		t.Errorf("detached: %v", err)
	}
}

func TestAttachRefused(t *testing.T) {
	c, ctx := demo(t), t.Context()
	if _, err := c.Attach(ctx, "default", "refused", nil, nil); !errdefs.IsPermissionDenied(err) || fault.Of(err).Code != "host_refused" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Attach(ctx, "", "x", nil, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no tenant: %v", err)
	}
	if _, err := c.Attach(ctx, "no/tenant", "x", nil, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad tenant: %v", err)
	}
	if _, err := client.New("/nowhere.sock").Attach(ctx, "default", "x", nil, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("no daemon: %v", err)
	}
}

// A host that is busy says so, reads on, and ends what it does when it is over.
func TestBusyHost(t *testing.T) {
	backend := apitest.New()
	c := with(t, backend)
	ctx, cancel := context.WithCancel(t.Context())
	arrived, ended := make(chan struct{}, 100), make(chan struct{}, 100)
	host, err := c.Attach(ctx, "default", "busy", []string{v1.HostEmit}, func(ctx context.Context, _ v1.HostMessage) (json.RawMessage, error) {
		arrived <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return nil, ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	for range client.MaxHostCalls {
		go backend.CallHost(ctx, "default", v1.HostEmit, nil)
	}
	for range client.MaxHostCalls {
		<-arrived
	}
	if _, err := backend.CallHost(ctx, "default", v1.HostEmit, nil); !errdefs.IsResourceExhausted(err) {
		t.Errorf("got %v, want resource exhausted", err)
	}
	cancel()
	if err := host.Wait(); err != nil || len(ended) != client.MaxHostCalls {
		t.Errorf("%v, %d calls ended", err, len(ended))
	}
}

func TestHostEndedByTheDaemon(t *testing.T) {
	for reason, want := range map[string]struct {
		status websocket.StatusCode
		class  error
		code   string
	}{
		"the daemon is stopping":      {websocket.StatusGoingAway, errdefs.ErrUnavailable, "host_detached"},
		"host_slow: reads too slowly": {websocket.StatusTryAgainLater, errdefs.ErrUnavailable, "host_slow"},
		"bad_message: cannot read":    {websocket.StatusPolicyViolation, errdefs.ErrPermissionDenied, "bad_message"},
		"internal: broken":            {websocket.StatusInternalError, errdefs.ErrInternal, "internal"},
	} {
		t.Run(reason, func(t *testing.T) {
			c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, err := websocket.Accept(w, r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				conn.Read(r.Context())
				conn.Write(r.Context(), websocket.MessageText, []byte(`{"type":"news"}`)) // of a later version
				conn.Write(r.Context(), websocket.MessageText, []byte(`{"type":"attached"}`))
				conn.Close(want.status, reason)
			}))
			host, err := c.Attach(t.Context(), "default", "x", nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Wait(); !errors.Is(err, want.class) || fault.Of(err).Code != want.code {
				t.Errorf("got %v (%s)", err, fault.Of(err).Code)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	ids, names, data, err := client.ReadAll(strings.NewReader(": hi\n\nid: 7\nevent: a\ndata: 1\ndata: 2é\n\nevent:b\r\ndata:x\r\n\r\nevent: none\n\ndata\n\ndata: lost"))
	if !errors.Is(err, io.EOF) || !slices.Equal(ids, []string{"7", "7", "7"}) || !slices.Equal(names, []string{"a", "b", ""}) || !slices.Equal(data, []string{"1\n2é", "x", ""}) {
		t.Errorf("%v: %q %q %q", err, ids, names, data)
	}
	if _, _, _, err := client.ReadAll(strings.NewReader(strings.Repeat("data: "+strings.Repeat("x", 1<<20)+"\n", 33))); !errors.Is(err, bufio.ErrTooLong) {
		t.Errorf("too large: %v", err)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add("id: 7\nevent: a\ndata: 1\ndata: 2\n\n: beat\n\ndata\n\n")
	f.Add("data:x\r\n\r\nevent: none\n\n\ndata: lost")
	f.Fuzz(func(t *testing.T, stream string) {
		ids, names, data, err := client.ReadAll(strings.NewReader(stream))
		if err == nil || len(ids) != len(names) || len(names) != len(data) {
			t.Errorf("%v: %q %q %q", err, ids, names, data)
		}
		for i := range data {
			if strings.Contains(ids[i]+names[i], "\n") || strings.Count(data[i], "\n") > strings.Count(stream, "\n") {
				t.Errorf("%q %q %q", ids[i], names[i], data[i])
			}
		}
	})
}
