package egress

import (
	"crypto/tls"
	"io"
	"net/netip"
	"testing"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// TestWildcardName has TLS under a wildcard: the server name must be the name
// that was asked for, not any that the wildcard covers.
func TestWildcardName(t *testing.T) {
	const asked = "a.example.test"
	ca := newAuthority(t, asked)
	r := newRig(t, Limits{}, mustRule(t, "*.example.test:443"))
	r.answer(asked, apiAddr)
	r.route(apiAddr, 443, ca.server(t))
	for sni, code := range map[string]Code{
		asked:            "",
		"b.example.test": link.SNIMismatch,
		"example.test":   link.SNIMismatch,
		"*.example.test": link.SNIMismatch,
	} {
		_, conn, err := r.connect(t, asked, 443)
		if err != nil {
			t.Fatal(err)
		}
		client := tls.Client(conn, &tls.Config{ServerName: sni, RootCAs: ca.pool})
		if err := client.Handshake(); (err == nil) != (code == "") {
			t.Errorf("%s: %v", sni, err)
		}
		conn.Close()
		if c := r.wantCode(t, code); c.Host != asked || c.SNI != sni || c.Allowed != (code == "") {
			t.Errorf("%s: recorded %+v", sni, c)
		}
	}
	for _, host := range []string{"example.test", "a.b.example.test", "*.example.test", "-a.example.test", "a_b.example.test"} {
		if _, _, err := r.connect(t, host, 443); err == nil {
			t.Errorf("%s was reached", host)
		}
		if c := r.record(t); c.Phase != PhaseDenied || c.Code != link.NotGranted && c.Code != link.BadRequest {
			t.Errorf("%s: recorded %+v", host, c)
		}
	}
}

// TestWildcardPolicyChange takes a wildcard away from under connections: those
// that a rule of the same terms still grants go on.
func TestWildcardPolicyChange(t *testing.T) {
	wild := Rule{Host: "*.example.test", Port: 80, Plaintext: true}
	r := newRig(t, Limits{}, wild)
	r.route(apiAddr, 80, listen(t, echo))
	streams := map[string]link.Stream{}
	for _, host := range []string{"a.example.test", "b.example.test", "c.example.test"} {
		r.answer(host, apiAddr)
		stream, _, err := r.connect(t, host, 80)
		if err != nil {
			t.Fatal(err)
		}
		streams[host] = stream
	}
	own := func(host string) Rule { return Rule{Host: host, Port: 80, Plaintext: true} }
	r.setPolicy(t, wild, own("a.example.test"), mustRule(t, "b.example.test:80")) // b needs TLS now
	if c := r.wantCode(t, link.NotGranted); c.Host != "b.example.test" || c.Phase != PhaseClose {
		t.Errorf("cut off %+v", c)
	}
	r.setPolicy(t, own("a.example.test"))
	if c := r.wantCode(t, link.NotGranted); c.Host != "c.example.test" {
		t.Errorf("cut off %+v", c)
	}
	a := streams["a.example.test"]
	if _, err := io.WriteString(a, "still here"); err != nil {
		t.Fatal(err)
	}
	a.CloseWrite()
	if got, err := io.ReadAll(a); err != nil || string(got) != "still here" {
		t.Errorf("the connection that is still granted read %q, %v", got, err)
	}
}

// TestWildcardAddresses filters addresses as for any rule.
func TestWildcardAddresses(t *testing.T) {
	r := newRig(t, Limits{},
		Rule{Host: "*.example.test", Port: 80, Plaintext: true},
		Rule{Host: "*.corp.example", Port: 80, Plaintext: true, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	private := netip.MustParseAddr("10.0.0.1")
	r.answer("evil.example.test", private, netip.MustParseAddr("127.0.0.1"))
	r.answer("npm.corp.example", private)
	r.answer("evil.corp.example", netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254"))
	r.route(private, 80, listen(t, echo))
	for host, code := range map[string]Code{
		"evil.example.test": link.AddressRefused,
		"evil.corp.example": link.AddressRefused,
		"npm.corp.example":  "",
	} {
		stream, _, err := r.connect(t, host, 80)
		if (err == nil) != (code == "") {
			t.Errorf("%s: %v", host, err)
		}
		if err == nil {
			stream.Close()
		}
		r.wantCode(t, code)
	}
}
