package hostile

import (
	"strings"
	"testing"
)

// refusedRequest is what a request comes to that is not passed on.
const refusedRequest = `400|403|405|417|421|431|501|505|none|closed|400,.*`

// requestDenied is the record of a request that was refused.
func requestDenied(target string) record {
	return record{action: "network.request", target: target, outcome: "denied", code: "request_refused"}
}

// queries are what a plugin tries with names and datagrams.
func queries() []attack {
	return []attack{
		{
			name:   "network-dns-tunnel",
			aims:   "carry data out in the names that it looks up, by the hundred and of every type",
			layer:  "the container's DNS knows the granted names by itself and asks nobody; of the rest a few are logged",
			grants: [][]string{{"network", "api.tunnel.example:443"}, {"network", "*.wide.tunnel.example:443"}},
			want: map[string]string{
				"": "rcode [1-5]|silent|no answers", "granted": "ok 1 answers", "granted name, *": "no answers|rcode 4", "many": `\{\s*"ENOTFOUND": 400\s*\}`,
			}, inside: isGranted,
			records: []record{denial(`.*\.exfil\.example`, "not_granted")},
			check:   tunnelled,
		},
		{
			name: "network-dns-direct", varies: true,
			aims:   "ask a DNS server of its own choice, or have the container's pass a question on",
			layer:  "no network in the container; its DNS holds the granted names and nothing else",
			grants: [][]string{{"network", "api.direct.example:443"}},
			want: map[string]string{
				"": "ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|ENOTFOUND|ETIMEOUT|ESERVFAIL|silent|closed|EADDRNOTAVAIL|rcode [1-5]|no answers|EREFUSED", "granted": "ok 1 answers", "still there": "ok 1 answers",
			}, inside: isGranted,
			records: []record{denial(`dns\.google`, "not_granted")},
			check:   unasked("exfil", "api.direct.example", "version.bind", "google"),
		},
		{
			name: "network-udp", varies: true,
			aims:   "get out by datagrams: QUIC, NTP, DNS, multicast",
			layer:  "no network in the container; the broker speaks TCP alone",
			grants: [][]string{{"network", "api.udp.example:443"}, {"network", "api.udp.example:80", "plaintext"}},
			want:   map[string]string{"": nowhere + "|silent|EACCES|EPERM|EINVAL", "granted": reached}, inside: isGranted,
			records: []record{{action: "network.open", target: `api\.udp\.example:80`, outcome: "allowed"}},
		},
	}
}

// tunnelled looks at what got out of the names that were looked up.
func tunnelled(t *testing.T, w *world) {
	unasked("exfil", "tunnel.example")(t, w)
	log := deniedLog(t, w, "not_granted")
	if len(log) == 0 || len(log) > 400 {
		t.Errorf("the network log tells of %d refusals", len(log))
	}
	waiting, err := w.client.Approvals(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, a := range waiting {
		if a.Plugin == w.id {
			n++
		}
	}
	if n == 0 || n > 100 {
		t.Errorf("%d of its wishes wait for a person", n)
	}
}

// unasked fails the test if the world's DNS was asked for anything like that.
func unasked(texts ...string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		for _, text := range texts {
			if asked := w.web.names.about(text); len(asked) > 0 {
				t.Errorf("the world was asked for %q", asked)
			}
		}
	}
}

// connections are what a plugin tries inside connections that were granted.
func connections() []attack {
	return []attack{
		{
			name:   "network-hello",
			aims:   "have a granted connection end at another host behind the same address: another server name, none, two, an encrypted one",
			layer:  "egress: the first bytes are a TLS hello that names the granted host openly, or nothing is sent on",
			grants: [][]string{{"network", "*.hello.example:443"}},
			want:   map[string]string{"": cut + "|EPROTO|ERR_SSL.*", "granted": `ok reached 93\.184\.217\.15:443`, "granted*": "ok a hello"}, inside: isGranted,
			records: []record{{action: "network.close", target: `v4-93-184-217-14\.hello\.example:443`, outcome: "denied", code: "sni_mismatch"}},
			check: func(t *testing.T, w *world) {
				unheard(t, w, "93.184.217.14:443")
				noVisit(t, w, "another name", of("other.hello.example"))
			},
		},
		{
			name:   "network-plaintext",
			aims:   "speak something else than TLS where TLS alone was granted",
			layer:  "egress: without plaintext in the grant nothing but a TLS hello is sent on",
			grants: [][]string{{"network", "*.plaintext.example:443"}},
			want:   map[string]string{"": cut, "granted": reached}, inside: isGranted,
			records: []record{{action: "network.close", target: `v4-93-184-217-20\.plaintext\.example:443`, outcome: "denied", code: "tls_required"}},
			check:   func(t *testing.T, w *world) { unheard(t, w, "93.184.217.20:443") },
		},
		{
			name:   "network-smuggle",
			aims:   "hide a request inside another: lengths, encodings and line ends that two readers take differently",
			layer:  "egress: requests are read by net/http, checked one by one, and written anew",
			grants: [][]string{{"network", "strict.smuggle.example:443", "rules=* /open/*"}},
			want: map[string]string{
				"": `ok 200(,[0-9]+)*|502|` + refusedRequest, "granted*": "ok 200", "in a body": "ok 200", "in a chunk": "ok 200", "after it": "ok 200,403",
			},
			inside:  "what the rule allows is passed on, as one request and unambiguous",
			records: []record{requestDenied(`strict\.smuggle\.example:443`)},
			check:   unsmuggled,
		},
		{
			name:   "network-fronting",
			aims:   "ask a granted host for another one that is served behind the same address",
			layer:  "egress: where it inspects, a request is for the granted host or it is refused",
			grants: [][]string{{"network", "api.front.example:443", "rules=* /*"}},
			want:   map[string]string{"": refusedRequest + "|ERR_HTTP2.*|HTTP_1_1_REQUIRED", "granted*": "ok 200", "host and authority": "ok 200"}, inside: isGranted,
			records: []record{requestDenied(`api\.front\.example:443`)},
			check: func(t *testing.T, w *world) {
				noVisit(t, w, "another host", func(v visit) bool {
					return v.tls == "api.front.example" && (hostOf(v.host) != "api.front.example" || v.holds("other.front")) || of("other.front.example")(v)
				})
			},
		},
		{
			name:   "network-paths",
			aims:   "reach other paths and methods than the rule names, spelled in ways that servers fold",
			layer:  "egress: methods and paths are compared as they are sent, and ambiguous ones refused; so are headers that override them",
			grants: [][]string{{"network", "api.paths.example:443", "rules=GET /open/*"}},
			want:   map[string]string{"": refusedRequest, "granted*": "ok 200"}, inside: isGranted,
			records: []record{requestDenied(`api\.paths\.example:443`)},
			check: func(t *testing.T, w *world) {
				noVisit(t, w, "beyond the rule", func(v visit) bool {
					return v.tls == "api.paths.example" && (v.method != "GET" || !strings.HasPrefix(v.uri, "/open/") || strings.Contains(v.uri, "closed") && !strings.Contains(v.uri, "?") || v.holds("DELETE"))
				})
			},
		},
	}
}

// unsmuggled looks at each request as the strict site read it.
func unsmuggled(t *testing.T, w *world) {
	heads := w.web.strictHeads("strict.smuggle.example")
	if len(heads) == 0 {
		t.Error("nothing came")
	}
	for _, h := range heads {
		if _, path, _ := strings.Cut(h.lines[0], " "); h.wrong != "" || !strings.HasPrefix(path, "/open/x HTTP") {
			t.Errorf("%s: %q", h.wrong, h.lines)
		}
		for _, line := range h.lines[1:] {
			if name, _, _ := strings.Cut(strings.ToLower(line), ":"); name == "upgrade" || name == "http2-settings" {
				t.Errorf("%q was passed on", line)
			}
		}
	}
}
