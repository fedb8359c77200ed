package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func TestMeetAndCoverRequests(t *testing.T) {
	for _, tc := range []struct {
		a, b, meet string
		covers     bool // a covers b
	}{
		{"", "", "", true},
		{"", "GET /x", "GET /x", true},
		{"GET /x", "", "GET /x", false},
		{"GET /v1/*", "GET /v1/a", "GET /v1/a", true},
		{"GET /v1/a", "GET /v1/*", "GET /v1/a", false},
		{"* /v1/*", "POST /v1/a/*", "POST /v1/a/*", true},
		{"GET /*", "* /v1/a", "GET /v1/a", false},
		{"GET /v1/*|POST /v2/*", "* /v2/x|DELETE /v1/y", "POST /v2/x", false},
		{"GET /v1/*|POST /v2/*", "GET /v1/a/*|POST /v2/b", "GET /v1/a/*|POST /v2/b", true},
		{"GET /v1", "GET /v1/", "none", false},
		{"GET /a*", "GET /b*", "none", false},
		{"GET /a", "POST /a", "none", false},
	} {
		a, b := rulesIn(tc.a), rulesIn(tc.b)
		got, some := meetRequests(a, b)
		text := strings.Join(got, "|")
		if !some {
			text = "none"
		}
		if text != tc.meet {
			t.Errorf("%q and %q meet in %q, want %q", tc.a, tc.b, text, tc.meet)
		}
		if back, _ := meetRequests(b, a); !slices.Equal(back, got) {
			t.Errorf("%q and %q meet in %q, the other way round in %q", tc.a, tc.b, got, back)
		}
		if covers := coverRequests(a, b); covers != tc.covers {
			t.Errorf("%q covers %q: %v, want %v", tc.a, tc.b, covers, tc.covers)
		}
		if some && (!coverRequests(a, got) || !coverRequests(b, got)) {
			t.Errorf("%q and %q meet in %q, which is more than one of them", tc.a, tc.b, got)
		}
	}
}

func rulesIn(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "|")
}

// TestNarrowedRequests narrows a destination to fewer requests, and to none.
func TestNarrowedRequests(t *testing.T) {
	g, err := ParseGrant("network", "api.example.com:443", "rules=GET /v1/* POST /v1/items")
	if err != nil {
		t.Fatal(err)
	}
	for narrow, want := range map[string][]string{
		`{"network": [{"host": "api.example.com"}]}`:                                 {"GET /v1/*", "POST /v1/items"},
		`{"network": [{"host": "api.example.com", "rules": ["GET /v1/a", "* /x"]}]}`: {"GET /v1/a"},
	} {
		e := Resolve(now, []Grant{g}, narrowing(t, narrow), DefaultLimits(plugin.SourceNPM))
		if len(e.Network) != 1 || !slices.Equal(e.Network[0].Requests, want) {
			t.Errorf("%s leaves %+v, want %q", narrow, e.Network, want)
		}
	}
	e := Resolve(now, []Grant{g}, narrowing(t, `{"network": [{"host": "api.example.com", "rules": ["DELETE /v1/a"]}]}`), DefaultLimits(plugin.SourceNPM))
	if len(e.Network) != 0 {
		t.Errorf("rules that have nothing in common leave %+v", e.Network)
	}
}

// TestTriedRequest asks for one request more, and for nothing that passes.
func TestTriedRequest(t *testing.T) {
	granted := NetworkRule{Host: "*.example.com", Port: 443, Requests: []string{"GET /v1/*"}}
	a, err := TriedRequest(granted, "POST", "/v1/items")
	if err != nil || a.Target != "*.example.com:443" || a.Value != "rules=GET /v1/* POST /v1/items" || a.Origin != OriginRuntime || a.Class != Sensitive {
		t.Errorf("got %+v, %v", a, err)
	}
	if _, err := ParseGrant(string(a.Kind), a.Target, a.Value); err != nil {
		t.Error(err)
	}
	for _, request := range [][2]string{{"GET", "/v1/x"}, {"get", "/"}, {"GET", "/../x"}, {"GET", "/a b"}} {
		if a, err := TriedRequest(granted, request[0], request[1]); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %+v, %v, want InvalidArgument", request, a, err)
		}
	}
	granted.Requests = nil // all requests pass, this one was for another host
	if a, err := TriedRequest(granted, "GET", "/"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("without rules: %+v, %v, want InvalidArgument", a, err)
	}
}

// What is asked for about a destination that was granted for some requests
// includes those, so that granting it takes none away.
func TestAskKeepsGrantedRequests(t *testing.T) {
	key := plugin.Key{Tenant: "default", ID: "demo"}
	have, err := ParseGrant("network", "api.example.com:443", "rules=GET /a")
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"rules=POST /b":         "rules=GET /a POST /b",
		"rules=GET /*":          "rules=GET /*",
		"plaintext,rules=PUT /": "plaintext,rules=GET /a PUT /",
		"":                      "",
	} {
		ask := Ask{Kind: Network, Target: have.Target, Value: value, Class: Sensitive}
		got := Pending(key, []Ask{ask}, []Grant{have}, nil, time.Now())
		if len(got) != 1 || got[0].Value != want {
			t.Errorf("%q is asked for as %+v, want %q", value, got, want)
		}
	}
}

// No request is made of a rule that no grant has room for.
func TestTriedBeyondTheBound(t *testing.T) {
	rule := NetworkRule{Host: "api.example.com", Port: 443}
	for i := range plugin.MaxPermissionList {
		if _, err := TriedRequest(rule, "GET", fmt.Sprintf("/%d", i)); i > 0 && err != nil {
			t.Fatal(err)
		}
		rule.Requests = append(rule.Requests, fmt.Sprintf("GET /%d", i))
	}
	if ask, err := TriedRequest(rule, "GET", "/more"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%+v, %v", ask, err)
	}
}
