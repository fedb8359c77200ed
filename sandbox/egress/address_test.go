package egress

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// noOwn is a machine without addresses.
func noOwn() ([]netip.Addr, error) { return nil, nil }

func TestGuardByClass(t *testing.T) {
	const (
		public  = "public"  // reached by every rule
		special = "special" // reached by a registry
		never   = "never"
	)
	tests := map[string][]string{
		public: {
			"93.184.216.34", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1",
			"169.253.255.255", "192.0.1.1", "198.20.0.1", "223.255.255.255", "2606:2800:220:1::1", "2a00:1450::1", "2400:cb00::1",
		},
		special: {
			"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "100.127.255.254",
			"192.0.0.1", "192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "198.19.255.255", "192.88.99.1", "240.0.0.1",
			"fc00::1", "fdff::1", "2001:db8::1", "3fff::1", "2001:2::1", "2001:20::1", "100::1", "5f00::1", "4000::1",
		},
		never: {
			"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.1.2.3", "169.254.0.1", "224.0.0.1", "239.255.255.255", "255.255.255.255",
			"169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
			"::", "::1", "::2", "::127.0.0.1", "::ffff:1.1.1.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1",
			"64:ff9b::7f00:1", "64:ff9b::1.1.1.1", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::", "2001::1", "2001:0:7f00:1::",
			"fe80::1", "febf::1", "fec0::1", "ff02::1", "fe80::1%eth0", "2606:2800::1%eth0",
		},
	}
	rules := map[string]Rule{
		public:  {Host: "a.example", Port: 443},
		special: {Host: "a.example", Port: 443, AllowNonPublic: true},
		"range": {Host: "a.example", Port: 443, Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}},
	}
	reached := map[string][]string{public: {public, special, "range"}, special: {special, "range"}, never: nil}
	g := guard{own: noOwn}
	for class, addrs := range tests {
		for _, text := range addrs {
			for by, rule := range rules {
				err := g.check(rule, netip.MustParseAddr(text))
				want := slices.Contains(reached[class], by)
				if (err == nil) != want {
					t.Errorf("%s by the rule for %s: %v, want reached %v", text, by, err, want)
				}
				var d denial
				if err != nil && (!errors.As(err, &d) || d.code != link.AddressRefused) {
					t.Errorf("%s: %v is not address_refused", text, err)
				}
			}
		}
	}
	if err := g.check(rules[special], netip.Addr{}); err == nil {
		t.Error("the zero address was let through")
	}
}

func TestGuardLoopbackRules(t *testing.T) {
	g := guard{own: noOwn}
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		rule := Rule{Host: host, Port: 4873, AllowNonPublic: true}
		for text, want := range map[string]bool{
			"127.0.0.1": true, "::1": true,
			"::ffff:127.0.0.1": false, "10.0.0.1": false, "1.1.1.1": false, "169.254.169.254": false, "0.0.0.0": false,
		} {
			if err := g.check(rule, netip.MustParseAddr(text)); (err == nil) != want {
				t.Errorf("%s by %s: %v, want reached %v", text, host, err, want)
			}
		}
	}
}

// TestGuardNamedLoopback reaches only what the ranges hold.
func TestGuardNamedLoopback(t *testing.T) {
	g := guard{own: noOwn}
	v4 := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	v6 := []netip.Prefix{netip.MustParsePrefix("::1/128")}
	tests := []struct {
		rule Rule
		addr string
		want bool
	}{
		{Rule{Host: "localhost", Allow: v4}, "127.0.0.1", true},
		{Rule{Host: "localhost", Allow: v4}, "::1", false},
		{Rule{Host: "localhost", Allow: v6}, "::1", true},
		{Rule{Host: "localhost", Allow: v6}, "127.0.0.1", false},
		{Rule{Host: "localhost", Allow: v4}, "::ffff:127.0.0.1", false},
		{Rule{Host: "localhost", Allow: v4}, "1.1.1.1", false},
		{Rule{Host: "localhost"}, "127.0.0.1", false},
		{Rule{Host: "127.0.0.1", Allow: v4}, "127.0.0.1", true},
		{Rule{Host: "a.example", Allow: v4}, "127.0.0.1", false}, // a name that came to point here
		{Rule{Host: "a.example", AllowNonPublic: true}, "127.0.0.1", false},
	}
	for _, tt := range tests {
		if err := g.check(tt.rule, netip.MustParseAddr(tt.addr)); (err == nil) != tt.want {
			t.Errorf("%s by %+v: %v, want reached %v", tt.addr, tt.rule, err, tt.want)
		}
	}
}

func TestGuardOwnAddresses(t *testing.T) {
	own := netip.MustParseAddr("93.184.216.34")
	private := netip.MustParseAddr("10.9.9.9")
	g := guard{own: func() ([]netip.Addr, error) { return []netip.Addr{own, private}, nil }}
	plain := Rule{Host: "a.example", Port: 443}
	registry := Rule{Host: "a.example", Port: 443, AllowNonPublic: true}
	named := Rule{Host: "a.example", Port: 443, Allow: []netip.Prefix{netip.MustParsePrefix("10.9.9.9/32")}}
	if err := g.check(plain, own); err == nil {
		t.Error("this machine's public address was reached")
	}
	if err := g.check(registry, private); err == nil {
		t.Error("this machine's private address was reached by the registry's rule")
	}
	if err := g.check(named, private); err != nil {
		t.Errorf("this machine's address, named by the operator: %v", err)
	}
	broken := guard{own: func() ([]netip.Addr, error) { return nil, errors.New("no netlink") }}
	if err := broken.check(plain, netip.MustParseAddr("1.1.1.1")); err == nil {
		t.Error("an address was reached though this machine's are not known")
	}
	addrs, err := interfaceAddresses()
	if err != nil || !slices.Contains(addrs, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("interfaceAddresses() = %v, %v, want 127.0.0.1 among them", addrs, err)
	}
}

func TestGuardControl(t *testing.T) {
	g := guard{own: noOwn}
	rule := Rule{Host: "a.example", Port: 443}
	good := netip.MustParseAddrPort("93.184.216.34:443")
	tests := map[string]struct {
		pinned netip.AddrPort
		actual string
		ok     bool
	}{
		"same":          {good, "93.184.216.34:443", true},
		"other address": {good, "93.184.216.35:443", false},
		"other port":    {good, "93.184.216.34:80", false},
		"no address":    {good, "a.example:443", false},
		"bad address":   {netip.MustParseAddrPort("10.0.0.1:443"), "10.0.0.1:443", false},
	}
	for name, tt := range tests {
		err := g.control(rule, tt.pinned)(context.Background(), "tcp", tt.actual, nil)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v, want ok %v", name, err, tt.ok)
		}
	}
}

// TestHostResolver asks a DNS server of the test's own: the search domains
// must not be tried, and IPv4 must come as IPv4.
func TestHostResolver(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]bool{}
	server := startDNS(t, func(q dnsmessage.Question) dnsmessage.ResourceBody {
		mu.Lock()
		defer mu.Unlock()
		asked[q.Name.String()] = true
		if q.Name.String() == "api.example.test." && q.Type == dnsmessage.TypeA {
			return &dnsmessage.AResource{A: [4]byte{93, 184, 216, 34}}
		}
		return nil
	})
	resolver := hostResolver{&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server)
	}}}
	got, err := resolver.LookupNetIP(t.Context(), "ip", "api.example.test")
	if err != nil || len(got) != 1 || got[0] != netip.MustParseAddr("93.184.216.34") {
		t.Errorf("LookupNetIP = %v, %v", got, err)
	}
	if _, err := resolver.LookupNetIP(t.Context(), "ip", "none.example.test"); err == nil {
		t.Error("a name without an address was resolved")
	}
	mu.Lock()
	defer mu.Unlock()
	if want := map[string]bool{"api.example.test.": true, "none.example.test.": true}; !maps.Equal(asked, want) {
		t.Errorf("the server was asked for %v, want %v", asked, want)
	}
}

// startDNS answers UDP queries on loopback; a nil body is NXDOMAIN.
func startDNS(t *testing.T, answer func(dnsmessage.Question) dnsmessage.ResourceBody) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			if body := answer(q); body != nil {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: body}}
			} else if q.Type == dnsmessage.TypeA {
				m.RCode = dnsmessage.RCodeNameError
			}
			if packed, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

func TestInterleave(t *testing.T) {
	parse := func(text string) (addrs []netip.Addr) {
		for _, a := range strings.Fields(text) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		return addrs
	}
	for in, want := range map[string]string{
		"1.1.1.1":                             "1.1.1.1",
		"2a00::1 2a00::2 1.1.1.1":             "2a00::1 1.1.1.1 2a00::2",
		"1.1.1.1 1.1.1.2 1.1.1.3 2a00::1":     "1.1.1.1 2a00::1 1.1.1.2 1.1.1.3",
		"2a00::1 2a00::2":                     "2a00::1 2a00::2",
		"1.1.1.1 2a00::1 1.1.1.2 2a00::2":     "1.1.1.1 2a00::1 1.1.1.2 2a00::2",
		"2a00::1 1.1.1.1 1.1.1.2 1.1.1.3":     "2a00::1 1.1.1.1 1.1.1.2 1.1.1.3",
		"2a00::1 2a00::2 2a00::3 1.1.1.1 ::1": "2a00::1 1.1.1.1 2a00::2 2a00::3 ::1",
	} {
		if got := interleave(parse(in)); !slices.Equal(got, parse(want)) {
			t.Errorf("interleave(%s) = %v, want %s", in, got, want)
		}
	}
}
