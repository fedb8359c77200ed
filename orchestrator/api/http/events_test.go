package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

func TestEvents(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for _, tc := range []struct {
		path, last string
		want       []string
	}{
		{"/v1/events", "", []string{"1 plugin.installed default", "2 plugin.installed acme", "3 plugin.state default"}},
		{"/v1/events?tenant=acme", "", []string{"2 plugin.installed acme"}},
		{"/v1/events?since=2", "", []string{"3 plugin.state default"}},
		{"/v1/events?since=3", "1", []string{"2 plugin.installed acme", "3 plugin.state default"}},
		{"/v1/tenants/default/events", "", []string{"1 plugin.installed default", "3 plugin.state default"}},
		{"/v1/tenants/default/events", "3", nil},
	} {
		headers := []string{"Accept", "text/event-stream"}
		if tc.last != "" {
			headers = append(headers, "Last-Event-ID", tc.last)
		}
		_, next := s.open(t, t.Context(), "GET", tc.path, "", headers...)
		var got []string
		for e := next(); e != (sse{}); e = next() {
			var event v1.Event
			if err := json.Unmarshal([]byte(e.Data), &event); err != nil || fmt.Sprint(event.Seq) != e.ID || event.Type != e.Name {
				t.Errorf("%s: %+v (%v)", tc.path, e, err)
			}
			got = append(got, fmt.Sprintf("%s %s %s", e.ID, e.Name, event.Tenant))
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s after %q: %s", tc.path, tc.last, diff)
		}
	}
}

func TestEventsAreFollowed(t *testing.T) {
	s := serve(t, httpapi.Options{})
	_, next := s.open(t, t.Context(), "GET", "/v1/tenants/default/events?since=3&follow=true", "")
	if res, body := s.do(t, "POST", "/v1/tenants/acme/plugins/metrics/enable", ""); res.StatusCode != 200 {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	if res, body := s.do(t, "POST", "/v1/tenants/default/plugins/demo/permissions/grant", `{"kind":"env","target":"TZ","forSeconds":60}`); res.StatusCode != 200 {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	if e := next(); e.ID != "5" || e.Name != v1.EventGrant || !strings.Contains(e.Data, `"change":"granted"`) {
		t.Errorf("got %+v, want the grant", e)
	}
}

// brokenEvents breaks off, or sends without end.
type brokenEvents struct{ dropped chan error }

func (b brokenEvents) Events(_ context.Context, q v1.EventQuery, send func(v1.Event) error) error {
	if !q.Follow {
		return errors.New("the disk is full")
	}
	data, err := json.Marshal(strings.Repeat("x", 64<<10))
	for err == nil {
		err = send(v1.Event{Type: v1.EventPlugin, Data: data})
	}
	b.dropped <- err
	return err
}

func TestEventsBreakOff(t *testing.T) {
	parts := apitest.New().Parts()
	parts.Events = brokenEvents{}
	s := serveParts(t, parts, httpapi.Caller{Access: httpapi.AccessAdmin}, httpapi.Options{})
	_, next := s.open(t, t.Context(), "GET", "/v1/events", "")
	if e := next(); e.Name != "error" || !strings.Contains(e.Data, "disk is full") {
		t.Errorf("got %+v", e)
	}
}

func TestClientThatDoesNotReadIsDropped(t *testing.T) {
	events := brokenEvents{make(chan error, 1)}
	parts := apitest.New().Parts()
	parts.Events = events
	s := serveParts(t, parts, httpapi.Caller{Access: httpapi.AccessAdmin}, httpapi.Options{WriteTimeout: 50 * time.Millisecond})
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/events?follow=true HTTP/1.1\r\nHost: ocmt\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-events.dropped:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(20 * time.Second):
		t.Error("it is still sent to")
	}
}

func TestRegistrationsHaveADigest(t *testing.T) {
	s := serve(t, httpapi.Options{})
	const path = "/v1/tenants/default/registrations"
	res, body := s.do(t, "GET", path, "")
	var list v1.Snapshot
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Registrations) != 8 {
		t.Fatalf("%s (%v)", body, err)
	}
	etag := res.Header.Get("ETag")
	if etag != `"`+list.Digest+`"` {
		t.Errorf("ETag %s, digest %s", etag, list.Digest)
	}
	for match, status := range map[string]int{etag: 304, `"x", W/` + etag: 304, "*": 304, `"x"`: 200, list.Digest: 200} {
		res, body := s.do(t, "GET", path, "", "If-None-Match", match)
		if res.StatusCode != status || (body == "") != (status == 304) || res.Header.Get("ETag") != etag {
			t.Errorf("%s: %d %q %v, want %d", match, res.StatusCode, body, res.Header, status)
		}
	}
	if res, _ := s.do(t, "DELETE", "/v1/tenants/default/plugins/demo", ""); res.StatusCode != 204 {
		t.Fatal(res)
	}
	if res, _ := s.do(t, "GET", path, "", "If-None-Match", etag); res.StatusCode != 200 {
		t.Errorf("after a change: %d", res.StatusCode)
	}
}

func TestListsHavePages(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for _, path := range []string{"/v1/plugins", "/v1/tenants/default/tools", "/v1/tools", "/v1/hooks", "/v1/tenants/default/services"} {
		var all, paged []any
		items := func(path string) ([]any, string) {
			res, body := s.do(t, "GET", path, "")
			var list map[string]any
			if err := json.Unmarshal([]byte(body), &list); err != nil || res.StatusCode != 200 {
				t.Fatalf("%s: %d %s (%v)", path, res.StatusCode, body, err)
			}
			next, _ := list["next"].(string)
			delete(list, "next")
			for _, part := range list {
				return part.([]any), next
			}
			return nil, ""
		}
		all, next := items(path)
		if len(all) < 2 || next != "" {
			t.Errorf("%s: %d items, next %q", path, len(all), next)
		}
		for cursor, n := "", 0; n < 100; n++ {
			part, next := items(path + "?limit=1&cursor=" + cursor)
			paged = append(paged, part...)
			if cursor = next; next == "" {
				break
			}
		}
		if diff := cmp.Diff(all, paged); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

func TestHookBlocks(t *testing.T) {
	s := serve(t, httpapi.Options{})
	for _, tc := range []struct{ path, body, want string }{
		{"/v1/tenants/default/hooks/before_tool_call/emit", `{"payload":{"toolName":"forbidden"}}`, `"outcome":"block"`},
		{"/v1/tenants/default/plugins/demo/handlers/5/invoke", `{"payload":{"toolName":"forbidden"}}`, `"reason":"not today"`},
		{"/v1/tenants/default/hooks/agent:message:before/emit", `{"payload":{"text":"hi"}}`, `"payload":{"text":"hi!"}`},
		{"/v1/tenants/default/hooks/other/emit", `{}`, `"outcome":"pass","payload":{},"changes":[],"handlers":[]`},
	} {
		if res, body := s.do(t, "POST", tc.path, tc.body); res.StatusCode != 200 || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s, want %s", tc.path, res.StatusCode, body, tc.want)
		}
	}
}

func TestInstallWaitsForItsReview(t *testing.T) {
	s := serve(t, httpapi.Options{})
	const path, install = "/v1/tenants/default/plugins", `{"spec":"asking","source":"npm","confirmed":true`
	for accept, last := range map[string]string{v1.AcceptAll: "done", v1.AcceptNone: "error"} {
		if _, text := s.do(t, "POST", path, install+`,"accept":"`+accept+`"}`); strings.Contains(text, "event: review") || !strings.Contains(text, "event: "+last) {
			t.Errorf("accept %s: %s", accept, text)
		}
		_, next := s.open(t, t.Context(), "POST", path, install+"}")
		e := next()
		for e.Name == "progress" {
			e = next()
		}
		var review v1.Review
		if err := json.Unmarshal([]byte(e.Data), &review); err != nil || e.Name != "review" || len(review.Permissions) != 3 {
			t.Fatalf("%+v (%v)", e, err)
		}
		answer := func(digest string) (int, string) {
			res, body := s.do(t, "POST", "/v1/tenants/default/reviews/"+review.ID, `{"digest":"`+digest+`","accept":"`+accept+`"}`)
			return res.StatusCode, body
		}
		if code, body := answer("sha256:other"); code != 409 || !strings.Contains(body, "review_changed") {
			t.Errorf("another digest: %d %s", code, body)
		}
		if code, body := answer(review.Digest); code != 204 {
			t.Errorf("answer: %d %s", code, body)
		}
		if e := next(); e.Name != last {
			t.Errorf("%s: %+v, want %s", accept, e, last)
		}
		if code, body := answer(review.Digest); code != 409 || !strings.Contains(body, "already_answered") {
			t.Errorf("twice: %d %s", code, body)
		}
	}
}
