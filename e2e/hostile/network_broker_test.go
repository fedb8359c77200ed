package hostile

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// brokers are what a plugin tries at the broker, and with what it was granted
// before.
func brokers() []attack {
	return []attack{
		{
			name:   "network-broker",
			aims:   "be let out by speaking to the broker itself: other hosts, other verbs, other protocols, broken lines",
			layer:  "egress: one line of at most 512 bytes, read strictly; the broker decides, the container's forwarder does not",
			grants: [][]string{{"network", "api.broker.example:80", "plaintext"}},
			want: map[string]string{
				"": refuses + "|closed|silent", "granted*": reached, "the grants": `ok \{"grants":\[\{"host":"api\.broker\.example","port":80\}\]\}.*`,
				"words": `DENIED not_granted this host and port are not granted\n`,
			},
			inside:  "the broker tells a container what it is granted",
			records: []record{denial(`evil\.example:443`, "not_granted"), denial("", "bad_request")},
		},
		{
			name:    "network-broker-flood",
			aims:    "take all of the broker's connections, and with them the host's descriptors",
			layer:   "egress: connections at once and per second are counted by container; the rest are refused slowly",
			want:    map[string]string{"seen": `held,\d+ refused,\d+ closed,\d+`, "bounded": "true"},
			records: []record{denial("", "limit")},
			check: func(t *testing.T, w *world) {
				if n := openFiles(t, w.daemon.PID()); n > w.files+256+maxFiles {
					t.Errorf("the daemon holds %d open files, and held %d before", n, w.files)
				}
			},
		},
		{
			name:  "network-watchers",
			aims:  "hold up grants and revocations by hundreds of watchers that do not read",
			layer: "egress: a watcher that does not read is waited for by nobody",
			want:  map[string]string{"watchers": "250"},
			check: func(t *testing.T, w *world) {
				for i := range 3 {
					target := fmt.Sprintf("h%d.watched.example:443", i)
					w.run(t, "plugins", "grant", w.id, "network", target)
					w.run(t, "plugins", "revoke", w.id, "network", target)
				}
			},
		},
		{
			name:    "network-reports",
			aims:    "fill the log and a person's list of requests with names",
			layer:   "egress: names are counted beyond a few a second; a plugin's wishes are bounded",
			want:    map[string]string{"reported": "480"},
			records: []record{denial(`wish-.*\.reports\.example`, "not_granted")},
			check:   fewWishes,
		},
		{
			name:    "network-slow",
			aims:    "hold connections by never finishing what it begins: the line, the TLS hello, the head of a request",
			layer:   "egress: each has a time to be complete in",
			grants:  [][]string{{"network", "api.slow.example:443", "rules=GET /open/*"}},
			want:    map[string]string{"": "ended"},
			records: []record{denial("", "bad_request"), {action: "network.close", target: `api\.slow\.example:443`, code: "tls_required"}},
		},
		{
			name:  "network-held",
			aims:  "go on with a connection whose grant was revoked: plain, TLS, inspected, a WebSocket, an idle one",
			layer: "egress: connections run under their grant, and are cut before a revocation is answered",
			grants: [][]string{
				{"network", "plain.held.example:80", "plaintext"}, {"network", "tls.held.example:443"}, {"network", "seen.held.example:443", "rules=GET /*"},
			},
			want: map[string]string{"": "ok open"}, inside: isGranted,
			check: func(t *testing.T, w *world) {
				for _, target := range []string{"plain.held.example:80", "tls.held.example:443", "seen.held.example:443"} {
					w.run(t, "plugins", "revoke", w.id, "network", target)
				}
				w.judged(t, "after", map[string]string{"": "cut", "new *": unknown + "|" + nowhere + "|" + cut})
				noVisit(t, w, "after the revocation", func(v visit) bool { return hostOf(v.host) == "seen.held.example" && v.uri == "/again" })
			},
		},
		{
			name:  "network-upgrade",
			aims:  "leave HTTP on a connection whose requests are inspected",
			layer: "egress: WebSockets alone are passed on, to paths that the rules name, once the host agrees",
			grants: [][]string{
				{"network", "api.upgrade.example:443", "rules=GET /open/*"}, {"network", "plain.upgrade.example:80", "plaintext,rules=GET /open/*"},
			},
			want:    map[string]string{"": `ok 200(,403)*|` + refusedRequest, "closed to sockets": `403(,403)*`, "granted": "ok 200"},
			inside:  "what the rule allows is passed on without the upgrade",
			records: []record{requestDenied(`api\.upgrade\.example:443`)},
			check: func(t *testing.T, w *world) {
				noVisit(t, w, "beyond HTTP", func(v visit) bool {
					name := hostOf(v.host)
					return (name == "api.upgrade.example" || name == "plain.upgrade.example") && (!strings.HasPrefix(v.uri, "/open/") || v.holds("h2c") || v.holds("exfil"))
				})
			},
		},
		{
			name:   "network-certificates",
			aims:   "send requests to whoever answers for a granted name, without a good certificate, by switching verification off inside",
			layer:  "egress: where it inspects, the host verifies the certificate, whatever the container thinks of it",
			grants: [][]string{{"network", "*.certificate.example:443", "rules=GET /*"}},
			want:   map[string]string{"": cut, "granted": reached, "granted, whose": "ok ocmt .*"}, inside: isGranted,
			records: []record{
				{action: "network.close", target: `expired\.certificate\.example:443`, outcome: "denied", code: "certificate"},
				{action: "network.close", target: `other-name\.certificate\.example:443`, outcome: "denied", code: "certificate"},
			},
			check: func(t *testing.T, w *world) {
				noVisit(t, w, "without a good certificate", func(v visit) bool {
					return strings.HasSuffix(v.tls, ".certificate.example") && v.tls != "good.certificate.example"
				})
			},
		},
		{
			name: "network-authority", varies: true,
			aims:    "sign certificates as the authority that it trusts, or be shown one by another plugin's",
			layer:   "the key of an authority is on the host alone, and there is one for each instance",
			prepare: foreignAuthority,
			grants:  [][]string{{"network", "foreign.authority.example:443"}, {"network", "foreign.seen.example:443", "rules=GET /*"}},
			want: map[string]string{
				"files": "read", "keys": "none", "authorities": "1", "may sign": "true", "fingerprint": "[0-9A-F:]{95}",
				"foreign": "UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "foreign, seen": cut,
			},
			check: oneAuthorityEach,
		},
		{
			name:   "network-forgery",
			aims:   "alter the log that shows its connections, or the terminal, by names, paths, methods and server names",
			layer:  "egress: what is recorded is bounded and printable; the log is JSON in the audit log",
			grants: [][]string{{"network", "api.forgery.example:443", "rules=GET /open/*"}},
			want:   map[string]string{"": refusedRequest + "|" + cut + "|" + refuses + "|ERR_.*", "granted": "ok 200"}, inside: isGranted,
			records: []record{requestDenied(`api\.forgery\.example:443`)},
			check:   printableLog,
		},
	}
}

// judged calls a tool of the attacker, and compares what became of its attempts
// with what is wanted.
func (w *world) judged(t *testing.T, tool string, want map[string]string) {
	t.Helper()
	result, err := w.invoke(t.Context(), w.id, tool, `{}`)
	var answer map[string]string
	if err == nil {
		err = json.Unmarshal(result, &answer)
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", tool, err, result)
	}
	(&attack{want: want, inside: w.inside}).judge(t, answer)
}

// fewWishes looks at how much a person would have to read.
func fewWishes(t *testing.T, w *world) {
	if log := deniedLog(t, w, "not_granted"); len(log) == 0 || len(log) > 300 {
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

// authorities returns the authorities of all instances, by file.
func authorities(t *testing.T, r *rig) map[string]tls.Certificate {
	t.Helper()
	found := map[string]tls.Certificate{}
	err := filepath.WalkDir(r.daemon.Home, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "authority.pem" {
			return nil //nolint:nilerr // what goes away meanwhile
		}
		if info, err := entry.Info(); err != nil || info.Mode().Perm() != 0o600 || ownerOf(t, path) != os.Geteuid() {
			t.Errorf("%s: %v, %v", path, info, err)
		}
		found[path], err = tls.LoadX509KeyPair(path, path)
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("there are the authorities %v, %v", found, err)
	}
	return found
}

// foreignAuthority has the world sign with the neighbour's authority.
func foreignAuthority(t *testing.T, w *world) {
	container, err := w.daemon.Container(t.Context(), tenant, victimID)
	if err != nil {
		t.Fatal(err)
	}
	inspected, err := w.daemon.Engine().Inspect(t.Context(), container)
	if err != nil {
		t.Fatal(err)
	}
	for path, pair := range authorities(t, w.rig) {
		if strings.Contains(inspected, filepath.Base(filepath.Dir(path))) {
			w.web.takeOver(t, pair)
			return
		}
	}
	t.Fatal("the neighbour has no authority")
}

// oneAuthorityEach looks for the attacker's authority among those there are.
func oneAuthorityEach(t *testing.T, w *world) {
	seen := map[string]int{}
	for _, pair := range authorities(t, w.rig) {
		cert, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(cert.Raw)
		seen[strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")]++
	}
	if n := seen[w.answer["fingerprint"]]; n != 1 || len(seen) < 2 {
		t.Errorf("its authority %s is that of %d instances among %v", w.answer["fingerprint"], n, seen)
	}
	noVisit(t, w, "by another plugin's authority", func(v visit) bool { return strings.HasPrefix(v.tls, "foreign.") })
}

// printableLog looks at the log as a person sees it, and as a program does.
func printableLog(t *testing.T, w *world) {
	text := w.run(t, "network", "log", w.id)
	if i := strings.IndexFunc(text, func(c rune) bool { return !unicode.IsPrint(c) && c != '\n' }); i >= 0 {
		t.Errorf("the log holds %q", text[max(0, i-40):min(len(text), i+40)])
	}
	if lines := strings.Split(text, "\n"); slices.ContainsFunc(lines, func(line string) bool { return len(line) > 4096 }) {
		t.Error("the log has long lines")
	}
	var lines []map[string]any
	for line := range strings.Lines(w.run(t, "network", "log", w.id, "--json")) {
		var c map[string]any
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		lines = append(lines, c)
	}
	for _, c := range lines {
		if path, _ := c["path"].(string); c["allowed"] == true && c["phase"] == "request" && path != "/open/x" {
			t.Errorf("the log says that %v was allowed", c)
		}
	}
	if len(lines) < 10 {
		t.Errorf("the log has %d lines", len(lines))
	}
	w.run(t, "audit", "verify")
}
