package hostile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What an attempt to reach somebody comes to.
const (
	cut     = "ECONNRESET|EPIPE|UND_ERR_SOCKET|closed"              // the connection begins and is cut
	unknown = "ENOTFOUND|EAI_AGAIN"                                 // the name does not exist
	nowhere = "ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|EADDRNOTAVAIL" // there is no such way
	reached = `ok reached ` + site + `:\d+`                         // a server in the world answered
	refuses = "not_granted|bad_request|ECONNRESET|EPIPE"            // by the broker, asked directly
)

const isGranted = "what was granted is reached, to show that the rest is refused and not broken"

// denial is the record of a connection that was refused.
func denial(target, code string) record {
	return record{action: "network.denied", target: target, outcome: "denied", code: code}
}

// networkGroup is what a plugin tries at addresses, names and the broker.
func networkGroup() group {
	return group{name: "network", online: true, after: nothingElseSent, attacks: slices.Concat(destinations(), queries(), connections(), brokers())}
}

// destinations are what a plugin tries at names, addresses and ports.
func destinations() []attack {
	return []attack{
		{
			name:   "network-metadata",
			aims:   "reach a cloud's metadata by a granted name that leads to it, in every form of its address",
			layer:  "egress: addresses are checked on the host; metadata, mapped and translated ones are never reached",
			grants: [][]string{{"network", "*.meta.example:80", "plaintext"}},
			want:   map[string]string{"": cut, "granted": reached}, inside: isGranted,
			records: []record{denial(`v4-169-254-169-254\.meta\.example:80`, "address_refused")},
			check: func(t *testing.T, w *world) {
				if n := len(deniedLog(t, w, "address_refused")); n < 10 {
					t.Errorf("the network log tells of %d refusals", n)
				}
			},
		},
		{
			name: "network-literals", varies: true,
			aims:    "reach addresses that it names itself: decimal, octal, hexadecimal, mapped",
			layer:   "no network in the container; egress: a destination is a granted name",
			want:    map[string]string{"": nowhere + "|" + unknown, "broker *": refuses},
			records: []record{denial(`169\.254\.169\.254:80`, "not_granted"), denial("", "bad_request")},
		},
		{
			name:  "network-redirect",
			aims:  "have a granted host redirect it to metadata, loopback, another host, another port",
			layer: "there is no proxy that follows: each connection needs its own grant",
			grants: [][]string{
				{"network", "start.redirect.example:80", "plaintext"},
				{"network", "start.redirect.example:443", "rules=GET /redirect*"},
			},
			want: map[string]string{"": nowhere + "|" + unknown, "granted": reached, "refused path": "403 .*request_refused.*"}, inside: isGranted,
			records: []record{denial(`other\.redirect\.example`, "not_granted")},
		},
		{
			name:  "network-rebind",
			aims:  "have a granted name change its address between the check and the connection",
			layer: "egress: the address that was checked is the one that is dialled, and it is checked again as the socket connects",
			grants: [][]string{
				{"network", "*.plain.rebind.example:80", "plaintext"}, {"network", "*.seen.rebind.example:443", "rules=GET /close*"},
			},
			want:    map[string]string{"": "[1-9][0-9]* reached, [1-9][0-9]* refused, 0 elsewhere"},
			records: []record{denial(`rebind-10-0-0-5\.plain\.rebind\.example:80`, "address_refused")},
		},
		{
			name:  "network-many-addresses",
			aims:  "have one good address among many bad ones let the bad ones pass",
			layer: "egress: each address is checked by itself",
			grants: [][]string{
				{"network", "*.many.example:80", "plaintext"}, {"network", "*.many.example:81", "plaintext"},
			},
			want: map[string]string{"": cut, "many *": reached, "many 127-0-0-1": cut + "|" + reached, "last *": cut + "|" + reached}, inside: isGranted,
			records: []record{denial(`many-10-0-0-5\.many\.example:81`, "dial_failed")},
		},
		{
			name:   "network-alias",
			aims:   "hide a bad address behind aliases",
			layer:  "egress: what counts is the address at the end, whatever the names on the way",
			grants: [][]string{{"network", "*.alias.example:80", "plaintext"}},
			want:   map[string]string{"": cut, "granted": reached}, inside: isGranted,
			records: []record{denial(`alias-127-0-0-1\.alias\.example:80`, "address_refused"), denial(`loop\.alias\.example:80`, "resolve_failed")},
		},
		{
			name:   "network-own-addresses",
			aims:   "reach the host itself by a granted name that leads to one of its addresses",
			layer:  "egress: loopback and the host's own addresses, public ones too, are refused",
			grants: [][]string{{"network", "*.own.example:80", "plaintext"}, {"network", "*.own.example:2375", "plaintext"}},
			want:   map[string]string{"": cut, "granted": reached}, inside: isGranted,
			records: []record{denial(`v4-8-8-4-4\.own\.example:80`, "address_refused")},
		},
		{
			name:  "network-private",
			aims:  "reach the private network that the host is in, beyond the range that was granted for one name",
			layer: "egress: private and special ranges only as granted, name by name",
			grants: [][]string{
				{"network", "*.private.example:80", "plaintext"}, {"network", "*.named.example:80", "plaintext,addresses=10.0.0.0/24"},
			},
			want:   map[string]string{"": cut, "granted*": `ok reached 10\.0\.0\.5:80`, "public": reached},
			inside: isGranted,
			records: []record{
				denial(`v4-192-168-1-1\.private\.example:80`, "address_refused"), denial(`v4-10-0-1-5\.named\.example:80`, "address_refused"),
			},
		},
		{
			name: "network-local-names", varies: true,
			aims:    "reach the host by the names that engines and clouds give it",
			layer:   "names that were not granted do not exist; localhost is the container's own",
			want:    map[string]string{"": unknown, "localhost*": nowhere, "broker *": "not_granted"},
			records: []record{denial(`host\.docker\.internal`, "not_granted"), denial("localhost:80", "not_granted")},
			check: func(t *testing.T, w *world) {
				if asked := w.web.names.about("internal."); len(asked) > 0 {
					t.Errorf("the world was asked for %q", asked)
				}
			},
		},
		{
			name:   "network-wildcard",
			aims:   "use a wildcard for more or fewer labels than the one that it stands for",
			layer:  "egress: a wildcard is one label, in the container's DNS and at the broker",
			grants: [][]string{{"network", "*.wild.example:80", "plaintext"}},
			want:   map[string]string{"": unknown, "granted": reached, "broker *": refuses}, inside: isGranted,
			records: []record{denial(`a\.b\.wild\.example:80`, "not_granted")},
		},
		{
			name:    "network-lookalikes",
			aims:    "be taken for a granted name by a prefix, a suffix, a homograph, punycode, or what parsers drop",
			layer:   "egress: names are compared as a whole, in ASCII",
			grants:  [][]string{{"network", "api.name.example:80", "plaintext"}},
			want:    map[string]string{"": unknown + "|ERR_INVALID_URL|ERR_INVALID_ARG_VALUE|EINVAL|.*Invalid.*|.*Failed to parse.*", "granted*": reached, "broker *": refuses},
			inside:  isGranted,
			records: []record{denial(`evil-api\.name\.example`, "not_granted")},
			check: func(t *testing.T, w *world) {
				if asked := w.web.names.about("name.example"); slices.ContainsFunc(asked, func(q string) bool { return !strings.HasSuffix(q, " api.name.example.") }) {
					t.Errorf("the world was asked for %q", asked)
				}
			},
		},
		{
			name: "network-ports", varies: true,
			aims:   "reach other ports of a granted host",
			layer:  "a grant is a name and a port, in the container and at the broker",
			grants: [][]string{{"network", "api.ports.example:80", "plaintext"}},
			want:   map[string]string{"": nowhere, "granted": reached, "broker *": refuses}, inside: isGranted,
			records: []record{denial(`api\.ports\.example:22`, "not_granted"), denial("", "bad_request")},
		},
	}
}

// expected are the places that something may be sent to: what was granted, and
// the DNS.
var expected = []string{
	"udp " + nameServer, "tcp " + nameServer, "tcp " + site + ":80", "tcp " + site + ":81", "tcp " + site + ":443", "tcp " + site + ":8080", "tcp " + site + ":8443",
	"tcp " + strictSite + ":443", "tcp 10.0.0.5:80", "tcp 93.184.217.14:443", "tcp 93.184.217.15:443", "tcp 93.184.217.20:443",
}

// nothingElseSent looks at all that left a socket of the host.
func nothingElseSent(t *testing.T, r *rig) {
	sent := r.web.tap.all()
	if full && !slices.Contains(sent, "tcp "+site+":80") && !slices.Contains(sent, "tcp "+site+":443") {
		t.Errorf("sent to %q alone: the tap does not work", sent)
	}
	for _, where := range sent {
		if !slices.Contains(expected, where) {
			t.Errorf("%d times something was sent: %s", r.web.tap.sent(where), where)
		}
	}
}

// deniedLog returns what the network log tells of the attack's refusals with a
// code.
func deniedLog(t *testing.T, w *world, code string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(w.run(t, "network", "log", w.id, "--denied", "--json")) {
		var c map[string]any
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if c["code"] == code {
			found = append(found, c)
		}
	}
	return found
}

// unheard fails the test if a byte came to an address and port of the world, or
// nobody connected there.
func unheard(t *testing.T, w *world, where string) {
	t.Helper()
	if n, connected := w.web.received(where); n > 0 || !connected {
		t.Errorf("%s got %d bytes, connected %v", where, n, connected)
	}
}

// noVisit fails the test if a request came that fits.
func noVisit(t *testing.T, w *world, what string, fits func(visit) bool) {
	t.Helper()
	for _, v := range w.web.visited(fits) {
		t.Error(fmt.Sprintf("%s: a request came: ", what), v)
	}
}
