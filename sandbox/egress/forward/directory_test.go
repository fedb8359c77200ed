package forward

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// plan is a directory that opens nothing, and the places that would be open.
type plan struct {
	*directory
	open map[netip.AddrPort]*name
	to   map[netip.AddrPort]string
}

func newPlan(grants ...string) *plan {
	p := &plan{directory: newDirectory(), open: map[netip.AddrPort]*name{}, to: map[netip.AddrPort]string{}}
	p.loopbacks = []netip.Addr{loopback, netip.IPv6Loopback()}
	p.directory.open = func(at netip.AddrPort, target link.Grant, n *name) (func(), bool) {
		if p.open[at] != nil {
			panic("opened twice: " + at.String())
		}
		p.open[at], p.to[at] = n, target.String()
		return func() { delete(p.open, at); delete(p.to, at) }, true
	}
	p.grant(grants...)
	return p
}

func (p *plan) grant(texts ...string) {
	var grants []link.Grant
	for _, text := range texts {
		g, err := link.ParseGrant(text)
		if err != nil {
			panic(err)
		}
		grants = append(grants, g)
	}
	p.apply(grants)
}

// targets returns where the open doors lead, sorted.
func (p *plan) targets() []string { return slices.Sorted(maps.Values(p.to)) }

// addr returns the only address of a name.
func (p *plan) addr(t *testing.T, host string) netip.Addr {
	t.Helper()
	addrs, code := p.lookup(host)
	if code != dnsmessage.RCodeSuccess || len(addrs) != 1 {
		t.Fatalf("lookup(%q) = %v, %v", host, addrs, code)
	}
	return addrs[0]
}

func wantCode(t *testing.T, p *plan, host string, want dnsmessage.RCode) {
	t.Helper()
	if addrs, code := p.lookup(host); code != want || len(addrs) != 0 {
		t.Errorf("lookup(%q) = %v, %v, want %v", host, addrs, code, want)
	}
}

func TestDirectoryExact(t *testing.T) {
	p := newPlan("b.test:443", "a.test:443", "a.test:80")
	if got, want := p.targets(), []string{"a.test:443", "a.test:80", "b.test:443"}; !slices.Equal(got, want) {
		t.Errorf("open for %v, want %v", got, want)
	}
	a := p.addr(t, "a.test")
	wantCode(t, p, "c.test", dnsmessage.RCodeNameError)
	wantCode(t, p, "x.a.test", dnsmessage.RCodeNameError)

	p.grant("c.test:443", "a.test:443")
	if got, want := p.targets(), []string{"a.test:443", "c.test:443"}; !slices.Equal(got, want) {
		t.Errorf("open for %v, want %v", got, want)
	}
	if again := p.addr(t, "a.test"); again != a {
		t.Errorf("a.test moved from %v to %v", a, again)
	}
	wantCode(t, p, "b.test", dnsmessage.RCodeNameError)
	if other := newPlan("a.test:1").addr(t, "a.test"); other != a {
		t.Errorf("a.test has %v in one container and %v in another", a, other)
	}
	p.grant()
	if len(p.open) != 0 || len(p.names) != 0 || len(p.taken) != 0 {
		t.Errorf("without grants %v, %v and %v are left", p.open, p.names, p.taken)
	}
}

// TestDirectoryUnknown asks before the first policy.
func TestDirectoryUnknown(t *testing.T) {
	p := newPlan()
	p.known = false
	wantCode(t, p, "a.test", dnsmessage.RCodeServerFailure)
	p.grant()
	wantCode(t, p, "a.test", dnsmessage.RCodeNameError)
}

func TestDirectoryLoopback(t *testing.T) {
	p := newPlan()
	if addrs, code := p.lookup("localhost"); code != dnsmessage.RCodeSuccess || !slices.Equal(addrs, p.loopbacks) {
		t.Errorf("localhost that is not granted: %v, %v", addrs, code)
	}
	p.grant("localhost:80", "127.0.0.1:81", "[::1]:82", "127.0.0.1:80")
	want := map[netip.AddrPort]string{
		netip.MustParseAddrPort("127.0.0.1:80"): "127.0.0.1:80", // before localhost
		netip.MustParseAddrPort("[::1]:80"):     "localhost:80",
		netip.MustParseAddrPort("127.0.0.1:81"): "127.0.0.1:81",
		netip.MustParseAddrPort("[::1]:82"):     "[::1]:82",
	}
	if !maps.Equal(p.to, want) {
		t.Errorf("open %v, want %v", p.to, want)
	}
	p.grant("localhost:80")
	want = map[netip.AddrPort]string{
		netip.MustParseAddrPort("127.0.0.1:80"): "localhost:80",
		netip.MustParseAddrPort("[::1]:80"):     "localhost:80",
	}
	if !maps.Equal(p.to, want) {
		t.Errorf("open %v, want %v", p.to, want)
	}
}

func TestDirectoryWildcard(t *testing.T) {
	p := newPlan("*.example.test:443", "*.example.test:80", "a.example.test:8080")
	if got, want := p.targets(), []string{"a.example.test:443", "a.example.test:80", "a.example.test:8080"}; !slices.Equal(got, want) {
		t.Errorf("open for %v, want %v", got, want)
	}
	b := p.addr(t, "b.example.test")
	if got := p.to[netip.AddrPortFrom(b, 443)]; got != "b.example.test:443" || len(p.open) != 5 {
		t.Errorf("%v:443 leads to %q of %v", b, got, p.to)
	}
	for _, host := range []string{
		"example.test", "x.b.example.test", "*.example.test", ".example.test", "xexample.test", "b.example.test.",
		"b.example.test.evil.test", "a b.example.test", "\x00.example.test", strings.Repeat("a", 250) + ".example.test",
	} {
		wantCode(t, p, host, dnsmessage.RCodeNameError)
	}

	p.grant("b.example.test:443") // exact now, at the same place
	if again := p.addr(t, "b.example.test"); again != b || len(p.open) != 1 {
		t.Errorf("b.example.test moved from %v to %v, open %v", b, again, p.to)
	}
	p.grant("*.example.test:443") // and back
	if again := p.addr(t, "b.example.test"); again != b || len(p.open) != 1 {
		t.Errorf("b.example.test moved from %v to %v, open %v", b, again, p.to)
	}
	p.grant("*.other.test:443")
	wantCode(t, p, "b.example.test", dnsmessage.RCodeNameError)
	if len(p.open) != 0 {
		t.Errorf("open %v", p.to)
	}
}

func host(i int) string { return fmt.Sprintf("h%d.example.test", i) }

// TestDirectoryForgets asks for more names of a wildcard than are held.
func TestDirectoryForgets(t *testing.T) {
	p := newPlan("*.example.test:443", "fixed.test:443")
	for i := range maxOnDemand {
		p.addr(t, host(i))
	}
	p.addr(t, host(0))              // is used again
	p.names[host(1)].conns.Store(1) // has a connection
	p.addr(t, "new.example.test")
	if len(p.names) != maxOnDemand+1 || len(p.open) != maxOnDemand+1 || len(p.taken) != maxOnDemand+1 {
		t.Errorf("%d names, %d doors, %d addresses, want %d", len(p.names), len(p.open), len(p.taken), maxOnDemand+1)
	}
	for _, kept := range []string{"fixed.test", host(0), host(1), host(3), "new.example.test"} {
		if p.names[kept] == nil {
			t.Errorf("%s was forgotten", kept)
		}
	}
	if p.names[host(2)] != nil {
		t.Errorf("%s, the least recently used one, is still there", host(2))
	}
	for _, n := range p.names {
		n.conns.Store(1)
	}
	wantCode(t, p, "full.example.test", dnsmessage.RCodeServerFailure)
}

// TestDirectoryManyPorts has a wildcard with many ports, so that the number of
// doors is what bounds its names.
func TestDirectoryManyPorts(t *testing.T) {
	var grants []string
	for port := range 100 {
		grants = append(grants, fmt.Sprintf("*.example.test:%d", port+1))
	}
	p := newPlan(grants...)
	for i := range 10 {
		p.addr(t, host(i))
	}
	if got, want := len(p.open), maxOnDemandDoors/100*100; got != want {
		t.Errorf("%d doors are open, want %d", got, want)
	}
	for port := range maxOnDemandDoors + 1 {
		grants = append(grants, fmt.Sprintf("*.wide.test:%d", port+1))
	}
	p.grant(grants...)
	wantCode(t, p, "a.wide.test", dnsmessage.RCodeServerFailure)
}

// TestDirectoryWasExact revokes what was granted by name and leaves the
// wildcard: the bound for names of a wildcard holds.
func TestDirectoryWasExact(t *testing.T) {
	var grants []string
	for i := range link.MaxGrants {
		grants = append(grants, host(i)+":443")
	}
	p := newPlan(grants...)
	seen := map[netip.Addr]bool{}
	inside := netip.MustParsePrefix("127.1.0.0/16")
	for i := range link.MaxGrants { // so many that hashes collide
		addr := p.addr(t, host(i))
		if seen[addr] || !inside.Contains(addr) {
			t.Errorf("%s has %v", host(i), addr)
		}
		seen[addr] = true
	}
	p.grant("*.example.test:443")
	if len(p.names) != maxOnDemand || len(p.open) != maxOnDemand {
		t.Errorf("%d names, %d doors, want %d", len(p.names), len(p.open), maxOnDemand)
	}
	used := map[netip.Addr]bool{free("a.test", nil): true}
	if a := free("a.test", used); used[a] {
		t.Error("an address in use was given out")
	}
}

// FuzzDirectory looks up any name under a few grants: only a granted one has
// an address, and its doors lead to it alone.
func FuzzDirectory(f *testing.F) {
	for _, seed := range []string{"a.test", "x.example.test", "x.y.example.test", "*.example.test", ".example.test", "localhost", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, asked string) {
		p := newPlan("a.test:443", "*.example.test:443")
		addrs, code := p.lookup(asked)
		label, isBelow := strings.CutSuffix(asked, ".example.test")
		granted := asked == "a.test" || asked == "localhost" ||
			isBelow && label != "" && strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") == "" && len(asked) <= 253
		if (code == dnsmessage.RCodeSuccess) != granted || (len(addrs) > 0) != granted {
			t.Errorf("lookup(%q) = %v, %v, want granted %v", asked, addrs, code, granted)
		}
		for at, target := range p.to {
			if target != "a.test:443" && target != asked+":443" {
				t.Errorf("%v leads to %s after a lookup of %q", at, target, asked)
			}
		}
	})
}
