package egress

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// reach says which rules reach an address.
type reach int

const (
	reachPublic   reach = iota // every rule
	reachSpecial               // rules with a range, or for non-public addresses
	reachLoopback              // rules whose host or range names loopback
	reachNever
)

// class is what an address is for. The zero value is a public address.
type class struct {
	name   string
	reach  reach
	prefix netip.Prefix
}

// classes holds the ranges that are not the public internet, from the IANA
// special-purpose address registries (IPv4 and IPv6, read 2025) and the
// documentation of the cloud providers. The first match counts.
var classes = []class{
	metadata("169.254.169.254/32"), // AWS, Azure, Google and most others
	metadata("100.100.100.200/32"), // Alibaba
	metadata("168.63.129.16/32"),   // Azure's host agent, a public address
	metadata("192.0.0.192/32"),     // Oracle
	metadata("fd00:ec2::254/128"),  // AWS
	metadata("fd20:ce::254/128"),   // Google
	metadata("fd00:c1::a9fe:a9fe/128"),
	metadata("fd00:42::42/128"), // Scaleway

	never("unspecified", "0.0.0.0/8"),
	loopback("127.0.0.0/8"),
	never("link-local", "169.254.0.0/16"),
	never("multicast", "224.0.0.0/4"),
	never("broadcast", "255.255.255.255/32"),
	special("private", "10.0.0.0/8"),
	special("shared (CGNAT)", "100.64.0.0/10"),
	special("private", "172.16.0.0/12"),
	special("protocol assignment", "192.0.0.0/24"),
	special("documentation", "192.0.2.0/24"),
	special("6to4 relay", "192.88.99.0/24"),
	special("private", "192.168.0.0/16"),
	special("benchmarking", "198.18.0.0/15"),
	special("documentation", "198.51.100.0/24"),
	special("documentation", "203.0.113.0/24"),
	special("reserved", "240.0.0.0/4"),

	never("unspecified", "::/128"),
	loopback("::1/128"),
	never("IPv4-mapped", "::ffff:0:0/96"),
	never("IPv4-translated", "::ffff:0:0:0/96"),
	never("IPv4-compatible", "::/96"),
	never("NAT64", "64:ff9b::/96"),
	never("NAT64", "64:ff9b:1::/48"),
	never("6to4", "2002::/16"),
	never("Teredo", "2001::/32"),
	never("link-local", "fe80::/10"),
	never("site-local", "fec0::/10"),
	never("multicast", "ff00::/8"),
	special("unique local", "fc00::/7"),
	special("benchmarking", "2001:2::/48"),
	special("protocol assignment", "2001::/23"),
	special("documentation", "2001:db8::/32"),
	special("documentation", "3fff::/20"),
}

// globalUnicast is the only part of IPv6 that is in use on the internet.
var globalUnicast = netip.MustParsePrefix("2000::/3")

func never(name, prefix string) class {
	return class{name: name, reach: reachNever, prefix: netip.MustParsePrefix(prefix)}
}

func loopback(prefix string) class {
	return class{name: "loopback", reach: reachLoopback, prefix: netip.MustParsePrefix(prefix)}
}

func special(name, prefix string) class {
	return class{name: name, reach: reachSpecial, prefix: netip.MustParsePrefix(prefix)}
}

func metadata(prefix string) class { return never("cloud metadata", prefix) }

func classify(addr netip.Addr) class {
	for _, c := range classes {
		if c.prefix.Contains(addr) {
			return c
		}
	}
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return class{name: "reserved", reach: reachSpecial}
	}
	return class{}
}

// guard decides which addresses a rule reaches.
type guard struct {
	own func() ([]netip.Addr, error)
}

// check returns a denial when rule must not reach addr. It fails closed: an
// address of this machine is refused, and so is any when these are not known.
func (g guard) check(rule Rule, addr netip.Addr) error {
	if !addr.IsValid() || addr.Zone() != "" {
		return refused("the answer %q is no plain address", addr)
	}
	c := classify(addr)
	switch {
	case c.reach == reachNever:
		return refused("%s is %s", addr, c.name)
	case c.reach == reachLoopback && rule.reachesLoopback(addr):
		return nil
	case c.reach == reachLoopback:
		return refused("%s is %s", addr, c.name)
	case rule.loopback():
		return refused("%s is not loopback", addr)
	case rule.allows(addr):
		return nil
	case c.reach == reachSpecial && !rule.AllowNonPublic:
		return refused("%s is %s", addr, c.name)
	}
	own, err := g.own()
	if err != nil {
		return refused("cannot list this machine's addresses: %v", err)
	}
	if slices.Contains(own, addr) {
		return refused("%s is this machine's own", addr)
	}
	return nil
}

// filter returns those of addrs that rule may reach, and why the last of the
// others was refused.
func (g guard) filter(rule Rule, addrs []netip.Addr) (good []netip.Addr, refusal error) {
	for _, addr := range addrs {
		if err := g.check(rule, addr); err != nil {
			refusal = err
			continue
		}
		good = append(good, addr)
	}
	return good, refusal
}

// interfaceAddresses lists the addresses of this machine.
func interfaceAddresses() ([]netip.Addr, error) {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(nets))
	for _, n := range nets {
		prefix, err := netip.ParsePrefix(n.String())
		if err != nil {
			return nil, fmt.Errorf("cannot read the interface address %q: %w", n, err)
		}
		addrs = append(addrs, prefix.Addr().WithZone("").Unmap())
	}
	return addrs, nil
}

// NewResolver makes a [Resolver] that asks for a name with a dot in it as it is,
// without the host's search domains, and returns IPv4 as IPv4.
func NewResolver(r *net.Resolver) Resolver { return hostResolver{r} }

type hostResolver struct{ r *net.Resolver }

// LookupNetIP implements Resolver.
func (h hostResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if strings.Contains(host, ".") {
		host += "."
	}
	addrs, err := h.r.LookupNetIP(ctx, network, host)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}
