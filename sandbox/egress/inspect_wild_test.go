package egress

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// TestInspectWildcard looks into connections to names that a wildcard covers:
// each is held to its own name, and its secret goes there alone.
func TestInspectWildcard(t *testing.T) {
	const asked = "a.example.test"
	ca := newAuthority(t, asked)
	rule := withSecret()
	rule.Host = "*.example.test"
	r := newInspectRigTo(t, Limits{}, ca.server(t), ca, rule)
	seen := make(chan string, 1)
	upstream := newInspectRig(t, Limits{}, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Host + " " + r.Header.Get("X-Api-Key") }, rule).upstream
	upstream.TLS.Certificates[0] = ca.cert
	addr := netip.MustParseAddr("93.184.216.35")
	r.answer(asked, addr)
	r.route(addr, 443, upstream.Listener)
	client := r.clientFor(t, asked, 443)
	res, _ := do(t, client, "GET", "https://"+asked+"/", nil, "X-Api-Key", testPlaceholder)
	if got, want := <-seen, asked+" "+testValue; res.StatusCode != 200 || got != want {
		t.Errorf("answered %d, the host saw %q, want %q", res.StatusCode, got, want)
	}
	if c := r.request(t); c.Rule != "*.example.test:443" || c.Host != asked {
		t.Errorf("recorded %+v", c)
	}
	req, _ := http.NewRequest("GET", "https://"+asked+"/", nil)
	req.Host = "b.example.test" // the same rule, another name
	if res, err := client.Do(req); err != nil || res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another name of the wildcard: %+v, %v", res, err)
	}
}

// TestRefusedRequestsFlood refuses more than is recorded one by one.
func TestRefusedRequestsFlood(t *testing.T) {
	const n = 200
	r := newInspectRig(t, Limits{}, show, inspected("GET /v1/*"))
	client := r.client(t)
	for i := range n {
		if res, _ := do(t, client, "GET", fmt.Sprintf("%s/%d", base, i), nil); res.StatusCode != 403 {
			t.Fatalf("answered %d", res.StatusCode)
		}
	}
	client.CloseIdleConnections()
	r.stop()
	close(r.records)
	single, counted := 0, 0
	for c := range r.records {
		switch {
		case c.Phase == PhaseClose:
		case c.Phase != PhaseRequest || c.Code != link.RequestRefused || c.Allowed:
			t.Errorf("recorded %+v", c)
		case c.Host != "":
			single++
		default:
			counted += c.Count
		}
	}
	if single+counted != n || single < tallyRate || single > n/2 {
		t.Errorf("%d were recorded one by one and %d counted, of %d", single, counted, n)
	}
}
